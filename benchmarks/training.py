"""Cases of training: a step of ours beside pythae, PyTorch's own example, and its products alone.

All programs train 784-400-20 with ReLU, one Adam of learning rate 1e-3 and the loss
-ln N(x; mu(z), 1) + KL on the same images, for the same number of batches in a turn.
"""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from benchmarks.harness import Case, Program, Rival
from vaexp.config import DataConfig, load_config
from vaexp.data import load
from vaexp.fitting import sgd
from vaexp.models import VAE

PIXELS = 784
HIDDEN, LATENTS = 400, 20
IMAGES = {128: 12_800, 1024: 51_200}  # of a turn, by size of the batch
PLAIN = ["model.hidden=[400]", "model.latent_dim=20", "model.activation=relu"]


def images(count: int) -> Tensor:
    """The first training images, scaled to [0, 1], (count, D)."""
    return load(DataConfig(validation_size=0)).train.pixels[:count] / 255


def new_model(*overrides: str, pixels: int = PIXELS) -> VAE:
    """A fresh VAE of this shape for images of so many pixels, with overrides of its config."""
    config = load_config("vae-unconditional", [*PLAIN, *overrides])
    torch.manual_seed(1)
    return VAE.from_config(config.model, pixels, 10)


def ours(model: VAE, x: Tensor, size: int) -> Program:
    """An epoch of our training on images x (N, D) in batches of ``size``; it goes on each time."""
    options = sgd.SGDOptions(
        epochs=10_000,
        steps=None,
        batch_size=size,
        optimizer="adam",
        learning_rate=1e-3,
        schedule="constant",
        gradient_clip=None,
        patience=None,
        beta=1.0,
        beta_warmup=0.0,
    )
    label = torch.zeros(len(x), dtype=torch.int64)
    epochs = sgd.fit(model, lambda rows: x[rows], label, None, options, seed=1)

    def epoch() -> None:
        next(epochs)

    return epoch


def products(model: VAE, count: int, size: int) -> Program:
    """The matrix products of an epoch of ``count`` images alone, in the same shapes and dtype.

    Of each linear layer: its outputs, the gradient of its weights and, but for the first, that of
    its inputs.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    weights = [layer.weight.detach() for layer in layers]
    xs = [torch.randn(size, w.shape[1]) for w in weights]
    gradients = [torch.randn(size, w.shape[0]) for w in weights]
    outputs = [torch.empty(size, w.shape[0]) for w in weights]
    of_weights = [torch.empty_like(w) for w in weights]

    def run() -> None:
        for _ in range(count // size):
            for i, (w, x, g) in enumerate(zip(weights, xs, gradients, strict=True)):
                torch.mm(x, w.T, out=outputs[i])
                torch.mm(g.T, x, out=of_weights[i])
                if i:
                    torch.mm(g, w, out=x)

    return run


class Plain(nn.Module):
    """The same VAE as PyTorch's example writes it, with a Gaussian of sigma 1 for p(x|z)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(PIXELS, HIDDEN)
        self.fc21 = nn.Linear(HIDDEN, LATENTS)
        self.fc22 = nn.Linear(HIDDEN, LATENTS)
        self.fc3 = nn.Linear(LATENTS, HIDDEN)
        self.fc4 = nn.Linear(HIDDEN, PIXELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.relu(self.fc1(x))
        mean, log_variance = self.fc21(hidden), self.fc22(hidden)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        return self.fc4(torch.relu(self.fc3(z))), mean, log_variance


def torchvision_loop(folder: Path, count: int, size: int) -> Program:
    """An epoch as in PyTorch's example: torchvision's MNIST, ToTensor, DataLoader, autograd."""
    from torchvision import datasets, transforms

    _write_idx(folder)
    data = datasets.MNIST(str(folder), train=True, transform=transforms.ToTensor())
    batches = DataLoader(Subset(data, range(count)), batch_size=size, shuffle=True)
    torch.manual_seed(1)
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch() -> None:
        total = 0.0
        for x, _ in batches:
            x = x.view(-1, PIXELS)
            optimizer.zero_grad()
            mu, mean, log_variance = model(x)
            squares = 0.5 * (x - mu).square().sum()
            kl = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            loss = squares + kl
            loss.backward()
            total += loss.item()
            optimizer.step()

    return epoch


def _write_idx(root: Path) -> None:
    """The training images of the bundled MNIST where torchvision looks for them."""
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    data = load(DataConfig(validation_size=0))
    for name, split in (("train", data.train), ("t10k", data.test)):
        header = struct.pack(">IIII", 0x803, len(split), 28, 28)
        pixels = split.pixels.to(torch.uint8).numpy().tobytes()
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + pixels)
        header = struct.pack(">II", 0x801, len(split))
        labels = split.label.to(torch.uint8).numpy().tobytes()
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels)


def pythae_trainer(folder: Path, x: Tensor, size: int) -> Program:
    """An epoch of pythae's trainer, on the same network and loss (its ``mse``)."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as TheirVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            BaseEncoder.__init__(self)
            self.hidden = nn.Linear(PIXELS, HIDDEN)
            self.mean = nn.Linear(HIDDEN, LATENTS)
            self.log_variance = nn.Linear(HIDDEN, LATENTS)

        def forward(self, x: Tensor) -> ModelOutput:
            hidden = torch.relu(self.hidden(x))
            mean, log_variance = self.mean(hidden), self.log_variance(hidden)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            BaseDecoder.__init__(self)
            self.layers = nn.Sequential(
                nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, PIXELS)
            )

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.layers(z))

    config = VAEConfig(input_dim=(PIXELS,), latent_dim=LATENTS, reconstruction_loss="mse")
    options = BaseTrainerConfig(
        output_dir=str(folder),
        num_epochs=1,
        learning_rate=1e-3,
        per_device_train_batch_size=size,
        optimizer_cls="Adam",
        no_cuda=True,
    )
    trainer = BaseTrainer(
        TheirVAE(config, Encoder(), Decoder()),
        BaseDataset(x, torch.zeros(len(x))),
        training_config=options,
    )
    trainer.prepare_training()
    counter: Iterator[int] = iter(range(1, 10_000))

    def epoch() -> None:
        trainer.train_step(next(counter))

    return epoch


def plain(size: int, aim: float) -> Callable[[Path], Case]:
    """The case of one size of the batch, with the aim for the bare products."""

    def case(folder: Path) -> Case:
        count = IMAGES[size]
        x, model = images(count), new_model("model.sigma_mode=fixed", "model.sigma=1")
        return Case(
            f"vae-{size}",
            f"VAE, {count // size} batches of {size} images",
            ours(model, x, size),
            [
                Rival("pythae's trainer", pythae_trainer(folder / "pythae", x, size), 1.3),
                Rival("torchvision's loop", torchvision_loop(folder / "data", count, size), 2.5),
                Rival("its products alone", products(model, count, size), aim, "bound"),
            ],
        )

    return case


def per_pixel(_: Path) -> Case:
    """Sigma of each pixel beside one fixed sigma."""
    x, size = images(IMAGES[128]), 128
    pixel, fixed = new_model("model.sigma_mode=pixel"), new_model("model.sigma_mode=fixed")
    return Case(
        "vae-pixel",
        "VAE with σ(z) of each pixel, 100 batches of 128 images",
        ours(pixel, x, size),
        [
            Rival("the same with σ fixed", ours(fixed, x, size), 1.25, "bound"),
            Rival("its products alone", products(pixel, len(x), size), 1.5, "bound"),
        ],
    )


CASES = {"vae-128": plain(128, 1.5), "vae-1024": plain(1024, 1.25), "vae-pixel": per_pixel}
