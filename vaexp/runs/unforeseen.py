"""The last catch: what an error that no code foresaw leaves of a run, in one line and its log."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from vaexp import signals
from vaexp.errors import RunError, UserError, in_a_line, is_out_of_memory
from vaexp.progress import write_log
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import LOG
from vaexp.visible import visible

UNHARMED = "the run is as it was"
"""How to go on after an error in a command that only reads a run."""
LEFT_OUT = "the other runs are not affected"


def fault(run: RunFolder, error: Exception, go_on: str = UNHARMED) -> RunError:
    """The error of one line in place of ``error``: which run it is, and how to ``go_on``.

    The traceback goes into train.log of the run, if that can be written.
    """
    what, place = in_a_line(error), f"{visible(str(run.path))}: "
    if not isinstance(error, OSError) and not is_out_of_memory(error):
        go_on += "; this is a fault of vaexp, please report it"
    lost = "PYTHONDEVMODE=1 shows the traceback"
    shown = "train.log has the traceback" if _logged(run, error) else lost
    return RunError(f"{'' if place in what else place}{what}; {go_on} ({shown})")


@contextmanager
def last_catch(run: RunFolder, go_on: str) -> Iterator[None]:
    """Turn an exception of the block that no code foresaw into its ``fault``.

    Python's development mode leaves it as it is.
    """
    try:
        yield
    except (UserError, RunError):
        raise
    except Exception as error:
        if sys.flags.dev_mode or signals.cause(error) is not error:
            raise
        raise fault(run, error, go_on) from error


def _logged(run: RunFolder, error: Exception) -> bool:
    """Write a traceback into the log of a run. Returns whether it stands there."""
    try:
        with run.files.append(LOG) as log:
            write_log(log, "".join(traceback.format_exception(error)))
    except (OSError, RunError):
        return False
    return True
