"""What the numbers of a comparison mean, in words, from what their entries in metrics.json say."""

from typing import Any

from vaexp.comparison.compare import Comparison
from vaexp.comparison.view import TITLE, group, metric_name
from vaexp.evaluation.groups import GROUPS
from vaexp.pages.page import Explained

_TRAINED = {
    "log_prob": "ln p(x) of an image.",
    "elbo": "The evidence lower bound, E ln p(x|z) − KL(q(z|x) ‖ p(z)) with z ~ q(z|x). It is "
    "minus the sum of distortion and rate.",
    "iw_bound": "The importance-weighted bound, E ln of the mean over K draws z ~ q(z|x) of "
    "p(x, z) / q(z|x) (Burda et al. 2016). It is nearer to ln p(x) than the ELBO.",
    "iw_jackknife": "The importance-weighted bound without its error of order 1/K, which the "
    "jackknife finds by leaving out one draw after the other (Nowozin 2018). It is no bound: it "
    "may lie above ln p(x).",
    "rate": "KL(q(z|x) ‖ p(z)): what the code of an image costs.",
    "distortion": "−E ln p(x|z) with z ~ q(z|x): what the code of an image leaves to be said.",
    "rmse_mean": "The root of the squared error of μ(z) with z ~ q(z|x), averaged over images and "
    "pixels.",
    "rmse_sample": "The same of a draw x ~ p(x|z) in place of μ(z).",
    "sigma": "The standard deviation σ of p(x|z) with z ~ q(z|x), averaged over pixels.",
}
"""The definitions of what stands in the table of training. Others stand in docs/measures.md."""
_KINDS = {
    "exact": "It has no error other than that over images.",
    "lower_bound": "It is a lower bound: what it bounds is at least as large in expectation.",
    "upper_bound": "It is an upper bound: what it bounds is at most as large in expectation.",
    "estimate": "It is an estimate by random draws.",
}
_AGGREGATES = {
    "mean": "It is the mean over {n:,} images",
    "root_mean": "It is the root of a mean over {n:,} images",
    "whole": "It is a number of {n:,} images as a whole",
}


def meanings(comparison: Comparison) -> list[Explained]:
    """For each group of measures, what it answers and what each of its numbers is."""
    found: dict[str | None, list[tuple[str, str]]] = {}
    for name, entries in comparison.metrics.items():
        entry = next(entry for entry in entries if entry is not None)
        found.setdefault(group(entries), []).append(
            (metric_name(name, entries), _says(name, entry))
        )
    answer = []
    for key, terms in found.items():
        known = None if key is None else GROUPS.get(key)
        title = TITLE if key is None else key if known is None else known.title
        asked = [] if known is None else [("The question", f"{known.answers}.")]
        answer.append(Explained(title, [*asked, *terms]))
    return answer


def _says(name: str, entry: dict[str, Any]) -> str:
    """What an entry of metrics.json says of itself, in sentences."""
    sentences = [] if "group" in entry else [_TRAINED[name]] if name in _TRAINED else []
    if kind := entry.get("kind"):
        sentences.append(_KINDS[kind])
    if (measure := entry.get("measure")) and (of := entry.get("of")):
        sentences.append(f"It belongs to a {measure} of {of.replace(' given ', ' given the ')}.")
    if n := entry.get("n"):
        error = ", and ± is its standard error" if entry.get("se") else ""
        sentences.append(f"{_AGGREGATES[entry['aggregate']].format(n=n)}{error}.")
    if noise := entry.get("mc_se"):
        sentences.append(f"Its random draws alone have the standard error {noise:.2g}.")
    return " ".join(sentences) or "Its file says no more of it than its name and unit."
