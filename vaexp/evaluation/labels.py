"""The group ``labels``: ln p(x) of a model that is given the label, and the labels that it reads.

Such a model has ln p(x|y). With the share p(y) of each label among the training images,
p(x) = sum_y p(y) p(x|y). A bound of ln p(x|y) for every label therefore gives one of ln p(x), which
may be compared with those of models that are given no label. It also gives p(y|x), and with it a
classifier (Bayes' rule). Letters in shapes: N images, D pixels, C labels. Log quantities are in
nats per image, summed over pixels.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from vaexp.evaluation.blocks import blocks
from vaexp.evaluation.measure import Evidence, Measure, RunningMean
from vaexp.evaluation.probes import accuracy, share_of_most_frequent
from vaexp.evaluation.scope import Tightness
from vaexp.evaluation.subject import Subject
from vaexp.models import VAE

NAMES = ("elbo_labels_summed", "generative_accuracy")
DRAWS = 8  # of z for each image and label
NO_LABEL = "the model is not given the label; its elbo is one of ln p(x)"


@torch.no_grad()
def labels_summed(model: VAE, x: Tensor, label: Tensor, train_label: Tensor) -> Evidence:
    """``elbo_labels_summed`` and ``generative_accuracy`` of images x (N, D) with labels (N,).

    elbo_labels_summed = ln sum_y p(y) e^ELBO(x|y), where p(y) is the share of y in ``train_label``
    (M,). It does not depend on ``label``. ELBO(x|y) is the mean over DRAWS draws z ~ q(z|x, y) of
    ln w, w = p(x, z|y) / q(z|x, y). A closed-form KL in it would be as good for one label, but not
    here: the exponential of the mean of ln w is at most the mean of w, the expectation of
    sum_y p(y) times that mean is p(x), and the logarithm is concave. So this is a lower bound on
    ln p(x) in expectation.

    generative_accuracy is the share of images whose label is the y with the largest
    ln p(y) + ELBO(x|y). A model that is not given the label has neither.
    """
    if not model.conditional:
        return Evidence(absent=dict.fromkeys(NAMES, NO_LABEL))
    labels, counts = train_label.unique(return_counts=True)
    prior = (counts.double() / counts.sum()).log().cpu()
    bounds = [_elbo(model, x, one) for one in labels]
    joint = prior + torch.stack([value for value, _ in bounds], 1)
    posterior = joint.softmax(1)
    variance = (posterior.square() * torch.stack([spread for _, spread in bounds], 1)).sum(1)
    facts = {"draws": DRAWS, "labels": len(labels), "of": "x"}
    read = labels.cpu()[joint.argmax(1)]
    chance = {"chance": share_of_most_frequent(label.cpu(), train_label.cpu())}
    return Evidence(
        {
            "elbo_labels_summed": Measure(
                joint.logsumexp(1),
                "nats",
                variance,
                facts=facts,
                kind="lower_bound",
                likelihood="log_prob",
                tightness=Tightness.ELBO,
            ),
            "generative_accuracy": accuracy(read, label.cpu(), chance | {"draws": DRAWS}),
        }
    )


def _elbo(model: VAE, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """The ELBO of images x (N, D), all given one label (), and its variance over draws, (N,)."""
    values, variances = [], []
    for (xs,) in blocks(x):
        given = label.expand(len(xs))
        q, prior = model.encode(xs, given), model.prior()
        moments = RunningMean()
        for _ in range(DRAWS):
            z = q.sample()
            log_prob = model.decode(z, given).log_prob(xs).double()
            moments.add(log_prob + prior.log_prob(z).double() - q.log_prob(z).double())
        values.append(moments.mean)
        variances.append(moments.variance_of_mean())
    return torch.cat(values).cpu(), torch.cat(variances).cpu()


def measure(subject: Subject[VAE]) -> Evidence:
    """Measure the group ``labels``. The accuracy does not depend on the scale of x."""
    train: Iterable[tuple[Tensor, Tensor]] = subject.train() if subject.model.conditional else ()
    train_label = torch.cat([subject.label[:0], *(labels for _, labels in train)])
    evidence = labels_summed(subject.model, subject.x, subject.label, train_label)
    return evidence.with_scope("any_transform", but=("elbo_labels_summed",))
