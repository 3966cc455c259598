"""The live page of one or more runs: their models, test images and script in one HTML file."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from vaexp.data import Split, Transform, load
from vaexp.errors import RunError, UserError, in_a_line
from vaexp.explore.describe import Data, described
from vaexp.explore.packing import Packing
from vaexp.explore.script import script
from vaexp.figures.style import LABEL_COLOURS
from vaexp.pages.page import rendered
from vaexp.runs.folder import RunFolder, short_names
from vaexp.runs.guarded import WEIGHTS
from vaexp.runs.trained import TrainedModel
from vaexp.visible import visible

IMAGES = 300  # test images in a page
MOST_NUMBERS = 2**24  # of all models in a page, which has then about 45 MB


@dataclass(frozen=True)
class Explored:
    """A run that a page can show, and its model as data."""

    folder: RunFolder
    trained: TrainedModel
    model: Data
    packing: Packing
    """The tensors of the model."""


def explored(runs: Sequence[RunFolder]) -> tuple[list[Explored], dict[str, str]]:
    """The runs that a page can show, in their order, and why each other is left out.

    Mixtures are left out, and runs that are damaged or have no weights yet, by their paths. Raises
    UserError or RunError if none is left.
    """
    read, left_out = [], {}
    for run in runs:
        try:
            read.append(_read(RunFolder.open(run.path)))
        except (RunError, UserError) as error:
            if len(runs) == 1:
                raise
            left_out[str(run.path)] = str(error)
        except OSError as error:
            left_out[str(run.path)] = in_a_line(error)
    if not read:
        raise RunError("\n".join(left_out.values()))
    return read, left_out


def _read(run: RunFolder) -> Explored:
    trained, packing = TrainedModel.read(run), Packing()
    for name, tensor in trained.model.state_dict().items():
        if not tensor.isfinite().all():
            raise RunError(
                f"{visible(str(run.path))}/{WEIGHTS}: {visible(name)} holds numbers that are not "
                "finite, so no page can run the model; copy the run folder again or train anew"
            )
    try:
        model = described(trained.model, trained.config.model.kl_factor, packing.put)
    except (RunError, UserError) as error:
        raise type(error)(f"{visible(str(run.path))}: {error}") from None
    return Explored(run, trained, model, packing)


def page_of(runs: Sequence[Explored]) -> str:
    """The page of runs, as HTML, in the order of their beta.

    Raises UserError for runs that share no test images or are too large for one page, and RunError
    if the data are not those that a run was trained on.
    """
    runs = sorted(runs, key=lambda one: one.trained.config.model.kl_factor)
    numbers = sum(one.packing.numbers for one in runs)
    if numbers > MOST_NUMBERS:
        raise UserError(
            f"the models of these {len(runs)} runs have {numbers:,} numbers together, too many for "
            f"a page, which takes {MOST_NUMBERS:,}; explore fewer of the runs at a time"
        )
    images, digits = _images(runs)
    names = short_names([one.folder for one in runs])
    packing = Packing()
    data = {
        "runs": [_run(one, name) for one, name in zip(runs, names, strict=True)],
        "images": {"pixels": packing.put(images.pixels), "digits": images.label.tolist()},
        "text": packing.text(),
        "digits": digits,
        "colours": LABEL_COLOURS,
    }
    code = script(one.model["head"]["family"] for one in runs)
    title = names[0] if len(runs) == 1 else f"{len(runs)} runs"
    return rendered(
        "explore.html",
        title=f"Explore {title}",
        several=len(runs) > 1,
        images=len(images),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode("utf-8")).digest()).decode("ascii"),
        data=htmlsafe_json_dumps(data, allow_nan=False),
    )


def _run(run: Explored, name: str) -> Data:
    """A run as data."""
    config, model = run.trained.config, run.trained.model
    transform = config.data.transform
    return {
        "name": visible(name),
        "caption": visible(config.describe()),
        "beta": config.model.kl_factor,
        "transform": transform,
        "unit": Transform(transform).in_unit_interval,
        "model": run.model,
        "text": run.packing.text(),
        "noSweep": model.no_sweep,
    }


def _images(runs: Sequence[Explored]) -> tuple[Split, list[int]]:
    """Test images that all runs know, evenly spaced in data order, and their digits."""
    configs = [one.trained.config.data for one in runs]
    if len({config.name for config in configs}) > 1:
        raise UserError(
            "these runs have different data, so they share no test images; explore runs with the "
            "same data.name"
        )
    digits = sorted(set.intersection(*(set(one.trained.labels) for one in runs)))
    if not digits:
        raise UserError(
            "these runs have no digit in common; explore runs whose data.labels overlap"
        )
    data = load(configs[0], download=False)
    for one in runs:
        one.folder.check_data(data.sha256)
    known = torch.isin(data.test.label, torch.tensor(digits)).nonzero()[:, 0]
    count = min(IMAGES, len(known))
    rows = known[torch.linspace(0, len(known) - 1, count).long()]
    test = data.test
    return Split(test.pixels[rows], test.label[rows], test.at[rows]), digits
