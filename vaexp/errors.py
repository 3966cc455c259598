"""The errors that a command ends with. Their messages are printed without a traceback."""


class UserError(Exception):
    """The input of the user is wrong. The message says what, where, and what to do. Exit code 2."""


class RunError(Exception):
    """The work failed, or a run folder is damaged. Exit code 1."""


class Terminated(BaseException):
    """The process received SIGTERM. Exit code 143."""


# How torch and CUDA say that memory ran out, by exceptions that are not MemoryError
_NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory, of the machine or of its GPU, did not suffice."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _NO_MEMORY)


def in_a_line(error: BaseException) -> str:
    """What went wrong, for an exception that no code foresaw: one line that says what helps."""
    lines = str(error).strip().splitlines()
    first = lines[0].strip() if lines else "no details"
    if is_out_of_memory(error):
        return (
            "the memory does not suffice; a smaller model, train.batch_size or data.limit needs "
            f"less of it ({first})"
        )
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return f"{type(error).__name__}: {first[:300]}"
