"""What comparison.md says of AIC and BIC, by which the size of a mixture is chosen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vaexp.config import load_config
from vaexp.sweeps.folder import Sweep
from vaexp.sweeps.request import Options, Request
from vaexp.sweeps.summary import write_summary

TITLE = "## Information criteria of the training images"
FACTS = {"se": None, "n": 9, "unit": "nats", "kind": "exact", "measure": "density", "of": "x"}
FACTS |= {"aggregate": "whole", "scope": "same_x"}


@pytest.fixture
def summary(elsewhere: Path, forge: Any, change_json: Any) -> Callable[..., list[str]]:
    """The lines from the title on, after a sweep of mixtures whose BIC is smallest at K = 3.

    It is 100 - 10 K up to there, and grows by 10 from there. The AIC is smaller by 2 K squared. The
    ln p(x) of the validation images is K modulo 3.
    """

    def summary(*grid: str, seeds: int | None = None) -> list[str]:
        (elsewhere / "mixture.yaml").write_text("model: {kind: gmm}\n")
        request = Request.of_config("mixture.yaml", [], Options(grid=grid, seeds=seeds))
        sweep = Sweep.begin(elsewhere / "s", request)
        for trial in sweep.trials:
            settings = [f"{key}={value}" for key, value in trial.settings.items()]
            run = forge("trial", "model.kind=gmm", *settings)
            model: Any = load_config(str(run)).model
            k = model.components
            bic = 100.0 - 10 * min(k, 6 - k)
            facts = FACTS | {"parameters": 1000 * k, "covariance_floor": model.covariance_floor}
            train = {"bic": facts | {"value": bic}, "aic": facts | {"value": bic - 2 * k**2}}
            test = json.loads((run / "metrics.json").read_text())["test"]
            log_prob = test["elbo"] | {"value": float(k % 3), "sigma": None}
            del log_prob["sigma"]
            change_json(run / "metrics.json", train=train, validation={"log_prob": log_prob})
            sweep.folder(trial).mkdir(parents=True)
            run.rename(sweep.folder(trial) / "run")
        path = write_summary(sweep, sweep.write_table())
        assert path is not None
        lines = path.read_text().splitlines()
        starts = [i for i, line in enumerate(lines) if line.startswith(TITLE)]
        return lines[starts[0] :] if starts else []

    return summary


def test_the_summary_chooses_by_bic(summary: Any) -> None:
    title, _, head, _, *rows = summary("model.components=1,2,3,4", seeds=2)
    assert title == f"{TITLE}, the smallest BIC first"
    assert head == (
        "| model.components | free parameters | bic, train | aic, train | log_prob, validation |"
    )
    assert [row.split(" | ")[:4] for row in rows[:4]] == [
        ["| 3", "3,000", "70 [floor 0.001]", "52 [floor 0.001]"],
        ["| 2", "2,000", "80 [floor 0.001]", "72 [floor 0.001]"],
        ["| 4", "4,000", "80 [floor 0.001]", "48 [floor 0.001]"],
        ["| 1", "1,000", "90 [floor 0.001]", "88 [floor 0.001]"],
    ]
    assert rows[5] == (
        "BIC is smallest at model.components=3, and AIC at model.components=4. ln p(x) of the "
        "validation images is largest at model.components=2."
    )


def test_nothing_is_chosen_by_the_bic_of_different_images(summary: Any) -> None:
    lines = summary("model.components=1,2", "data.limit=100,200")
    assert lines[0] == TITLE
    assert lines[9] == "The images differ by data.limit, so nothing can be chosen by them."


def test_different_floors_are_said(summary: Any) -> None:
    lines = summary("model.components=1,2", "model.covariance_floor=1e-3,1e-2")
    assert lines[9].startswith("BIC is smallest at model.components=2 model.covariance_floor=0.0")
    assert lines[9].endswith("Their floors differ, and a density depends on its floor.")


def test_one_setting_is_no_choice(summary: Any) -> None:
    lines = summary(seeds=2)
    assert lines[0] == TITLE
    assert not any("smallest" in line for line in lines)
