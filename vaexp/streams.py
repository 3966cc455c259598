"""stdout and stderr as commands need them: the work outlives whoever reads its messages.

A message that cannot be shown is lost without a word, and so are all later ones. An answer that
cannot be printed is an error of one line.
"""

import codecs
import errno
import io
import os
import sys

from vaexp.errors import RunError


class Display(io.TextIOWrapper):
    """A stream of messages that falls silent for ever when a write to it fails.

    Its reader may have gone, its terminal may be closed, or its disk may be full.
    """

    def write(self, text: str, /) -> int:
        """Write the text, or lose it."""
        try:
            return super().write(text)
        except (OSError, ValueError):
            _discard(self)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered, or lose it."""
        try:
            super().flush()
        except (OSError, ValueError):
            _discard(self)


class Answer(io.TextIOWrapper):
    """The stream of a command's answer. A write that fails raises RunError.

    A reader that has gone, as ``head`` does, still raises BrokenPipeError, which ends quietly.
    """

    def write(self, text: str, /) -> int:
        """Write a part of the answer."""
        try:
            return super().write(text)
        except OSError as error:
            raise self._lost(error) from None

    def flush(self) -> None:
        """Write what is buffered of the answer."""
        try:
            super().flush()
        except OSError as error:
            raise self._lost(error) from None

    def _lost(self, error: OSError) -> Exception:
        _discard(self)
        if error.errno == errno.EPIPE:
            return error
        return RunError(f"the answer cannot be written to stdout: {error.strerror}")


def _discard(stream: io.TextIOWrapper) -> None:
    """Let whatever is still written to a stream go nowhere, also what is in its buffer."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def guard() -> None:
    """Make stderr a Display and stdout an Answer, for the rest of the process.

    A stream that was closed at the start is opened, as the next file would otherwise take its
    number and with it what is printed. Reading and writing there fails, but messages are lost.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest number that is free
    out = sys.stdout if isinstance(sys.stdout, io.TextIOWrapper) else None
    err = sys.stderr if isinstance(sys.stderr, io.TextIOWrapper) else None
    sys.stdout = Answer(
        io.BufferedWriter(io.FileIO(1, "w", closefd=False)),
        encoding=out.encoding if out else "utf-8",
        # a program reads a path as it is, though it may be no text; a terminal gets no odd byte
        errors="replace" if os.isatty(1) else "own bytes",
        line_buffering=os.isatty(1),
    )
    sys.stderr = Display(
        io.BufferedWriter(io.FileIO(2, "w", closefd=False)),
        encoding=err.encoding if err else "utf-8",
        errors="replace",
        line_buffering=True,
    )


def _own_bytes(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what an encoding does not have: the bytes of a path as they are, the rest as ?."""
    assert isinstance(error, UnicodeEncodeError)
    lost = error.object[error.start : error.end]
    escaped = (ord(each) - 0xDC00 if "\udc80" <= each <= "\udcff" else ord("?") for each in lost)
    return bytes(escaped), error.end


codecs.register_error("own bytes", _own_bytes)
