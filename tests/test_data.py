import gzip
import hashlib
import lzma
import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torchvision
from published_files import PREFIXES, idx_bytes, write_files
from torchvision.datasets import mnist

from vaexp import data
from vaexp.data import bundled, datasets, idx
from vaexp.errors import RunError, UserError

TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]

# What the rest of the world knows the four original files by.
ORIGINALS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def config(**changes: Any) -> Any:
    defaults = {
        "name": "mnist",
        "root": None,
        "transform": "scale",
        "labels": None,
        "limit": None,
        "validation_size": 10_000,
    }
    return SimpleNamespace(**(defaults | changes))


@pytest.fixture(scope="module")
def whole():
    return data.load(config(validation_size=0))


@pytest.fixture
def read_once(monkeypatch, whole):
    """Spares a test the decoding: the bundled source is what `whole` read already."""
    source = idx.Source(whole.train, whole.test, whole.sha256)
    monkeypatch.setattr(bundled, "read", lambda: source)


# The bundled MNIST


def test_bundled_mnist_is_the_original_files():
    for name, sha256 in ORIGINALS.items():
        digest = hashlib.sha256()
        for path in sorted(bundled.FOLDER.glob(f"{name}*.xz")):
            digest.update(lzma.decompress(path.read_bytes()))
        assert digest.hexdigest() == sha256, name


def test_bundled_mnist_is_at_most_ten_megabytes():
    assert sum(path.stat().st_size for path in bundled.FOLDER.iterdir()) <= 10_000_000


def test_whole_mnist(whole):
    assert whole.validation is None
    assert whole.train.pixels.shape == (60_000, 784)
    assert whole.test.pixels.shape == (10_000, 784)
    assert whole.train.pixels.dtype == torch.uint8
    assert whole.train.label.dtype == torch.int64
    assert whole.train.label.bincount(minlength=data.CLASSES).tolist() == TRAIN_COUNTS
    assert whole.test.label.bincount(minlength=data.CLASSES).tolist() == TEST_COUNTS
    assert whole.sha256 == bundled.SHA256
    # The first ten labels of each part, as printed wherever MNIST is introduced.
    assert whole.train.label[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert whole.test.label[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_67_pixels_never_change_in_training_and_two_of_them_do_in_test(whole):
    constant = (whole.train.pixels == whole.train.pixels[0]).all(0)
    assert constant.sum() == 67
    assert (whole.train.pixels[:, constant] == 0).all()
    assert (whole.test.pixels[:, constant] != 0).any(0).sum() == 2


def test_images_are_upright(whole):
    image = whole.train.pixels[3].view(28, 28)  # a one: tall, not wide
    rows, columns = (image > 0).any(1).sum(), (image > 0).any(0).sum()
    assert rows == 20
    assert columns < rows


def test_load_takes_less_than_a_second():
    """Ten tries at most, as other programs may be using the processor."""

    def seconds() -> float:
        start = time.perf_counter()
        data.load(config())
        return time.perf_counter() - start

    assert any(seconds() < 1.0 for _ in range(10))


def copy_with(folder: Path, name: str, content: bytes | None) -> Path:
    """A copy of the bundled files in which one has other content, or is missing (None)."""
    for path in bundled.FOLDER.glob("*.xz"):
        if path.name != name:
            (folder / path.name).symlink_to(path)
        elif content is not None:
            (folder / name).write_bytes(content)
    return folder


def other_label() -> bytes:
    labels = bytearray(lzma.decompress((bundled.FOLDER / "t10k-labels-idx1-ubyte.xz").read_bytes()))
    labels[-1] = (labels[-1] + 1) % 10
    return lzma.compress(labels)


def flipped_bit() -> bytes:
    content = bytearray((bundled.FOLDER / "train-images-idx3-ubyte.part2.xz").read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)


def cut_short() -> bytes:
    return (bundled.FOLDER / "t10k-images-idx3-ubyte.xz").read_bytes()[:-100]


@pytest.mark.parametrize(
    ("name", "damage", "reason"),
    [
        ("t10k-labels-idx1-ubyte.xz", other_label, "SHA-256 of the decoded files is"),
        ("train-images-idx3-ubyte.part2.xz", flipped_bit, "Corrupt input data"),
        ("t10k-images-idx3-ubyte.xz", cut_short, "ended before the end-of-stream"),
        ("train-images-idx3-ubyte.part4.xz", lambda: None, "SHA-256 of the decoded files is"),
        ("train-labels-idx1-ubyte.xz", lambda: None, "SHA-256 of the decoded files is"),
    ],
)
def test_damage_to_the_bundled_files_is_noticed(tmp_path, name, damage, reason):
    folder = copy_with(tmp_path, name, damage())
    with pytest.raises(RunError) as caught:
        bundled.read(folder)
    message = str(caught.value)
    assert message.startswith(
        f"{tmp_path}: the MNIST files that ship with vaexp are damaged or missing ("
    )
    assert reason in message
    assert message.endswith("Install vaexp again: pip install --force-reinstall --no-deps vaexp")


# Splits, filter and limit


@pytest.mark.usefixtures("read_once")
def test_validation_is_the_last_training_images(whole):
    loaded = data.load(config(validation_size=10_000))
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (50_000, 10_000, 10_000)
    assert torch.equal(loaded.train.pixels, whole.train.pixels[:50_000])
    assert torch.equal(loaded.validation.pixels, whole.train.pixels[50_000:])
    assert torch.equal(loaded.validation.label, whole.train.label[50_000:])
    assert torch.equal(loaded.test.pixels, whole.test.pixels)
    assert loaded.sha256 == whole.sha256


@pytest.mark.usefixtures("read_once")
def test_labels_filter_every_split_in_order(whole):
    loaded = data.load(config(labels=[4, 1], validation_size=10_000))
    for split, source, rows in [
        (loaded.train, whole.train, slice(50_000)),
        (loaded.validation, whole.train, slice(50_000, None)),
        (loaded.test, whole.test, slice(None)),
    ]:
        kept = (source.label[rows] == 1) | (source.label[rows] == 4)
        assert torch.equal(split.label, source.label[rows][kept])
        assert torch.equal(split.pixels, source.pixels[rows][kept])
        assert torch.equal(source.pixels[split.at], split.pixels)
    assert loaded.sha256 == whole.sha256


@pytest.mark.usefixtures("read_once")
def test_limit_comes_after_the_filter_and_only_cuts_train(whole):
    loaded = data.load(config(labels=[4], limit=100, validation_size=10_000))
    fours = whole.train.pixels[:50_000][whole.train.label[:50_000] == 4]
    assert torch.equal(loaded.train.pixels, fours[:100])
    assert (len(loaded.train), len(loaded.validation), len(loaded.test)) == (100, 983, 982)


@pytest.mark.usefixtures("read_once")
def test_limit_may_be_all_there_is():
    assert len(data.load(config(limit=50_000)).train) == 50_000


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"limit": 70_000},
            "data.limit: 70000 is larger than the 50,000 training images there are after the "
            "validation split and label filter",
        ),
        (
            {"labels": [4], "limit": 4860},
            "data.limit: 4860 is larger than the 4,859 training images there are after the "
            "validation split and label filter",
        ),
        (
            {"validation_size": 60_000},
            "data.validation_size: 60000 leaves no training images; mnist has 60,000, so at most "
            "59,999 can be set aside",
        ),
        (
            {"labels": [4], "validation_size": 3},
            "data.labels: [4] leaves the validation split empty; its 3 images have the labels "
            "[5, 6, 8]",
        ),
        (
            {"labels": [9], "validation_size": 59_998},
            "data.labels: [9] leaves the training split empty; its 2 images have the labels [0, 5]",
        ),
    ],
)
def test_settings_that_leave_too_little(changes, message):
    with pytest.raises(UserError) as caught:
        data.load(config(**changes))
    assert str(caught.value) == message


