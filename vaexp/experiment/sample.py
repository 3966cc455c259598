"""Drawing from a trained model: for ``vaexp sample`` and for the figures of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from vaexp.config import (
    DecodeMode,
    GMMConfig,
    GMMExperiment,
    LinearGaussianExperiment,
    VAEExperiment,
)
from vaexp.errors import UserError
from vaexp.evaluation.code_mixture import CodeMixture
from vaexp.experiment.code_mixture import mixture_of_run
from vaexp.figures.images import samples
from vaexp.figures.latent import latent_plane
from vaexp.figures.style import save
from vaexp.files import replacing
from vaexp.paths import file_to_write
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel
from vaexp.seeding import seeded

SWEEP = (-2, -1, 0, 1, 2)
SWEEP_NAMES = ["μ(z) − 2σ(z)", "μ(z) − σ(z)", "μ(z)", "μ(z) + σ(z)", "μ(z) + 2σ(z)"]
MODE_NAMES = {
    "mean": "Draws x = μ(z), z ~ p(z)",
    "sample": "Draws x ~ p(x|z), z ~ p(z)",
    "sweep": "Draws x = μ(z) + k σ(z), z ~ p(z)",
}
COLUMNS = 10
Factors = Literal["with", "without"]
Prior = Literal["model", "gmm"]
MOST_DRAWN = 200  # images in one picture; the arrays have all of them


@dataclass(frozen=True)
class Drawn:
    """The files that a call of ``sample`` has written."""

    image: Path
    arrays: Path


@torch.no_grad()
def decode(trained: TrainedModel, z: Tensor, label: Tensor | None, mode: DecodeMode) -> Tensor:
    """Decode latents z (..., L) to transformed images x (..., D), or (5, ..., D) for a sweep.

    The mode ``mean`` gives mu(z), ``sample`` a draw of p(x|z) from torch's global generator, and
    ``sweep`` mu(z) + k sigma(z) for k = -2..2. Raises UserError for a sweep of a model that has
    none.
    """
    p = trained.model.decode(z, label)
    match mode:
        case "mean":
            return p.mean
        case "sample":
            return p.sample()
        case "sweep":
            if trained.model.no_sweep is not None:
                raise UserError(
                    "mu(z) + k sigma(z) is no image of this model: "
                    f"{trained.model.no_sweep}; use mean or sample"
                )
            return torch.stack([p.mean + k * p.stddev for k in SWEEP])
    assert_never(mode)


def latent_grid(latent_dim: int, axes: tuple[int, int], size: int) -> tuple[Tensor, np.ndarray]:
    """A grid over two axes of the latent space, and its coordinates (size,).

    The coordinates are quantiles of N(0, 1), so that every cell has the same prior probability. The
    grid z is (size, size, L), or (1, size, 1) if L = 1. All other latents are 0.
    """
    levels = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    ticks = torch.special.ndtri(levels).float()
    z = torch.zeros(size if latent_dim > 1 else 1, size, latent_dim)
    z[..., axes[0]] = ticks
    if latent_dim > 1:
        z[..., axes[1]] = ticks[:, None]
    return z, ticks.numpy()


def plane_figure(
    trained: TrainedModel,
    digits: list[int],
    mode: DecodeMode,
    axes: tuple[int, int],
    axis_names: tuple[str, str],
    size: int,
    note: str = "",
) -> tuple[Figure, dict[str, np.ndarray]]:
    """The figure of the latent plane and its arrays, with one panel per digit if conditional."""
    z, ticks = latent_grid(trained.model.latent_dim, axes, size)
    conditional = trained.model.conditional
    panels = [torch.tensor(digit) for digit in digits] if conditional else [None]
    x = torch.stack([decode(trained, z, label, mode) for label in panels])
    images = trained.to_images(x)
    subtitle = caption(trained)
    if trained.model.latent_dim > 2:
        subtitle += ", all other latents 0"
    what = "Decoder mean μ(z)" if mode == "mean" else "Draws x ~ p(x|z)"
    figure = latent_plane(
        list(images),
        [f"digit {digit}" for digit in digits] if conditional else [""],
        ticks,
        ticks,
        axis_names,
        subtitle,
        what,
        "The axes are spaced by quantiles of N(0, 1), not evenly in z: every tile has the same "
        f"prior probability.\n{note}",
    )
    arrays = {"z": z.numpy(), "x": x.numpy(), "image": images}
    return figure, arrays | ({"label": np.array(digits)} if conditional else {})


def sample(
    run: RunFolder,
    *,
    mode: DecodeMode | None = None,
    n: int = COLUMNS,
    label: int | None = None,
    prior: Prior = "model",
    component: int | None = None,
    grid: bool = False,
    axes: tuple[int, int] | None = None,
    seed: int | None = None,
    out: Path | None = None,
) -> Drawn:
    """Draw n images, or the latent plane, and write a PNG and an npz into samples/ of the run.

    ``out`` is another path for the PNG, beside which the npz is put.
    ``label`` is the digit that a conditional model draws, or the digit whose component a mixture
    draws from; None takes all digits of the model in turn. ``prior`` is what z is drawn from: p(z)
    of the model, or a mixture fitted to the codes of its training images, for which these are read.
    ``component`` is that of a mixture, counted from 0; None draws components from p(z). ``axes``
    are the two latents of the grid, counted from 1; the default is the first two. The arrays are
    ``z``, ``label`` if the model is conditional, ``x`` on the scale of the model, and ``image`` on
    the display scale, unclipped. Raises UserError for options that do not fit the model, and
    before any work for an ``out`` that cannot be written.
    """
    file = None if out is None else file_to_write(out, "--out", ".png")
    trained = TrainedModel.read(run)
    default = trained.config.model.decode_mode
    mode = mode or ("mean" if grid and default == "sweep" else default)
    seed = trained.config.seed if seed is None else seed
    name = [mode] + ([f"label{label}"] if label is not None else [])
    name += [] if prior == "model" else [prior]
    match trained.config:
        case GMMExperiment(model=section):
            if grid:
                raise UserError("--grid: a mixture has no latent plane; leave it out")
            component = _component(trained, section, component, label)
            digits = trained.labels
            if label is None and component is not None:
                name.append(f"component{component}")
        case VAEExperiment() | LinearGaussianExperiment():
            if component is not None:
                raise UserError("--component: only a Gaussian mixture has components; leave it out")
            digits = _digits(trained, label)
        case _:
            assert_never(trained.config)
    mixture = _mixture(run, digits, prior, grid)
    with seeded(seed, "sample"):
        if grid:
            figure, arrays, drawn = _plane(trained, digits, mode, axes)
            name += ["grid", *drawn]
        else:
            figure, arrays = _strip(trained, digits, component, mixture, mode, n)
            name.append(f"n{n}")
    path = _write_arrays(run, "-".join([*name, f"seed{seed}"]), file, arrays)
    save(figure, path)
    return Drawn(path, path.with_suffix(".npz"))


def _write_arrays(
    run: RunFolder, stem: str, out: Path | None, arrays: dict[str, NDArray[Any]]
) -> Path:
    """Write the arrays into samples/ of the run, or beside ``out``; returns the PNG's path."""
    if out is None:
        run.files.write_arrays(f"samples/{stem}.npz", arrays)
        return run.files.place(f"samples/{stem}.png")
    with replacing(out.with_suffix(".npz")) as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    return out


