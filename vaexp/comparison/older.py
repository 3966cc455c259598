"""Entries of metrics.json as versions before ``scope`` wrote them. Imports no torch.

Their entries did not say what they may be compared with, so it follows from the names that those
versions used. A measure of today says so itself, and its name does not matter.
"""

from typing import Any

from vaexp.evaluation.scope import Scope

TIGHTNESS = {"elbo": 1, "iw_bound": 2, "log_prob": 3}


def in_words_of_today(name: str, entry: dict[str, Any], transform: str) -> dict[str, Any]:
    """An old entry with ``scope``, ``tightness`` and ``look``; transform: that of the run."""
    found = entry | {"scope": _scope(name, entry)}
    if name in TIGHTNESS:
        found["tightness"] = TIGHTNESS[name]
    if found["scope"] == "same_look":
        found["look"] = transform if transform.startswith("binarize") else "grey"
    return found


def _scope(name: str, entry: dict[str, Any]) -> Scope:
    group, in_x = entry.get("group"), entry["unit"] == "units of x"
    if name.endswith("_simulated"):
        return "own_draws"
    if name == "objective_over_beta":
        return "same_objective"
    if group == "quality":
        return "same_look"
    if name == "rate" or name.endswith("bits_per_dim"):
        return "any_transform"
    if group in ("rate", "codes") and not in_x:
        return "any_transform"
    return "same_x"
