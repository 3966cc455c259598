"""Two processes that train together, with the variables that torchrun sets.

They are forks of this one, as importing torch and reading the images takes seconds. From stdin
comes a JSON list of jobs, which are done one after another: ``{"train": [ARGUMENT, ...]}`` is a
command of vaexp, and ``{"fit": CONFIG, "runs": FOLDER}`` fits a model and measures nothing. With
``"kill": RUNS`` the second process is killed when a run in that folder has a first checkpoint. To
stdout goes the list of the exit codes of both processes.
"""

import functools
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import torch._dynamo  # noqa: F401  the first optimizer imports it

from vaexp import cli
from vaexp.config import load_config
from vaexp.data import bundled
from vaexp.experiment import train  # noqa: F401  what the command imports
from vaexp.experiment.fit import fit, follow
from vaexp.experiment.prepare import Experiment
from vaexp.processes import ALONE, Processes
from vaexp.progress import Reporter
from vaexp.runs.folder import RunFolder


def fitted(config: str, runs: Path, processes: Processes = ALONE) -> Path | None:
    """The folder of a model that is fitted here, or None in a process that follows."""
    if processes.rank > 0:
        follow(processes)
        return None
    experiment = Experiment.prepare(load_config(config))
    run = RunFolder.create(runs, experiment.config)
    fit(experiment, run, Reporter(), processes)
    return run.path


def begin(job: dict[str, Any], rank: int, port: int) -> int:
    """Start one of the two processes of a job. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    code: Any = 1
    try:
        os.dup2(2, 1)  # stdout has the answer of the whole
        if "fit" in job:
            fitted(job["fit"], Path(job["runs"]), Processes.of_torchrun())
            code = 0
        else:
            sys.argv = ["vaexp", "train", *job["train"]]
            cli.main()
    except SystemExit as done:
        code = done.code
    finally:
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def done(job: dict[str, Any]) -> list[int]:
    """The exit codes of both processes of a job."""
    port = free_port()
    pids = [begin(job, rank, port) for rank in range(2)]
    if "kill" in job:
        while not list(Path(job["kill"]).glob("*/checkpoints/state.pt")):
            time.sleep(0.01)
        os.kill(pids[1], signal.SIGKILL)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


if __name__ == "__main__":
    bundled.read = functools.cache(bundled.read)
    bundled.read()
    json.dump([done(job) for job in json.load(sys.stdin)], sys.stdout)
