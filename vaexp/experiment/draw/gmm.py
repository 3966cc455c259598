"""The figures of a Gaussian mixture's run."""

from collections.abc import Iterator, Sequence
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import one_hot

from vaexp.data import CLASSES
from vaexp.experiment.draw import shared
from vaexp.experiment.sample import COLUMNS, caption
from vaexp.figures.images import samples
from vaexp.figures.mixture import components, confusion
from vaexp.figures.singularities import singularities
from vaexp.models import GMM
from vaexp.models.absent import Absent
from vaexp.runs.folder import RunFolder
from vaexp.runs.trained import TrainedModel

MOST_ROWS = 20  # components drawn from
NO_LABELS = "the images have no labels"


def gmm_figures(
    trained: TrainedModel, model: GMM, run: RunFolder, x: Tensor, label: Tensor
) -> Iterator[shared.Drawn]:
    """Name and figure, one after another, of test images x (N, D) with digits label (N,)."""
    subtitle = caption(trained)
    deviation = model.gaussians.variance().sqrt().reshape(-1, *trained.shape)
    mean = trained.to_images(model.gaussians.mean)
    yield "samples", shared.samples(trained)
    heaviest = _heaviest(model)
    yield "decode_modes", shared.decode_modes(trained, heaviest[:COLUMNS])  # none of them twice
    yield "reconstructions", shared.reconstructions(trained, x, label)
    yield (
        "components",
        components(mean, deviation.numpy(), model.weight.numpy(), subtitle),
    )
    yield "component_samples", _component_samples(trained, model)
    responsibilities = model.log_joint(x).softmax(1)
    digits = sorted(trained.labels)
    counts = responsibilities.T @ one_hot(label, CLASSES)[:, digits].double()
    gathered = confusion(counts.numpy(), digits, subtitle) if trained.labelled else NO_LABELS
    yield "confusion", gathered
    needed = model.gaussians.images_that_vary(model.gaussians.size)
    yield from mixture_history(run.records(), trained.config.model.floor, needed, subtitle)


def _heaviest(model: GMM) -> Tensor:
    """The components, the heaviest first, (K,)."""
    return model.weight.argsort(descending=True, stable=True)


def _component_samples(trained: TrainedModel, model: GMM) -> Figure:
    """Ten draws of each component, the heaviest first."""
    heaviest = _heaviest(model)[:MOST_ROWS]
    z = heaviest[:, None].expand(-1, COLUMNS)
    images = trained.to_images(model.decode(z).sample())
    names = [f"k = {k}, {model.weight[k]:.1%}" for k in heaviest.tolist()]
    title = "Draws x ~ N(μ_k, Σ_k) of each component"
    if len(model.weight) > MOST_ROWS:
        title = f"Draws x ~ N(μ_k, Σ_k) of the {MOST_ROWS} heaviest components"
    note = "Each row has draws of one component, the heaviest first; its percentage is its weight."
    return samples(images, names, title, caption(trained), note)


def mixture_history(
    records: Sequence[dict[str, Any]], floor: float, needed: int | Absent, subtitle: str
) -> Iterator[shared.Drawn]:
    """How EM went, from the lines of metrics.jsonl, and how near components came to collapse.

    ``needed`` is how many images a component needs, as the family of the covariances says.
    """
    yield "em", shared.em_steps(records, subtitle)
    singular_below = None if isinstance(needed, Absent) else needed
    yield "singularities", singularities(records, floor, subtitle, singular_below)
