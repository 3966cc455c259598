"""The EM loop: what it yields, when it stops, which parameters are to be kept, how it goes on."""

import copy
import itertools
import math
from dataclasses import dataclass
from typing import Any, Self

import pytest
import torch
from small_models import KINDS
from torch import Tensor, nn

from vaexp.errors import RunError
from vaexp.fitting import FitStep, gmm, ppca
from vaexp.fitting.em import Collapse, EMOptions, EMSteps, fit
from vaexp.models.covariances.diag import Diag
from vaexp.models.covariances.full import Full
from vaexp.models.covariances.lowrank import LowRank
from vaexp.models.covariances.spherical import Spherical
from vaexp.models.covariances.tied import Tied
from vaexp.models.gmm import GMM
from vaexp.models.moments import Moments
from vaexp.models.ppca import PPCA
from vaexp.processes import Processes

# Scripted models: parameters (restart, iteration), whose ln p(x) is read from a list.


class Scripted(nn.Module):
    def __init__(self, at: Tensor):
        super().__init__()
        self.register_buffer("at", at)
        self.at: Tensor


@dataclass
class Read:
    mean_log_prob: float
    mean_elbo: float


class ScriptedSteps(EMSteps[None, Scripted, Read]):
    """Restart r has ln p(x) values[r][i] after iteration i."""

    def __init__(self, *values: list[float], validated: bool = False):
        self.values = values
        self.validated = validated

    @classmethod
    def from_config(
        cls,
        config: None,
        x: Tensor,
        label: Tensor,
        validation: Tensor | None,
        seed: int,
        processes: Processes,
    ) -> Self:
        raise NotImplementedError

    @classmethod
    def not_finite(cls) -> str:
        return "the script says so"

    def start(self, restart: int) -> Scripted:
        return Scripted(torch.tensor([restart, 0]))

    def e_step(self, model: Scripted) -> Read:
        restart, at = model.at.tolist()
        value = self.values[restart][at]
        return Read(value, value - 1e-9)

    def m_step(self, expected: Read, model: Scripted) -> Scripted:
        restart, at = model.at.tolist()
        assert expected.mean_log_prob == self.values[restart][at]
        return Scripted(model.at + torch.tensor([0, 1]))

    def elbo_after_m(self, expected: Read, model: Scripted, updated: Scripted) -> float:
        assert expected.mean_log_prob == self.values[model.at[0]][model.at[1]]
        return (expected.mean_log_prob + self.values[updated.at[0]][updated.at[1]]) / 2

    def validation(self, model: Scripted) -> float | None:
        return (100.0 * model.at[0] + model.at[1]).item() if self.validated else None

    def facts(self, model: Scripted) -> dict[str, Any]:
        return {"fact": model.at.tolist()}


class Marked(ScriptedSteps):
    """Adds 100 to the parameters that a restart ends with."""

    def finish(self, model: Scripted) -> Scripted:
        return Scripted(model.at + 100)


class Collapsing(ScriptedSteps):
    """Collapses where the script says nan."""

    def e_step(self, model: Scripted) -> Read:
        expected = super().e_step(model)
        if math.isnan(expected.mean_log_prob):
            raise Collapse("the script", "it is short")
        return expected


def restore(state: dict[str, Any]) -> Scripted:
    return Scripted(state["at"])


def run(
    steps: EMSteps[None, Scripted, Read],
    state: dict[str, Any] | None = None,
    **options: float,
) -> list[FitStep]:
    chosen: dict[str, Any] = {"max_iter": 100, "tolerance": 0.1, "restarts": 1, **options}
    return list(fit(steps, EMOptions(**chosen), state=state, restore=restore))


def untimed(steps: list[FitStep]) -> list[dict[str, Any]]:
    return [{k: v for k, v in step.record.items() if k != "seconds"} for step in steps]


def test_records():
    steps = run(ScriptedSteps([-9, -5, -3, -2.95], validated=True))
    assert untimed(steps)[0] == {
        "iteration": 0,
        "restart": 0,
        "train": {"log_prob": -9, "elbo_after_e": -9 - 1e-9},
        "validation": {"log_prob": 0},
        "fact": [0, 0],
        "stopped": None,
    }
    assert untimed(steps)[3] == {
        "iteration": 3,
        "restart": 0,
        "train": {"log_prob": -2.95, "elbo_after_e": -2.95 - 1e-9, "elbo_after_m": -2.975},
        "validation": {"log_prob": 3},
        "fact": [0, 3],
        "stopped": "tolerance",
    }
    assert [step.at for step in steps] == [0, 1, 2, 3]
    assert all(step.record["seconds"] >= 0 for step in steps)
    assert "validation" not in run(ScriptedSteps([-1, -1]))[0].record


