"""The Python API, for notebooks and scripts: four names, which ``vaexp`` itself has.

``vaexp.Config`` reads a config, ``vaexp.train`` trains it, ``vaexp.load_run`` and
``vaexp.load_runs`` read finished runs. Torch is imported only for training and for a run's model.
Tables are pandas DataFrames where pandas is there, and lists of dicts elsewhere. Mistakes raise
``vaexp.errors.UserError``, and what fails raises ``vaexp.errors.RunError``.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaexp import config as configs
from vaexp.config.document import read_document, write_text
from vaexp.config.load import read_config, resolve
from vaexp.config.overrides import apply_override
from vaexp.errors import RunError, UserError
from vaexp.pages.pictures import MOST_BYTES, Drawn
from vaexp.paths import expanded
from vaexp.processes import Processes
from vaexp.runs.export import history_rows, metric_rows, read_all
from vaexp.runs.find import find_run, in_order_of_time, runs_below
from vaexp.runs.folder import RunFolder
from vaexp.visible import visible

if TYPE_CHECKING:
    from vaexp.models import Model


class Config:
    """A config: ``Config("vae-fixed", "model.beta=4")`` or ``Config({"model": {"kind": "gmm"}})``.

    The first argument is what ``vaexp train`` takes (a YAML file, the name of a shipped config or a
    run folder), a mapping, or another Config; KEY=VALUE settings follow. Its sections are
    attributes, ``config.model.beta``, and cannot be changed: ``Config(config, "model.beta=2")``
    makes another one. Raises UserError that says what is wrong, and where.
    """

    def __init__(self, config: "str | Path | Mapping[str, Any] | Config", *overrides: str) -> None:
        match config:
            case Config():
                self.experiment = _from_mapping(config.as_dict(), overrides)
            case Mapping():
                self.experiment = _from_mapping(config, overrides)
            case _:
                self.experiment, _ = read_config(str(config), overrides)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_") or key == "experiment":
            raise AttributeError(key)
        return getattr(self.experiment, key)

    def as_dict(self) -> dict[str, Any]:
        """All settings, as nested dicts."""
        return self.experiment.model_dump()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self.experiment == other.experiment

    def __hash__(self) -> int:
        return hash(configs.dump(self.experiment))

    def __repr__(self) -> str:
        return configs.dump(self.experiment)


def _from_mapping(values: Mapping[str, Any], overrides: Sequence[str]) -> configs.Config:
    """The config in a mapping, written out as YAML, whose lines messages name."""
    where = Path("<config>")
    try:
        source = read_document(write_text(_plain(values)), where)
    except Exception as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{where}: a value cannot be written as YAML: {error}") from None
    return resolve(source, {apply_override(source, override) for override in overrides})[0]


def _plain(value: Any) -> Any:
    """A value as YAML knows it, also of numbers and arrays of NumPy and torch, and of a path."""
    match value:
        case Mapping():
            return {key: _plain(below) for key, below in value.items()}
        case list() | tuple():
            return [_plain(below) for below in value]
        case PathLike():
            return fspath(value)
        case type():
            return value
    return value.tolist() if hasattr(value, "tolist") else value


class Figures(Mapping[str, "Figure"]):
    """The figures of a run by name. A notebook shows all, or one of them: ``["samples"]``."""

    def __init__(self, run: RunFolder):
        self._run = run
        names = run.files.names("figures", ".png")
        self._names = {Path(name).stem: name for name in names}

    def __getitem__(self, name: str) -> "Figure":
        return Figure(self._run, self._names[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return f"figures: {', '.join(self)}"

    def _repr_html_(self) -> str:
        return "".join(figure._repr_html_() for figure in self.values())


@dataclass(frozen=True)
class Figure:
    """A figure of a run, which a notebook shows. It is decoded and encoded again, as its file may
    be a stranger's."""

    _run: RunFolder
    _name: str

    @property
    def path(self) -> Path:
        """The file."""
        return self._run.path / self._name

    def _repr_html_(self) -> str:
        with self._run.files.open(self._name, MOST_BYTES) as file:
            drawn = Drawn.read(file, self.path.stem)
        full = None if drawn is None else drawn.large().full
        if drawn is None or full is None:
            return f"<p>{escape(str(self.path))} is damaged</p>"
        return f'<img alt="{escape(drawn.words)}" src="{full.address}" style="max-width: 100%">'


