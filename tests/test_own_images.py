"""Images of the user's own: read by memory map, of any size, with labels and without."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_images import CLASSES, HEIGHT, IDX, NPY, TEST, TRAINING, WIDTH, idx_bytes, write_own

from vaexp import data
from vaexp.config import load_config
from vaexp.errors import UserError
from vaexp.experiment.memory import needed_memory
from vaexp.experiment.prepare import Experiment
from vaexp.runs.folder import RunFolder
from vaexp.runs.images import image_labels, image_shape

D = HEIGHT * WIDTH


def own(root: Path, *changes: str) -> Any:
    """The config of a small VAE on own images."""
    small = ["model.conditional=false", "model.hidden=[8]", "data.validation_size=50"]
    return load_config("vae-pixel", ["data.name=own", f"data.root={root}", *small, *changes])


def read(root: Path, *changes: str) -> data.Dataset:
    return data.load(own(root, *changes).data)


# Reading


@pytest.mark.parametrize("idx", [False, True])
def test_both_kinds_of_files_are_read_in_their_order(tmp_path: Path, idx: bool) -> None:
    train, test = write_own(tmp_path / "own", idx=idx)
    found = read(tmp_path / "own")
    assert found.shape == (HEIGHT, WIDTH)
    assert found.labels == [0, 1, 2]
    np.testing.assert_array_equal(found.train.pixels, train.images[:150].reshape(150, D))
    np.testing.assert_array_equal(found.test.pixels, test.images.reshape(TEST, D))
    np.testing.assert_array_equal(found.test.label, test.labels)
    assert found.validation is not None
    np.testing.assert_array_equal(found.validation.pixels, train.images[150:].reshape(50, D))
    np.testing.assert_array_equal(found.validation.label, train.labels[150:])
    content = b"".join((tmp_path / "own" / name).read_bytes() for name in (IDX if idx else NPY))
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_without_labels_every_label_is_0_and_none_is_known(tmp_path: Path) -> None:
    write_own(tmp_path / "own", labelled=False)
    found = read(tmp_path / "own")
    assert found.labels == []
    assert not found.train.label.any()
    with pytest.raises(UserError, match=r"^data.labels: the images in \S+ have no labels"):
        read(tmp_path / "own", "data.labels=[0]")


def test_labels_of_any_integers_and_files_of_numpys_second_version(tmp_path: Path) -> None:
    train, _ = write_own(tmp_path / "own")
    np.save(tmp_path / "own/train-labels.npy", train.labels.astype(np.int16))
    with (tmp_path / "own/train-images.npy").open("wb") as file:
        np.lib.format.write_array(file, train.images, version=(2, 0))
    found = read(tmp_path / "own", "data.validation_size=0")
    np.testing.assert_array_equal(found.train.label, train.labels)
    np.testing.assert_array_equal(found.train.pixels, train.images.reshape(TRAINING, D))


def test_a_link_to_a_large_file_elsewhere_is_followed(tmp_path: Path) -> None:
    train, _ = write_own(tmp_path / "own")
    (tmp_path / "own/train-images.npy").rename(tmp_path / "elsewhere")
    (tmp_path / "own/train-images.npy").symlink_to(tmp_path / "elsewhere")
    pixels = read(tmp_path / "own", "data.validation_size=0").train.pixels
    np.testing.assert_array_equal(pixels, train.images.reshape(TRAINING, D))


def test_splits_are_views_of_the_map(tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    found = read(tmp_path / "own", "data.limit=20")
    assert found.validation is not None
    assert len(found.train) == 20
    offset = found.validation.pixels.data_ptr() - found.train.pixels.data_ptr()
    assert offset == 150 * D


LARGE = """
import resource, sys, torch
from pathlib import Path
from vaexp.config import load_config
from vaexp.experiment.prepare import Experiment

config = load_config(sys.argv[1], sys.argv[2:])
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
own = int(status["VmData"].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (own + 100_000_000,) * 2)
experiment = Experiment.prepare(config)
batch = experiment.training_batches()
for _ in range(10):
    x = batch(torch.randint(len(experiment.data.train), (100,)))