# IDX files


def test_parse_idx():
    values = torch.arange(24).reshape(2, 3, 4)
    assert torch.equal(idx.parse(bytearray(idx_bytes(values))), values.to(torch.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is not an IDX file of unsigned bytes"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "it is not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x03\x00\x00", "it is not an IDX file of unsigned bytes"),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abc", "it holds 3 bytes where its header says 5"),
    ],
)
def test_parse_refuses_other_files(content, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        idx.parse(bytearray(content))


# Data sets that are downloaded


@pytest.fixture
def no_torchvision(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)


@pytest.mark.usefixtures("no_torchvision")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", PREFIXES)
def test_files_that_are_there_need_neither_torchvision_nor_network(tmp_path, name, packed):
    contents = write_files(tmp_path, name, packed=packed)
    images, labels, test_images, _ = contents.values()
    if name == "emnist_digits":  # stored column by column
        images, test_images = images.mT, test_images.mT
    loaded = data.load(config(name=name, root=str(tmp_path), validation_size=10, limit=15))
    assert torch.equal(loaded.train.pixels, images[:15].reshape(15, 784))
    assert torch.equal(loaded.train.label, labels[:15].long())
    assert torch.equal(loaded.validation.pixels, images[20:].reshape(10, 784))
    assert torch.equal(loaded.test.pixels, test_images.reshape(20, 784))
    together = b"".join(map(idx_bytes, contents.values()))
    assert loaded.sha256 == hashlib.sha256(together).hexdigest()


@pytest.mark.parametrize("name", PREFIXES)
def test_torchvision_reads_the_same_files(tmp_path, name):
    write_files(tmp_path, name)
    published = datasets.PUBLISHED[name]
    options = {"split": "digits"} if name == "emnist_digits" else {}
    for train in (True, False):
        theirs = getattr(torchvision.datasets, published.torchvision_class)(
            tmp_path, train=train, **options
        )
        loaded = data.load(config(name=name, root=str(tmp_path), validation_size=0))
        ours = loaded.train if train else loaded.test
        images = theirs.data.mT if published.transposed else theirs.data
        assert torch.equal(ours.pixels, images.reshape(-1, 784))
        assert torch.equal(ours.label, theirs.targets)


def test_default_root_is_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert datasets.default_root() == tmp_path / "vaexp"
    write_files(tmp_path / "vaexp", "kmnist")
    assert len(data.load(config(name="kmnist", validation_size=0)).train) == 30
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.default_root() == Path.home() / ".cache" / "vaexp"


@pytest.mark.usefixtures("no_torchvision")
def test_torchvision_that_cannot_be_imported(tmp_path):
    with pytest.raises(UserError) as caught:
        data.load(config(name="fashion_mnist", root=str(tmp_path)), download=True)
    message = str(caught.value)
    assert message.startswith(
        "data.name: Fashion-MNIST is downloaded by torchvision, which cannot be imported ("
    )
    assert message.endswith("Install one that fits torch: pip install --upgrade torch torchvision")


@pytest.mark.parametrize("name", PREFIXES)
def test_without_a_network_the_error_says_what_to_put_where(tmp_path, monkeypatch, capsys, name):
    def unreachable(*_args, **_options):
        raise URLError("no network")

    monkeypatch.setattr(mnist, "download_and_extract_archive", unreachable)
    with pytest.raises(UserError) as caught:
        data.load(config(name=name, root=str(tmp_path)), download=True)
    published = datasets.PUBLISHED[name]
    folder, train, test = PREFIXES[name]
    first, *files = str(caught.value).splitlines()
    assert first.startswith(f"data.name: {published.title} could not be downloaded (")
    assert "<urlopen error no network>" in first
    assert f"Put these files, unpacked or as .gz, into {tmp_path / folder / 'raw'} " in first
    assert first.endswith(f"torchvision gets them from {published.page}")
    assert files == [
        f"  {train}-images-idx3-ubyte",
        f"  {train}-labels-idx1-ubyte",
        f"  {test}-images-idx3-ubyte",
        f"  {test}-labels-idx1-ubyte",
    ]
    assert capsys.readouterr().out == ""
    assert not list(tmp_path.glob("download-*"))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"could not be downloaded .*Not a directory"):
        data.load(config(name="kmnist", root=str(tmp_path / "file")), download=True)


