"""The whole reproduction: train what is missing, then draw the figures and write the page.

What is done is not done again. Whatever was killed, the same call ends with the same numbers.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vaexp import __version__
from vaexp.config import flatten
from vaexp.errors import UserError
from vaexp.files import write_text
from vaexp.progress import Reporter
from vaexp.reproduction import work
from vaexp.reproduction.answers import Asked, Question, findings
from vaexp.reproduction.figures import FIGURES, ReportFigure
from vaexp.reproduction.page import Content, Shown, render
from vaexp.reproduction.questions import QUESTIONS
from vaexp.reproduction.size import SEEDS, Size
from vaexp.reproduction.studies import Done, Repeated, Study

PAGE, FINDINGS, PICTURES, MADE = "index.html", "findings.md", "figures", "made.json"


@dataclass(frozen=True)
class Made:
    """The files of a reproduction."""

    page: Path
    findings: Path
    figures: list[Path]


def reproduce(
    out: Path,
    runs_dir: Path | None,
    changes: Sequence[str],
    reporter: Reporter,
    *,
    size: Size,
    jobs: int,
) -> Made:
    """Make the reproduction in the folder ``out``, as far as it is not there yet.

    ``runs_dir`` is the folder of its sweeps, by default ``runs`` in ``out``. ``changes`` are
    overrides of all configs. Raises UserError if they are wrong or do not fit what is there, and
    RunError if a run failed.
    """
    begun = work.begin(studies(quick=size.quick), runs_dir or out / "runs", size, changes)
    _make_folder(out / PICTURES)
    done = work.train(begun, jobs, reporter)
    work.measure(done, size.images, reporter)
    content = _content(done, size, changes)
    names = [name for shown in content.figures for name in shown.pictures]
    names += [name for asked in content.answers for name in asked.files]
    made = Made(out / PAGE, out / FINDINGS, [out / PICTURES / name for name in names])
    text = findings(content.answers, content.how, PICTURES)
    key = _digest(json.dumps([text, *map(asdict, content.figures)]).encode())
    if _is_made(out, key, made):
        reporter.say(f"nothing to do: {out} has all figures, the page and the findings")
        return made
    _draw(done, content.answers, out / PICTURES, reporter)
    write_text(made.page, render(content, out / PICTURES))
    write_text(made.findings, text)
    hashes = {str(path.relative_to(out)): _digest(path.read_bytes()) for path in _files(made)}
    write_text(out / MADE, json.dumps({"content": key, "files": hashes}, indent=2) + "\n")
    return made


def questions(*, quick: bool) -> list[Question]:
    """The questions that are answered."""
    return [question for question in QUESTIONS if not (quick and question.heavy)]


def studies(*, quick: bool) -> list[Study]:
    """All studies that a figure or a question needs, each once."""
    needed = [figure.study for figure in FIGURES]
    needed += [study for figure in FIGURES for study, _ in figure.beside.values()]
    needed += [study for question in questions(quick=quick) for study in question.studies]
    return list(dict.fromkeys(needed))


def _content(done: Done, size: Size, changes: Sequence[str]) -> Content:
    """What the page says of the finished runs."""
    return Content(
        _how(done, size, changes),
        [_shown(figure, done) for figure in FIGURES],
        [
            Asked(question, question.answer(done), question.again(size, changes, done))
            for question in questions(quick=size.quick)
        ],
    )


def _how(done: Done, size: Size, changes: Sequence[str]) -> list[str]:
    """Sentences on what was trained, and how to read its numbers."""
    count = len({run.path for runs in done.runs.values() for run in runs})
    command = " ".join(["vaexp reproduce", *size.options, *changes])
    given = {change.partition("=")[0] for change in changes}
    shortened = [change for change in size.changes if change.partition("=")[0] not in given]
    settings = (
        f" --quick sets {', '.join(shortened)} in all configs that have the key."
        if shortened
        else ""
    )
    left_out = [question.title for question in QUESTIONS if size.quick and question.heavy]
    without = f" It leaves out: {' '.join(left_out)}" if left_out else ""
    return [
        f"Written by vaexp {__version__} with the command `{command}`, from {count} runs."
        f"{settings}{without}",
        f"{_spread(done, size)} Measures whose names begin with law_ or images_averaged_, or "
        "contain optimal_mean, are of training images of MNIST; all others are of test images. A "
        "sentence says that one number is above another only where their difference is more than "
        "twice its standard error, or has the same sign in all seeds.",
        "z is a latent, or code, and y the label of an image. elbo is the bound on ln p(x), or on "
        "ln p(x|y) of a model that is given the label; iw_bound is a tighter one, and log_prob is "
        "ln p(x) itself. rate is KL(q(z|x) ‖ p(z)). These and all other likelihoods and "
        "divergences are in nats per image. An image from a model is either the mean μ(z) of "
        "p(x|z) or a draw x ~ p(x|z), with z ~ p(z) unless another z is named: names that end "
        "in _mean are of the former, and those that end in _sample of the latter. rmse_mean is "
        "the error with which μ(z), z ~ q(z|x), rebuilds test images, whose pixels are from 0 to "
        "1: the root of the mean square over pixels. digit_fid, the digit FID, is a distance of a "
        "model's images from real ones: the Fréchet distance between the features that a digit "
        "classifier has of both. Less is better, and other real images are not quite at 0. "
        "docs/measures.md explains each measure.",
        "What stands in square brackets behind a density is what bounds it: σ = is a fixed "
        "standard deviation of the pixels, and σ ≥ the least one that the model may have. The "
        "configs of mixtures, of Gaussians per digit and of factor analysis name the square of "
        "that, the least variance, which stands beside it as σ² ≥. In the tables the median over "
        "images stands beside the mean where the two differ by more than the standard error over "
        "images, or in their sign: there a few images may carry the mean.",
        "The report is the one that this project began with: Theory and implementation of VAEs. "
        "The runs of its figures are VAEs that are given the label, as in the report, so that "
        "their likelihoods are of x given the label. The report does not name its network, its "
        "latent size or its β. All of these are chosen here, and each caption says what was "
        "chosen.",
    ]


def _spread(done: Done, size: Size) -> str:
    """What stands behind the ± of the numbers."""
    few = (
        f" The quality of samples is that of {size.images:,} images at most, and its numbers "
        "depend on how many there are."
        if size.images
        else ""
    )
    if all(done.seeds(study) == 1 for study in done.runs):
        return (
            "Each number is of one run, ± its standard error over images. One seed says nothing "
            f"about others: the full reproduction has {SEEDS}.{few}"
        )
    return (
        "Each number of runs with several seeds is their mean ± their standard deviation. A column "
        "of the tables says how many seeds these are. The number of a single run is ± its standard "
        "error over the test images, and says nothing about other seeds; the full reproduction has "
        f"{SEEDS} seeds, or fewer where only one question needs the runs. The images in pictures "
        f"are those of the first seed.{few}"
    )


def _shown(figure: ReportFigure, done: Done) -> Shown:
    runs = figure.runs(done)
    return Shown(
        figure.number,
        figure.title,
        figure.captioned(done),
        _settings(runs),
        str(runs.first.path),
        [(measure, runs.cell(measure)) for measure in figure.measures],
        [name_of(figure, part) for part in figure.pictures],
    )


def _settings(runs: Repeated) -> str:
    """The settings of the run that is drawn, on one line."""
    run, config = runs.first, runs.config
    images = run.metrics()["train"]["elbo"]["n"]
    hidden = flatten(config.model_dump())["model.hidden"]
    return (
        f"{config.describe()}, hidden layers of {' and '.join(map(str, hidden))} units, "
        f"{images:,} training images, {len(run.records())} {config.model.unit}s, seed "
        f"{config.seed}"
    )


def name_of(figure: ReportFigure, part: str) -> str:
    """The name of the PNG file of a picture."""
    return f"figure-{figure.number:02d}{part}.png"


def _draw(done: Done, answers: Sequence[Asked], folder: Path, reporter: Reporter) -> None:
    """Draw all pictures of all figures and answers."""
    with reporter.waiting("loading torch"):
        from vaexp.figures.style import save
        from vaexp.reproduction.drawing import draw, draw_answer
    for figure in FIGURES:
        run = figure.runs(done).first
        for part, picture in figure.pictures.items():
            path = folder / name_of(figure, part)
            save(draw(picture, run), path)
            reporter.say(f"figure {path}")
    for asked in answers:
        for name, drawn in asked.files.items():
            save(draw_answer(drawn), folder / name)
            reporter.say(f"figure {folder / name}")


def _is_made(out: Path, key: str, made: Made) -> bool:
    """Whether all files are there, as they were written, and say what ``key`` stands for."""
    try:
        known = json.loads((out / MADE).read_text(encoding="utf-8"))
        files = {str(path.relative_to(out)): _digest(path.read_bytes()) for path in _files(made)}
        return bool(known == {"content": key, "files": files})
    except (OSError, ValueError):
        return False


def _files(made: Made) -> list[Path]:
    return [made.page, made.findings, *made.figures]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created: {error.strerror}") from None
