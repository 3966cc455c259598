"""Open run folders that a stranger may have made, and see that none of them does any harm.

    python -m benchmarks.hostile_folders --mutations 1000 --seed 0

A tiny run is trained. Each mutation copies it and replaces one part: by a link, a device, a pipe,
another type, a bomb. Then commands are run on the copy, each in a forked child with a home folder
of its own. It is a fault if one shows a traceback, takes over 2 s longer than on the whole run,
ends with an exit code that is not 0, 1 or 2, prints what stands in a file outside, or
changes anything there.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import torch
from PIL import Image, PngImagePlugin

from benchmarks.mutations import Mutations
from benchmarks.outside import snapshot
from vaexp import cli
from vaexp.data import bundled
from vaexp.experiment import evaluate, train  # noqa: F401  (loaded once, before the forks)
from vaexp.experiment.draw import run as drawing  # noqa: F401

HANGS = 40.0
SECRET = "canary-7c1f0e"
TINY = """\
model: {kind: vae, hidden: [8]}
data: {limit: 64, validation_size: 100, labels: [4]}
train: {epochs: 1, batch_size: 32}
evaluate: {importance_samples: 2}
"""
COMMANDS: dict[str, list[str]] = {
    "runs": ["runs", "{folder}"],
    "runs csv": ["runs", "{folder}", "--format", "csv"],
    "show": ["runs", "show", "{run}"],
    "sample": ["sample", "{run}", "-n", "2"],
    "evaluate": ["evaluate", "{run}", "--only", "rate", "--images", "20"],
    "compare": ["compare", "{run}", "{whole}"],
    "page": ["compare", "{whole}", "{run}", "--html"],
    "resume": ["train", "--resume", "{run}"],
    "again": ["train", "{run}", "--dry-run"],
    "encode": ["encode", "{run}", "--format", "csv"],
    "report": ["report", "{run}"],
    "explore": ["explore", "{run}"],
    "export": ["export", "csv", "{folder}", "--out", "{tables}"],
    "trim": ["runs", "trim", "{run}"],
}


def outside_of(folder: Path) -> Path:
    """Files that no command may read, change or add to."""
    outside = folder / "outside"
    (outside / "folder").mkdir(parents=True)
    (outside / "home").mkdir()
    for name in ("secret.txt", "folder/secret.txt", "home/.profile"):
        (outside / name).write_text(f"{SECRET}\n")
    info = PngImagePlugin.PngInfo()
    info.add_text("Description", SECRET)
    Image.new("RGB", (8, 8)).save(outside / "secret.png", pnginfo=info)
    return outside


def call(arguments: list[str], folder: Path) -> tuple[int | None, str, float, int]:
    """Run a command in a forked child: exit code or None, its output, seconds, memory in MB.

    The seconds are those of the processor, as other programs may be busy too. A command that does
    not end within HANGS seconds of the clock has no exit code.
    """
    output, started = folder / "output.txt", time.perf_counter()
    child = os.fork()
    if child == 0:
        with output.open("wb") as file:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
        code = 70
        try:
            sys.argv = ["vaexp", *arguments]
            cli.main()
        except SystemExit as leaving:
            code = leaving.code if isinstance(leaving.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            seconds = usage.ru_utime + usage.ru_stime
            return code, output.read_text(errors="replace"), seconds, usage.ru_maxrss // 1024
        if time.perf_counter() - started > HANGS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None, output.read_text(errors="replace"), HANGS, 0
        time.sleep(0.01)


def main() -> None:
    """Mutate, run, and print the faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=2, help="commands tried on each mutation")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    source = bundled.read()
    bundled.read = lambda: source  # type: ignore[assignment]  # read once, before the forks
    with tempfile.TemporaryDirectory(prefix="hostile-") as temporary:
        faults = attack(Path(temporary), chosen.mutations, chosen.seed, chosen.commands)
    sys.exit(1 if faults else 0)


def attack(folder: Path, mutations: int, seed: int, commands: int) -> int:
    """Try so many mutations; returns the number of faults."""
    outside = outside_of(folder)
    os.environ |= {"HOME": str(outside / "home"), "MPLCONFIGDIR": str(folder / "matplotlib")}
    os.environ["XDG_CACHE_HOME"] = str(outside / "home" / ".cache")
    os.chdir(folder)
    (folder / "tiny.yaml").write_text(TINY)
    call(["train", "tiny.yaml", "--runs-dir", "whole"], folder)
    (whole,) = (folder / "whole").iterdir()
    call(["evaluate", str(whole), "--only", "rate", "--images", "20"], folder)
    mutate = Mutations(outside, seed)
    usual: dict[str, float] = {}
    faults, tried, most, codes = 0, 0, 0, Counter[str]()
    for i in range(-len(COMMANDS), mutations):  # the first ones are of the whole run
        runs = folder / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        run = Path(shutil.copytree(whole, runs / "20260101-000000-run-0000"))
        info = json.loads((run / "run.json").read_text())
        names = list(COMMANDS)
        names = [names[i]] if i < 0 else mutate.random.sample(names, commands)
        if "resume" in names:
            (run / "run.json").write_text(json.dumps(info | {"status": "interrupted"}))
        done = "whole" if i < 0 else mutate.apply(run)
        before = snapshot(outside)
        for name in names:
            places = {"folder": runs, "run": run, "whole": whole, "tables": folder / "tables"}
            arguments = [part.format(**places) for part in COMMANDS[name]]
            code, text, seconds, memory = call(arguments, folder)
            usual[name] = seconds if i < 0 else usual[name]
            tried, most = tried + 1, max(most, memory)
            codes[f"exit {code}"] += 1
            written = [page for place in (whole, runs) for page in place.rglob("*.html")]
            written += (folder / "tables").glob("*")
            pages = "".join(page.read_text() for page in written if not page.is_symlink())
            wrong = [
                what
                for what, is_so in {
                    f"it took {seconds:.1f} s": seconds > usual[name] + 2,
                    f"exit code {code}": code not in (0, 1, 2, None),
                    "a traceback": "Traceback" in text or "a fault of vaexp" in text,
                    "an escape is printed": "\x1b" in text,
                    "a file outside is printed": SECRET in text + pages,
                    "something outside changed": snapshot(outside) != before,
                }.items()
                if is_so
            ]
            if wrong:
                faults += 1
                print(f"{i}: {done}; {name}: {', '.join(wrong)}\n  {text[-1500:]}", flush=True)
            for page in written:
                page.unlink()
    limit_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{mutations} mutations, {tried} commands, {faults} faults; {dict(codes)}")
    print(f"at most {most} MB in a command (of them {limit_mb} before it began)")
    print({name: round(seconds, 2) for name, seconds in usual.items()})
    return faults


if __name__ == "__main__":
    main()
