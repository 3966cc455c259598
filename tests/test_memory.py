"""A config that is too large for the memory is refused before it is trained."""

from pathlib import Path
from typing import Any

import psutil
import pytest
from config_files import Write

from vaexp.config import load_config
from vaexp.experiment import memory


def needed(write: Write, text: str) -> int:
    return memory.needed_memory(load_config(str(write(text))))


def test_a_valid_config_that_is_too_large_starts_nothing(
    write: Write, invoke: Any, elsewhere: Path
) -> None:
    path = write("model: {kind: vae, hidden: [" + "16384, " * 31 + "16384]}")
    done = invoke("train", path, "--runs-dir", elsewhere / "runs")
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("training this model takes at least 201.1 GB of memory, and only ")
    assert "are free; a smaller model, train.batch_size or data.limit needs less" in line
    assert list(elsewhere.iterdir()) == []


def test_what_is_counted(write: Write) -> None:
    least = needed(write, "model: {kind: vae, hidden: [10], conditional: false}")
    weights = 784 * 10 + 10 + 4 * 10 + 4 + 2 * 10 + 10 + 784 * 10 + 784 + 1  # sigma
    assert least == 4 * (3 * weights + 256 * (20 + 2 * 784))
    mixture = "model: {kind: gmm, components: 100, covariance: %s}\ndata: {limit: 1000}"
    full, diag = needed(write, mixture % "full"), needed(write, mixture % "diag")
    assert full - diag == 2 * 4 * 100 * (784 * 784 - 784)


def test_memory_that_runs_out_is_no_fault_of_the_program(
    invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error in (MemoryError("x"), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")):

        def fail(_config: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(memory, "check_memory", fail)
        done = invoke("train", "quickstart")
        assert done.exit_code == 1
        [line] = done.stderr.splitlines()
        assert line == (
            "the memory does not suffice; a smaller model, train.batch_size or data.limit needs "
            f"less of it ({error})"
        )


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("3000\n")
    (tmp_path / "used").write_text("1000\n")
    (tmp_path / "stat").write_text("anon 300\ninactive_file 600\n")

    def left(limit: str) -> float:
        return memory._left_in_container((limit, "used", "stat", "inactive_file"), tmp_path)

    assert left("max") == 2600  # as pages of files that were read are given back
    (tmp_path / "max").write_text("max\n")
    assert left("max") == float("inf")
    assert left("none") == float("inf")
    assert 0 < memory.free_memory("cpu") <= psutil.virtual_memory().total


def test_how_many_images_some_digits_have_is_not_known() -> None:
    few = memory.needed_memory(load_config("gmm-diag", ["data.labels=[4]"]))
    many = memory.needed_memory(load_config("gmm-diag"))
    assert few < many / 10


@pytest.mark.parametrize(
    "overrides",
    [
        ["vae-pixel", "model.sigma_mode=lowrank", "model.factors=700", "model.latent_dim=700"],
        ["vae-pixel", "model.hidden=[]", "model.likelihood=discretized_logistic"],
        ["vae-fixed", "model.hidden=[3]", "model.latent_dim=1", "train.batch_size=60000"],
        *(["gmm-full", f"model.covariance={kind}"] for kind in ("full", "tied", "spherical")),
        ["gmm-full", "model.covariance=lowrank", "model.factors=783", "model.components=3"],
        ["ppca", "model.latent_dim=783"],
        ["fa", "model.latent_dim=783", "data.limit=10"],
    ],
)
def test_what_certainly_suffices_is_an_upper_bound(overrides: list[str]) -> None:
    config = load_config(overrides[0], overrides[1:])
    assert memory._most_memory(config, 60_000, 784) >= memory.needed_memory(config)


def test_the_bound_leaves_no_shipped_config_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaexp.config import shipped_configs

    monkeypatch.setattr(memory, "free_memory", lambda _device: 4e9)
    for name in shipped_configs():
        config = load_config(name)
        assert memory.certainly_suffices(config)
        assert memory._most_memory(config, 60_000, 784) >= memory.needed_memory(config)
    monkeypatch.setattr(memory, "free_memory", lambda _device: 1e7)
    assert not memory.certainly_suffices(config)
    own = config.model_copy(update={"data": config.data.model_copy(update={"name": "own"})})
    assert not memory.certainly_suffices(own)


def test_no_shipped_config_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vaexp.config import shipped_configs

    monkeypatch.setattr(memory, "free_memory", lambda _device: 4e9)
    for name in shipped_configs():
        memory.check_memory(load_config(name))
