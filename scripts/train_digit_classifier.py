"""Train the classifier of digits that ships in vaexp/data, on the bundled MNIST.

    python scripts/train_digit_classifier.py [SEED]

It is trained on the first 50,000 training images, randomly shifted by up to two pixels, for a
number of epochs that was fixed beforehand. The last 10,000 and the test images are read only at the
end. The same machine and versions give the same weights from the same seed, which is 7 by default.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout, pad

from vaexp.config.data import IMAGE_SHAPE
from vaexp.data import bundled
from vaexp.evaluation.digit_classifier import TRAINED_ON, WEIGHTS, DigitClassifier, read_digits
from vaexp.seeding import seeded

OUTPUT = Path(bundled.__file__).with_name(WEIGHTS)
EPOCHS = 14
BATCH = 125
LEARNING_RATE = 4e-3
SHIFT = 2  # pixels


def shifted(x: Tensor) -> Tensor:
    """The images x (N, D), each moved by -2 to 2 pixels across and down."""
    rows, columns = IMAGE_SHAPE
    padded = pad(x.view(-1, rows, columns), (SHIFT,) * 4)
    down, across = torch.randint(2 * SHIFT + 1, (2, len(x), 1))
    row, column = down + torch.arange(rows), across + torch.arange(columns)
    image = torch.arange(len(x))[:, None, None]
    return padded[image, row[:, :, None], column[:, None, :]].flatten(1)


def fit(classifier: DigitClassifier, x: Tensor, label: Tensor) -> None:
    """Minimise the cross-entropy by AdamW with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * -(-len(x) // BATCH), pct_start=0.2
    )
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(x)).split(BATCH):
            features, _ = classifier(shifted(x[rows]))
            loss = cross_entropy(classifier.scores(dropout(features, 0.25)), label[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}/{EPOCHS}: {total / len(x):.4f} nats", flush=True)


@torch.no_grad()
def standardise(classifier: DigitClassifier, x: Tensor) -> None:
    """Scale the features to a mean variance of 1 over x (N, D), without a change of the scores.

    This is possible as relu(c h) = c relu(h) for c > 0.
    """
    scale = read_digits(classifier, x).features.double().var(0).mean().rsqrt().float()
    for parameter in classifier.features.parameters():
        parameter.mul_(scale)
    classifier.scores.weight.div_(scale)


def accuracy(classifier: DigitClassifier, x: Tensor, label: Tensor) -> float:
    """The share of images x (N, D) whose digit (N,) the classifier finds most probable."""
    return (read_digits(classifier, x).log_prob.argmax(1) == label).double().mean().item()


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    source = bundled.read()
    x, label = source.train.pixels / 255, source.train.label
    with seeded(seed, "digit classifier"):
        classifier = DigitClassifier()
        fit(classifier, x[:TRAINED_ON], label[:TRAINED_ON])
    standardise(classifier, x[:TRAINED_ON])
    held_out = accuracy(classifier, x[TRAINED_ON:], label[TRAINED_ON:])
    test = accuracy(classifier, source.test.pixels / 255, source.test.label)
    print(f"accuracy: {held_out:.2%} of the 10,000 held out, {test:.2%} of the 10,000 test images")
    facts = {
        "trained_on": f"the first {TRAINED_ON} training images of MNIST",
        "data_sha256": source.sha256,
        "test_accuracy": f"{test:.4f}",
        "seed": str(seed),
    }
    weights = {name: weight.contiguous() for name, weight in classifier.state_dict().items()}
    OUTPUT.write_bytes(save(weights, metadata=facts))
    print(f"{OUTPUT.stat().st_size:,} bytes in {OUTPUT}")


if __name__ == "__main__":
    main()