@pytest.mark.parametrize(
    ("values", "options", "stopped"),
    [
        ([-9, -5, -3, -2.95, 0], {}, [None, None, None, "tolerance"]),
        ([-9, -5, -3, -2], {"max_iter": 3}, [None, None, None, "max_iter"]),
        ([-9, -5, -4.95], {"max_iter": 2}, [None, None, "tolerance"]),  # both: the better reason
        ([-9, -5, -5, -5, -5], {"max_iter": 4, "tolerance": 0}, [None] * 4 + ["max_iter"]),
        ([-9, -5, -5.5, 0], {"tolerance": 0}, [None, None, "tolerance"]),  # it fell
        ([-9], {"max_iter": 0}, ["max_iter"]),
        ([-9, -8.9], {"tolerance": 1000}, [None, "tolerance"]),
    ],
)
def test_when_it_stops(values, options, stopped):
    steps = run(ScriptedSteps(values), **options)
    assert [step.record["stopped"] for step in steps] == stopped
    assert [step.state["stopped"] for step in steps] == stopped
    assert [step.state["model"]["at"].tolist()[1] for step in steps] == list(range(len(stopped)))


def test_restarts_keep_the_best():
    """A step is to be kept when it beats the last of every earlier restart."""
    steps = run(ScriptedSteps([-9, -5, -5], [-8, -6, -4, -3.99], [-9, -7, -7]), restarts=3)
    assert [(s.record["restart"], s.at, s.keep) for s in steps] == [
        (0, 0, True),
        (0, 1, True),
        (0, 2, True),
        (1, 0, False),
        (1, 1, False),
        (1, 2, True),
        (1, 3, True),
        (2, 0, False),
        (2, 1, False),
        (2, 2, False),
    ]
    kept = [step for step in steps if step.keep][-1]
    assert kept.record["train"]["log_prob"] == -3.99
    assert kept.state["model"]["at"].tolist() == [1, 3]


def test_a_restart_must_beat_all_earlier_ones():
    values = [-4, -4], [-9, -9], [-5, -5], [-3, -3]
    steps = run(ScriptedSteps(*values), restarts=4)
    assert [step.record["restart"] for step in steps if step.keep] == [0, 0, 3, 3]
    for i, step in enumerate(steps):
        rest = run(ScriptedSteps(*values), step.state, restarts=4)
        assert [s.keep for s in rest] == [s.keep for s in steps[i + 1 :]]


def test_an_equal_restart_is_not_kept():
    steps = run(ScriptedSteps([-5, -5], [-5, -5]), restarts=2)
    assert [step.keep for step in steps] == [True, True, False, False]


@pytest.mark.parametrize("restarts", [1, 3])
def test_without_iterations_the_initial_parameters_are_kept(restarts):
    steps = run(ScriptedSteps([-9], [-5], [-7]), restarts=restarts, max_iter=0)
    assert [step.at for step in steps] == [0] * restarts
    assert [step.record["stopped"] for step in steps] == ["max_iter"] * restarts
    assert [step.keep for step in steps] == [True, True, False][:restarts]
    assert all("elbo_after_m" not in step.record["train"] for step in steps)


def test_going_on_from_any_step_gives_the_rest():
    values = [-9, -5, -4.99], [-8, -6, -4, -3.99], [-9, -3, -3]
    steps = run(ScriptedSteps(*values), restarts=3)
    assert len(steps) == 10
    for i, step in enumerate(steps):
        rest = run(ScriptedSteps(*values), step.state, restarts=3)
        assert untimed(rest) == untimed(steps[i + 1 :])
        assert [s.keep for s in rest] == [s.keep for s in steps[i + 1 :]]
        assert [s.state["best"] for s in rest] == [s.state["best"] for s in steps[i + 1 :]]


def test_a_restart_ends_in_its_finished_form():
    """Of which going on needs nothing, and which the state of the last iteration holds."""
    steps = Marked([-9, -5, -5], [-4, -4])
    held = [step.state["model"]["at"].tolist() for step in run(steps, restarts=2)]
    assert held == [[0, 0], [0, 1], [100, 102], [1, 0], [101, 101]]


@pytest.mark.parametrize(
    ("values", "restarts", "message"),
    [
        ([[math.nan]], 1, "collapsed at its start, before any iteration: it is short"),
        ([[-9, math.nan]], 1, "collapsed after iteration 1: it is short; iteration 0 is kept"),
        (
            [[-9, -5, math.nan]],
            2,
            "collapsed after iteration 2 of restart 1: it is short; iteration 1 is kept",
        ),
        (
            [[-9, -9], [-8, math.nan]],
            2,
            "collapsed after iteration 1 of restart 2: it is short; "
            "the best parameters so far are kept",
        ),
    ],
)
def test_a_collapse_says_when_and_what_is_kept(values, restarts, message):
    with pytest.raises(RunError) as caught:
        run(Collapsing(*values), restarts=restarts)
    assert str(caught.value) == f"the script {message}"