def _mixture(run: RunFolder, digits: list[int], prior: Prior, grid: bool) -> CodeMixture | None:
    """The mixture of codes to draw z from, or None to draw z from p(z) of the model."""
    if prior == "model":
        return None
    if grid:
        raise UserError("--prior: a grid shows all of the plane and draws no z; leave it out")
    return mixture_of_run(run, digits)


def _plane(
    trained: TrainedModel, digits: list[int], mode: DecodeMode, axes: tuple[int, int] | None
) -> tuple[Figure, dict[str, np.ndarray], list[str]]:
    """The latent plane over two axes, counted from 1, its arrays, and the names of both axes."""
    if mode == "sweep":
        raise UserError("a grid shows one image per latent; use --decode mean or sample")
    first, second = _check_axes(axes, trained.model.latent_dim)
    figure, arrays = plane_figure(
        trained,
        digits,
        mode,
        (first, second),
        (f"$z_{{{first + 1}}}$", f"$z_{{{second + 1}}}$"),
        size=15,
    )
    return figure, arrays, [f"z{axis + 1}" for axis in dict.fromkeys((first, second))]


def _strip(
    trained: TrainedModel,
    digits: list[int],
    component: int | None,
    mixture: CodeMixture | None,
    mode: DecodeMode,
    n: int,
) -> tuple[Figure, dict[str, np.ndarray]]:
    """n draws in rows of ten, and their arrays.

    z is from p(z) or from a ``mixture`` of the codes, or it is one component for all draws. A sweep
    has one row for each k.
    """
    asked = torch.tensor([digits[i % len(digits)] for i in range(n)])
    if component is not None:
        z = torch.full((n,), component)
    elif mixture is not None:
        z = mixture.sample(asked).float().cpu()
    else:
        z = trained.model.prior().sample(torch.Size([n]))
    label = asked if trained.model.conditional else None
    x = decode(trained, z, label, mode)
    images = trained.to_images(x)
    drawn = images[..., :MOST_DRAWN, :, :]
    if mode == "sweep":  # five rows for every ten draws
        blocks = np.stack([_in_rows(row) for row in drawn], axis=1)
        rows, names = np.concatenate(blocks), SWEEP_NAMES * len(blocks)
    else:
        rows, names = _in_rows(drawn), None
    title = MODE_NAMES[mode]
    if component is not None:
        title = title.replace("z ~ p(z)", f"z = {component}")
    if mixture is not None:
        each = "each digit's" if label is not None else "the"
        title = title.replace("z ~ p(z)", f"z ~ a mixture of {each} codes")
    title += f", the first {MOST_DRAWN} of {n:,}" if n > MOST_DRAWN else ""
    subtitle = caption(trained, "with" if mode == "sweep" else None)
    if label is not None:
        subtitle += (
            f", in turn the digit{'s' if len(digits) > 1 else ''} {' '.join(map(str, digits))}"
        )
    note = "Each image is decoded from a z of its own."
    if mode == "sweep":
        note = "Each column is one z; every five rows have the next ten."
    figure = samples(rows, names, title, subtitle, note)
    arrays = {"z": z.numpy(), "x": x.numpy(), "image": images}
    return figure, arrays | ({} if label is None else {"label": label.numpy()})