print(len(experiment.data.train), len(experiment.data.validation))
try:
    experiment.data.train.pixels.clone()
except RuntimeError as error:
    print("a copy does not fit")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits all of a process's data")
def test_pixels_are_not_read_into_memory(tmp_path: Path) -> None:
    """The files have 400 MB of pixels, and the process may allocate 100 MB. A map is none of it."""
    for name, count in (("train", 24_000), ("test", 1_000)):
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 128, 128)}
        with (tmp_path / f"{name}-images.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + count * 128 * 128)  # a hole on disk
    changes = ["data.name=own", f"data.root={tmp_path}", "data.validation_size=4000"]
    changes += ["model.conditional=false", "model.hidden=[8]"]
    done = subprocess.run(
        [sys.executable, "-c", LARGE, "vae-pixel", *changes], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "20000 4000\na copy does not fit\n"


def test_the_memory_that_training_takes_follows_from_the_files(tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    of_gmm = ["data.name=own", f"data.root={tmp_path / 'own'}", "data.validation_size=50"]
    needed = needed_memory(load_config("gmm-diag", [*of_gmm, "model.components=1"]))
    assert needed > 150 * (D + 1) * 4
    assert needed < 150 * (D + 1) * 4 + 10_000


# What is refused


def saved(values: Any) -> Callable[[Path], object]:
    return lambda path: np.save(path, values, allow_pickle=True)


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def lying(shape: str) -> bytes:
    """A .npy file of 24,000 bytes whose header says another shape."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(24_000)


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


GREY = np.zeros((TRAINING, HEIGHT, WIDTH), dtype=np.uint8)
IMAGES, LABELS = "train-images.npy", "train-labels.npy"

HOSTILE = [
    (IMAGES, saved(np.array([{"a": 1}] * 3)), "holds pickled Python objects, which are not loade"),
    (IMAGES, saved(GREY / 255), "holds float64 numbers, where grey values 0 to 255 as uint8"),
    (IMAGES, saved(np.asfortranarray(GREY)), "stores columns where others store rows; save numpy"),
    (IMAGES, saved(GREY[..., None]), r"has the shape \(200, 12, 10, 1\), where \(N, height, wid"),
    (IMAGES, saved(GREY[:0]), r"has the shape \(0, 12, 10\); there must be an image"),
    (IMAGES, written(lying("(999, 12, 10)")), "holds 24,000 bytes where its header says 119,880"),
    (IMAGES, written(lying("(-200, -12, 10)")), r"has the shape \(-200, -12, 10\); there must be"),
    (IMAGES, written(lying("(1, 24000, 1)")), "with sides of 1 to 4,096 pixels"),
    (IMAGES, written(lying("(2, __import__('os'))")), "is not a .npy file that can be read"),
    (IMAGES, written(b"\x93NUMPY\x01\x00"), "is not a .npy file that can be read"),
    (IMAGES, written(b""), "is not a .npy file that can be read"),
    (IMAGES, pipe, "is no file"),
    ("test-images.npy", saved(GREY[:TEST, :, :9]), "12 x 10 pixels and the test images 12 x 9"),
    (LABELS, saved(np.zeros(199, dtype=int)), r"\(199,\), where \(200,\) belongs: a label for"),
    (LABELS, saved(np.zeros(200)), "holds float64 numbers, where the integers 0 to 9 belong"),
    (LABELS, saved(np.full(200, 10)), "a label is 10, where 0 to 9 belong"),
    (LABELS, saved(np.full(200, -1)), "a label is -1, where 0 to 9 belong"),
    (LABELS, pipe, "is no file"),
    ("train-images-idx3-ubyte", saved(GREY), "holds both .*npy and .*idx3-ubyte; remove one"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage", "message"), HOSTILE)
def test_hostile_files_are_refused_in_one_line(
    tmp_path: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    write_own(tmp_path / "own")
    path = tmp_path / "own" / name
    damage(path)
    if not path.exists():  # numpy adds .npy
        path.with_name(f"{name}.npy").rename(path)
    with pytest.raises(UserError, match=message) as refused:
        read(tmp_path / "own")
    assert "\n" not in str(refused.value)
    assert str(tmp_path / "own") in str(refused.value)


def test_idx_files_that_are_none(tmp_path: Path) -> None:
    write_own(tmp_path / "own", idx=True)
    (tmp_path / "own" / IDX[0]).write_bytes(idx_bytes(GREY)[:-1])
    with pytest.raises(UserError, match="holds 23,999 bytes where its header says 24,000"):
        read(tmp_path / "own")
    (tmp_path / "own" / IDX[0]).write_bytes(b"\x00\x00\x0d\x03" + bytes(12))
    with pytest.raises(UserError, match="is not an IDX file of unsigned bytes"):
        read(tmp_path / "own")


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data.root: \S+/own is no folder$"):
        read(tmp_path / "own")
    write_own(tmp_path / "own", idx=True)
    (tmp_path / "own" / IDX[3]).unlink()
    with pytest.raises(UserError, match=r"no test labels: neither test-labels.npy nor t10k-labels"):
        read(tmp_path / "own")
    (tmp_path / "own" / IDX[1]).unlink()
    (tmp_path / "own" / IDX[0]).rename(tmp_path / "own" / f"{IDX[0]}.gz")
    with pytest.raises(
        UserError, match=r"no training images: .*; unpack train-images-idx3-ubyte.g"
    ):
        read(tmp_path / "own")


# The config


def test_own_images_need_their_folder() -> None:
    with pytest.raises(UserError, match=r"data\.root: own images need the folder that they lie in"):
        load_config("vae-pixel", ["data.name=own"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["model.latent_dim=121"],
            "model.latent_dim: should be less than or equal to 120, got 121",
        ),
        (["model.sigma_mode=lowrank", "model.factors=120"], "model.factors: should be less than 1"),
        (["model.conditional=true"], "model.conditional: the model is given the label, and these "),
        (["data.validation_size=200"], "leaves no training images; own has 200, so at most 199"),
    ],
)
def test_the_files_decide_what_suits_them(tmp_path: Path, changes: list[str], message: str) -> None:
    write_own(tmp_path / "own", labelled=False)
    with pytest.raises(UserError, match=message):
        Experiment.prepare(own(tmp_path / "own", *changes))


@pytest.mark.parametrize("command", [["validate"], ["train", "--dry-run"]])
def test_what_training_would_refuse_is_refused_before(
    tmp_path: Path, invoke: Any, command: list[str]
) -> None:
    data = f"data: {{name: own, root: {tmp_path}/own, limit: 90, validation_size: 50}}"
    config = tmp_path / "mine.yaml"
    config.write_text(f"name: mine\nmodel: {{kind: ppca, latent_dim: 3}}\n{data}\n")
    missing = invoke(*command, config)
    assert missing.exit_code == 2
    assert "own is no folder" in missing.stderr
    write_own(tmp_path / "own", labelled=False)
    assert invoke(*command, config).exit_code == 0
    config.write_text(config.read_text().replace(": 50", ": 200"))
    refused = invoke(*command, config)
    assert refused.exit_code == 2
    assert "leaves no training images" in refused.stderr


def test_more_latents_than_mnist_has_pixels_are_no_error_of_the_config(tmp_path: Path) -> None:
    assert own(tmp_path, "model.latent_dim=1000").model.latent_dim == 1000
    with pytest.raises(UserError, match="should be less than or equal to 784, got 1000"):
        load_config("vae-pixel", ["model.latent_dim=1000"])


def test_a_mixture_that_starts_from_labels_needs_them(tmp_path: Path) -> None:
    write_own(tmp_path / "own")
    write_own(tmp_path / "without", labelled=False)
    changes = ["data.name=own", "data.validation_size=50", "model.init=labels", "train.restarts=1"]
    changes += ["model.covariance=diag"]

    def prepare(root: str, *more: str) -> Experiment:
        where = f"data.root={tmp_path / root}"
        return Experiment.prepare(load_config("gmm-full", [where, *changes, *more]))

    with pytest.raises(UserError, match="these images have no labels; use kmeans, kmeans"):
        prepare("without", "model.components=10")
    with pytest.raises(
        UserError, match=r"is a 3 or a 4 .* or a 9; name the digits there are in da"
    ):
        prepare("own", "model.components=10")
    assert prepare("own", "model.components=3", "data.labels=[0, 1, 2]").data.labels == [0, 1, 2]


# The command


CONFIGS = {
    "vae": """\
model: {kind: vae, hidden: [16], sigma_mode: pixel, sigma: 0.3, conditional: CONDITIONAL}
train: {epochs: 3, batch_size: 32}
evaluate: {importance_samples: 5}
""",
    "gmm": "model: {kind: gmm, components: 4, covariance: diag}\ntrain: {max_iter: 3}\n",
    "ppca": "model: {kind: ppca, latent_dim: 3}\ntrain: {max_iter: 5}\n",
}


@pytest.fixture
def trained(tmp_path: Path, invoke: Any) -> Callable[..., Path]:
    """Train a small model with all of its figures."""

    def trained(kind: str, root: Path, *changes: str, conditional: bool = False) -> Path:
        where = f"data: {{name: own, root: {root}, validation_size: 50}}\n"
        text = CONFIGS[kind].replace("CONDITIONAL", str(conditional).lower())
        (tmp_path / f"{kind}.yaml").write_text(text + where)
        arguments = [tmp_path / f"{kind}.yaml", *changes, "--runs-dir", tmp_path / "runs"]
        done = invoke("train", *arguments)
        assert done.exit_code == 0, done.stderr or repr(done.exception)
        return Path(done.stdout.strip())

    return trained


def ok(done: Any) -> Any:
    assert done.exit_code == 0, done.stderr or repr(done.exception)
    return done


def test_a_vae_on_own_images_from_training_to_moved_data(
    tmp_path: Path, invoke: Any, draw: Any, trained: Any
) -> None:
    write_own(tmp_path / "own", labelled=False)
    run = trained("vae", tmp_path / "own", "data.validation_size=100")
    figures = {path.stem for path in (run / "figures").iterdir()}
    assert {"samples", "decode_modes", "reconstructions", "latent_plane", "posterior"} <= figures
    groups = "quality,singularities,decoding,optimal_mean,prior"
    done = ok(invoke("evaluate", run, "--only", groups, "--json"))
    assert "digit_fid_mean" in done.stderr
    assert "its features are of digits, and these images are not" in done.stderr
    drawn = {path.stem for path in (run / "figures").iterdir()}
    assert {f"evidence-{group}" for group in groups.split(",")[1:]} <= drawn
    ok(invoke("encode", run, "--split", "train"))
    (tmp_path / "own").rename(tmp_path / "moved")
    _, arrays = draw(run, "-n", "7")
    assert arrays["image"].shape == (7, HEIGHT, WIDTH)
    np.testing.assert_array_equal(arrays["image"], arrays["x"].reshape(7, HEIGHT, WIDTH))
    draw(run, "--grid")
    missing = invoke("encode", run)
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"data.root: {tmp_path / 'own'} is no folder")
    ok(invoke("encode", run, f"data.root={tmp_path / 'moved'}"))
    refused = invoke("explore", run)
    assert refused.exit_code == 2
    assert "its images have 12 x 10 pixels, and a page shows images of 28 x 28" in refused.stderr


def test_a_model_that_is_given_the_label_draws_the_labels_there_are(
    tmp_path: Path, draw: Any, invoke: Any, trained: Any, comparison: Any
) -> None:
    write_own(tmp_path / "own", idx=True)
    run = trained("vae", tmp_path / "own", conditional=True)
    _, arrays = draw(run, "-n", "6")
    assert arrays["label"].tolist() == [0, 1, 2] * 2
    assert invoke("sample", run, "--label", "3").exit_code == 2
    other = trained("ppca", tmp_path / "own", "name=other", "--no-figures")
    ok(invoke("compare", run, other, "--figure", "--out", tmp_path))
    assert any(path.suffix == ".png" for path in tmp_path.iterdir())
    write_own(tmp_path / "without", labelled=False)
    elsewhere = trained("ppca", tmp_path / "without", "seed=2", "name=other", "--no-figures")
    refused = invoke("compare", run, elsewhere, "--figure", "--out", tmp_path)
    assert refused.exit_code == 2
    assert "these runs have different data" in refused.stderr
    assert comparison(other, elsewhere)["over_seeds"] == []


@pytest.mark.parametrize("kind", ["gmm", "ppca"])
@pytest.mark.parametrize("labelled", [False, True])
def test_exact_models_on_own_images(
    tmp_path: Path, draw: Any, trained: Any, invoke: Any, kind: str, labelled: bool
) -> None:
    write_own(tmp_path / "own", labelled=labelled)
    run = trained(kind, tmp_path / "own")
    figures = {path.stem for path in (run / "figures").iterdir()}
    of_kind = {
        "gmm": {"components", "component_samples"},  # its EM begins at a fixed point
        "ppca": {"principal_axes", "spectrum", "em"},
    }
    assert of_kind[kind] | {"samples"} <= figures
    assert ("confusion" in figures) == (kind == "gmm" and labelled)
    if labelled:
        ok(invoke("evaluate", run, "--only", "singularities"))
    _, arrays = draw(run)
    assert arrays["image"].shape == (10, HEIGHT, WIDTH)


def test_runs_of_earlier_versions_have_images_of_28_by_28(
    tmp_path: Path, invoke: Any, trained: Any, change_json: Any
) -> None:
    write_own(tmp_path / "own", labelled=False)
    run = trained("ppca", tmp_path / "own", "--no-figures")
    change_json(run / "environment.json", image_shape=None)
    done = invoke("sample", run)
    assert done.exit_code == 1
    assert "image_shape: should be a valid list" in done.stderr
    change_json(run / "environment.json", image_shape=[28, 28])
    done = invoke("sample", run)
    assert done.exit_code == 1
    assert "checkpoints/model.safetensors does not fit config.yaml" in done.stderr
    change_json(run / "environment.json", image_shape=[WIDTH, HEIGHT * 2**12])
    assert "image_shape.1: should be less than or equal to 4096" in invoke("sample", run).stderr
    environment = json.loads((run / "environment.json").read_text())
    del environment["image_shape"], environment["image_labels"]
    (run / "environment.json").write_text(json.dumps(environment))
    assert image_shape(RunFolder(run)) == (28, 28)
    assert image_labels(RunFolder(run)) == [*range(10)]


def test_what_is_trained_from_a_map_is_what_is_trained_from_memory(tmp_path: Path) -> None:
    train, _ = write_own(tmp_path / "own")
    experiment = Experiment.prepare(own(tmp_path / "own"))
    rows = torch.tensor([149, 3, 3, 0])
    found = experiment.training_batches()(rows)
    expected = torch.from_numpy(train.images.reshape(TRAINING, D))[rows] / 255
    assert torch.equal(found, expected)
    assert len(set(experiment.data.train.label.tolist())) == CLASSES


def test_a_sweep_over_folders_of_images_is_one_over_data(tmp_path: Path, invoke: Any) -> None:
    (tmp_path / "ppca.yaml").write_text(CONFIGS["ppca"] + "data: {name: own, root: x}\n")
    grid = f"data.root={tmp_path / 'a'},{tmp_path / 'b'}"
    done = ok(invoke("sweep", tmp_path / "ppca.yaml", "--grid", grid, "--print-commands"))
    assert len(done.stdout.splitlines()) == 2
