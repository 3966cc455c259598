"""Published data are held against their published SHA-256, and every reader is told the outcome."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from published_files import PREFIXES, write_files

from vaexp import data
from vaexp.config import load_config
from vaexp.data import datasets
from vaexp.runs.folder import RunFolder

CONFIG = """\
model: {kind: ppca, latent_dim: 2}
data: {name: kmnist, root: ROOT, validation_size: 0}
train: {max_iter: 2}
"""
OTHERS = "these images are not KMNIST as published: the SHA-256 of train-images-idx3-ubyte.gz is "


def publish(monkeypatch: pytest.MonkeyPatch, root: Path, name: str) -> None:
    """Let the hashes of the files in a folder be those that are published."""
    published = datasets.PUBLISHED[name]
    raw = root / published.torchvision_class / "raw"
    found = [hashlib.sha256((raw / f"{one}.gz").read_bytes()) for one in published.files]
    changed = published.__class__(
        **{**vars(published), "sha256": tuple(one.hexdigest() for one in found)}
    )
    monkeypatch.setitem(datasets.PUBLISHED, name, changed)


def doubt(root: Path, name: str) -> str | None:
    config = load_config("ppca", [f"data.name={name}", f"data.root={root}"])
    return data.load(config.data.model_copy(update={"validation_size": 0})).doubt


def test_files_with_the_published_hashes_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    write_files(tmp_path, "kmnist", packed=True)
    publish(monkeypatch, tmp_path, "kmnist")
    assert doubt(tmp_path, "kmnist") is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["fashion_mnist", "kmnist"])
def test_other_files_are_not_what_they_are_called(tmp_path: Path, name: str) -> None:
    write_files(tmp_path, name, packed=True)
    why, published = doubt(tmp_path, name), datasets.PUBLISHED[name]
    assert why is not None
    assert f"these images are not {published.title} as published: the SHA-256 of train-im" in why
    assert why.endswith(f"not {published.sha256[0]}")
    assert len({len(one) for one in published.sha256}) == 1
    assert len(set(published.sha256)) == 4


def test_without_a_hash_to_hold_them_against_they_are_not_known(tmp_path: Path) -> None:
    write_files(tmp_path, "emnist_digits", packed=True)
    why = doubt(tmp_path, "emnist_digits")
    assert why is not None
    assert "no hash of these files is published" in why
    write_files(tmp_path, "kmnist")
    why = doubt(tmp_path, "kmnist")
    assert why is not None
    assert "the published hashes are of the packed files; with train-images-idx3-ubyte.gz" in why
    assert PREFIXES.keys() == datasets.PUBLISHED.keys()


def test_every_reader_says_that_the_images_are_others(tmp_path: Path, invoke: Any) -> None:
    write_files(tmp_path / "data", "kmnist", packed=True)
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG.replace("ROOT", str(tmp_path / "data")))

    def ok(*arguments: object) -> Any:
        done = invoke(*arguments)
        assert done.exit_code == 0, done.stderr or repr(done.exception)
        return done

    where = ("--runs-dir", tmp_path / "runs", "--no-figures")
    first, second = (ok("train", config, f"seed={seed}", *where) for seed in (1, 2))
    runs = [done.stdout.strip() for done in (first, second)]
    run = RunFolder(Path(runs[0]))
    assert first.stderr.count(OTHERS) == 1
    assert (run.path / "train.log").read_text().count(OTHERS) == 1
    assert run.environment()["data_known"] is False
    for command in (
        ["validate", config],
        ["train", config, "--dry-run"],
        ["evaluate", runs[0], "--only", "law"],
        ["sample", runs[0], "--prior", "gmm"],
        ["encode", runs[0]],
        ["compare", *runs, "--figure", "--out", tmp_path],
        ["explore", runs[0], "--out", tmp_path / "page.html"],
    ):
        assert ok(*command).stderr.count(OTHERS) == 1, command
    assert "not known to be the published ones; train.log says why" in " ".join(
        ok("runs", "show", runs[0]).stdout.split()
    )
    for command in (["compare", *runs], ["compare", *runs, "--format", "md"]):
        said = " ".join(ok(*command).stdout.split())
        assert "are the published ones is not known; train.log of each run says why." in said


def test_what_is_not_there_is_not_downloaded_to_be_validated(
    tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "_download", None)
    config = tmp_path / "mine.yaml"
    config.write_text(CONFIG.replace("ROOT", str(tmp_path / "data")))
    done = invoke("validate", config)
    assert (done.exit_code, done.stderr) == (0, "")
    assert not (tmp_path / "data").exists()


def test_a_sweep_reads_its_images_once(tmp_path: Path, invoke: Any) -> None:
    write_files(tmp_path / "data", "kmnist", packed=True)
    (tmp_path / "mine.yaml").write_text(CONFIG.replace("ROOT", str(tmp_path / "data")))
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(f"config: {tmp_path}/mine.yaml\ngrid: {{model.latent_dim: [1, 2, 3]}}\n")
    done = invoke("validate", sweep, tmp_path / "mine.yaml")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count(OTHERS) == 1
