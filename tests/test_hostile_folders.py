"""A run folder that a stranger may have made: what it may not do, and how it is refused."""

import errno
import fcntl
import io
import json
import os
import pickle
import shutil
import socket
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vaexp.config import digest, load_config
from vaexp.errors import RunError, UserError
from vaexp.files import Folder, Refused, parse_json
from vaexp.locks import Held, locked
from vaexp.runs import arrays, parts
from vaexp.runs.folder import RunFolder
from vaexp.visible import visible, visible_lines

SECRET = "what stands outside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no command may read or change."""
    path = tmp_path / "outside" / "file"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


# The guarded way


def test_only_plain_files_are_opened(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "folder"
    (root / "real").mkdir(parents=True)
    (root / "real" / "plain").write_bytes(b"12345")
    (root / "link").symlink_to(outside)
    (root / "dangling").symlink_to(tmp_path / "nothing")
    (root / "folder-link").symlink_to(outside.parent)
    os.mkfifo(root / "pipe")
    folder = Folder(root)
    with folder.open("real/plain", most=5) as file:
        assert file.read() == b"12345"
    with pytest.raises(Refused, match="has 5 bytes, where at most 4 belong"):
        folder.open("real/plain", most=4).__enter__()
    for name, what in (
        ("link", "a link"),
        ("dangling", "a link"),
        ("folder-link/file", "a link"),
        ("pipe", "a pipe"),
        ("real", "a folder"),
        ("real/plain/below", "a file"),
    ):
        with pytest.raises(Refused, match=what):
            folder.open(name, most=100).__enter__()
        with pytest.raises(Refused, match=what):
            folder.append(name).__enter__()
        with pytest.raises(Refused, match=what):
            folder.place(name)
    with pytest.raises(FileNotFoundError):
        folder.open("missing", most=100).__enter__()
    assert outside.read_text() == SECRET
    assert not (tmp_path / "nothing").exists()


def test_a_file_with_a_second_name_is_not_written_into(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "folder"
    root.mkdir()
    os.link(outside, root / "log")
    with pytest.raises(Refused, match="second name"):
        Folder(root).append("log").__enter__()
    with pytest.raises(Refused, match="second name"):
        Folder(root).check_single("log")
    with Folder(root).replacing("log") as temporary:  # a new file takes its place
        temporary.write_text("new")
    assert outside.read_text() == SECRET


@pytest.mark.parametrize(
    "text",
    ["NaN", "[Infinity]", "1e999", "9" * 5000, "1" + "0" * 30, "[" * 100_000, "[" * 50 + "]" * 50],
)
def test_json_that_no_run_writes(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|large|deep|Expecting"):
        parse_json(text)


def test_json_as_it_stands() -> None:
    value = {"a": [1, -(2**63), 0.1, "é", None, True]}
    assert parse_json(json.dumps(value)) == value


def test_control_characters_are_made_visible() -> None:
    assert visible("a\x1b[31m\nb\u202ec\udcff") == "a\\x1b[31m\\nb\\u202ec\\udcff"
    assert visible("σ ≥ 1") == "σ ≥ 1"
    assert visible_lines("a\nb\rc") == "a\nb\\rc"


# Arrays


def npy(shape: str, data: bytes = b"", dtype: str = "<f8") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def packed(**members: bytes) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    file.seek(0)
    return file


def test_arrays_are_read_as_numpy_reads_them() -> None:
    file = io.BytesIO()
    written = {
        "a": np.arange(6.0).reshape(2, 3),
        "b": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "c": np.array(["x", "yz"]),
        "d": np.float32(3),
        "e": np.zeros((0, 4)),
    }
    np.savez_compressed(file, **written)
    file.seek(0)
    read = arrays.read_arrays(file)
    assert read.keys() == written.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (packed(a=npy("(10**15,)".replace("10**15", "1" + "0" * 15), bytes(8))), "declares"),
        (packed(a=npy("(3,)", bytes(23))), "declares"),
        (packed(a=npy("(3,)", bytes(25))), "does not have"),
        (packed(a=npy("(-3,)", bytes(24))), "bytes|shape"),
        (packed(a=npy("(1,)", b"cos\nsystem\n", "|O")), "type object"),
        (packed(a=b"no npy file"), "magic"),
        (packed(a=npy("(300000000,)", bytes(300_000_000), "|u1")), "unpacks to"),
        (io.BytesIO(b"no zip"), "zip"),
    ],
)
def test_arrays_that_no_run_writes(file: io.BytesIO, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        arrays.read_arrays(file)


@pytest.mark.parametrize("values", [np.full(8, np.nan), np.zeros((8, 1)), np.array(["x"] * 8)])
def test_values_of_images_are_one_finite_number_each(forge: Any, values: Any) -> None:
    run = RunFolder.open(forge("a"))
    run.files.write_arrays("per_example.npz", {"elbo": values})
    with pytest.raises(RunError, match="elbo is not one number per image"):
        run.per_example()


# JSON files of a run


@pytest.mark.parametrize(
    ("adapter", "value", "message"),
    [
        (parts.INFO, [], "dictionary"),
        (parts.METRICS, {"test": {"elbo": 3}}, "test.elbo"),
        (parts.STEP, {"epoch": "1"}, 'epoch: should be a valid integer, got "1"'),
        (parts.STEP, {"train": {"elbo": None}}, "train.elbo"),
        (parts.EVALUATION, {"rate": {"absent": {"x": 1}}}, "rate.absent.x"),
        (parts.ENVIRONMENT, {"data_sha256": "x"}, "config_sha256"),
    ],
)
def test_wrong_types_are_named(adapter: Any, value: Any, message: str) -> None:
    why = parts.complaint(adapter, value)
    assert why is not None
    assert message in why
    assert "\n" not in why


def test_every_entry_of_a_real_run_is_valid(fixed: Path, bernoulli: Path) -> None:
    for path in (fixed, bernoulli):
        run = RunFolder.open(path)
        assert run.metrics()["test"]
        assert run.records()
        assert run.evaluation()
        assert run.environment()["data_known"] is True


# What commands do


def test_a_log_that_is_a_link_is_not_written_through(
    fixed: Path, copy_of: Any, outside: Path, invoke: Any, change_json: Any
) -> None:
    run = copy_of(fixed)
    (run / "train.log").unlink()
    (run / "train.log").symlink_to(outside)
    change_json(run / "run.json", status="interrupted")
    for arguments in (["train", "--resume", run], ["evaluate", run, "--only", "rate"]):
        done = invoke(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.strip().endswith(
            "train.log: is a link, which is not followed; a file belongs there"
        )
    assert outside.read_text() == SECRET


@pytest.mark.parametrize("folder", ["figures", "samples", "checkpoints", "evidence"])
def test_folders_that_are_links_are_not_written_through(
    fixed: Path, copy_of: Any, outside: Path, invoke: Any, folder: str
) -> None:
    run = copy_of(fixed)
    if (run / folder).exists():
        (run / folder).rename(run / "moved")
    (run / folder).symlink_to(outside.parent)
    for arguments in (
        ["sample", run],
        ["evaluate", run],
        ["compare", run, fixed, "--html"],
        ["report", run],
        ["explore", run],
    ):
        done = invoke(*arguments)
        assert done.exit_code == 1, done.stdout
        assert f"{folder}: is a link" in done.stderr
    assert [*outside.parent.iterdir()] == [outside]


def test_a_name_with_a_newline_does_not_write_a_line_of_its_own(
    fixed: Path, tmp_path: Path, invoke: Any
) -> None:
    run = Path(shutil.copytree(fixed, tmp_path / "x\nrm -rf ~\n\x1b[31m"))
    (run / "train.log").unlink()
    assert invoke("evaluate", run, "--only", "rate").exit_code == 0
    log = (run / "train.log").read_text()
    assert "\x1b" not in log
    assert not any(line.startswith("rm") for line in log.splitlines())


def test_pickles_are_not_run(
    fixed: Path, copy_of: Any, tmp_path: Path, invoke: Any, change_json: Any
) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path}/ran",)

    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    state = run / "checkpoints" / "state.pt"
    stored = torch.load(state, weights_only=True)
    for write in (
        lambda: state.write_bytes(pickle.dumps(Payload())),
        lambda: torch.save(stored | {"x": Payload()}, state),
        lambda: torch.save([1], state),
    ):
        write()
        done = invoke("train", "--resume", run)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "state.pt: damaged" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["records", "at", "step", "epoch", "best", "inside"])
def test_a_state_of_other_types_is_refused(
    fixed: Path, copy_of: Any, invoke: Any, change_json: Any, key: str
) -> None:
    run = copy_of(fixed)
    change_json(run / "run.json", status="interrupted")
    state = run / "checkpoints" / "state.pt"
    torch.save(torch.load(state, weights_only=True) | {key: ["x"]}, state)
    done = invoke("train", "--resume", run)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "checkpoints/state.pt does not fit config.yaml" in done.stderr


def test_a_state_that_unpacks_to_more_is_refused(fixed: Path, copy_of: Any) -> None:
    run = RunFolder.open(copy_of(fixed))
    path = run.path / "checkpoints" / "state.pt"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(RunError, match="damaged"):
        run.state()


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("share_below_10_effective_samples", "many"),
        ("median", "0"),
        ("extreme_1_percent", [1]),
        ("trimmed_mean_1_percent", {}),
        ("unbounded", 3),
    ],
)
def test_a_fact_that_is_read_has_its_type(forge: Any, invoke: Any, fact: str, value: Any) -> None:
    good, bad = forge("good"), forge("bad", facts={"elbo": {fact: value}})
    for command in (["runs", forge.folder], ["compare", good, good, bad]):
        done = invoke(*command)
        assert "fault of vaexp" not in done.stderr
        assert f"{fact}: should be" in done.stdout + done.stderr


