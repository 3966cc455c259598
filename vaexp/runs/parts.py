"""What the JSON files of a run folder hold. They are validated as strictly as a config is.

A file is checked and then read as it stands: no number of it is converted.
"""

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from vaexp.config.data import IMAGE_SHAPE, LONGEST_SIDE, Digit
from vaexp.config.document import brief

Scalar = str | int | float | bool | None
Value = Scalar | list[Scalar] | dict[str, Scalar]

Side = Annotated[int, Field(ge=1, le=LONGEST_SIDE)]

Status = Literal["running", "finished", "failed", "interrupted", "dead", "unknown"]
"""The status of a run. run.json never says dead or unknown: that is what others see."""


class _Part(BaseModel):
    """Keys that readers compute with have their types. Further keys are of later versions."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class _FlatPart(_Part):
    """Further keys have single values or lists of them.

    ``Environment`` may hold nested values, so it is not one. It cannot be one that overrides
    ``__pydantic_extra__``, as pydantic heeds that from 2.13 on.
    """

    __pydantic_extra__: dict[str, Value]


class Info(_FlatPart):
    """run.json."""

    status: Literal["running", "finished", "failed", "interrupted"]
    pid: int
    pid_started: float
    host: str
    start: str | None
    resumed: list[str]
    end: str | None = None
    exit_code: int | None = None
    error: str | None
    trimmed: str | None = None


class Heartbeat(_FlatPart):
    """checkpoints/heartbeat.json: the time, in seconds since 1970, and the process of run.json."""

    at: float
    host: str
    pid: int
    pid_started: float


class Environment(_Part):
    """environment.json."""

    config_sha256: str
    data_sha256: str
    image_shape: Annotated[list[Side], Field(min_length=2, max_length=2)] = [*IMAGE_SHAPE]
    image_labels: list[Digit] = []
    data_known: bool = True


class Entry(_FlatPart):
    """A measure in metrics.json."""

    value: float
    unit: str
    aggregate: Literal["mean", "root_mean", "whole"]
    se: float | None = None
    mc_se: float | None = None
    n: int | None = None
    first_images: int = 0
    k: int = 0
    kind: Literal["exact", "lower_bound", "upper_bound", "estimate"] | None = None
    scope: str = ""
    tightness: int = 0
    group: str | None = None
    measure: str | None = None
    of: str = ""
    on: str = ""
    look: str | None = None
    beta: float | None = None
    difference_of: str | None = None
    floor_of: str | None = None
    against: int | str | None = None
    clusters: int | None = None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] = [0.0, 0.0]
    sigma: float = 0.0
    sigma_floor: float = 0.0
    covariance_floor: float = 0.0
    effective_samples: float = 0.0
    share_below_10_effective_samples: float = 0.0
    median: float | None = None
    trimmed_mean_1_percent: float | None = None
    trimmed_mean_1_percent_se: float | None = None
    extreme_1_percent: float | None = None
    unbounded: str = ""
    parameters: int = 0

    @model_validator(mode="after")
    def _a_bound_says_its_kind(self) -> Self:
        if self.tightness and not (self.kind and self.of):
            raise ValueError("a bound that runs are ranked by needs a kind and an of")
        return self


Metrics = dict[str, dict[str, Entry]]
"""metrics.json: {split: {name: entry}}."""


class Notes(_FlatPart):
    """The notes on a group of measures in evaluation.json."""

    absent: dict[str, str] = {}
    measured: str | None = None
    device: str | None = None
    versions: dict[str, str] = {}


Evaluation = dict[str, Notes]
"""evaluation.json: {group: notes}."""


class Step(_FlatPart):
    """A line of metrics.jsonl: an epoch of gradients, or an iteration of EM."""

    epoch: int = 0
    iteration: int = 0
    restart: int = 0
    step: int = 0
    train: dict[str, float] = {}
    validation: dict[str, float] = {}
    stopped: str | None = None
    seconds: float = 0.0
    smallest_eigenvalue: list[float] = []
    effective_count: list[float] = []

    @model_validator(mode="after")
    def _says_where_it_stands(self) -> Self:
        if not self.model_fields_set & {"epoch", "iteration"}:
            raise ValueError("it has neither an epoch nor an iteration")
        return self


Kind = TypeVar("Kind")

INFO: TypeAdapter[Info] = TypeAdapter(Info)
HEARTBEAT: TypeAdapter[Heartbeat] = TypeAdapter(Heartbeat)
ENVIRONMENT: TypeAdapter[Environment] = TypeAdapter(Environment)
METRICS: TypeAdapter[Metrics] = TypeAdapter(Metrics)
EVALUATION: TypeAdapter[Evaluation] = TypeAdapter(Evaluation)
STEP: TypeAdapter[Step] = TypeAdapter(Step)


def complaint(adapter: TypeAdapter[Kind], value: Any) -> str | None:
    """What is wrong with the value of a JSON file, on one line, or None if nothing is."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        message = first["msg"].replace("Input should", "should", 1)
        got = "" if first["type"] == "missing" else f", got {brief(first['input'])}"
        return f"{name}: {message}{got}" if name else message + got
    return None
