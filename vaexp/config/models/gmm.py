"""A Gaussian mixture by EM: its model's section, and the whole experiment."""

from collections.abc import Set
from typing import Annotated, ClassVar, Literal, Self, final

from pydantic import Field, model_validator

from vaexp.config.base import WIDEST, DecodeMode, ModelSection
from vaexp.config.covariances import COVARIANCES
from vaexp.config.em import EMExperiment
from vaexp.config.rules import Rule
from vaexp.config.section import Condition, one_of, only_when, problem


@final
class GMMConfig(ModelSection):
    """A Gaussian mixture, fitted by EM: p(z) categorical, p(x|z) one Gaussian per component."""

    conditions: ClassVar[tuple[Condition, ...]] = (
        only_when(
            ("factors",),
            "covariance",
            *[name for name, family in COVARIANCES.items() if family.factors],
        ),
    )

    below_pixels: ClassVar[tuple[str, ...]] = ("factors",)

    kind: Literal["gmm"]
    """The kind of model."""
    components: int = Field(10, ge=1, le=1000)
    """K, the number of components."""
    covariance: Annotated[str, *one_of(COVARIANCES)] = "full"
    """full: each component has any covariance of its own. tied: all share one. diag: a variance for
    each pixel. spherical: one variance. lowrank: W W^T + sigma^2 I, as in probabilistic PCA."""
    factors: int = Field(6, ge=1, le=WIDEST)
    """q, the number of columns of W in each component, which is below the number of pixels."""
    covariance_floor: float = Field(1e-3, ge=0)
    """Added to the diagonal of every covariance, so that no variance is below it. For lowrank it is
    the least sigma^2. With 0 a component may collapse, which ends the run with an explanation."""
    init: Literal["kmeans", "kmeans++", "random", "labels"] = "kmeans"
    """The images that each component starts with. labels: those of one digit. Otherwise those that
    are nearest to a centre: one found by kmeans, a seed of kmeans++, or a random image."""
    precision: Literal["float32", "float64"] = "float32"
    """float32: products with the images are computed in single precision, sums in double. float64:
    everything is computed in double precision."""
    decode_mode: DecodeMode = "sample"
    """What figures and `vaexp sample` draw by default. mean: the component's mean.
    sample: a draw of the component. sweep: mean + k standard deviations, k = -2..2."""

    def caption(self) -> list[str]:
        """The components, their covariance with its floor, and where EM starts."""
        covariance = COVARIANCES[self.covariance].caption.format(factors=self.factors)
        started = "one per digit" if self.init == "labels" else f"from {self.init}"
        return [
            f"Gaussian mixture, K = {self.components}, {covariance}",
            f"covariance floor {self.covariance_floor:g}",
            started,
        ]

    @property
    def captioned(self) -> frozenset[str]:
        """The keys whose values ``caption`` says."""
        keys = {"kind", "components", "covariance", "covariance_floor", "init"}
        return frozenset(keys | ({"factors"} if COVARIANCES[self.covariance].factors else set()))

    @property
    def unit(self) -> Literal["epoch", "iteration"]:
        """The unit of EM is an iteration."""
        return "iteration"

    @property
    def floor(self) -> float:
        """The floor of the covariances."""
        return self.covariance_floor

    @property
    def likelihood_facts(self) -> dict[str, str | float]:
        """A density of x, which the floor of the covariances bounds, unless it is 0."""
        facts: dict[str, str | float] = {"measure": "density", "of": "x"}
        facts["covariance_floor"] = self.covariance_floor
        if self.covariance_floor == 0:
            facts["unbounded"] = (
                "without a floor, a component of few images, or of images with a pixel in common, "
                "has a density without limit"
            )
        return facts

    @property
    def kl_factor(self) -> float:
        """EM maximises the ELBO itself."""
        return 1.0

    @property
    def shared_factors(self) -> bool:
        """p(x|z) has no other sigma than its standard deviations."""
        return False

    @property
    def discrete(self) -> bool:
        """z is the index of a component."""
        return True


@final
class GMMExperiment(EMExperiment):
    """A Gaussian mixture by EM. The smallest is ``model: {kind: gmm}``."""

    model: GMMConfig

    @property
    def steps(self) -> str:
        """The class GMMSteps."""
        return "vaexp.fitting.gmm:GMMSteps"

    @classmethod
    def rules(cls) -> list[Rule]:
        """Where every start is the same, there is one."""
        one_start = Rule("model.init", {"enum": ["labels"]}, "train.restarts", {"enum": [1]})
        return [*super().rules(), one_start]

    @model_validator(mode="after")
    def _components_suit_the_data(self) -> Self:
        model, labels = self.model, self.data.labels
        digits = 10 if labels is None else len(labels)
        if model.init == "labels" and model.components != digits:
            raise problem(
                f"init: labels starts one component per digit, so with {digits} digits it needs "
                f"components: {digits}, not {model.components}",
                "model",
                "components",
            )
        if model.init == "labels" and self.train.restarts > 1:
            raise problem(
                "init: labels starts every time from the same parameters; use 1",
                "train",
                "restarts",
            )
        return self

    def model_caption(self) -> list[str]:
        """The caption of the model, and whether its parameters are the initial ones."""
        return super().model_caption() + (["as initialised"] if self.train.max_iter == 0 else [])

    def complaint_on_images(self, images: int, digits: Set[int]) -> str | None:
        """Every component needs an image to start from, and with init: labels its own digit."""
        missing = sorted(set(self.data.labels or range(10)) - digits)
        if self.model.init == "labels" and missing:
            limited = self.data.limit is not None
            return (
                f"model.init: labels starts one component per digit, and none of the {images:,} "
                f"training images is a {' or a '.join(map(str, missing))}; "
                + ("raise data.limit" if limited else "name the digits there are in data.labels")
            )
        if self.model.components > images:
            return (
                f"model.components: {self.model.components:,} are more than the {images:,} "
                "training images"
            )
        return None

    def complaint_without_labels(self) -> str | None:
        """With init: labels a component starts from the images of a digit."""
        if self.model.init != "labels":
            return None
        return (
            "model.init: labels starts one component per digit, and these images have no labels; "
            "use kmeans, kmeans++ or random"
        )
