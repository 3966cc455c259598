"""Reading entries of metrics.json that versions without ``scope`` wrote. It imports no torch.

Those entries do not say what they may be compared with. It is inferred from the names that those
versions used. Today a measure says it itself, and its name does not matter.
"""

from typing import Any

from vaexp.evaluation.scope import Scope, Tightness

TIGHTNESS = {
    "elbo": Tightness.ELBO,
    "iw_bound": Tightness.IMPORTANCE_WEIGHTED,
    "log_prob": Tightness.EXACT,
}


def in_words_of_today(name: str, entry: dict[str, Any], transform: str) -> dict[str, Any]:
    """Add ``scope``, ``tightness`` and ``look`` to an old entry of a run with this transform."""
    complete = entry | {"scope": _scope(name, entry)}
    if name in TIGHTNESS and {"kind", "of"} <= entry.keys():
        complete["tightness"] = int(TIGHTNESS[name])
    if complete["scope"] == "same_look":
        complete["look"] = transform if transform.startswith("binarize") else "grey"
    return complete


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
