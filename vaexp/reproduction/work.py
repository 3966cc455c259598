"""Training and measuring what the studies ask for, as far as it is not there yet.

Each study is a sweep in a folder of its own, so that ``vaexp sweep DIR --print-commands`` can share
its trials out among other machines. Imports torch only where something is to be measured.
"""

import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from vaexp.errors import RunError, Terminated, UserError
from vaexp.progress import Reporter
from vaexp.reproduction.size import Size
from vaexp.reproduction.studies import Done, Study
from vaexp.runs.folder import RunFolder
from vaexp.sweeps.display import Display
from vaexp.sweeps.folder import State, Sweep, Task
from vaexp.sweeps.jobs import Here, Jobs
from vaexp.sweeps.request import Request
from vaexp.sweeps.summary import write_summary

WAIT = 5.0  # seconds until a trial that another process has is looked at again

Begun = Mapping[Study, tuple[Sweep, Request]]
"""The sweep of each study, and what the study asks of it."""


def begin(studies: Sequence[Study], folder: Path, size: Size, changes: Sequence[str]) -> Begun:
    """Make the folder of the sweep of each study in ``folder``, or find it there.

    ``changes`` are overrides of all configs. Raises UserError if one of them is wrong, or if a
    sweep was begun with other settings.
    """
    requests = {study: study.request(size, changes) for study in studies}
    paths = {study: folder / request.base.config.name for study, request in requests.items()}
    for study, request in requests.items():
        try:
            Sweep.begin(paths[study], request)
        except UserError as error:
            raise UserError(
                f"{error}\n{folder} has the runs of another reproduction; choose another --out "
                "(or --runs-dir), or move it away"
            ) from None
    # Opened after all have begun, as two studies of one config share their sweep.
    return {study: (Sweep.open(paths[study]), requests[study]) for study in studies}


def train(begun: Begun, jobs: int, reporter: Reporter) -> Done:
    """Run the trials that have not finished, ``jobs`` at a time. Returns the runs of all trials.

    Those of more seeds, which another call has trained, are among them. The same call goes on with
    what is left. Raises RunError if some trials failed, KeyboardInterrupt or Terminated if a signal
    stopped the work.
    """
    tasks = {
        (sweep.path, trial.number): Task(sweep, trial, figures=False)
        for sweep, request in begun.values()
        for trial in sweep.asked(request)
    }
    left = [task for task in tasks.values() if not task.state().is_done]
    # A whole seed after the other, so that what is there when it is stopped can be compared.
    left.sort(key=lambda task: task.trial.settings["seed"])
    if left:
        display = Display(reporter.console, len(tasks), jobs, True, len(tasks) - len(left))
        display.say(f"{len(tasks)} runs, of which {len(left)} are still to be trained")
        worker = Jobs(jobs, False, display, Here(jobs))
        with display.shown():
            ended = worker.run(left)
            while any(state.is_elsewhere for state in ended.values()) and not worker.halted:
                # as a process that a killed call has left is still at work on its trial
                time.sleep(WAIT)
                again = [task for task, state in ended.items() if state.is_elsewhere]
                ended |= worker.run(again)
        for sweep in {sweep.path: sweep for sweep, _ in begun.values()}.values():
            write_summary(sweep, sweep.write_table())
        if worker.stopped_by is not None:
            raise KeyboardInterrupt if worker.stopped_by == signal.SIGINT else Terminated
        _check(ended)
    return Done({study: _runs(study, *parts) for study, parts in begun.items()})


def _check(ended: Mapping[Task, State]) -> None:
    """Raise RunError, with a line for each, if trials have not finished."""
    lines = [
        f"{task.folder}: {state.status}{f': {state.error}' if state.error else ''}"
        for task, state in ended.items()
        if not state.is_done
    ]
    if lines:
        what = "1 run has" if len(lines) == 1 else f"{len(lines)} runs have"
        raise RunError("\n".join([*lines, f"{what} not finished; the same command goes on"]))


def _runs(study: Study, sweep: Sweep, request: Request) -> list[RunFolder]:
    """The runs of the seeds that a study asked for, and of those that follow and have all finished.

    Other calls may have trained the latter.
    """
    asked = {trial.number for trial in sweep.asked(request)}
    every = sweep.asked(study.request_of_all(request))
    states = [(trial, sweep.state(trial)) for trial in every]
    unfinished = [
        trial.settings["seed"]
        for trial, state in states
        if trial.number not in asked and not state.is_done
    ]
    return [
        state.run
        for trial, state in states
        if state.run is not None and all(trial.settings["seed"] < seed for seed in unfinished)
    ]


def measure(done: Done, images: int | None, reporter: Reporter) -> None:
    """Measure the groups that the studies ask for, on the runs where they were not yet.

    ``images`` is how many of the first test images are measured, or None for all.
    """
    wanted: dict[Path, tuple[RunFolder, dict[str, Literal[True]]]] = {}
    for study, runs in done.runs.items():
        for run in runs:
            known = run.evaluation()
            missing = [group for group in study.groups if group not in known]
            if missing:
                wanted.setdefault(run.path, (run, {}))[1].update(dict.fromkeys(missing, True))
    if not wanted:
        return
    with reporter.waiting("loading torch"):
        from vaexp.experiment.evaluate import evaluate
    for number, (run, groups) in enumerate(wanted.values(), start=1):
        reporter.say(f"measuring {', '.join(groups)} of run {number} of {len(wanted)}: {run.path}")
        evaluate(run, list(groups), reporter, images=images, figures=False)
