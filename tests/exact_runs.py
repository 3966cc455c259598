"""Small runs of the exact models, which several test files share.

Each run is made once per session, by its name in RUNS: change only copies of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
)
from typer.testing import CliRunner

from vaexp.cli import app
from vaexp.data import Transform, load
from vaexp.runs.folder import RunFolder

CONFIG = """\
model: {kind: gmm, components: 3, covariance_floor: 0.01}
data: {limit: 300, validation_size: 500, labels: [4, 9]}
"""
PPCA = ["model.kind=ppca", "model.latent_dim=3"]
FA = ["model.kind=fa", "model.latent_dim=3", "model.noise_floor=0.01"]
VAE = ["model.kind=vae", "model.conditional=false", "model.sigma_mode=global", "model.sigma=0.3"]
VAE += ["train.batch_size=32", "evaluate.importance_samples=5"]
RUNS = {
    "full": ["model.covariance=full", "model.precision=float64"],
    "tied": ["model.covariance=tied", "model.init=kmeans++"],
    "diag": ["model.covariance=diag", "model.init=random", "train.restarts=4"],
    "spherical": ["model.covariance=spherical", "train.max_iter=1"],
    "lowrank": ["model.covariance=lowrank", "model.factors=4", "data.transform=dequantize"],
    "labels": ["model.init=labels", "model.components=2", "train.max_iter=0"],
    "ppca": [*PPCA, "train.tolerance=1e-12", "train.restarts=2"],
    "closed": [*PPCA, "model.method=closed_form"],
    "fa": [*FA, "train.tolerance=1e-9", "train.restarts=2"],
    "linear": [*VAE, "model.hidden=[]", "train.epochs=10", "train.learning_rate=0.02"],
    "vae": [*VAE, "model.hidden=[32]", "train.epochs=2"],
}
MIXTURES = ["full", "tied", "diag", "spherical", "lowrank", "labels"]
LINEAR = ["ppca", "closed", "fa"]
EXACT = [*MIXTURES, *LINEAR]
FLOAT64 = ["full", *LINEAR]

GMM_FIGURES = {"components", "component_samples", "confusion", "em", "singularities"}
PPCA_FIGURES = {"latent_plane", "posterior", "principal_axes", "spectrum"}
FIGURES_OF = {
    **dict.fromkeys(MIXTURES, GMM_FIGURES),
    "labels": GMM_FIGURES - {"em", "singularities"},  # no iteration: nothing has moved
    "full": GMM_FIGURES - {"em"},  # one iteration, at a fixed point
    "ppca": PPCA_FIGURES | {"em"},
    "closed": PPCA_FIGURES,
    "fa": {"latent_plane", "posterior", "factors", "noise", "spectrum", "em"},
}


@dataclass
class Trained:
    path: Path
    stdout: str
    stderr: str

    @property
    def run(self) -> RunFolder:
        return RunFolder.open(self.path)

    @property
    def weights(self) -> dict[str, Tensor]:
        return load_file(self.path / "checkpoints" / "model.safetensors")

    def images(self, split: str = "test") -> tuple[Tensor, Tensor]:
        """Transformed as the run did, float64; their noise is the run's, so only without any."""
        config = self.run.config()
        assert config.data.transform == "scale"
        part = getattr(load(config.data), split)
        return Transform("scale")(part.pixels).double(), part.label

    @property
    def components(self) -> list[Distribution]:
        w = {
            name.removeprefix("gaussians."): value.double() for name, value in self.weights.items()
        }
        mean = w["mean"]
        made: list[Distribution] = []
        for k in range(len(mean)):
            match self.run.config().model.covariance:
                case "full":
                    made.append(MultivariateNormal(mean[k], w["covariance"][k]))
                case "tied":
                    made.append(MultivariateNormal(mean[k], w["covariance"]))
                case "diag":
                    made.append(Independent(Normal(mean[k], w["variances"][k].sqrt()), 1))
                case "spherical":
                    scale = w["variances"][k].sqrt().expand(784)
                    made.append(Independent(Normal(mean[k], scale), 1))
                case "lowrank":
                    noise = w["variances"][k].expand(784)
                    made.append(LowRankMultivariateNormal(mean[k], w["factors"][k], noise))
        return made

    @property
    def density(self) -> Distribution:
        """Of x, from the weights file alone, by torch.distributions in float64."""
        w = {name: value.double() for name, value in self.weights.items()}
        if self.run.config().model.kind != "gmm":
            noise = w["variances"] if "variances" in w else w["variance"].expand(784)
            return LowRankMultivariateNormal(w["mean"], w["factors"], noise)
        raise AssertionError("a mixture has components")

    def log_prob(self, x: Tensor) -> Tensor:
        if self.run.config().model.kind != "gmm":
            return self.density.log_prob(x)
        return self.log_joint(x).logsumexp(1)

    def log_joint(self, x: Tensor) -> Tensor:
        log_weight = self.weights["weight"].double().log()
        return torch.stack([p.log_prob(x) for p in self.components], 1) + log_weight


def train(folder: Path, *overrides: str, name: str = "x") -> tuple[int, Trained]:
    """In this process, in a folder of its own; the exit code and what it made."""
    config = folder / "exact.yaml"
    config.write_text(CONFIG)
    arguments = ["train", str(config), f"name={name}", *overrides, "--runs-dir", str(folder / name)]
    done = CliRunner().invoke(app, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), repr(done.exception)
    [path] = (folder / name).iterdir()
    return done.exit_code, Trained(path, done.stdout, done.stderr)


Exact = Callable[[str], Trained]
