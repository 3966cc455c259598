"""Does sigma, or a mixture's covariance, collapse? Which module answers depends on the model."""

from typing import assert_never

from vaexp.evaluation.covariance_collapse import covariance_collapse
from vaexp.evaluation.measure import Evidence
from vaexp.evaluation.sigma_collapse import sigma_collapse
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, LinearGaussian, Model


def measure(subject: Subject[Model]) -> Evidence:
    """The group ``singularities``; ``collapse`` says what it asks."""
    x, label, train, floor = subject.x, subject.label, subject.train(), subject.floor
    match subject.model:
        case VAE():
            return sigma_collapse(subject.model, x, label, train, floor=floor)
        case GMM() | LinearGaussian():
            return covariance_collapse(subject.model, x, label, train, floor=floor)
        case _:
            assert_never(subject.model)
