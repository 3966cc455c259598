"""The figures of what ``vaexp evaluate`` found, from a run's files alone: no model, no data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vaexp import figures
from vaexp.config import GMMExperiment, describe
from vaexp.figures.charts import number, percent
from vaexp.runs.folder import RunFolder

Arrays = dict[str, "np.ndarray[Any, Any]"]
Entries = dict[str, dict[str, Any]]

Z_95 = 1.96


def illustrate_evidence(run: RunFolder, groups: list[str]) -> list[Path]:
    """Draw figures/evidence-<group>.png of those groups that have a figure; returns their paths.

    A group without arrays, as not measured or absent for this model, is skipped, and so is one
    whose numbers a kill kept from metrics.json, and one that has nothing to show.
    """
    entries = run.metrics().get("test", {})
    measured = {entry.get("group") for entry in entries.values()} & set(_FIGURES)
    drawn = []
    for group in groups:
        arrays = run.evidence(group) if group in measured else {}
        figure = _FIGURES[group](run, arrays, entries) if arrays else None
        if figure is not None:
            drawn.append(run.path / "figures" / f"evidence-{group}.png")
            figures.save(figure, drawn[-1])
    return drawn


def _rate(run: RunFolder, arrays: Arrays, entries: Entries) -> Figure:
    active, collapsed = entries["active_units"], entries["collapsed_latents"]
    total, mutual, marginal = (
        entries[name]["value"] for name in ("rate_bits", "mutual_information", "marginal_kl")
    )
    note = (
        f"{active['value']:.0f} of {active['of_latents']} latents are active, "
        f"{collapsed['value']:.0f} collapsed. "
        f"Together {total * np.log(2):.3g} nats ({total:.3g} bits) per image: mutual information "
        f"of image and code {mutual:.3g}, KL(q(z) to p(z)) {marginal:.3g}."
    )
    if "posterior" in active:
        note += f" Latents are the {active['posterior']}, whose KL do not add up to the rate."
    return figures.latent_use(
        arrays["kl_per_latent"],
        arrays["mean_variance_per_latent"],
        arrays["collapse_epsilon"],
        arrays["collapse_curve"],
        _subtitle(run, active),
        active=active["threshold"],
        collapsed=(collapsed["epsilon"], collapsed["delta"]),
        note=note,
    )


def _singularities(run: RunFolder, arrays: Arrays, entries: Entries) -> Figure:
    model = run.config().model
    said = []
    if (slope := entries.get("floor_slope")) is not None:
        said.append(
            "Halving the floor with the same weights changes the log-likelihood by "
            f"{number(slope['value'])} nats per image (standard error {slope['se'] or 0:.2g}) on "
            f"test images and by {number(slope['train'])} on training images; it can add "
            f"{slope['at_most']:.0f} at most."
        )
    if (part := entries.get("log_prob_at_floor")) is not None:
        share = entries["pixels_at_floor"]["value"]
        said.append(
            f"{percent(share)} of the pixels have σ below {part['near_floor']:g} × floor: their "
            f"part of the {number(part['total'])} nats per image is {number(part['value'])}."
        )
    if (single := entries.get("singleton_components")) is not None:
        said.append(
            f"{single['value']:.0f} of {single['of_components']} components hold fewer than "
            f"{single['fewer_than']} training images."
        )
    return figures.near_the_floor(
        arrays,
        _subtitle(run, entries["sigma_median"]),
        floor=model.floor,
        of_variance="covariance_floor" in entries["train_test_gap"],
        near=entries.get("pixels_at_floor", {}).get("near_floor", 0.0),
        note="\n".join(said),
    )


def _induced(run: RunFolder, arrays: Arrays, entries: Entries) -> Figure | None:
    log_c = entries["log_c"]
    if "grid" not in arrays or log_c["method"] == "constant":
        return None  # Z(z) is the same for all z: the tilted prior is the prior
    density, names = arrays["tilted_prior"], [""]
    given = "labels" in arrays
    if given:
        names = [f"digit {digit}" for digit in arrays["labels"]]
    else:
        density = density[None]
    beside = (
        "Training with β ≠ 1 is training by the ELBO of another model, with the likelihood "
        "p(x|z)^(1/β) / Z(z) and the prior p(z) Z(z) / C that is drawn here. ln C is "
        f"{number(log_c['value'])} nats{', averaged over the labels' if given else ''}. Where the "
        "prior lies far from N(0, I), draws z ~ N(0, I) are not draws of that model."
    )
    return figures.tilted_prior(arrays["grid"], density, names, _subtitle(run, None), beside)


def _decoding(run: RunFolder, arrays: Arrays, entries: Entries) -> Figure:
    return figures.decoder_moments(arrays, _subtitle(run, entries["variance_data"]))


def _quality(run: RunFolder, arrays: Arrays, entries: Entries) -> Figure | None:  # noqa: ARG001
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for name, entry in entries.items():
        if entry.get("group") == "quality":
            measure, _, row = name.rpartition("_")
            value, reach = entry["value"], Z_95 * (entry["se"] or 0.0)
            ends = entry.get("interval") or (value - reach, value + reach)
            found.setdefault(measure, {})[row] = (value, *ends)
    if "digit_fid" not in found:
        return None  # images that are not digits: the classifier has no features of them
    draws = entries["digit_fid_mean"]["n"]
    return figures.sample_quality(found, f"{_subtitle(run, None)}, {draws:,} draws")


def _codes(run: RunFolder, arrays: Arrays, entries: Entries) -> Figure:
    table = arrays["contingency"]
    digits = np.flatnonzero(table.sum(0))
    subtitle = _subtitle(run, entries["nmi"])
    if isinstance(run.config(), GMMExperiment):
        return figures.confusion(table[:, digits], digits.tolist(), subtitle)
    beside = (
        f"Adjusted Rand index {entries['ari']['value']:.3f}, normalised mutual information "
        f"{entries['nmi']['value']:.3f}: near 0 where clusters "
        "have nothing to do with digits, 1 where they are the digits."
    )
    return figures.clusters(table[:, digits], digits.tolist(), subtitle, beside)


_FIGURES: dict[str, Callable[[RunFolder, Arrays, Entries], Figure | None]] = {
    "rate": _rate,
    "singularities": _singularities,
    "induced": _induced,
    "decoding": _decoding,
    "quality": _quality,
    "codes": _codes,
}


def _subtitle(run: RunFolder, entry: dict[str, Any] | None) -> str:
    """The settings, and the number of test images that a measure is of."""
    images = "" if entry is None else f", {entry['n']:,} test images"
    return describe(run.config()) + images
