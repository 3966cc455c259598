"""How much like real images those drawn from a model are, and how many of the real they cover.

Every number has a control: the same of other real images, where there are any. Features are those
of the small classifier of digits that ships with vaexp, not of Inception.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from vaexp.evaluation.digit_classifier import load_classifier, read_digits
from vaexp.evaluation.measure import Estimate, Evidence, Measure
from vaexp.evaluation.subject import Subject
from vaexp.fitting.kmeans import lloyd, nearest_centre, seed_centres
from vaexp.models import Model

CONTROL = "control"
OF_FEATURES = (
    "digit_fid",
    "digit_kid",
    "precision",
    "recall",
    "density",
    "coverage_real",
    "label_entropy",
    "label_marginal_entropy",
)
OF_PIXELS = ("ndb", "js_divergence")
NO_CONTROL = "there is no validation split, and the bins are made of the training images"
NOT_DIGITS = "its features are of digits, and these images are not"
NOT_ASKED = "no digit was asked for"

LEAST_IMAGES = 100  # of each set: fewer say nothing about 64 features, or about 5 neighbours
ROWS_PER_BLOCK = 250  # of the N x N distances: what the processor caches hold is fastest
GROUPS = 20  # of neighbours, or nearly as many, where a block each would make fewer
KERNEL_BLOCKS = 20
DRAWN_AT_ONCE = 1_000  # of the model
MANIFOLD_K = 3
DENSITY_K = 5
BINS, IMAGES_PER_BIN = 100, 20  # the second only where training images are few
CLUSTERED, LLOYD_ITERATIONS = 10_000, 30
Z_95 = 1.959964
FEATURES = {"features": "the shipped digit classifier, not Inception"}


@torch.no_grad()
def quality(
    generated: Mapping[str, Tensor],
    real: Tensor,
    other_real: Tensor | None,
    *,
    train: Tensor,
    digits: bool,
    real_label: Tensor,
    wanted_label: Tensor | None = None,
    bootstrap: int = 100,
) -> Evidence:
    """Distances, coverage and legibility of drawn images, each beside those of other real images.

    generated: by mode (mean, sample), images (n, D) on the display scale, 0 black to 1 white, with
    what lies outside clipped here; real (N, D): the test images; other_real: the control, real
    images among neither ``real`` nor ``train``, None if there are none; train: what the bins are
    made of; digits: whether the images are digits, as nothing else has features; real_label (N,):
    int64, the digits of ``real``; wanted_label (n,): those that a conditional model was asked for.
    All on the CPU. All rows use the same number of images, the first ones of each set, as most of
    these numbers are biased by it. ``bootstrap`` is the number of times the images are resampled
    for intervals. Names end in the row's: ``_mean``, ``_sample``, ``_control``; only
    ``label_accuracy_real`` is of ``real``.

    Entries and absent together are the same names for every call with the same modes. All are
    absent with fewer than 100 images in a set. On one core, 10,000 images each and 50,000 to train
    on cost some 12 s: 3 s for each row, 3 s for the bins and the test images.

    Arrays: ``ndb_centres`` (K, D), ``ndb_share_train`` (K,), ``ndb_share_*`` (K,) and, of digits,
    ``label_share_*`` (C,), the mean prediction of the classifier.
    """
    rows = dict(generated) if other_real is None else {**generated, CONTROL: other_real}
    n = min(map(len, rows.values()))
    every_row = [*generated, CONTROL]
    read = [f"label_accuracy_{mode}" for mode in generated]
    of_digits = [*_names(OF_FEATURES, every_row), *read, "label_accuracy_real"]
    if min(n, len(real), len(train)) < LEAST_IMAGES:
        few = f"it needs {LEAST_IMAGES} images of every set"
        return Evidence(absent=dict.fromkeys([*of_digits, *_names(OF_PIXELS, every_row)], few))

    absent: dict[str, str] = {}
    if wanted_label is None:
        absent |= dict.fromkeys(read, NOT_ASKED)
    if other_real is None:
        absent |= dict.fromkeys(_names([*OF_FEATURES, *OF_PIXELS], [CONTROL]), NO_CONTROL)
    if not digits:
        absent |= dict.fromkeys(of_digits, NOT_DIGITS)

    def shown(images: Tensor) -> Tensor:
        return images[:n].float().clamp(0, 1)

    entries: dict[str, Measure | Estimate] = {}
    arrays: dict[str, Tensor] = {}
    if digits:
        classifier = load_classifier()
        real_features, real_log_prob = read_digits(classifier, real)
        real_radii = neighbour_radii(real_features, (MANIFOLD_K, DENSITY_K))
        entries["label_accuracy_real"] = _accuracy(real_log_prob, real_label)
        for row, images in rows.items():
            features, log_prob = read_digits(classifier, shown(images))
            found = {
                "digit_fid": _fid(features, real_features, bootstrap),
                "digit_kid": _kid(features, real_features),
                **_neighbour_entries(features, real_features, real_radii),
                **_label_entries(log_prob, bootstrap),
            }
            if wanted_label is not None and row != CONTROL:
                found["label_accuracy"] = _accuracy(log_prob, wanted_label[:n])
            entries |= _of_row(row, found)
            arrays[f"label_share_{row}"] = log_prob.exp().mean(0)

    bins = make_bins(train)
    arrays |= {"ndb_centres": bins.centres.float(), "ndb_share_train": bins.share}
    for row, images in rows.items():
        cells = nearest_centre(shown(images), bins.centres)
        counts = cells.bincount(minlength=len(bins.centres))
        entries |= _of_row(row, _bin_entries(counts, bins, bootstrap))
        arrays[f"ndb_share_{row}"] = counts.double() / n
    return Evidence(entries, {name: a.numpy() for name, a in arrays.items()}, absent)


def _of_row(row: str, found: dict[str, Estimate]) -> dict[str, Estimate]:
    return {f"{name}_{row}": entry for name, entry in found.items()}


def _names(measures: Iterable[str], rows: list[str]) -> list[str]:
    return [f"{measure}_{row}" for measure in measures for row in rows]


# Errors


def resample(n: int) -> Tensor:
    """How often each of n images is in a bootstrap sample of n, (n,) float64."""
    return torch.randint(n, (n,)).bincount(minlength=n).double()


def _bootstrapped(
    value: float, replicates: list[float], unit: str, n: int, facts: dict[str, Any]
) -> Estimate:
    """With se, 95 % interval and bias from the same of bootstrap samples.

    A distance between two samples is larger than that between what they are samples of, and that of
    two resamples is larger again by about as much: this difference is the ``bias`` that is stated.
    The interval is the replicates' own, moved down by it: where the value may be at this n.
    """
    values = torch.tensor(replicates, dtype=torch.float64)
    bias = values.mean().item() - value
    low, high = (values - bias).quantile(values.new_tensor([0.025, 0.975])).tolist()
    stated = {"kind": "estimate", "bias": bias, "bootstrap": len(replicates), **facts}
    return Estimate(value, unit, n, values.std().item(), (low, high), stated)


def _mean(values: Tensor, unit: str) -> Estimate:
    """The mean over images, (n,), with its standard error."""
    values, n = values.double(), len(values)
    se = values.std().item() / math.sqrt(n)
    return Estimate(values.mean().item(), unit, n, se, facts={"kind": "estimate"})


# Distances between distributions of features


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (F,) and covariance (F, F), divided by n - 1, of features (n, F), in float64."""
    features = features.double()
    return features.mean(0), features.T.cov()


