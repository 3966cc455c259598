"""The two ways a command ends badly. The command line prints their message without a traceback."""


class UserError(Exception):
    """What the user asked for is wrong; the message says where and what to do. Exit code 2."""


class RunError(Exception):
    """The work itself failed, or a run folder is broken. Exit code 1."""


class Terminated(BaseException):
    """SIGTERM arrived. Exit code 143."""
