"""Claims on trials: one process at a time, also where the disk locks nothing."""

import fcntl
import json
import multiprocessing
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from vaexp.locks import Held
from vaexp.runs.heartbeat import FRESH
from vaexp.runs.process import info_of_this_process
from vaexp.sweeps.claims import claim

THIS = {key: info_of_this_process()[key] for key in ("host", "pid", "pid_started")}
ELSEWHERE = {"host": "another", "pid": 17, "pid_started": 3.5}


def written(folder: Path, number: int = 1, age: float = 0.0, **owner: Any) -> Path:
    path = folder / f".claim-{number}.json"
    path.write_text(json.dumps({"at": time.time() - age, **owner}))
    return path


def test_a_claim_ends_with_its_block(tmp_path: Path) -> None:
    for _ in range(2):
        with claim(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [".claim-1.json"]
            with pytest.raises(Held, match=f"held by process {os.getpid()} on "), claim(tmp_path):
                pass
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("owner", "age", "is_held"),
    [
        (THIS, 1e6, True),  # it is seen to live, however long ago it wrote
        (THIS | {"pid_started": THIS["pid_started"] + 5}, 0, False),  # another one with its number
        (ELSEWHERE, 0, True),
        (ELSEWHERE, FRESH - 20, True),
        (ELSEWHERE, FRESH + 1, False),
        ({"host": "another"}, 0, True),  # just created, and not yet written
    ],
)
def test_a_claim_holds_while_its_process_is_there(
    tmp_path: Path, owner: dict[str, Any], age: float, is_held: bool
) -> None:
    written(tmp_path, 3, age, **owner)
    with ExitStack() as stack:
        if is_held:
            with pytest.raises(Held):
                stack.enter_context(claim(tmp_path))
        else:
            stack.enter_context(claim(tmp_path))
            assert (tmp_path / ".claim-4.json").exists()
    assert (tmp_path / ".claim-3.json").exists() is is_held


def test_an_empty_claim_is_given_up_after_a_while(tmp_path: Path) -> None:
    path = tmp_path / ".claim-1.json"
    path.touch()
    with pytest.raises(Held, match="another process"), claim(tmp_path):
        pass
    os.utime(path, (time.time() - FRESH - 1,) * 2)
    with claim(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["link", "folder", "long", "list"])
def test_a_claim_that_is_no_such_file_is_not_followed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ".claim-1.json"
    match kind:
        case "link":
            (tmp_path / "other").write_text(json.dumps({"at": time.time(), **ELSEWHERE}))
            path.symlink_to(tmp_path / "other")
        case "folder":
            path.mkdir()
        case "long":
            path.write_text(" " * 20_000)
        case _:
            path.write_text("[1]")
    with pytest.raises(Held, match="another process"), claim(tmp_path):
        pass


def test_a_claim_is_renewed(tmp_path: Path) -> None:
    seen = set()
    with claim(tmp_path, every=0.01):
        until = time.monotonic() + 10
        while len(seen) < 3 and time.monotonic() < until:
            seen.add(json.loads((tmp_path / ".claim-1.json").read_text())["at"])
    assert len(seen) >= 3


def _claims(folder: Path, start: Any, found: Any) -> None:
    """Claim as fast as possible, and count those who had it at the same time."""
    fcntl.flock = lambda *_: None
    start.wait()
    for _ in range(50):
        try:
            with claim(folder):
                inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
                os.close(inside)
                os.unlink(folder / "inside")
                found.put("had it")
        except Held:
            pass
        except FileExistsError:
            found.put("two at once")


def test_of_many_processes_one_has_it(tmp_path: Path) -> None:
    """Without any lock, and from a claim that is dead already, which all of them may take over."""
    written(tmp_path, age=FRESH + 10, **ELSEWHERE)
    spawn = multiprocessing.get_context("spawn")
    start, found = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_claims, args=(tmp_path, start, found)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    results = [found.get(timeout=1) for _ in range(found.qsize())]
    assert set(results) == {"had it"}
    assert [path.name for path in tmp_path.iterdir()] == []
