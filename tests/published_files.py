"""The files of a data set that torchvision downloads, with a few images that were made up."""

import gzip
import struct
from pathlib import Path

import torch

PREFIXES = {
    "fashion_mnist": ("FashionMNIST", "train", "t10k"),
    "kmnist": ("KMNIST", "train", "t10k"),
    "emnist_digits": ("EMNIST", "emnist-digits-train", "emnist-digits-test"),
}


def idx_bytes(values: torch.Tensor) -> bytes:
    header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return header + values.to(torch.uint8).numpy().tobytes()


def write_files(root: Path, name: str, *, packed: bool = False) -> dict[str, torch.Tensor]:
    """A small data set as torchvision leaves it on disk; returns what is in its files."""
    folder_name, train, test = PREFIXES[name]
    folder = root / folder_name / "raw"
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    contents = {}
    for part, count in ((train, 30), (test, 20)):
        images = torch.randint(256, (count, 28, 28), generator=generator)
        contents[f"{part}-images-idx3-ubyte"] = images.to(torch.uint8)
        contents[f"{part}-labels-idx1-ubyte"] = (torch.arange(count) % 10).to(torch.uint8)
    for file_name, values in contents.items():
        if packed:
            (folder / f"{file_name}.gz").write_bytes(gzip.compress(idx_bytes(values)))
        else:
            (folder / file_name).write_bytes(idx_bytes(values))
    return contents
