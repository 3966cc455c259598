"""Going on with a run: what of its config may change then, and how the change enters its history.

Where the data lie is not part of a run. More epochs, steps, iterations or restarts, or a smaller
tolerance, are a new part of its history.
"""

import math
from collections.abc import Sequence
from typing import Any, assert_never

from vaexp.config import (
    Config,
    EMExperiment,
    GMMExperiment,
    LinearGaussianExperiment,
    VAEExperiment,
    digest,
    dump,
    flatten,
    load_config,
)
from vaexp.config.output import FIGURE_SUFFIXES
from vaexp.errors import UserError
from vaexp.runs.folder import RunFolder
from vaexp.runs.guarded import CONFIG, ENVIRONMENT, EVALUATION, METRICS, PER_EXAMPLE, STATE
from vaexp.runs.process import now

PLACE = "data.root"
LENGTHS = ("train.epochs", "train.steps", "train.max_iter", "train.restarts")  # may be larger
TOLERANCE = "train.tolerance"  # may be smaller


def moved(run: RunFolder, overrides: Sequence[str]) -> Config:
    """The config of a run whose data may lie elsewhere. Raises UserError for other overrides."""
    for override in overrides:
        if override.partition("=")[0] != PLACE:
            raise UserError(f"{override}: a run keeps its config; only {PLACE}=DIR may be given")
    return run.config(overrides)


def continued(run: RunFolder, config: str | None, overrides: Sequence[str]) -> Config:
    """The config with which a run goes on, after the arguments CONFIG and KEY=VALUE of train.

    Raises UserError for another CONFIG than that of the run, for changes of anything but the place
    of its data and what makes it longer, and where they do not make it longer after all, as what
    stopped the run would stop it at once.
    """
    own = run.config()
    if config is not None and "=" not in config:
        if load_config(config, overrides) != own:
            raise UserError(f"{config}: a resumed run keeps its config; leave CONFIG out")
        return own
    changes = [*([] if config is None else [config]), *overrides]
    for change in changes:
        if change.partition("=")[0] not in (PLACE, *LENGTHS, TOLERANCE):
            raise UserError(
                f"{change}: a resumed run keeps its config; only {PLACE}, a larger number of "
                f"{', '.join(LENGTHS)}, and a smaller {TOLERANCE} may be given"
            )
    new = run.config(changes)
    before, after = flatten(own.model_dump()), flatten(new.model_dump())
    for key in (*LENGTHS, TOLERANCE):
        _check_longer(key, before.get(key), after.get(key))
    if before.get("train.restarts", 1) > 1 and any(
        before.get(key) != after.get(key) for key in ("train.max_iter", TOLERANCE)
    ):
        raise UserError(
            f"{run.path}: only the best of its {before['train.restarts']} restarts is kept, so the "
            "others cannot go on; train the config as a new run"
        )
    more_restarts = before.get("train.restarts") != after.get("train.restarts")
    goes_on = more_restarts or not is_changed(run, new)
    why = None if goes_on else _why_over(run.records(), new)
    if why is not None:
        raise UserError(f"{run.path}: would not go on with {' '.join(changes)}: {why}")
    return new


def _why_over(records: Sequence[dict[str, Any]], config: Config) -> str | None:
    """Why a config would train no further after these records of a shorter one, or None."""
    if not records:
        return None
    match config:
        case VAEExperiment():
            return _why_sgd_is_over(records, config)
        case GMMExperiment() | LinearGaussianExperiment():
            return _why_em_is_over(records, config)
    assert_never(config)


def _why_sgd_is_over(records: Sequence[dict[str, Any]], config: VAEExperiment) -> str | None:
    """Why early stopping ends the training after these epochs, or None."""
    patience = config.train.patience
    elbos = [record.get("validation", {}).get("elbo", -math.inf) for record in records]
    if patience is None or len(elbos) - 1 - elbos.index(max(elbos)) < patience:
        return None
    return (
        f"it stopped early, as the validation ELBO did not rise for train.patience = {patience} "
        "epochs; train the config with a larger one as a new run"
    )


def _why_em_is_over(records: Sequence[dict[str, Any]], config: EMExperiment) -> str | None:
    """Why EM ends after the last of these iterations, or None."""
    last, train = records[-1], config.train
    if last.get("stopped") is None:
        return None
    gain = math.inf
    if last["iteration"] > 0 and len(records) > 1:
        before, after = (record["train"].get("log_prob", math.nan) for record in records[-2:])
        gain = after - before
    if gain < train.tolerance:
        return (
            f"EM has converged: its last iteration added {gain:.3g} nats per image, and "
            f"train.tolerance is {train.tolerance:g}; a smaller train.tolerance makes it longer"
        )
    if last["iteration"] >= train.max_iter:
        return f"it stopped at train.max_iter = {train.max_iter}; a larger number makes it longer"
    return None


def _check_longer(key: str, old: Any, wanted: Any) -> None:
    """Raise UserError where a setting is changed in a way that does not make the run longer."""
    smaller = key == TOLERANCE
    if old != wanted and (old is None or wanted is None or (wanted > old) == smaller):
        which = "smaller" if smaller else "larger"
        raise UserError(f"{key}={wanted}: the run has {key}={old}; give a {which} number")


def is_changed(run: RunFolder, config: Config) -> bool:
    """Whether a config is another than the run's own; ``continued`` only lets it be longer."""
    return digest(config) != digest(run.config())


def check_can_go_on(run: RunFolder) -> None:
    """Raise UserError for a run that was trimmed, as it lacks what a continuation needs."""
    trimmed = run.info().get("trimmed")
    if trimmed is not None and not run.has(STATE):
        raise UserError(
            f"{run.path}: was trimmed at {trimmed}, so it cannot go on; vaexp train {run.path} "
            "train.epochs=N trains its config as a new run"
        )


def extend(run: RunFolder, config: Config) -> None:
    """Write the config with which a run goes on into its folder, and the change into its history.

    What was measured of the shorter run is removed. A kill in between leaves a run that can be
    resumed: environment.json names both configs until config.yaml is the new one.
    """
    own = run.config()
    if own == config:
        return
    if digest(own) == digest(config):
        run.files.write_text(CONFIG, dump(config))  # only the place of the data
        return
    environment = run.environment()
    before, after = flatten(own.model_dump()), flatten(config.model_dump())
    part = {
        "at": now(),
        "steps": len(run.records()),
        "config_sha256": environment["config_sha256"],
        "changed": {
            key: [before[key], after[key]]
            for key in (*LENGTHS, TOLERANCE)
            if before.get(key) != after.get(key)
        },
    }
    written = [*run.files.names("evidence", ".npz"), *run.files.names("codes", "")]
    for name in (METRICS, PER_EXAMPLE, EVALUATION, *written):
        run.files.remove(name)
    for suffix in FIGURE_SUFFIXES:
        for name in run.files.names("figures", suffix):
            run.files.remove(name)
    run.files.write_json(ENVIRONMENT, environment | {"next_config_sha256": digest(config)})
    run.files.write_text(CONFIG, dump(config))
    history = [*environment.get("history", []), part]
    run.write_environment(environment | {"config_sha256": digest(config), "history": history})
