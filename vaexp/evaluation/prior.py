"""Where z ~ p(z) falls among the codes, and what a mixture fitted to the codes does better.

Letters in shapes: N test images, S draws of z, L latents, D pixels.
"""

from dataclasses import replace
from typing import assert_never

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.code_mixture import CodeMixture
from vaexp.evaluation.measure import Arrays, Estimate, Evidence, Measure, RunningMean, merge
from vaexp.evaluation.subject import Subject
from vaexp.evaluation.support import Support
from vaexp.models import GMM, VAE, LinearGaussian, Model
from vaexp.models.absent import Absent

DRAWS = 2_000  # z whose density is computed, of each source
CODES = 4  # z ~ q(z|x) of each test image, for the gain
SHOWN = 10  # images in each row of the figure
SHARES = ("outside_prior", "outside_mixture")
GAIN = "elbo_gain_mixture"
AN_INDEX = "z is the index of a component, and its prior is fitted already"
UNKNOWN = "a digit of the test images is of no training image, so there are no codes of it"


@torch.no_grad()
def prior_draws(subject: Subject[Model], model: VAE | LinearGaussian) -> Evidence:
    """Measure z ~ p(z) and z ~ a mixture of the codes, with the labels of the test images.

    ``outside_prior`` and ``outside_mixture`` are the shares of z outside of the codes' ``Support``.
    ``elbo_gain_mixture`` is how much larger the ELBO is with the mixture in place of p(z).

    Arrays, if there are enough test images: ``margin_prior``, ``margin_mixture`` and
    ``margin_codes`` (S,), ln q(z) minus its least value inside, nats; ``image_prior`` and
    ``image_mixture`` (n, D) on the display scale, mu(z) of the first z ~ p(z) that lie outside, or
    of the first of all if none does, and of as many draws of the mixture with the same labels.
    """
    x, label = subject.x, subject.label
    aggregate = subject.codes.aggregate(model, subject.train)
    if not aggregate.knows(label):
        return Evidence(absent=dict.fromkeys((*SHARES, GAIN), UNKNOWN))
    mixture = subject.codes.mixture(model, subject.train)
    codes = torch.cat([model.encode(xs, labels).sample() for xs, labels in blocks(x, label)])
    z = {"prior": model.prior().sample(label.shape).to(codes)}
    z["mixture"] = mixture.sample(label).to(codes)
    shares = _shares(subject, Support.of(aggregate, codes, label), z)
    return merge([shares, Evidence({GAIN: elbo_gain(model, x, label, mixture)})])


@torch.no_grad()
def elbo_gain(
    model: VAE | LinearGaussian, x: Tensor, label: Tensor, mixture: CodeMixture
) -> Measure:
    """E ln m(z) - ln p(z) over z ~ q(z|x) of images x (N, D), with m the mixture, nats, (N,).

    It is the ELBO with m in place of p(z), minus the ELBO. No m gains more, on average, than
    KL(q(z) to p(z)) for the q(z) of these images.
    """
    posteriors = [model.encode(xs, labels) for xs, labels in blocks(x, label)]
    moments = RunningMean()
    for _ in range(CODES):
        z = torch.cat([q.sample() for q in posteriors])
        moments.add(mixture.log_prob(z, label) - model.prior().log_prob(z))
    return Measure(
        moments.mean.cpu(),
        "nats",
        moments.variance_of_mean().cpu(),
        facts={"draws": CODES, "components": sum(mixture.components.values())},
        kind="estimate",
        scope="any_transform",
    )


def _shares(subject: Subject[Model], support: Support | Absent, z: dict[str, Tensor]) -> Evidence:
    """The shares of z (N, L) of each source that lie outside, and the figure's arrays."""
    if isinstance(support, Absent):
        return Evidence(absent=dict.fromkeys(SHARES, support.reason))
    some = torch.randperm(len(subject.label))[:DRAWS].to(subject.label.device)
    label = subject.label[some]
    entries: dict[str, Measure | Estimate] = {}
    margins = {}
    for source, drawn_z in z.items():
        log_prob = support.aggregate.log_prob(drawn_z[some], label)
        share = support.share_outside(log_prob, label)
        entries[f"outside_{source}"] = replace(share, scope="any_transform")
        margins[source] = support.margin(log_prob, label)
    far = some[margins["prior"] < 0][:SHOWN]
    shown = far if len(far) else some[:SHOWN]
    arrays = {f"margin_{source}": each.cpu().numpy() for source, each in margins.items()}
    arrays["margin_codes"] = support.margins_of_codes().cpu().numpy()
    return Evidence(entries, arrays | _pictures(subject, z, shown))


def _pictures(subject: Subject[Model], z: dict[str, Tensor], shown: Tensor) -> Arrays:
    """``image_*`` (n, D) on the display scale: mu(z) of those z of each source (N, L)."""
    label = subject.label[shown]
    shown = shown[label.argsort(stable=True)]
    arrays = {}
    for source, all_z in z.items():
        x = subject.model.decode(all_z[shown], subject.label[shown]).mean
        arrays[f"image_{source}"] = subject.transform.to_unit(x.float()).cpu().numpy()
    return arrays


def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``prior``."""
    match subject.model:
        case GMM():
            return Evidence(absent=dict.fromkeys((*SHARES, GAIN), AN_INDEX))
        case VAE() | LinearGaussian() as model:
            return prior_draws(subject, model)
        case _:
            assert_never(subject.model)
