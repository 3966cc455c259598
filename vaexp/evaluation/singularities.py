"""The group ``singularities``: does sigma, a covariance or the noise collapse onto its floor?"""

from typing import assert_never

from vaexp.evaluation.covariance_collapse import covariance_collapse
from vaexp.evaluation.measure import Evidence
from vaexp.evaluation.noise_collapse import noise_collapse
from vaexp.evaluation.sigma_collapse import sigma_collapse
from vaexp.evaluation.subject import Subject
from vaexp.models import GMM, VAE, LinearGaussian, Model


def measure(subject: Subject[Model]) -> Evidence:
    """Measure the group ``singularities``. ``collapse`` says which questions it answers."""
    x, train, floor = subject.x, subject.train(), subject.floor
    match subject.model:
        case VAE():
            return sigma_collapse(
                subject.model, x, subject.label, train, floor=floor, unbounded=subject.unbounded
            )
        case GMM():
            return covariance_collapse(subject.model, x, train, floor=floor)
        case LinearGaussian():
            return noise_collapse(subject.model, x, train, floor=floor)
        case _:
            assert_never(subject.model)
