"""The configs that come with the package: ``vaexp/configs`` in a wheel, ``configs`` in a clone."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> dict[str, Path]:
    """The path of every shipped config by its name, in the order of names.

    The name of a config in a subfolder begins with that of the subfolder: report/beta-small. Those
    come last.
    """
    installed = _PACKAGE / "configs"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    paths = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in paths}


def summary(path: Path) -> str:
    """The first comment line of a config, which says what it shows."""
    with path.open(encoding="utf-8") as lines:
        return next(lines).lstrip("# ").rstrip()
