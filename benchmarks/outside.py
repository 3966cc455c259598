"""What stands outside of the folder that a command works in, where it may change nothing."""

from pathlib import Path

Content = dict[str, bytes | None]
"""The content of each file in a folder, by its path there; None of what is no file."""


def snapshot(folder: Path) -> Content:
    """What is in a folder, but for the list of fonts that matplotlib keeps."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if ".cache/matplotlib" not in str(path)
    }


def changes(before: Content, now: Content) -> list[str]:
    """The paths in a folder that are new, gone or have another content."""
    missing = b"no such path"
    return [
        path for path in sorted(before | now) if before.get(path, missing) != now.get(path, missing)
    ]
