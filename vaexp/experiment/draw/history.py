"""The figures of how EM went, from the lines of metrics.jsonl alone."""

from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from matplotlib.figure import Figure

from vaexp import figures
from vaexp.config import Config, FAExperiment, GMMExperiment, PPCAExperiment, VAEExperiment
from vaexp.data import PIXELS
from vaexp.models.absent import Absent
from vaexp.models.covariances import Size, family


def history_figures(
    records: Sequence[dict[str, Any]], config: Config, subtitle: str
) -> Iterator[tuple[str, Figure]]:
    """The ELBO's staircase; for a mixture also how near its components came to collapse."""
    yield "em", figures.em_staircase(records, subtitle)
    match config:
        case GMMExperiment(model=model):
            size = Size(model.components, PIXELS, model.factors)
            needed = family(model.covariance).images_that_vary(size)
            singular_below = None if isinstance(needed, Absent) else needed
            yield (
                "singularities",
                figures.singularities(records, model.covariance_floor, subtitle, singular_below),
            )
        case PPCAExperiment() | FAExperiment() | VAEExperiment():
            pass
        case _:
            assert_never(config)