def test_pages_are_where_torchvision_downloads_from():
    assert torchvision.datasets.KMNIST.mirrors[0] == datasets.PUBLISHED["kmnist"].page
    assert torchvision.datasets.EMNIST.url == datasets.PUBLISHED["emnist_digits"].page


def pretend_download(monkeypatch: pytest.MonkeyPatch, source: Path) -> list[str]:
    """Make torchvision "download" .gz files from the folder `source`; returns what it was asked."""
    asked: list[str] = []

    def download(url, download_root, filename=None, **_options):
        name = filename or os.path.basename(url)
        asked.append(name)
        print("Downloading", url)
        if name == "gzip.zip":
            folder = Path(download_root) / "gzip"
            folder.mkdir()
            for path in source.glob("*.gz"):
                (folder / path.name).write_bytes(path.read_bytes())
        else:
            content = gzip.decompress((source / name).read_bytes())
            (Path(download_root) / name.removesuffix(".gz")).write_bytes(content)

    monkeypatch.setattr(mnist, "download_and_extract_archive", download)
    return asked


@pytest.mark.parametrize("name", PREFIXES)
def test_download_once_among_many_and_keep_stdout_clean(tmp_path, monkeypatch, capsys, name):
    contents = write_files(tmp_path / "server", name, packed=True)
    asked = pretend_download(monkeypatch, tmp_path / "server" / PREFIXES[name][0] / "raw")
    root = tmp_path / "root"
    loaded: list[data.Dataset] = []

    def work():
        loaded.append(
            data.load(config(name=name, root=str(root), validation_size=0), download=True)
        )

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(each.train) for each in loaded] == [30] * 4
    assert asked == (["gzip.zip"] if name == "emnist_digits" else [f"{n}.gz" for n in contents])
    raw = root / PREFIXES[name][0] / "raw"
    assert sorted(path.name for path in raw.iterdir()) == sorted(contents)
    assert not list(root.glob("download-*"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "Downloading" in err


@pytest.mark.parametrize(
    ("file_name", "content", "reason"),
    [
        ("train-images-idx3-ubyte", b"<html>", "it is not an IDX file of unsigned bytes"),
        (
            "train-labels-idx1-ubyte",
            idx_bytes(torch.zeros(29)),
            r"images of shape \(30, 28, 28\) with labels of shape \(29,\), "
            r"where \(N, 28, 28\) and \(N,\) belong",
        ),
        (
            "t10k-labels-idx1-ubyte",
            idx_bytes(torch.full((20,), 47)),
            "a label is 47, where 0 to 9 belong",
        ),
    ],
)
def test_damaged_files(tmp_path, file_name, content, reason):
    write_files(tmp_path, "kmnist")
    (tmp_path / "KMNIST" / "raw" / file_name).write_bytes(content)
    with pytest.raises(RunError, match=rf"cannot read KMNIST \({reason}\)\. Delete its files to"):
        data.load(config(name="kmnist", root=str(tmp_path)))
