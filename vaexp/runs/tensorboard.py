"""The numbers of a run as an event file, which TensorBoard reads.

``output.tensorboard: true`` asks for it. metrics.jsonl and metrics.json stay the record.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from vaexp.config import Config
from vaexp.errors import UserError
from vaexp.runs.folder import RunFolder

Add = Callable[[int, Mapping[str, Any]], None]
"""Adds the numbers of one record, which is counted from 1."""


def check_installed(config: Config) -> None:
    """Raise UserError if the config asks for events and the package tensorboard is missing."""
    if not config.output.tensorboard:
        return
    try:
        import tensorboard  # noqa: F401
    except ImportError as error:
        raise UserError(
            "output.tensorboard needs the package tensorboard, which cannot be imported "
            f"({error}); pip install 'vaexp[tensorboard]' installs it"
        ) from None


@contextmanager
def events(run: RunFolder) -> Iterator[Add]:
    """Open an event file in the run folder, if its config asks for one.

    What an earlier process wrote of later records, TensorBoard leaves out. A disk that takes no
    more of it, as a full one, does not end the training, whose record is metrics.jsonl.
    """
    if not run.config().output.tensorboard:
        yield lambda _number, _record: None
        return
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.path), purge_step=len(run.records()) + 1)

    def add(number: int, record: Mapping[str, Any]) -> None:
        with suppress(OSError):
            for title, value in _numbers(record):
                writer.add_scalar(title, value, number)
            writer.flush()

    try:
        yield add
    finally:
        with suppress(OSError):
            writer.close()


def add_test(run: RunFolder) -> None:
    """Add the measures of the test images in metrics.json, at the last record."""
    test = {name: entry["value"] for name, entry in run.metrics()["test"].items()}
    with events(run) as add:
        add(len(run.records()), {"test": test})


def _numbers(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a record and their titles; those of several splits share a group."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}/{key}", number) for name, number in _numbers(value))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield key, float(value)
