"""Data sets that torchvision downloads on first use: Fashion-MNIST, KMNIST, EMNIST digits.

Their files lie where torchvision puts them (ROOT/FashionMNIST/raw/...), so `data.root` may be a
folder that torchvision filled. Once they are there, no network is needed. torchvision is imported
only to download, as its import takes longer than reading the files.
"""

import gzip
import os
import sys
import tempfile
from contextlib import redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from filelock import FileLock

from vaexp.data import idx
from vaexp.errors import RunError, UserError


@dataclass(frozen=True)
class Published:
    """The source of a data set, and the names of its files."""

    title: str
    torchvision_class: str
    """Its class in torchvision, which is also the name of its folder."""
    page: str
    """The page that torchvision downloads it from."""
    train: str = "train"
    """What the names of its training files begin with."""
    test: str = "t10k"
    """What the names of its test files begin with."""
    transposed: bool = False
    """Whether its files store columns where others store rows."""
    split: str | None = None
    """The split to ask torchvision for, where its class has several."""

    @property
    def files(self) -> list[str]:
        """The four unpacked files: train images, train labels, test images, test labels."""
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return [f"{part}-{kind}" for part in (self.train, self.test) for kind in kinds]


PUBLISHED = {
    "fashion_mnist": Published(
        "Fashion-MNIST", "FashionMNIST", "https://github.com/zalandoresearch/fashion-mnist"
    ),
    "kmnist": Published("KMNIST", "KMNIST", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"),
    "emnist_digits": Published(
        "EMNIST",
        "EMNIST",
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        train="emnist-digits-train",
        test="emnist-digits-test",
        transposed=True,
        split="digits",
    ),
}


def default_root() -> Path:
    """The per-user cache: $XDG_CACHE_HOME/vaexp, or ~/.cache/vaexp where that is not set."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vaexp"
    except RuntimeError:
        raise UserError(
            "data.root: the user has no home folder for the cache of data; name a folder here"
        ) from None


def read(name: str, root: str | None) -> idx.Source:
    """The data set `name` from the folder `root`, or from the per-user cache if that is None.

    It is downloaded if it is not there. Raises UserError if that fails, and RunError if a file is
    damaged.
    """
    published = PUBLISHED[name]
    base = default_root() if root is None else Path(root)
    folder = base / published.torchvision_class / "raw"
    if _find(folder, published.files) is None:
        _download(published, base, folder)
    paths = _find(folder, published.files)
    if paths is None:
        raise RunError(f"{folder}: files of {published.title} vanished while they were read")
    try:
        files = [_read(path) for path in paths]
        train = idx.split(files[0], files[1], transposed=published.transposed)
        test = idx.split(files[2], files[3], transposed=published.transposed)
    except (OSError, EOFError, ValueError) as error:
        names = ", ".join(path.name for path in paths)
        raise RunError(
            f"{folder}: cannot read {published.title} ({error}). "
            f"Delete its files to download them again: {names}"
        ) from error
    return idx.Source(train, test, idx.sha256(files))


def _find(folder: Path, names: list[str]) -> list[Path] | None:
    """The files, each plain or with .gz as published, or None unless all of them are there."""
    paths = [next(filter(Path.is_file, (folder / n, folder / f"{n}.gz")), None) for n in names]
    found = [path for path in paths if path is not None]
    return found if len(found) == len(names) else None


def _read(path: Path) -> bytearray:
    """The content of a file, unpacked if it ends with .gz."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return bytearray(file.read())


def _download(published: Published, base: Path, folder: Path) -> None:
    """Download a data set into a folder of its own, and then move its files into place.

    So no file is ever there in part. When many processes start at once, one of them downloads and
    the others wait for it. Raises UserError if the download fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(base / f"{published.torchvision_class}.lock"):
            if _find(folder, published.files) is not None:
                return
            with tempfile.TemporaryDirectory(prefix="download-", dir=base) as temporary:
                # torchvision prints to stdout, which belongs to the command's answer.
                with redirect_stdout(sys.stderr):
                    _fetch(published, temporary)
                raw = Path(temporary) / published.torchvision_class / "raw"
                for name in published.files:
                    (raw / name).replace(folder / name)
    except (OSError, RuntimeError, HTTPException) as error:
        names = "".join(f"\n  {name}" for name in published.files)
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.name: {published.title} could not be downloaded ({reason}). "
            f"Put these files, unpacked or as .gz, into {folder} "
            f"(data.root chooses another place); torchvision gets them from {published.page}{names}"
        ) from error


def _fetch(published: Published, root: str) -> None:
    """Let torchvision download a data set into the folder ``root``."""
    try:
        from torchvision import datasets
    except ImportError as error:
        raise UserError(
            f"data.name: {published.title} is downloaded by torchvision, which cannot be imported "
            f"({error}). Install one that fits torch: pip install --upgrade torch torchvision"
        ) from error
    options = {} if published.split is None else {"split": published.split}
    getattr(datasets, published.torchvision_class)(root, download=True, **options)