def test_a_collapse_of_a_state_gone_on_from_is_a_message_too():
    state = run(ScriptedSteps([-9, -5], [-9]), max_iter=1)[-1].state | {"stopped": None}
    with pytest.raises(RunError, match="the script collapsed: it is short"):
        run(Collapsing([-9, math.nan]), state)


def test_a_state_of_an_older_version_goes_on_if_max_iter_had_stopped_it():
    """It does not say what the last iteration added, which was small if that was the reason."""
    steps = ScriptedSteps([-9, -5, -3, -2.95])
    for stopped, then in (({"max_iter": 1}, [2, 3]), ({"tolerance": 5}, [])):
        state = run(steps, **stopped)[-1].state
        del state["gain"]
        assert state["iteration"] == 1
        assert [step.at for step in run(steps, state)] == then


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_log_prob_that_is_not_finite_ends_the_fit(value):
    """The steps say what helps."""
    with pytest.raises(RunError) as caught:
        run(ScriptedSteps([-9, value]))
    expected = f"the mean of ln p(x) became {value} in iteration 1: the script says so"
    assert str(caught.value) == expected


# The real steps


def images() -> tuple[Tensor, Tensor]:
    """Three overlapping clusters of different shapes, in float64, and labels."""
    torch.manual_seed(0)
    z = torch.arange(150) % 3
    shape = torch.eye(5) + 0.4 * torch.randn(3, 5, 5, dtype=torch.float64)
    noise = torch.randn(150, 5, dtype=torch.float64)
    centre = 1.3 * torch.randn(3, 5, dtype=torch.float64) + 2
    return centre[z] + torch.einsum("nij,nj->ni", shape[z], noise), z


def real(kind: str, **options: Any) -> EMSteps[Any, Any, Any]:
    x, label = images()
    train, held_out = x[:120], x[120:]
    if kind == "ppca":
        return ppca.PPCASteps(Moments.of(train), Moments.of(held_out), 2, closed=False, seed=1)
    chosen = {"components": 3, "factors": 2, "covariance_floor": 1e-3, "init": "random"}
    chosen |= {"precision": "float64", "seed": 1, **options}
    return gmm.GMMSteps(train, label[:120], held_out, covariance=kind, **chosen)


def from_state(state: dict[str, Tensor]) -> Any:
    """A model of the state dict's very tensors."""
    if "weight" not in state:
        return PPCA(state["mean"], state["factors"], state["variance"])
    of = {name.removeprefix("gaussians."): value for name, value in state.items()}
    weight = of.pop("weight")
    k, d = of["mean"].shape
    if "factors" in of:
        return GMM(weight, LowRank(**of))
    if "covariance" in of:
        return GMM(weight, (Full if of["covariance"].ndim == 3 else Tied)(**of))
    return GMM(weight, (Diag if of["variances"].shape == (k, d) else Spherical)(**of))


def run_real(steps: EMSteps[Any, Any, Any], state: Any = None, **options: Any) -> list[FitStep]:
    chosen: dict[str, Any] = {"max_iter": 6, "tolerance": 0, "restarts": 1, **options}
    return list(fit(steps, EMOptions(**chosen), state=state, restore=from_state))


@pytest.mark.parametrize("kind", [*KINDS, "ppca"])
def test_the_records_belong_to_the_parameters_they_come_with(kind):
    x, _ = images()
    steps = run_real(real(kind))
    assert len(steps) == 7
    for step in steps:
        model = from_state(step.state["model"])
        for split, part in (("train", x[:120]), ("validation", x[120:])):
            logged = step.record[split]["log_prob"]
            assert logged == pytest.approx(model.log_prob(part).mean().item(), rel=1e-10), split
        train = step.record["train"]
        assert train["elbo_after_e"] == pytest.approx(train["log_prob"], rel=1e-12)
        if kind == "ppca":
            assert step.record["sigma"] == pytest.approx(model.variance.item() ** 0.5)
        else:
            counts = step.record["effective_count"]
            assert sum(counts) == pytest.approx(120)
            assert counts == pytest.approx((120 * model.weight).tolist())
            smallest = torch.linalg.eigvalsh(
                torch.stack(
                    [model.decode(torch.tensor(k)).sample([4000]).T.cov() for k in range(3)]
                )
            )[:, 0]
            assert step.record["smallest_eigenvalue"] == pytest.approx(smallest.tolist(), rel=0.3)
    for before, after in itertools.pairwise(steps):
        first, last = before.record["train"]["log_prob"], after.record["train"]["log_prob"]
        if kind in ("lowrank", "ppca"):  # whose floor does not add to anything
            assert first - 1e-12 < after.record["train"]["elbo_after_m"]
        assert after.record["train"]["elbo_after_m"] < last + 1e-12


