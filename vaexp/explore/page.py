"""The live page of one or more runs: their models, test images and script in one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from vaexp.config.data import IMAGE_SHAPE
from vaexp.data import Split, Transform, load
from vaexp.errors import RunError, UserError, in_a_line
from vaexp.explore.describe import Data, described
from vaexp.explore.packing import Packing
from vaexp.explore.script import mixture_script, script
from vaexp.figures.style import LABEL_COLOURS
from vaexp.pages.live import Live, policy
from vaexp.pages.page import rendered
from vaexp.runs.folder import RunFolder, short_names
from vaexp.runs.trained import TrainedModel
from vaexp.runs.unforeseen import LEFT_OUT, fault
from vaexp.visible import visible

IMAGES = 300  # test images in a page
MOST_BYTES = 2**25  # of all models in a page, which has then about 45 MB


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

    Left out are runs that are damaged, have no weights yet or are too large, by their paths. Raises
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
        except OSError as error:  # a disk that fails, or a file that may not be read
            left_out[str(run.path)] = in_a_line(error)
        except Exception as error:
            left_out[str(run.path)] = str(fault(run, error, LEFT_OUT))
    if not read:
        raise RunError("\n".join(left_out.values()))
    return read, left_out


def _read(run: RunFolder) -> Explored:
    trained, packing = TrainedModel.read(run), Packing()
    if trained.shape != IMAGE_SHAPE:
        height, width = trained.shape
        raise UserError(
            f"{visible(str(run.path))}: its images have {height} x {width} pixels, and a page "
            f"shows images of {IMAGE_SHAPE[0]} x {IMAGE_SHAPE[1]}"
        )
    try:
        model = described(trained.model, trained.config.model.kl_factor, packing.put)
    except (RunError, UserError) as error:
        raise type(error)(f"{visible(str(run.path))}: {error}") from None
    return Explored(run, trained, model, packing)


def page_of(runs: Sequence[Explored]) -> str:
    """The page of runs, as HTML. Raises what ``live_of`` raises."""
    live = live_of(runs)
    (name, *others) = short_names([one.folder for one in runs])
    title = f"Explore {len(runs)} runs" if others else f"Explore {name}"
    return rendered("explore.html", title=title, live=live, policy=policy(live))


def live_of(runs: Sequence[Explored]) -> Live:
    """The live part of a page of runs, in the order of their beta or of their components.

    Raises UserError for runs that share no test images, are too large for one page, or are of
    mixtures and of other models, and RunError if the data are not those that a run was trained on.
    """
    mixtures = [one for one in runs if one.trained.config.model.discrete]
    if 0 < len(mixtures) < len(runs):
        raise UserError(
            f"{len(mixtures)} of these {len(runs)} runs are mixtures, which have no latent plane, "
            "and a page holds mixtures or other models; explore them apart"
        )
    runs = sorted(runs, key=_place)
    size = sum(len(one.packing.data) for one in runs)
    if size > MOST_BYTES:
        raise UserError(
            f"the models of these {len(runs)} runs take {size:,} bytes together, too many for a "
            f"page, which takes {MOST_BYTES:,}; explore fewer of the runs at a time"
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
    code = mixture_script() if mixtures else script(one.model["head"]["family"] for one in runs)
    return Live(
        template="mixture.html" if mixtures else "latent.html",
        script=Markup(code),
        data=htmlsafe_json_dumps(data, allow_nan=False),
        runs=len(runs),
        images=len(images),
    )


def _place(run: Explored) -> tuple[float, int]:
    """What a run is sorted by on its slider."""
    return run.trained.config.model.kl_factor, run.model.get("components", 0)


def _run(run: Explored, name: str) -> Data:
    """A run as data."""
    config, model = run.trained.config, run.trained.model
    transform = config.data.transform
    return {
        "name": visible(name),
        "caption": visible(config.describe()),
        "beta": config.model.kl_factor,
        **({"floor": config.model.floor} if config.model.discrete else {}),
        "transform": transform,
        "unit": Transform(transform).in_unit_interval,
        "model": run.model,
        "text": run.packing.text(),
        "noSweep": model.no_sweep,
    }


def _images(runs: Sequence[Explored]) -> tuple[Split, list[int]]:
    """Test images that all runs know, evenly spaced in data order, and their digits."""
    configs = [one.trained.config.data for one in runs]
    hashes = [one.folder.environment()["data_sha256"] for one in runs]
    if len(set(zip((config.name for config in configs), hashes, strict=True))) > 1:
        raise UserError(
            "these runs have different data, so they share no test images; explore runs of the "
            "same data"
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
