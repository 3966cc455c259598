"""The base of the experiments whose model is fitted by EM."""

from abc import abstractmethod

from vaexp.config.base import BaseConfig
from vaexp.config.training import EMConfig


class EMExperiment(BaseConfig):
    """The keys of every experiment that is fitted by EM, and what the fit asks it.

    Its subclasses are ``@final``, so that the type checker names what one of them leaves out.
    """

    train: EMConfig = EMConfig()

    @property
    @abstractmethod
    def steps(self) -> str:
        """The class of its steps, an ``EMSteps``, as ``module:class``. The name needs no torch."""

    @property
    def closed_form(self) -> bool:
        """Whether EM has nothing to do, as its start is the maximum already."""
        return False