@pytest.mark.parametrize("kind", [*KINDS, "ppca"])
def test_going_on_from_any_state_is_exact(kind):
    """Bit for bit: the remaining records and the parameters, across the end of a restart too."""
    options = {"max_iter": 4, "tolerance": 1e-4, "restarts": 2}
    steps = [copy.deepcopy(step) for step in run_real(real(kind), **options)]
    assert {step.record["restart"] for step in steps} == {0, 1}
    for i, step in enumerate(steps):
        rest = run_real(real(kind), copy.deepcopy(step.state), **options)
        assert untimed(rest) == untimed(steps[i + 1 :])
        assert [s.keep for s in rest] == [s.keep for s in steps[i + 1 :]]
        for found, expected in zip(rest, steps[i + 1 :], strict=True):
            for name, value in expected.state["model"].items():
                assert torch.equal(found.state["model"][name], value), name


@pytest.mark.parametrize("kind", ["full", "ppca"])
def test_restarts_differ_and_repeat(kind):
    first, second = (run_real(real(kind), restarts=2, max_iter=0) for _ in range(2))
    assert untimed(first) == untimed(second)
    assert first[0].record["train"] != first[1].record["train"]


def test_a_large_tolerance_stops_after_one_iteration():
    steps = run_real(real("full"), tolerance=1e6)
    assert [step.record["stopped"] for step in steps] == [None, "tolerance"]


def test_the_last_parameters_of_ppca_are_principal():
    """Of the same density: the log still belongs to them."""
    steps = run_real(real("ppca"))
    factors = steps[-1].state["model"]["factors"]
    inner = factors.T @ factors
    assert inner[0, 1].abs() < 1e-12 * inner[0, 0]
    assert inner[0, 0] > inner[1, 1]
    inner = steps[3].state["model"]["factors"]
    assert (inner.T @ inner)[0, 1].abs() > 1e-9


@pytest.mark.parametrize("closed", [False, True])
def test_ppca_from_the_closed_form_has_arrived(closed):
    x, _ = images()
    steps = list(
        fit(
            ppca.PPCASteps(Moments.of(x), None, 2, closed=closed, seed=1),
            EMOptions(max_iter=2000, tolerance=1e-12, restarts=1),
            restore=from_state,
        )
    )
    model = ppca.closed_form(Moments.of(x), 2)
    expected = model.log_prob(x).mean().item()
    assert steps[-1].record["train"]["log_prob"] == pytest.approx(expected, rel=1e-9)
    assert steps[-1].record["stopped"] == "tolerance"
    assert (len(steps) == 2) == closed


def test_a_collapse_is_explained():
    """At the start, and later; component, eigenvalue, images and what to do about it."""
    x, label = images()
    x[:, 2] = 0
    options = {"components": 3, "factors": 2, "init": "labels", "precision": "float64", "seed": 1}
    steps = gmm.GMMSteps(x, label, None, covariance="full", covariance_floor=0.0, **options)
    with pytest.raises(RunError, match="component 0 collapsed at its start") as caught:
        run_real(steps)
    assert "50.0 of 150 training images" in str(caught.value)
    assert "model.covariance_floor" in str(caught.value)
    steps = gmm.GMMSteps(x, label, None, covariance="tied", covariance_floor=0.0, **options)
    with pytest.raises(RunError, match="the covariance of all components collapsed"):
        run_real(steps)


def test_a_collapse_during_the_fit_is_explained():
    """Two copies of an image far away: the component that starts with them loses all others."""
    x, _ = images()
    x[[0, 3]] = 60.0
    label = (torch.arange(150) >= 12).long()
    steps = gmm.GMMSteps(
        x,
        label,
        None,
        components=2,
        covariance="full",
        factors=2,
        covariance_floor=0.0,
        init="labels",
        precision="float64",
        seed=1,
    )
    options = EMOptions(max_iter=500, tolerance=-math.inf, restarts=1)
    seen: list[int] = []
    with pytest.raises(RunError, match="component 0 collapsed after iteration") as caught:
        seen.extend(step.at for step in fit(steps, options, restore=from_state))
    assert f"after iteration {seen[-1] + 1}:" in str(caught.value)
    assert f"iteration {seen[-1]} is kept" in str(caught.value)
