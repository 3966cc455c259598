"""The live page of one or more runs: their models, test images and script in one HTML file."""

import base64
import hashlib
from collections.abc import Sequence

import torch
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from vaexp.data import Split, load
from vaexp.errors import UserError
from vaexp.explore.describe import Data, described
from vaexp.explore.packing import Packing
from vaexp.explore.script import script
from vaexp.figures.style import LABEL_COLOURS
from vaexp.pages.page import rendered
from vaexp.runs.folder import RunFolder, short_names
from vaexp.runs.trained import TrainedModel
from vaexp.visible import visible

IMAGES = 300  # test images in a page


def page_of(runs: Sequence[RunFolder]) -> str:
    """The page of runs, as HTML, in the order of their beta.

    Raises UserError for a model that a page cannot run, and for runs that share no test images, and
    RunError for a damaged run.
    """
    names = short_names(runs)
    trained = [(run, name, TrainedModel.read(run)) for run, name in zip(runs, names, strict=True)]
    trained.sort(key=lambda one: one[2].config.model.kl_factor)
    images, digits = _images([(run, model) for run, _, model in trained])
    described_runs = [_run(*one) for one in trained]
    packing = Packing()
    data = {
        "runs": described_runs,
        "images": {"pixels": packing.put(images.pixels), "digits": images.label.tolist()},
        "text": packing.text(),
        "digits": digits,
        "colours": LABEL_COLOURS,
    }
    code = script(one["model"]["head"]["family"] for one in described_runs)
    title = trained[0][1] if len(trained) == 1 else f"{len(trained)} runs"
    return rendered(
        "explore.html",
        title=f"Explore {title}",
        several=len(trained) > 1,
        images=len(images),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii"),
        data=htmlsafe_json_dumps(data, allow_nan=False),
    )


def _run(run: RunFolder, name: str, trained: TrainedModel) -> Data:
    packing, section = Packing(), trained.config.model
    try:
        model = described(trained.model, section.kl_factor, packing.put)
    except UserError as error:
        raise UserError(f"{visible(str(run.path))}: {error}") from None
    return {
        "name": visible(name),
        "caption": visible(trained.config.describe()),
        "beta": section.kl_factor,
        "transform": trained.config.data.transform,
        "digits": trained.labels,
        "model": model,
        "text": packing.text(),
        "noSweep": trained.model.no_sweep,
    }


def _images(trained: Sequence[tuple[RunFolder, TrainedModel]]) -> tuple[Split, list[int]]:
    """Test images that all runs know, evenly spaced in data order, and their digits."""
    configs = [one.config.data for _, one in trained]
    if len({config.name for config in configs}) > 1:
        raise UserError(
            "these runs have different data, so they share no test images; explore runs with the "
            "same data.name"
        )
    digits = sorted(set.intersection(*(set(one.labels) for _, one in trained)))
    if not digits:
        raise UserError(
            "these runs have no digit in common; explore runs whose data.labels overlap"
        )
    data = load(configs[0], download=False)
    for run, _ in trained:
        run.check_data(data.sha256)
    known = torch.isin(data.test.label, torch.tensor(digits)).nonzero()[:, 0]
    count = min(IMAGES, len(known))
    rows = known[torch.linspace(0, len(known) - 1, count).long()]
    test = data.test
    return Split(test.pixels[rows], test.label[rows], test.at[rows]), digits
