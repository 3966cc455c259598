"""Data sets that torchvision downloads on first use: Fashion-MNIST, KMNIST, EMNIST digits.

Their files lie where torchvision puts them (ROOT/FashionMNIST/raw/...), so `data.root` may be a
folder that torchvision filled. Once they are there, no network is needed. torchvision is imported
only to download, as its import takes longer than reading the files.
"""

import gzip
import hashlib
import io
import sys
import tempfile
import zlib
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from vaexp.config.data import WHERE_DATA_LIE
from vaexp.data import idx
from vaexp.data.opening import regular_file
from vaexp.errors import RunError, UserError
from vaexp.locks import locked
from vaexp.paths import user_cache
from vaexp.visible import visible

MOST_BYTES = 2**28  # of one file. The largest, the training images of EMNIST digits, has 188 MB.


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
    sha256: tuple[str, ...] = ()
    """The published SHA-256 of each file as .gz, from the checksums of TensorFlow Datasets, which
    are those in torchvision's own repository. EMNIST has only a hash of an archive of all its
    parts, which torchvision checks when it downloads it."""

    @property
    def files(self) -> list[str]:
        """The four unpacked files: train images, train labels, test images, test labels."""
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        return [f"{part}-{kind}" for part in (self.train, self.test) for kind in kinds]


PUBLISHED = {
    "fashion_mnist": Published(
        "Fashion-MNIST",
        "FashionMNIST",
        "https://github.com/zalandoresearch/fashion-mnist",
        sha256=(
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
    ),
    "kmnist": Published(
        "KMNIST",
        "KMNIST",
        "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        sha256=(
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
    ),
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
    """The per-user cache. Raises UserError if the user has no home folder for it."""
    cache = user_cache()
    if cache is None:
        raise UserError(
            "data.root: the user has no home folder for the cache of data; name a folder here"
        )
    return cache


def is_there(name: str, root: str | None) -> bool:
    """Whether the files of a data set are there, so that nothing has to be downloaded."""
    published = PUBLISHED[name]
    return _find(_base(root) / published.torchvision_class / "raw", published.files) is not None


def _base(root: str | None) -> Path:
    return default_root() if root is None else Path(root)


def read(name: str, root: str | None, *, download: bool) -> idx.Source:
    """The data set `name` from the folder `root`, or from the per-user cache if that is None.

    If it is not there, it is downloaded if `download` says so. Otherwise nothing is created. Raises
    UserError if it cannot be had, and RunError if a file is damaged.
    """
    published = PUBLISHED[name]
    base = _base(root)
    folder = base / published.torchvision_class / "raw"
    if _find(folder, published.files) is None:
        if not download:
            raise UserError(
                f"data.root: {published.title} is not in {folder}, and nothing is downloaded for a "
                f"run that is there already; {WHERE_DATA_LIE}"
            )
        _download(published, base, folder)
    paths = _find(folder, published.files)
    if paths is None:
        raise RunError(f"{folder}: files of {published.title} vanished while they were read")
    try:
        packed = [_read(path) for path in paths]
        files = [_unpacked(path, data) for path, data in zip(paths, packed, strict=True)]
        train = idx.split(files[0], files[1], transposed=published.transposed)
        test = idx.split(files[2], files[3], transposed=published.transposed)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        names = ", ".join(path.name for path in paths)
        raise RunError(
            f"{folder}: cannot read {published.title} ({error}). "
            f"Delete its files to download them again: {names}"
        ) from error
    doubt = _doubt(published, folder, paths, packed)
    return idx.Source(train, test, idx.sha256(files), doubt)


def _doubt(
    published: Published, folder: Path, paths: list[Path], packed: list[bytearray]
) -> str | None:
    """Why the files may not be the published ones, or None if their hashes are the published."""
    if not published.sha256:
        return (
            f"{folder}: whether these are the images of {published.title} is not known, as no hash "
            "of these files is published; environment.json has their SHA-256"
        )
    plain = [path.name for path in paths if path.suffix != ".gz"]
    if plain:
        return (
            f"{folder}: whether these are the images of {published.title} is not known, as the "
            f"published hashes are of the packed files; with {plain[0]}.gz and the like beside "
            "them it would be"
        )
    for path, data, sha256 in zip(paths, packed, published.sha256, strict=True):
        found = hashlib.sha256(data).hexdigest()
        if found != sha256:
            return (
                f"{folder}: these images are not {published.title} as published: the SHA-256 of "
                f"{path.name} is {found}, not {sha256}"
            )
    return None


def _find(folder: Path, names: list[str]) -> list[Path] | None:
    """The files, each with .gz as published or plain, or None unless all of them are there."""
    paths = [next(filter(Path.is_file, (folder / f"{n}.gz", folder / n)), None) for n in names]
    found = [path for path in paths if path is not None]
    return found if len(found) == len(names) else None


def _read(path: Path) -> bytearray:
    """The content of a file as it is. Raises ValueError if it is no file or too large."""
    with regular_file(path) as (file, size):
        if size > MOST_BYTES:
            raise ValueError(f"{path.name} has {size:,} bytes")
        return bytearray(file.read())


def _unpacked(path: Path, data: bytearray) -> bytearray:
    """The content of a file, unpacked if it ends with .gz. Raises ValueError if it is too large."""
    if path.suffix != ".gz":
        return data
    with gzip.open(io.BytesIO(data)) as file:
        unpacked = bytearray(file.read(MOST_BYTES + 1))
    if len(unpacked) > MOST_BYTES:
        raise ValueError(f"{path.name} unpacks to more than {MOST_BYTES:,} bytes")
    return unpacked


def _download(published: Published, base: Path, folder: Path) -> None:
    """Download a data set into a folder of its own, and then move its files into place.

    So no file is ever there in part. When many processes start at once, one of them downloads and
    the others say that they wait for it. Raises UserError if the download fails.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(base / f"{published.torchvision_class}.lock", say, wait=True):
            if _find(folder, published.files) is not None:
                return
            with tempfile.TemporaryDirectory(prefix="download-", dir=base) as temporary:
                # torchvision prints to stdout, which belongs to the command's answer.
                with redirect_stdout(sys.stderr):
                    _fetch(published, temporary)
                raw = Path(temporary) / published.torchvision_class / "raw"
                for path in _find(raw, published.files) or [raw / name for name in published.files]:
                    path.replace(folder / path.name)
    except (OSError, RuntimeError, HTTPException) as error:
        names = "".join(f"\n  {name}" for name in published.files)
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.name: {published.title} could not be downloaded ({reason}). "
            f"Put these files, unpacked or as .gz, into {folder} "
            f"(data.root chooses another place); torchvision gets them from {published.page}{names}"
        ) from error


def say(message: str) -> None:
    """Say on stderr what a download waits for, or what the data may not be, if anybody reads it."""
    with suppress(OSError, ValueError):
        print(visible(message), file=sys.stderr, flush=True)


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
