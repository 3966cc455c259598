"""Ways to damage one part of a run folder, as a stranger might, drawn from a seeded generator."""

import json
import os
import pickle
import random
import shutil
import socket
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

JSON = ("run.json", "environment.json", "metrics.json", "evaluation.json")
ARRAYS = ("per_example.npz", "evidence/rate.npz")
FILES = (*JSON, *ARRAYS, "config.yaml", "metrics.jsonl", "train.log", "checkpoints/.lock")
FILES = (*FILES, "checkpoints/model.safetensors", "checkpoints/state.pt", "figures/samples.png")
FOLDERS = ("checkpoints", "figures", "samples", "evidence", "codes")
VALUES: list[Any] = [
    *(None, True, -1, 0, 2**62, 10**30, 1e308, -1e-320, float("nan"), "1e999", "", "x" * 300),
    *("\x1b[31m\n\r\x07", "=1+1", "../../x", [], {}, [[[]]], {"a": {"b": {"c": 1}}}, [1, "x"]),
]


class Payload:
    """An object whose unpickling would write a file outside."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


class Mutations:
    """Ways to damage one part of a run, drawn from a seeded generator."""

    def __init__(self, outside: Path, seed: int):
        self.outside = outside
        self.random = random.Random(seed)

    def apply(self, run: Path) -> str:
        """Damage a part of the run; returns what was done."""
        pick = self.random.random()
        if pick < 0.1:
            return self._config(run)
        if pick < 0.4:
            name = self.random.choice((*JSON, "metrics.jsonl"))
            return self._json(run, name)
        if pick < 0.5:
            return self._arrays(run, self.random.choice(ARRAYS))
        if pick < 0.6:
            return self._checkpoint(run)
        if pick < 0.7:
            return self._replace(run, self.random.choice(FOLDERS))
        return self._replace(run, self.random.choice(FILES))

    def _replace(self, run: Path, name: str) -> str:
        """Put something else in the place of a file or folder."""
        path, outside = run / name, self.outside
        whole = path.read_bytes() if path.is_file() else b"12345678"
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        at = self.random.randrange(max(len(whole), 1))
        ways: dict[str, Callable[[], Any]] = {
            "a link to a file outside": lambda: path.symlink_to(outside / "secret.txt"),
            "a link to a picture outside": lambda: path.symlink_to(outside / "secret.png"),
            "a link to a folder outside": lambda: path.symlink_to(outside / "folder"),
            "a link to /dev/zero": lambda: path.symlink_to("/dev/zero"),
            "a link to nothing outside": lambda: path.symlink_to(outside / "new.txt"),
            "a link to itself": lambda: path.symlink_to(path.name),
            "a hard link": lambda: os.link(outside / "secret.txt", path),
            "a pipe": lambda: os.mkfifo(path),
            "a device": lambda: os.mknod(path, 0o20666, os.makedev(1, 5)),
            "a socket": lambda: socket.socket(socket.AF_UNIX).bind(str(path)),
            "a folder": lambda: path.mkdir(),
            "missing": lambda: None,
            "empty": lambda: path.write_bytes(b""),
            "noise": lambda: path.write_bytes(self.random.randbytes(3000)),
            "cut": lambda: path.write_bytes(whole[:at]),
            "a flipped byte": lambda: path.write_bytes(
                whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]
            ),
            "a terabyte": lambda: _sparse(path, 2**40),
            "a gigabyte": lambda: _sparse(path, 2**30),
        }
        how = self.random.choice(list(ways))
        try:
            ways[how]()
        except OSError as error:  # such as a device, which only root may make
            return f"{name}: {how} is not possible here ({error.strerror})"
        return f"{name}: {how}"

    def _json(self, run: Path, name: str) -> str:
        """Give a JSON file values of other types, or make it a bomb."""
        path = run / name
        if not path.exists():
            return f"{name}: missing anyway"
        lines = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
        values = [json.loads(line) for line in lines]
        bombs = {
            "deep": "[" * 200_000,
            "deep and closed": "[" * 900 + "]" * 900,
            "a long number": "9" * 5000,
            "another long number": "1" + "0" * 400,
            "wide": "[" + "[]," * 300_000 + "1]",
            "a list": "[1, 2]",
            "null": "null",
            "text": '"x"',
            "not UTF-8": "\udcff{}",
        }
        if self.random.random() < 0.25:
            how = self.random.choice(list(bombs))
            path.write_text(bombs[how] + "\n", errors="surrogateescape")
            return f"{name}: {how}"
        value = self.random.choice(values)
        where = self._change(value, [])
        texts = [json.dumps(one, indent=None if name.endswith("l") else 2) for one in values]
        path.write_text("\n".join(texts).replace('"1e999"', "1e999") + "\n")
        return f"{name}: {where}"

    def _change(self, value: Any, where: list[str]) -> str:
        """Change one value below this one; returns where and to what."""
        while True:
            keys = list(value) if isinstance(value, dict) else range(len(value))
            key = self.random.choice(list(keys)) if len(keys) else None
            if key is None:
                return "nothing to change"
            where.append(str(key))
            below = value[key]
            if not (isinstance(below, dict | list) and below) or self.random.random() < 0.2:
                break
            value = below
        new = self.random.choice(VALUES)
        if self.random.random() < 0.15:
            del value[key]
            return ".".join(where) + " removed"
        value[key] = new
        return f"{'.'.join(where)} = {str(new)[:30]!r}"

    def _arrays(self, run: Path, name: str) -> str:
        """Make an npz file a bomb, or give its arrays other types and shapes."""
        path = run / name
        with np.load(path) as stored:
            arrays = dict(stored)
        key = self.random.choice(list(arrays))
        marker = self.outside / "pickled"
        objects = np.array([Payload(marker)], dtype=object)
        changed: dict[str, Any] = {
            "objects": lambda: objects,
            "text": lambda: np.array(["x"] * 5),
            "a bomb": lambda: np.zeros(2**27, np.uint8),
            "a larger bomb": lambda: np.zeros(2**29, np.uint8),
            "another shape": lambda: arrays[key][None, None],
            "a scalar": lambda: np.float64(3),
            "nothing": lambda: np.zeros(0),
            "NaN": lambda: np.full_like(arrays[key], np.nan, dtype=float),
            "complex": lambda: arrays[key].astype(complex),
            "dates": lambda: np.array(["2020-01-01"] * 4, "datetime64[D]"),
            "fields": lambda: np.zeros(3, [("a", "f8")]),
        }
        how = self.random.choice([*changed, "a header that asks for much", "removed"])
        if how == "removed":
            arrays.pop(key)
        elif how in changed:
            arrays[key] = changed[how]()
        if how != "a header that asks for much":
            np.savez_compressed(path, **arrays)
            return f"{name}: {key} is {how}"
        text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }"
        header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{key}.npy", header + b"12345678")
        return f"{name}: {key} has {how}"

    def _checkpoint(self, run: Path) -> str:
        """Make weights or the training state something that harms whoever loads them."""
        weights, state = run / "checkpoints/model.safetensors", run / "checkpoints/state.pt"
        marker = self.outside / "pickled"
        stored = torch.load(state, weights_only=True)
        key = self.random.choice(list(stored))
        huge = json.dumps({"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}})
        ways: dict[str, Callable[[], Any]] = {
            "weights that ask for much": lambda: weights.write_bytes(
                struct.pack("<Q", len(huge)) + huge.encode() + b"12345678"
            ),
            "weights with a long header": lambda: weights.write_bytes(struct.pack("<Q", 2**60)),
            "a pickle with a payload": lambda: state.write_bytes(pickle.dumps(Payload(marker))),
            "a state with a payload": lambda: torch.save({"x": Payload(marker)}, state),
            "a state that is a list": lambda: torch.save([1, 2], state),
            "a state without a key": lambda: torch.save(
                {name: one for name, one in stored.items() if name != key}, state
            ),
            "a state with another type": lambda: torch.save(stored | {key: ["x"]}, state),
            "a state that counts far": lambda: torch.save(stored | {"records": 2**62}, state),
            "a packed state": lambda: _pack(state),
        }
        how = self.random.choice(list(ways))
        ways[how]()
        return f"checkpoints: {how} ({key})"

    def _config(self, run: Path) -> str:
        """Edit config.yaml, sometimes together with the hash that would show it."""
        path = run / "config.yaml"
        text = path.read_text()
        fashion = text.replace("name: mnist", "name: fashion_mnist")
        root = self.outside / "data"
        ways = {
            "data elsewhere": fashion.replace("root: null", f"root: {root}"),
            "data in the cache": fashion,
            "a huge model": text.replace("hidden: [8]", "hidden: [100000000, 100000000]"),
            "a long list": text.replace("hidden: [8]", f"hidden: {[1] * 5000}"),
            "another kind": text.replace("kind: vae", "kind: gmm"),
            "an alias bomb": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
            "deep": "[" * 3000,
            "an object": "!!python/object/apply:os.system [touch x]\n",
            "control characters": text + '"\\e[31m\\n": 1\n',
            "a long number": text.replace("seed: 1", "seed: " + "9" * 6000),
        }
        how = self.random.choice(list(ways))
        path.write_text(ways[how])
        if self.random.random() < 0.7:
            try:
                from vaexp.config import digest, load_config

                known = json.loads((run / "environment.json").read_text())
                known["config_sha256"] = digest(load_config(str(path)))
                (run / "environment.json").write_text(json.dumps(known))
                how += ", with its hash"
            except Exception:  # it is no config at all
                how += ", no config"
        return f"config.yaml: {how}"


def _sparse(path: Path, size: int) -> None:
    """A file of so many zeros that takes no room on the disk."""
    with path.open("wb") as file:
        file.truncate(size)


def _pack(path: Path) -> None:
    """Compress the members of a state, with a gigabyte of zeros among them."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    largest = max(members, key=lambda name: len(members[name]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, bytes(2**28) if name == largest else data)
