"""vaexp: train, sample and compare latent-variable models described by a YAML file.

In notebooks and scripts it has four names: ``train``, ``load_run``, ``load_runs`` and ``Config``.
They are imported when they are used, so that ``import vaexp`` takes no time.
"""

TYPE_CHECKING = False  # as importing typing would delay the moment from which Ctrl-C is one line
if TYPE_CHECKING:
    from typing import Any

    from vaexp.notebook import Config, load_run, load_runs, train

__version__ = "0.1.0"
__all__ = ["Config", "load_run", "load_runs", "train"]


def __getattr__(name: str) -> "Any":
    if name not in __all__:
        raise AttributeError(f"module 'vaexp' has no attribute '{name}'")
    import pkgutil

    return pkgutil.resolve_name(f"vaexp.notebook:{name}")
