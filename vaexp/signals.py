"""Signals that end a command, or that must not: Ctrl-C, SIGTERM and a terminal that goes away."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from vaexp.errors import Terminated

AGAIN = 2.0  # seconds after which Ctrl-C raises again, if nothing has taken notice of it
PATIENCE = 10.0  # seconds that the end of a command may take before Ctrl-C ends it on the spot

Stop = type[KeyboardInterrupt] | type[Terminated]


class _Stops:
    """What Ctrl-C and SIGTERM do: they raise an exception once, however often they come."""

    def __init__(self) -> None:
        self.asked: Stop | None = None
        self.raised = -AGAIN
        self.ending: float | None = None

    def ask(self, stop: Stop) -> None:
        """Raise the exception, unless that was done just now or the command is at its end."""
        now = time.monotonic()
        if self.ending is not None:
            if now - self.ending > PATIENCE:
                os._exit(130 if stop is KeyboardInterrupt else 143)
        elif now - self.raised >= AGAIN:
            self.asked, self.raised = stop, now
            raise stop


_stops = _Stops()


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    _stops.ask(KeyboardInterrupt)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    _stops.ask(Terminated)


def interrupts_raise_once() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, but not again while the command comes to its end.

    It stays ignored where it is ignored, as in the background of a shell script.
    """
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupted)


def ignore_interrupts() -> None:
    """Let Ctrl-C do nothing any more, as the process has done all but go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def check() -> None:
    """Stop if that was asked for before. Libraries swallow exceptions while they are imported."""
    if _stops.asked is not None and _stops.ending is None:
        raise _stops.asked


def cause(error: BaseException) -> BaseException:
    """The exception that ended the work. A library may have turned a stop into one of its own."""
    if _stops.asked is not None and isinstance(error, Exception):
        return _stops.asked()
    return error


def ending() -> None:
    """Say that the work comes to its end, which no further Ctrl-C or SIGTERM disturbs."""
    _stops.ending = time.monotonic()


@contextmanager
def stoppable(terminal_lost: Callable[[], None]) -> Iterator[None]:
    """Raise Terminated at SIGTERM inside the block, so that the work can end properly.

    When the terminal goes away (SIGHUP) the work goes on, and ``terminal_lost`` is called. Signals
    reach only the main thread: in another one the block changes nothing.
    """

    def go_on(_number: int, _frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the signal came in the middle of a write to the same file
            terminal_lost()

    handlers = {signal.SIGTERM: _terminated, signal.SIGHUP: go_on}
    if threading.current_thread() is not threading.main_thread():
        handlers = {}
    before = {}
    for number, handler in handlers.items():
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            before[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
        _stops.ending = _stops.asked = None
