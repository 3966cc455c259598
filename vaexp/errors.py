"""The errors that a command ends with. Their messages are printed without a traceback."""


class UserError(Exception):
    """The input of the user is wrong. The message says what, where, and what to do. Exit code 2."""


class RunError(Exception):
    """The work failed, or a run folder is damaged. Exit code 1."""


class Terminated(BaseException):
    """The process received SIGTERM. Exit code 143."""