def resampled_moments(features: Tensor, draws: int) -> list[tuple[Tensor, Tensor]]:
    """``moments`` of ``draws`` bootstrap samples of features (n, F).

    sum_i w_i f_i f_i' for all samples at once, w_i being how often image i is in each of them.
    """
    n, features = len(features), features.double()
    centre = features.mean(0)
    features = features - centre  # so that nothing cancels
    counts = torch.stack([resample(n) for _ in range(draws)])
    squares = features.new_zeros(draws, features.shape[1] ** 2)
    for w, f in zip(counts.split(ROWS_PER_BLOCK, 1), features.split(ROWS_PER_BLOCK), strict=True):
        squares.addmm_(w, (f[:, :, None] * f[:, None, :]).flatten(1))
    found = []
    for mean, square in zip(counts @ features / n, squares, strict=True):
        cov = (square.view(len(mean), -1) - n * mean.outer(mean)) / (n - 1)
        found.append((mean + centre, cov))
    return found


def frechet_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """Squared Frechet (Wasserstein-2) distance of two Gaussians, means (F,), covariances (F, F).

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))  (Dowson and Landau 1982; Heusel et al. 2017,
    eq. 6). The trace of the root is the sum of the roots of the eigenvalues of the symmetric
    S_a^(1/2) S_b S_a^(1/2), which has the eigenvalues of S_a S_b. In float64.
    """
    mean_a, cov_a, mean_b, cov_b = (t.double() for t in (mean_a, cov_a, mean_b, cov_b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    overlap = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * overlap
    return max(distance.item(), 0.0)


def _fid(features: Tensor, real: Tensor, bootstrap: int) -> Estimate:
    value = frechet_distance(*moments(features), *moments(real))
    pairs = zip(*(resampled_moments(f, bootstrap) for f in (features, real)), strict=True)
    replicates = [frechet_distance(*a, *b) for a, b in pairs]
    facts = {**FEATURES, "against": len(real)}
    return _bootstrapped(value, replicates, "", len(features), facts)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy of features (n, F) and (m, F).

    With k(x, y) = (x.y / F + 1)^3: the mean of k over pairs within a, plus that within b, less
    twice that of pairs across; no image is paired with itself (Gretton et al. 2012, eq. 3;
    Binkowski et al. 2018, section 3). It may be negative. In float64; n, m >= 2.
    """
    a, b = a.double(), b.double()

    def within(x: Tensor) -> Tensor:
        k = cubic_kernel(x, x)
        return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))

    return (within(a) + within(b) - 2 * cubic_kernel(a, b).mean()).item()


def cubic_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(x.y / F + 1)^3 of features (n, F) and (m, F), (n, m)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def kernel_distance_in_blocks(a: Tensor, b: Tensor, blocks: int) -> tuple[float, float]:
    """Mean and standard error of ``kernel_distance`` over pairs of disjoint random blocks.

    Blocks share no image, so that their estimates are independent but for which images go where.
    """
    parts_a = a[torch.randperm(len(a))].tensor_split(blocks)
    parts_b = b[torch.randperm(len(b))].tensor_split(blocks)
    found = [kernel_distance(*pair) for pair in zip(parts_a, parts_b, strict=True)]
    values = torch.tensor(found, dtype=torch.float64)
    return values.mean().item(), values.std().item() / math.sqrt(blocks)


def _kid(features: Tensor, real: Tensor) -> Estimate:
    value, se = kernel_distance_in_blocks(features, real, KERNEL_BLOCKS)
    facts = {"kind": "estimate", **FEATURES, "against": len(real), "blocks": KERNEL_BLOCKS}
    return Estimate(value, "", len(features), se, facts=facts)


# Neighbours in feature space


class Neighbours(NamedTuple):
    """Which drawn images (n) and real ones (N) lie within each other's neighbourhoods.

    By groups of the other set, G of real images or H of draws, one after another: how much rests on
    a single group says how uncertain a number is.
    """

    precision: Tensor
    """(n, G) bool: the draw is in the neighbourhood of a real image of the group."""
    recall: Tensor
    """(N, H) bool: the real image is in the neighbourhood of a draw of the group."""
    density: Tensor
    """(n,) float64: in how many neighbourhoods of real images the draw is, by k."""
    density_of_real: Tensor
    """(N,) float64: how many draws are in the real image's neighbourhood, by k n / N."""
    coverage: Tensor
    """(N, H) bool: a draw of the group is in the real image's neighbourhood."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between features (n, F) and (m, F), (n, m): |a|^2 - 2 a.b + |b|^2.

    In float32, distances below some 1e-3 of the features' length are rounding errors.
    """
    lengths = a.square().sum(1)[:, None] + b.square().sum(1)
    return torch.addmm(lengths, a, b.T, alpha=-2).clamp(min=0)


def neighbour_radii(features: Tensor, ks: tuple[int, ...]) -> Tensor:
    """Squared distance from each image (n, F) to its k-th nearest other one, (len(ks), n)."""
    columns = torch.tensor(ks) - 1
    size = group_size(len(features))  # as in ``neighbours``, so that distances round alike
    radii = []
    for start in range(0, len(features), size):
        block = features[start : start + size]
        distances = squared_distances(block, features)
        rows = torch.arange(len(block))
        distances[rows, start + rows] = torch.inf  # an image is no neighbour of itself
        radii.append(distances.topk(max(ks), largest=False).values[:, columns])
    return torch.cat(radii).T


def neighbours(
    generated: Tensor,
    real: Tensor,
    generated_radius: Tensor,
    real_radius: Tensor,
    density_radius: Tensor,
    density_k: int = DENSITY_K,
) -> Neighbours:
    """Membership of features (n, F) and (N, F) in balls around those of the other set.

    Squared radii from ``neighbour_radii``: (n,) and (N,) for precision and recall (Kynkaanniemi et
    al. 2019, eqs. 1 and 2), (N,) of density_k for density and coverage (Naeem et al. 2020, section
    3). Balls are closed. Groups are of ``group_size`` images.
    """
    precision, recall, per_real, coverage = [], [], [], []
    per_draw = torch.zeros(len(generated), dtype=torch.int64)
    size, size_drawn = group_size(len(real)), group_size(len(generated))
    blocks = (t.split(size) for t in (real, real_radius, density_radius))
    for x, radius, wide in zip(*blocks, strict=True):
        distances = squared_distances(x, generated)
        precision.append((distances <= radius[:, None]).any(0))
        recall.append(_by_group(distances <= generated_radius, size_drawn))
        within = distances <= wide[:, None]
        per_draw += within.sum(0)
        per_real.append(within.sum(1))
        coverage.append(_by_group(within, size_drawn))
    return Neighbours(
        torch.stack(precision, 1),
        torch.cat(recall),
        per_draw.double() / density_k,
        torch.cat(per_real).double() * (len(real) / len(generated) / density_k),
        torch.cat(coverage),
    )


def group_size(images: int) -> int:
    """How many of the images are a group: at most ROWS_PER_BLOCK, and 1 in GROUPS, rounded up."""
    return min(ROWS_PER_BLOCK, math.ceil(images / GROUPS))


def _by_group(within: Tensor, size: int) -> Tensor:
    """(N, n) bool -> (N, H): whether any of each group of ``size`` columns is."""
    missing = -within.shape[1] % size
    return pad(within, (0, missing)).unflatten(1, (-1, size)).any(2)


def share_in_any(within: Tensor) -> tuple[float, float]:
    """The share of images that are within any of G groups, (m, G) bool, and its standard error.

    The variance is that of a mean of m images, the groups as they are, plus the jackknife's over
    groups, (G - 1) / G sum_g (d_g - d)^2, with d_g the share of images that are within group g
    alone and d its mean: what would be lost without that group. What the m images themselves add to
    that sum, were all groups alike, is taken off. Both parts hold radii fixed, where in truth a
    wide neighbourhood is one that few others share: the error is up to twice too large.
    """
    m, groups = within.shape
    inside = within.any(1).double()
    alone = (within & (within.sum(1) == 1)[:, None]).double().mean(0)
    total = alone.sum()
    noise = (total - alone.square().sum() - total * (1 - total) / groups) / m
    lost = ((alone - alone.mean()).square().sum() - noise).clamp(min=0) * (groups - 1) / groups
    return inside.mean().item(), (inside.var() / m + lost).sqrt().item()


def _neighbour_entries(features: Tensor, real: Tensor, radii: Tensor) -> dict[str, Estimate]:
    (own,) = neighbour_radii(features, (MANIFOLD_K,))
    found = neighbours(features, real, own, *radii)
    density = found.density.mean().item()
    variance = sum(part.var() / len(part) for part in (found.density, found.density_of_real))
    n = len(features)

    # the share of draws that is in the neighbourhood of one and the same real image
    fullest = found.density_of_real.max().item() * DENSITY_K / len(real)

    def entry(value: float, se: float, k: int, unit: str = "share", **more: float) -> Estimate:
        facts = {
            "kind": "estimate",
            "k": k,
            **FEATURES,
            "against": len(real),
            "se_of": "both sets, the radii held fixed",
            **more,
        }
        return Estimate(value, unit, n, se, facts=facts)

    return {
        "precision": entry(*share_in_any(found.precision), MANIFOLD_K),
        "recall": entry(*share_in_any(found.recall), MANIFOLD_K),
        "density": entry(density, math.sqrt(variance), DENSITY_K, "", fullest=fullest),
        "coverage_real": entry(*share_in_any(found.coverage), DENSITY_K),
    }


# Bins of pixel space


class Bins(NamedTuple):
    """Cells of pixel space, each of the images nearest to its centre."""

    centres: Tensor
    """(K, D)"""
    share: Tensor
    """(K,) float64: of the training images."""
    n: int
    """How many training images there are."""


def make_bins(train: Tensor) -> Bins:
    """100 bins by k-means on 10,000 of the training images (N, D); the shares are those of all.

    30 iterations at most: the bins need no more than be where images are. Fewer than 2,000 training
    images have one bin for every 20.
    """
    count = min(BINS, len(train) // IMAGES_PER_BIN)
    some = train[torch.randperm(len(train))[:CLUSTERED]].float()
    centres = lloyd(some, seed_centres(some, count), LLOYD_ITERATIONS)
    share = nearest_centre(train.float(), centres).bincount(minlength=count).double() / len(train)
    return Bins(centres, share, len(train))


def proportions_differ(counts_a: Tensor, counts_b: Tensor) -> Tensor:
    """For each bin, (K,) bool: whether its shares of two sets differ at the 5 % level.

    The two-sample z-test: |p - q| > 1.96 sqrt(r (1 - r) (1 / n_a + 1 / n_b)), with r the share of
    both sets together (Richardson and Weiss 2018, section 2). Equal sets have 5 % of such bins.
    """
    counts_a, counts_b = counts_a.double(), counts_b.double()
    n_a, n_b = counts_a.sum(), counts_b.sum()
    pooled = (counts_a + counts_b) / (n_a + n_b)
    error = (pooled * (1 - pooled) * (1 / n_a + 1 / n_b)).sqrt()
    return (counts_a / n_a - counts_b / n_b).abs() > Z_95 * error


def js_divergence(p: Tensor, q: Tensor) -> float:
    """Jensen-Shannon divergence of two vectors of shares (K,): nats, 0 to ln 2.

    H((p + q) / 2) - (H(p) + H(q)) / 2  (Lin 1991, with equal weights).
    """
    return (entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2).item()


def entropy(p: Tensor) -> Tensor:
    """-sum p ln p over the last dimension, nats, with 0 ln 0 = 0."""
    return torch.special.entr(p).sum(-1)


def _bin_entries(counts: Tensor, bins: Bins, bootstrap: int) -> dict[str, Estimate]:
    n, k = int(counts.sum()), len(bins.share)
    share = counts.double() / n

    replicates = [
        js_divergence(_multinomial(share, n), _multinomial(bins.share, bins.n))
        for _ in range(bootstrap)
    ]
    facts = {"bins": k, "against": bins.n}
    different = proportions_differ(counts, bins.share * bins.n)
    value = different.double().mean().item()
    se = math.sqrt(value * (1 - value) / k)
    ndb_facts = {"kind": "estimate", **facts, "level": 0.05, "se_of": "bins, as if independent"}
    js = js_divergence(share, bins.share)
    return {
        "ndb": Estimate(value, "share", n, se, facts=ndb_facts),
        "js_divergence": _bootstrapped(js, replicates, "nats", n, facts),
    }


def _multinomial(share: Tensor, n: int) -> Tensor:
    """The shares of n images drawn with these probabilities: the bootstrap of counts."""
    drawn = torch.searchsorted(share.cumsum(0), torch.rand(n, dtype=share.dtype), right=True)
    return drawn.clamp(max=len(share) - 1).bincount(minlength=len(share)).double() / n


# What the classifier reads


def _accuracy(log_prob: Tensor, label: Tensor) -> Estimate:
    """The share of images, predictions (n, C), that are read as their label (n,)."""
    return _mean(log_prob.argmax(1) == label, "share")


def _label_entries(log_prob: Tensor, bootstrap: int) -> dict[str, Estimate]:
    prob, n = log_prob.exp(), len(log_prob)
    marginal = entropy(prob.mean(0)).item()
    replicates = [entropy(resample(n) @ prob / n).item() for _ in range(bootstrap)]
    return {
        "label_entropy": _mean(entropy(prob), "nats"),
        "label_marginal_entropy": _bootstrapped(marginal, replicates, "nats", n, {}),
    }


@torch.no_grad()
def measure(subject: Subject[Model]) -> Evidence:
    """The group ``quality``: as many draws of each kind as there are test images.

    A model that is given the label draws the test images' own.
    """
    model = subject.model

    def to_unit(images: Tensor) -> Tensor:
        return subject.transform.to_unit(images.float()).cpu()

    drawn: dict[str, list[Tensor]] = {"mean": [], "sample": []}
    for labels in subject.label.split(DRAWN_AT_ONCE):
        z = model.prior().sample(labels.shape)
        p = model.decode(z, labels if model.conditional else None)
        drawn["mean"].append(to_unit(p.mean))
        drawn["sample"].append(to_unit(p.sample()))
    validation = subject.validation()
    found = quality(
        {mode: torch.cat(images) for mode, images in drawn.items()},
        to_unit(subject.x),
        None if validation is None else to_unit(validation),
        train=to_unit(torch.cat([x for x, _ in subject.train()])),
        digits=subject.digits,
        real_label=subject.label.cpu(),
        wanted_label=subject.label.cpu() if model.conditional else None,
    )
    return found.with_scope("same_look", look=subject.transform.look)
