"""Paths as users write them: ``~`` and ``$VARIABLES`` are replaced once, where a path comes in."""

import os
import re
from pathlib import Path

from vaexp.errors import UserError

LINK_INSTEAD = "a folder whose name is no text needs a link to it that has another name"
"""What a user is told whose path has bytes that are not UTF-8, where only text can be kept."""


def expanded(path: str | Path) -> Path:
    """The path that is meant. One that exists as it is written is taken as it is written.

    Raises UserError for a variable that is not set and for a home folder that is not known. Left
    alone, they would become folders of these names.
    """
    text = str(path)
    if os.path.lexists(text):
        return Path(path)
    for braced, plain in re.findall(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", text):
        if (braced or plain) not in os.environ:
            raise UserError(f"{text}: the variable ${braced or plain} is not set")
    home = os.path.expanduser(text)
    if home == text and text.startswith("~"):
        user = text.split("/")[0]
        raise UserError(f"{text}: the home folder {user} is not known; write the path out")
    return Path(os.path.expandvars(home))


def absolute(path: str | Path) -> Path:
    """The expanded path from the root on, so that it means the same wherever it is read."""
    try:
        return Path(os.path.abspath(expanded(path)))
    except FileNotFoundError:
        raise UserError(
            f"{path}: the folder that it is relative to, the current one, no longer exists"
        ) from None


def user_cache() -> Path | None:
    """$XDG_CACHE_HOME/vaexp, or ~/.cache/vaexp where that is not set; None without a home."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaexp"
    except RuntimeError:
        return None


def file_to_write(path: str | Path, option: str, *suffixes: str) -> Path:
    """The expanded path of a file that an option names, which is to be written.

    Raises UserError if its folder is missing, if it is a folder itself, or if its name ends with
    none of ``suffixes``.
    """
    file = expanded(path)
    if not os.path.isdir(file.parent):
        raise UserError(f"{option} {path}: there is no folder {file.parent}; make it first")
    if os.path.isdir(file):
        raise UserError(f"{option} {path}: is a folder; name a file in it")
    if suffixes and file.suffix not in suffixes:
        raise UserError(f"{option} {path}: the name has to end with {' or '.join(suffixes)}")
    return file


def folder_to_write(path: str | Path, option: str) -> Path:
    """The expanded path of a folder that an option names, which is made if it is missing.

    Raises UserError if that cannot be done.
    """
    folder = expanded(path)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be made: {error.strerror}") from None
    return folder
