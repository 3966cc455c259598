"""Every shipped config runs for a moment, and the wheel carries all that a clone has."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hatchling.builders.wheel import WheelBuilder

from vaexp.config import load_config, shipped_configs, shipped_sweeps
from vaexp.data import Split
from vaexp.experiment.prepare import Experiment
from vaexp.experiment.train import train
from vaexp.figures.charts import by_restart
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]


def few(split: Split, count: int) -> Split:
    return Split(split.pixels[:count], split.label[:count], split.at[:count])


FEW = {
    "vae": ["train.epochs=1", "data.limit=200", "evaluate.importance_samples=3"],
    "gmm": ["train.max_iter=2", "data.limit=200", "model.components=4"],
    "ppca": ["train.max_iter=2", "data.limit=200"],
    "fa": ["train.max_iter=2", "data.limit=200"],
}
OVERRIDES = {
    "gmm-labels": ["data.limit=200"],
    "gaussian-logit": ["train.max_iter=2", "data.limit=2000"],  # its floor of 0 needs so many
    "ppca-closed-form": ["data.limit=200"],
    "published/altosaar": ["train.steps=2", *FEW["vae"][1:]],
}
FIGURES = {"samples", "decode_modes", "reconstructions"}
FIGURES_OF = {
    "vae": {"latent_plane", "posterior"},
    "gmm": {"components", "component_samples", "confusion"},
    "ppca": {"latent_plane", "posterior", "principal_axes", "spectrum"},
    "fa": {"latent_plane", "posterior", "factors", "noise", "spectrum"},
}


@pytest.mark.parametrize("name", shipped_configs())
def test_a_shipped_config_runs_for_a_moment(name: str, tmp_path: Path) -> None:
    kind = load_config(name).model.kind
    config = load_config(name, OVERRIDES.get(name, FEW[kind]))
    prepared = Experiment.prepare(config)
    assert prepared.data.validation is not None
    data = replace(
        prepared.data,
        validation=few(prepared.data.validation, 50),
        test=few(prepared.data.test, 50),
    )
    before = torch.random.get_rng_state()
    run = train(replace(prepared, data=data), tmp_path, Reporter())

    assert torch.equal(before, torch.random.get_rng_state())
    assert run.status() == "finished"
    metrics = run.metrics()
    assert set(metrics) == {"train", "validation", "test"}
    test = metrics["test"]
    value = {metric: entry["value"] for metric, entry in test.items()}
    assert value["elbo"] == pytest.approx(-value["rate"] - value["distortion"])
    if kind != "vae":
        assert test["log_prob"]["kind"] == "exact"
        # to the rounding of float32 images, of which both are sums
        assert value["elbo"] == pytest.approx(value["log_prob"], rel=1e-6)
    assert ("log_prob" in test) == (kind != "vae" or name == "bridge-vae")
    assert ("iw_bound" in test) == (kind == "vae")
    mass = name in ("vae-bernoulli", "vae-logistic", "published/altosaar")
    assert test["elbo"]["measure"] == ("mass" if mass else "density")
    conditional = kind == "vae" and config.model.conditional
    assert test["elbo"]["of"] == ("x given label" if conditional else "x")
    figures = {path.stem for path in (run.path / "figures").iterdir()}
    assert FIGURES | FIGURES_OF[kind] <= figures  # and those that are newer than this test
    assert ("em" in figures) == (kind != "vae" and gains(run))
    assert RunFolder.open(run.path).config() == config


def gains(run: RunFolder) -> bool:
    """Whether EM made steps that are more than rounding; one Gaussian has none to make."""
    restarts, kept = by_restart(run.records())
    log_prob = [record["train"]["log_prob"] for record in restarts[kept]]
    return max(log_prob) - min(log_prob) > 1e-7 * max(map(abs, log_prob))


def test_each_shipped_config_says_what_it_shows_and_what_to_look_for() -> None:
    for name, path in shipped_configs().items():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith("# ")
        assert any("Look for" in line for line in lines)
        assert f"name: {name.replace('/', '-')}" in lines


def test_the_wheel_carries_configs_data_and_types(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in shipped_configs():
        assert f"vaexp/configs/{name}.yaml" in names
    for name in shipped_sweeps():
        assert f"vaexp/configs/sweeps/{name}.yaml" in names
    for path in (ROOT / "vaexp").rglob("*"):
        if path.is_file() and not any(p[0] == "." or p == "__pycache__" for p in path.parts):
            assert path.relative_to(ROOT).as_posix() in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    listed = subprocess.run(
        [sys.executable, "-m", "vaexp", "configs", "list", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        check=True,
    )
    assert json.loads(listed.stdout).keys() == shipped_configs().keys()


def test_what_development_needs_is_the_same_as_an_extra_and_as_a_group() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extra = project["project"]["optional-dependencies"]["dev"]
    assert project["dependency-groups"]["dev"] == extra


def test_the_bundled_data_fit_in_ten_megabytes() -> None:
    files = (ROOT / "vaexp" / "data" / "mnist").glob("*.xz")
    assert 0 < sum(path.stat().st_size for path in files) <= 10_000_000


def test_the_schema_documents_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    from vaexp.cli_configs import schema

    schema()
    document = json.loads(capsys.readouterr().out)
    sections = ["DataConfig", "EvaluateConfig"]
    sections += ["VAEConfig", "GMMConfig", "PPCAConfig", "SGDConfig", "EMConfig"]
    for section in sections:
        for key, entry in document["definitions"][section]["properties"].items():
            assert entry.get("description"), f"{section}.{key} has no documentation"


@pytest.mark.slow
def test_gaussian_logit_is_the_published_row(tmp_path: Path) -> None:
    """-1366.9 +- 1.4 nats: Papamakarios, Pavlakou and Murray 2017, table 2, Gaussian."""
    run = train(Experiment.prepare(load_config("gaussian-logit")), tmp_path, Reporter())
    entry = run.metrics()["test"]["log_prob"]
    assert (entry["n"], entry["kind"], entry["covariance_floor"]) == (10_000, "exact", 0.0)
    assert entry["value"] == pytest.approx(-1366.9, abs=1.4)


@pytest.mark.slow
def test_the_bridge_holds(tmp_path: Path) -> None:
    """A linear VAE comes within two nats of the pPCA with its latents, from below on training."""
    ppca, vae = (
        train(Experiment.prepare(load_config(name, overrides)), tmp_path, Reporter()).metrics()
        for name, overrides in (
            ("bridge-ppca", []),
            ("bridge-vae", ["train.epochs=10", "evaluate.importance_samples=0"]),
        )
    )
    gaps = [ppca[split]["log_prob"]["value"] - vae[split]["log_prob"]["value"] for split in ppca]
    assert gaps == pytest.approx([1, 1, 1], abs=1)
    assert vae["test"]["elbo"]["value"] <= vae["test"]["log_prob"]["value"]