@pytest.mark.parametrize("line", ['{"step": 3}', '{"iteration": 3, "train": {"elbo": 1.0}}'])
def test_records_of_another_kind_of_run_are_refused(forge: Any, line: str) -> None:
    run = RunFolder.open(forge("a"))
    (run.path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl:1: .*epoch"):
        run.records()


def test_one_run_of_wrong_types_does_not_hide_the_others(
    forge: Any, invoke: Any, change_json: Any
) -> None:
    forge("good")
    change_json(forge("bad") / "run.json", error={"a": [1]})
    os.mkfifo(forge("pipe") / "broken")
    pipe = forge("piped") / "metrics.json"
    pipe.unlink()
    os.mkfifo(pipe)
    listed = {
        Path(one["run"]).name[16:-5]: one
        for one in json.loads(invoke("runs", forge.folder, "--json").stdout)
    }
    assert {name: one["status"] for name, one in listed.items()} == {
        "good": "finished",
        "bad": "damaged",
        "pipe": "finished",
        "piped": "damaged",
    }
    assert "error: should be a valid string" in listed["bad"]["error"]
    assert "is a pipe" in listed["piped"]["error"]


# Identity


def test_an_edited_config_is_refused_or_said(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("beta: 1.0", "beta: 9.0"))
    for arguments in (["sample", run], ["evaluate", run], ["compare", fixed, run]):
        done = invoke(*arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "config.yaml changed since the run started" in done.stderr
    (one,) = [
        one
        for one in json.loads(invoke("runs", run.parent, "--json").stdout)
        if one["run"] == str(run)
    ]
    assert one["error"] == "config.yaml changed since the run started"


def test_a_trained_run_without_its_environment_is_refused(
    fixed: Path, copy_of: Any, invoke: Any
) -> None:
    """Else a config that was edited since would pass."""
    run = copy_of(fixed)
    for name in ("environment.json", "metrics.jsonl"):
        (run / name).unlink()
    for command in (["sample", run, "-n", 2], ["evaluate", run, "--only", "rate"]):
        done = invoke(*command)
        assert done.exit_code == 1
        assert "environment.json" in done.stderr


@pytest.mark.parametrize("part", ["run.json", "samples"])
def test_every_reader_refuses_what_the_list_calls_damaged(
    fixed: Path, copy_of: Any, invoke: Any, tmp_path: Path, part: str
) -> None:
    run = copy_of(fixed)
    if part == "samples":
        shutil.rmtree(run / part, ignore_errors=True)
        (run / part).symlink_to(tmp_path)
    else:
        (run / part).write_text('{"status": 5}')
    (listed,) = json.loads(invoke("runs", run.parent, "--json").stdout)
    assert listed["status"] == "damaged"
    assert part in listed["error"]
    for command in ("sample", "evaluate", "encode", "report", "explore"):
        done = invoke(command, run)
        assert done.exit_code == 1, command
        assert part in done.stderr


def test_where_the_data_lie_is_not_part_of_a_run(fixed: Path, copy_of: Any, invoke: Any) -> None:
    run = copy_of(fixed)
    done = invoke("evaluate", run, "data.root=/elsewhere", "--only", "rate")
    assert done.exit_code == 0, done.stderr
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("root: null", "root: /elsewhere"))
    assert invoke("evaluate", run, "--only", "rate").exit_code == 0
    done = invoke("evaluate", run, "model.beta=4", "--only", "rate")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "only data.root=DIR may be given" in done.stderr


def test_other_images_are_refused(fixed: Path, copy_of: Any, invoke: Any, change_json: Any) -> None:
    run = copy_of(fixed)
    change_json(run / "environment.json", data_sha256="that of other images")
    before = (run / "metrics.json").read_bytes()
    for arguments in (["evaluate", run, "--only", "rate"], ["compare", run, fixed, "--figure"]):
        done = invoke(*arguments)
        assert done.exit_code == 1
        assert "the data changed since the run started" in done.stderr
    assert (run / "metrics.json").read_bytes() == before


def test_reading_a_run_downloads_nothing_and_creates_no_folder(
    fixed: Path, copy_of: Any, invoke: Any, tmp_path: Path, change_json: Any
) -> None:
    run, root = copy_of(fixed), tmp_path / "new" / "data"
    config = run / "config.yaml"
    text = config.read_text().replace("name: mnist", "name: kmnist")
    config.write_text(text.replace("root: null", f"root: {root}"))
    known = digest(load_config(str(config)))
    change_json(run / "environment.json", config_sha256=known)
    change_json(run / "run.json", status="interrupted")
    for arguments in (
        ["evaluate", run],
        ["compare", run, run, "--html"],
        ["train", "--resume", run],
    ):
        done = invoke(*arguments)
        assert done.exit_code == 2, done.stderr
        assert "nothing is downloaded for a run that is there already" in done.stderr
    assert not (tmp_path / "new").exists()


# Locks


def test_a_lock_names_its_file_and_holder_and_a_way_on(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    said: list[str] = []
    with locked(path, said.append), pytest.raises(Held) as caught, locked(path, said.append):
        pass
    message = str(caught.value)
    assert str(path) in message
    assert f"process {os.getpid()} on {socket.gethostname()}" in message
    assert "if that host is gone, delete the file" in message
    with locked(path, said.append):
        pass
    assert said == []


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(_file: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said: list[str] = []
    done = False
    with locked(tmp_path / ".lock", said.append):
        done = True
    assert done
    assert "this disk has no locks (No locks available)" in said[0]


def test_a_folder_is_there_only_when_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixed: Path
) -> None:
    config = RunFolder.open(fixed).config()
    run = RunFolder.create(tmp_path / "runs", config)
    assert run.status() == "running"
    assert run.info()["start"] is None

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vaexp.runs.folder.write_text", full)
    with pytest.raises(UserError, match="No space left"):
        RunFolder.create(tmp_path / "runs", config)
    assert [*(tmp_path / "runs").iterdir()] == [run.path]