class Run:
    """A run, read from its folder when it is asked."""

    def __init__(self, folder: RunFolder):
        self.folder = folder

    @property
    def path(self) -> Path:
        """Its folder."""
        return self.folder.path

    @property
    def status(self) -> str:
        """running, finished, failed, interrupted, dead or unknown."""
        return self.folder.status()

    @cached_property
    def config(self) -> Config:
        """The config that it was trained with. Raises RunError if it was edited since."""
        config = self.folder.config()
        self.folder.check_config(config)
        return Config(config.model_dump())

    @property
    def metrics(self) -> Any:
        """The final metrics: a row for each split and metric, with value, se, unit and kind."""
        return _table(metric_rows(self.folder))

    @property
    def history(self) -> Any:
        """A row for each epoch or iteration, with columns such as train.elbo."""
        return _table(history_rows(self.folder))

    @property
    def per_example(self) -> Any:
        """By the name of a metric, its value for each test image, (N,)."""
        return self.folder.per_example()

    @cached_property
    def model(self) -> "Model":
        """The model with the kept weights, on the CPU: prior(), encode(x), decode(z), ..."""
        from vaexp.runs.trained import TrainedModel

        return TrainedModel.read(self.folder).model

    @property
    def figures(self) -> Figures:
        """The figures that are PNG files, which a notebook shows."""
        return Figures(self.folder)

    def __repr__(self) -> str:
        try:
            what = f"{self.status}: {self.folder.config().describe()}"
        except (RunError, UserError):
            what = "damaged"
        return f"Run({str(self.path)!r}, {what})"


class Runs(Sequence[Run]):
    """Runs, the oldest first. ``table`` has one row for each."""

    def __init__(self, runs: Sequence[Run]):
        self._runs = list(runs)

    def __getitem__(self, i: Any) -> Any:
        return Runs(self._runs[i]) if isinstance(i, slice) else self._runs[i]

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def table(self) -> Any:
        """A row for each run: its status and settings, and each final metric and its error.

        Runs that are damaged are left out, and a warning says why.
        """
        found, wrong = read_all(run.path for run in self)
        for why in wrong:
            warnings.warn(f"left out: {visible(why)}", stacklevel=2)
        rows = []
        for run in found:
            row = dict(run.row)
            for entry in run.metrics:
                name = f"{entry['split']}.{entry['metric']}"
                row |= {name: entry["value"], f"{name}.se": entry.get("se")}
            rows.append(row)
        return _table(rows)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "no runs"


def train(
    config: "str | Path | Mapping[str, Any] | Config",
    *overrides: str,
    runs_dir: str | Path = "runs",
    figures: bool = True,
) -> Run:
    """Train a config, whatever ``Config`` takes, in a new run folder below ``runs_dir``.

    Progress goes to stderr, as that of ``vaexp train`` does. Without ``figures`` none is drawn.
    Raises UserError under torchrun, whose processes only the command can join.
    """
    from vaexp.cli_common import train_here

    if Processes.of_torchrun().count > 1:
        raise UserError("torchrun: start the command, as in torchrun -m vaexp train CONFIG")
    settings = Config(config, *overrides).experiment
    return Run(train_here(settings, expanded(runs_dir), None, figures=figures))


def load_run(run: str | Path) -> Run:
    """Open a run by its folder, or by whatever else a RUN of the command line may be: latest."""
    return Run(RunFolder.open(find_run(run)))


def load_runs(folder: str | Path = "runs") -> Runs:
    """All runs in a folder and in folders below it, the oldest first."""
    path = expanded(folder)
    if not path.is_dir():
        raise UserError(f"{folder}: no such folder")
    return Runs([Run(run) for run in in_order_of_time(runs_below(path))])


def _table(rows: list[dict[str, Any]]) -> Any:
    """The rows as a DataFrame where pandas is there, and else as they are."""
    try:
        import pandas
    except ImportError:
        return rows
    return pandas.DataFrame(rows)