def _in_rows(images: np.ndarray) -> np.ndarray:
    """Arrange images (n, H, W) in rows of ten, (rows, 10, H, W), or in one shorter row.

    NaN fills the last row, which is drawn as blank paper.
    """
    width = min(len(images), COLUMNS)
    blank = np.full((-len(images) % width, *images.shape[1:]), np.nan, images.dtype)
    return np.concatenate([images, blank]).reshape(-1, width, *images.shape[1:])


def caption(trained: TrainedModel, factors: Factors | None = None) -> str:
    """The settings of the run, which stand under the title of every figure.

    A figure that shows sigma(z) says whether it is that of a pixel ``with`` or ``without`` the
    factors that pixels share. A model without such factors needs no word on it.
    """
    section = trained.config.model
    words = f"{trained.config.describe()}, {section.unit}\N{NO-BREAK SPACE}{trained.at}"
    return words + (f", σ(z) {factors} the factors" if factors and section.shared_factors else "")


def _digits(trained: TrainedModel, label: int | None) -> list[int]:
    """The digits to draw. Raises UserError for a label that the model does not know."""
    if label is None:
        return trained.labels
    if not trained.model.conditional:
        raise UserError("--label: this model was trained without labels; leave it out")
    if label not in trained.labels:
        known = ", ".join(map(str, trained.labels))
        raise UserError(f"--label {label}: this model was trained on the digits {known}")
    return [label]


def _component(
    trained: TrainedModel, section: GMMConfig, component: int | None, label: int | None
) -> int | None:
    """The component of a mixture to draw from, or None to draw each component from p(z)."""
    if label is not None:
        if section.init != "labels" or trained.at > 0:
            raise UserError(
                "--label: the components of this mixture are not digits, as they are with "
                "model.init=labels and train.max_iter=0; use --component"
            )
        if component is not None:
            raise UserError("--label and --component: give one of them")
        known = sorted(trained.labels)
        if label not in known:
            shown = ", ".join(map(str, known))
            raise UserError(f"--label {label}: this model was trained on the digits {shown}")
        return known.index(label)
    if component is not None and not 0 <= component < section.components:
        raise UserError(f"--component {component}: there are {section.components}, counted from 0")
    return component


def _check_axes(axes: tuple[int, int] | None, latent_dim: int) -> tuple[int, int]:
    """The two axes of a grid, counted from 0. If L = 1 both are the only one."""
    if axes is None:
        return 0, min(1, latent_dim - 1)
    if latent_dim == 1:
        raise UserError("--axes: this model has one latent; leave it out")
    if not all(1 <= axis <= latent_dim for axis in axes) or axes[0] == axes[1]:
        raise UserError(
            f"--axes {axes[0]} {axes[1]}: choose two different latents between 1 and {latent_dim}"
        )
    return axes[0] - 1, axes[1] - 1
