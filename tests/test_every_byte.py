"""Files of images in which any one byte is another, or which end anywhere: data or one clear line.

The files are tiny, so that each of their bytes can be tried.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_images import IDX, NPY, idx_bytes
from published_files import write_files

from vaexp import data
from vaexp.config import load_config
from vaexp.data import bundled, datasets
from vaexp.errors import RunError, UserError

IMAGES = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2)
LABELS = np.array([0, 1, 2])


def write_tiny(folder: Path, idx: bool) -> list[Path]:
    """Own images of 2 x 2 pixels; returns their files."""
    folder.mkdir()
    paths = [folder / name for name in (IDX if idx else NPY)]
    for path, values in zip(paths, (IMAGES, LABELS) * 2, strict=True):
        if idx:
            path.write_bytes(idx_bytes(values))
        else:
            np.save(path, values)
    return paths


def damages(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The content with each byte changed in turn, in one bit and in all, and cut at each place."""
    for i, byte in enumerate(content):
        for mask in (1, 128, 255):
            yield f"byte {i} ^ {mask}", content[:i] + bytes([byte ^ mask]) + content[i + 1 :]
    for i in range(len(content)):
        yield f"cut at {i}", content[:i]
    yield "longer", content + b"\0"


def read_or_line(read: Callable[[], data.Dataset], folder: Path) -> data.Dataset | None:
    """The data, or None if they are refused in one line that names the folder."""
    said: str
    try:
        return read()
    except (UserError, RunError) as error:
        said = str(error)
    assert "\n" not in said
    assert str(folder) in said
    return None


@pytest.mark.parametrize("idx", [False, True])
def test_own_images(tmp_path: Path, idx: bool) -> None:
    paths = write_tiny(tmp_path / "own", idx)
    where = ["data.name=own", f"data.root={tmp_path / 'own'}", "data.validation_size=0"]
    config = load_config("ppca", [*where, "model.latent_dim=1"]).data
    whole = data.load(config)
    assert (whole.train.pixels.numpy() == IMAGES.reshape(3, 4)).all()
    refused = 0
    for path in paths[:2]:
        content = path.read_bytes()
        for what, damaged in damages(content):
            path.write_bytes(damaged)
            found = read_or_line(lambda: data.load(config), tmp_path / "own")
            refused += found is None
            if found is not None:  # a run of the whole images would refuse these
                assert found.sha256 != whole.sha256, (path.name, what)
                assert found.train.pixels.shape == (len(found.train), found.pixels)
                assert 0 <= found.train.label.min() <= found.train.label.max() < 10
        path.write_bytes(content)
    assert refused > 100
    assert data.load(config).sha256 == whole.sha256


def test_a_packed_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive has a checksum, so it gives what was packed, or is refused."""
    write_files(tmp_path, "kmnist", packed=True)
    monkeypatch.setattr(datasets, "say", lambda _message: None)
    config = load_config("ppca", ["data.name=kmnist", f"data.root={tmp_path}"]).data
    config = config.model_copy(update={"validation_size": 0})
    whole = data.load(config)
    path = tmp_path / "KMNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    content, refused = path.read_bytes(), 0
    for what, damaged in damages(content):
        path.write_bytes(damaged)
        found = read_or_line(lambda: data.load(config), tmp_path)
        refused += found is None
        assert found is None or found.sha256 == whole.sha256, what
    assert refused > 2 * len(content)


def test_the_bundled_images_that_are_damaged_train_nothing(
    tmp_path: Path, invoke: Any, monkeypatch: pytest.MonkeyPatch, elsewhere: Path
) -> None:
    for path in bundled.FOLDER.glob("*.xz"):
        (tmp_path / path.name).symlink_to(path)
    name = "t10k-labels-idx1-ubyte.xz"
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content[:-20])
    monkeypatch.setattr(bundled.read, "__defaults__", (tmp_path,))
    done = invoke("train", "quickstart")
    assert done.exit_code == 1
    [line] = done.stderr.splitlines()
    assert f"{tmp_path}: the MNIST files that ship with vaexp are damaged or missing" in line
    assert line.endswith("pip install --force-reinstall --no-deps vaexp")
    assert [*elsewhere.iterdir()] == []
