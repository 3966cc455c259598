"""The command ``vaexp``, which is also ``python -m vaexp``.

Ctrl-C ends it properly from the first line on, while its modules are still being loaded and there
is nothing to put in order yet.
"""

# the built-in part of signal, as importing the whole takes milliseconds
import _signal  # type: ignore[import-not-found]
import os


def _leave(number: int, _frame: object) -> None:
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(128 + number)


if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _leave)


def main() -> None:
    """Run the command line. This is the entry point of the console script."""
    from vaexp.cli import main as command

    command()


if __name__ == "__main__":
    main()
