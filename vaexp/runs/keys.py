"""What runs can be listed, filtered and sorted by: their settings, metrics and status."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from operator import eq, ge, gt, le, lt, ne
from typing import Any

from vaexp.config import read_override
from vaexp.config.other_names import meant_by
from vaexp.errors import UserError
from vaexp.runs.listing import Listed

FIELDS = ("run", "name", "status", "started", "steps", "size", "model", "error")
OTHER_METRICS = {
    "elbo": ("loss", "lower_bound", "vlb", "neg_elbo"),
    "rate": ("kl", "kld", "kl_loss", "kl_divergence"),
    "distortion": ("recon", "recon_loss", "reconstruction", "reconstruction_loss"),
    "log_prob": ("log_likelihood", "loglik", "ll", "nll", "score"),
    "iw_bound": ("iwae", "iw_elbo", "iwelbo"),
    "rmse_mean": ("rmse", "mse"),
    "elbo_bits_per_dim": ("bpd", "bits_per_dim"),
}
"""By its name here, what other tools call a metric."""
MOST_MEANT = 3  # keys that a hint names
_OPERATORS = {"=": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}
_CONDITION = re.compile(r"\s*([^\s=!<>]+)\s*(=|!=|<=|>=|<|>)\s*(.*?)\s*\Z", re.DOTALL)


def entry_of(run: Listed, key: str) -> dict[str, Any] | None:
    """The entry of a metric, such as test.elbo, validation.elbo, or elbo of the test split."""
    split, dot, name = key.partition(".")
    return run.splits.get(split, {}).get(name) if dot else run.metrics.get(key)


def value_of(run: Listed, key: str) -> Any:
    """What a run has under a key: a field, a setting or the value of a metric; else None."""
    if key in FIELDS:
        return getattr(run, key)
    if run.settings is not None and key in run.settings:
        return run.settings[key]
    entry = entry_of(run, key)
    return None if entry is None else entry["value"]


def known_keys(runs: Sequence[Listed]) -> list[str]:
    """Every key that a run has: the fields, then settings, then metrics."""
    known = dict.fromkeys(FIELDS)
    for run in runs:
        known |= dict.fromkeys(run.settings or {})
    for run in runs:
        for split, entries in run.splits.items():
            known |= dict.fromkeys(f"{split}.{name}" for name in entries)
        known |= dict.fromkeys(run.metrics)
    return [*known]


def check_keys(runs: Sequence[Listed], keys: Sequence[str], option: str) -> None:
    """Raise UserError for a key that no run has, with what may have been meant."""
    if not keys or not runs:
        return
    known = known_keys(runs)
    for key in keys:
        if key not in known:
            meant = " or ".join(_meant(key, known)[:MOST_MEANT])
            hint = f"did you mean {meant}?" if meant else "such as model.beta, test.elbo, size"
            raise UserError(f"{option} {key}: no run has this setting, metric or field; {hint}")


def _meant(key: str, known: Sequence[str]) -> list[str]:
    """The known keys that may be meant: with the same last word, the same meaning, or similar."""
    *above, last = key.split(".")
    same_word = [one for one in known if one.split(".")[-1] == last]
    metrics = [".".join([*above, name]) for name, others in OTHER_METRICS.items() if last in others]
    same_meaning = [one for one in (*meant_by(last), *metrics) if one in known]
    return same_word or same_meaning or get_close_matches(key, known, n=1)


@dataclass(frozen=True)
class Condition:
    """A condition such as ``model.beta>1``."""

    key: str
    operator: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a condition. Raises UserError if it is none."""
        match = _CONDITION.match(text)
        if match is None:
            raise UserError(
                f"--where {text}: write KEY, one of = != < <= > >=, and a value, in quotes: "
                "--where 'model.beta>1'"
            )
        key, operator, value = match.groups()
        return cls(key, operator, read_override(value, f"--where {text}"))

    def holds(self, run: Listed) -> bool:
        """Whether a run meets it. One that does not have the key meets no condition but KEY=null.

        Only numbers, and only texts, are smaller or larger than each other.
        """
        value = value_of(run, self.key)
        if value is None or self.value is None:
            return self.operator == ("=" if value is self.value else "!=") and self.value is None
        try:
            return bool(_OPERATORS[self.operator](value, self.value))
        except TypeError:
            return False


def selected(runs: Sequence[Listed], where: Sequence[str], sort: str | None) -> list[Listed]:
    """The runs that meet all conditions, in the order of ``sort``, the smallest value first.

    Runs without a value come last. Raises UserError for a condition that is none, and for a key
    that no run has.
    """
    conditions = [Condition.parse(text) for text in where]
    check_keys(runs, [condition.key for condition in conditions], "--where")
    found = [run for run in runs if all(condition.holds(run) for condition in conditions)]
    if sort is None:
        return found
    check_keys(runs, [sort], "--sort")
    return sorted(found, key=lambda run: _order(value_of(run, sort)))


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers first, then other values as text, then none."""
    match value:
        case None:
            return 2, 0.0, ""
        case int() | float():
            return 0, float(value), ""
        case _:
            return 1, 0.0, str(value)
