"""Reading weights and training states that a stranger may have made.

Loading runs no code of theirs. What a file declares is compared with what the model needs before
memory is taken for it.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from torch import Tensor

MOST_WEIGHTS = 2**33  # bytes of the weights of the largest model that anybody trains here
MOST_STATE = 2**35  # of weights, the optimizer's two copies of them and the generators

Shapes = Mapping[str, tuple[int, ...]]


def as_text(path: Path, file: BinaryIO) -> Path:
    """The path of an open file, or another one where it is no text in UTF-8.

    Safetensors opens no other. Systems that have such paths name open files by their numbers too.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return Path(f"/dev/fd/{file.fileno()}")
    return path


def misfit(path: Path, shapes: Shapes) -> str | None:
    """Why the weights in a safetensors file do not fit a model with these shapes; None if they do.

    Raises SafetensorError, OSError or ValueError if the file is damaged.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name in [*shapes, *stored]:
        if name not in stored:
            return f"{name} is missing"
        if name not in shapes:
            return f"{name} is unknown to the model"
        if stored[name] != tuple(shapes[name]):
            return f"{name} has the shape {stored[name]}, the model needs {tuple(shapes[name])}"
    return None


def read_weights(path: Path) -> "tuple[dict[str, Tensor], int]":
    """The weights in a safetensors file, and their epoch or iteration. Raises as ``misfit``."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        at = int((file.metadata() or {}).get("at", 0))
        return {name: file.get_tensor(name) for name in file.keys()}, at  # noqa: SIM118


def read_state(file: BinaryIO, size: int) -> dict[str, Any]:
    """The training state in a file of ``size`` bytes, as torch.save wrote it.

    Raises ValueError if it is another kind of file, unpacks to more bytes than it has, or does not
    say where training stood; and whatever torch.load raises if it is damaged.
    """
    import torch

    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which torch.save never does")
        if sum(member.file_size for member in members) > size:
            raise ValueError("it declares more bytes than it has")
    file.seek(0)
    state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise ValueError("it is no training state")
    return state
