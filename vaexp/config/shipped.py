"""The configs and sweeps that come with the package.

They lie in ``vaexp/configs`` in a wheel, and in ``configs`` in a clone.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


SCHEMA_LINE = "# yaml-language-server: $schema="
"""What the first line of a shipped config begins with. The path of the schema follows."""


SWEEPS = "sweeps"
"""The folder of the shipped sweeps, among those of configs."""


def shipped_configs() -> dict[str, Path]:
    """The path of every shipped config by its name, in the order of names.

    The name of a config in a subfolder begins with that of the subfolder: report/beta-small. Those
    come last.
    """
    folder = _folder()
    paths = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in paths]
    return {
        name: path for name, path in zip(names, paths, strict=True) if path.parent.name != SWEEPS
    }


def shipped_sweeps() -> dict[str, Path]:
    """The path of every shipped file that describes a sweep, by its name: choose-k."""
    return {path.stem: path for path in sorted((_folder() / SWEEPS).glob("*.yaml"))}


def summary(path: Path) -> str:
    """The first comment line of a config that is not for editors. It says what the config shows."""
    with path.open(encoding="utf-8") as lines:
        return (
            next(line for line in lines if not line.startswith(SCHEMA_LINE)).lstrip("# ").rstrip()
        )


def text_to_copy(path: Path) -> str:
    """The text of a shipped config for another folder, where it still names the schema."""
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    schema = (path.parent / first.removeprefix(SCHEMA_LINE)).resolve()
    return f"{SCHEMA_LINE}{schema.as_uri()}\n{rest}"


def _folder() -> Path:
    installed = _PACKAGE / "configs"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs"
