"""The difference of a metric between two runs, or why there is none. It imports no torch."""

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple, assert_never, get_args

import numpy as np

from vaexp.evaluation.scope import Scope
from vaexp.evaluation.tails import Tails

NOT_ON_BOTH = "not measured on both"
"""Why there is no difference of a metric that one of the runs lacks."""


class Side(NamedTuple):
    """What is needed of one run to compare it with others."""

    entries: dict[str, dict[str, Any]]
    """Those of its test metrics, by name."""
    values: dict[str, "np.ndarray[Any, Any]"]
    """One for each test image, by name."""
    facts: dict[str, Any]
    """Those on its data: which test images, and their transform."""


@dataclass(frozen=True)
class Difference:
    """A metric of one run minus that of the reference run on the same test images."""

    value: float | None = None
    se: float | None = None
    """The standard error of the difference: over images, or over seeds for means over seeds."""
    refused: str | None = None
    """Why there is no such difference, if there is none."""
    tails: Tails = field(default_factory=Tails)
    """Those of the difference of each image, if the metric is a mean of log-likelihoods.

    For a metric of whole sets of images that has tails, such as train_test_gap, they are those of
    the one minus those of the other, number by number."""
    se_images: float | None = None
    """For means over seeds: the standard error over the test images, which all seeds share.

    Other seeds would change the difference by about ``se``, and other test images by about this."""


def incomparable(run: Side, name: str, other: Side, name_of_other: str) -> str | None:
    """Why the numbers with these names must not be subtracted or ranked, or None if they may be."""
    a, b = run.entries[name], other.entries[name_of_other]
    facts_a, facts_b = run.facts, other.facts
    if facts_a["data"] != facts_b["data"]:
        return "the test images differ"
    if a["scope"] != b["scope"]:
        return "they were measured by versions of vaexp that define the measure differently"
    refused = _out_of_scope(a, b, facts_a["data.transform"], facts_b["data.transform"])
    if refused is not None:
        return refused
    on = a.get("on"), b.get("on")
    if a.get("measure") == b.get("measure") == "mass" and None not in on and on[0] != on[1]:
        return f"a mass on {on[0]} and a mass on {on[1]} cannot be compared"
    first = [side.get("first_images", "all") for side in (a, b)]
    if "whole" in (a["aggregate"], b["aggregate"]) and first[0] != first[1]:
        return f"{first[0]} and {first[1]} of the test images were measured"
    for key, what in (
        ("measure", "a {} and a {} cannot be compared"),
        ("of", "one is of {}, the other of {}"),
        ("difference_of", "one is a difference of {}, the other of {}"),
        ("floor_of", "half the floor is of a {} in one, of a {} in the other"),
        ("kind", "{} and {} are of different kinds"),
        ("k", "k differs ({} and {})"),
        ("clusters", "there are {} and {} clusters"),
        ("against", "they are measured against {} and {} images"),
        ("n", "one is of {} images or draws, the other of {}"),
    ):
        ours, theirs = a.get(key), b.get(key)
        # an exact number may be compared with an unbiased estimate of the same quantity
        if ours != theirs and {ours, theirs} != {"exact", "estimate"}:
            return what.format(ours, theirs).replace("_", " ")
    return None


def _out_of_scope(
    a: dict[str, Any], b: dict[str, Any], transform_a: str, transform_b: str
) -> str | None:
    """Why two numbers with the same scope and test images are not comparable, or None."""
    if a["scope"] not in get_args(Scope):
        return f"a later version of vaexp measured them, with the scope {a['scope']}"
    scope: Scope = a["scope"]
    both = f"the transforms differ ({transform_a} and {transform_b})"
    other_x = f"{both}, so these are numbers of different x"
    match scope:
        case "any_transform":
            return None
        case "own_draws":
            return "each is of images that its own model drew"
        case "same_look":
            alike = a.get("look", transform_a) == b.get("look", transform_b)
            return None if alike else f"{both}, so the images look different"
        case "same_x":
            return None if transform_a == transform_b else other_x
        case "same_objective":
            if transform_a != transform_b:
                return other_x
            if a.get("beta") != b.get("beta"):
                return "beta differs, so they bound ln p(x) of different distributions"
            return None
    assert_never(scope)


def difference(name: str, reference: Side, other: Side) -> Difference:
    """A metric of ``other`` minus that of ``reference``, paired where images have values."""
    if name not in reference.entries or name not in other.entries:
        return Difference(refused=NOT_ON_BOTH)
    refused = incomparable(reference, name, other, name)
    if refused is not None:
        return Difference(refused=refused)
    a, b = reference.entries[name], other.entries[name]
    if "whole" in (a["aggregate"], b["aggregate"]):  # no image has a value of its own
        if a == b:  # as for controls, which are of the same images
            return Difference(0.0, 0.0)
        errors = _standard_error(a), _standard_error(b)
        se = None if None in errors else math.hypot(*errors)  # type: ignore[arg-type]
        tails = Tails.stated(b).minus(Tails.stated(a))
        return Difference(b["value"] - a["value"], se, tails=tails)
    of_a, of_b = contributions(name, reference), contributions(name, other)
    if of_a is None or of_b is None:
        return Difference(refused="per_example.npz lacks it")
    if len(of_a) != len(of_b):
        return Difference(refused="the test images differ")
    paired = of_b - of_a
    se = paired.std(ddof=1) / math.sqrt(len(paired)) if len(paired) > 1 else None
    tails = Tails.of(paired) if is_mean_log_likelihood(a) else Tails()
    return Difference(b["value"] - a["value"], None if se is None else float(se), tails=tails)


def is_mean_log_likelihood(entry: dict[str, Any]) -> bool:
    """Whether an entry is the mean over images of a log-likelihood, which may have heavy tails."""
    return "measure" in entry and entry["aggregate"] == "mean"


def _standard_error(entry: dict[str, Any]) -> float | None:
    """The standard error of an entry, or that of a normal distribution with its 95 % interval."""
    if entry.get("se") is not None or "interval" not in entry:
        return entry.get("se")
    low, high = entry["interval"]
    return (high - low) / (2 * 1.96)


def contributions(name: str, side: Side) -> "np.ndarray[Any, Any] | None":
    """What each image (N,) contributes to a metric, whose error is their deviation / sqrt(N).

    That is the value of the image, but for a root mean by the delta method, and for a metric that
    an image changes by more than its own value the array ``<name>_influence``. None if the run has
    no values of single images.
    """
    entry = side.entries[name]
    values = side.values.get(f"{name}_influence", side.values.get(name))
    if values is None or entry["aggregate"] == "whole":
        return None
    if entry["aggregate"] == "root_mean" and entry["value"]:
        slope: float = 1 / (2 * entry["value"])
        return values * slope
    return values
