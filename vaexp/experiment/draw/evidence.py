"""The figures of the groups of measures. They need only the files of a run, no model or data."""

from pathlib import Path

from vaexp.evaluation.groups import GROUPS
from vaexp.figures.evidence import About
from vaexp.figures.style import save
from vaexp.runs.folder import RunFolder
from vaexp.runs.images import image_shape


def illustrate_evidence(run: RunFolder, groups: list[str]) -> list[Path]:
    """Draw figures/evidence-<group> for those groups that have a figure; returns the paths.

    A group is skipped if it has no arrays, because it was not measured or is absent for the model.
    It is also skipped if its numbers are not in metrics.json, because the process was killed before
    they were written, and if its figure has nothing to show.
    """
    test = run.metrics().get("test", {})
    config = run.config()
    about = About(
        config.describe(),
        config.model.floor,
        config.model.discrete,
        image_shape(run),
        config.model.shared_factors,
    )
    drawn = []
    for name in groups:
        draw = GROUPS[name].draws()
        entries = {key: entry for key, entry in test.items() if entry.get("group") == name}
        arrays = run.evidence(name) if draw is not None and entries else {}
        figure = draw(arrays, entries, about) if draw is not None and arrays else None
        if figure is not None:
            drawn.append(run.files.place(f"figures/evidence-{name}{config.output.suffix}"))
            save(figure, drawn[-1])
    return drawn
