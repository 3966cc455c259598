"""The configs that come with the package: ``vaexp/configs`` in a wheel, ``configs`` in a clone."""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def shipped_configs() -> dict[str, Path]:
    """The path of every shipped config by its name, in the order of names."""
    installed = _PACKAGE / "configs"
    folder = installed if installed.is_dir() else _PACKAGE.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def summary(path: Path) -> str:
    """The first comment line of a config, which says what it shows."""
    with path.open(encoding="utf-8") as lines:
        return next(lines).lstrip("# ").rstrip()
