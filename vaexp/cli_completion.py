"""What the shell completes after TAB: shipped configs, settings, runs and groups. No torch.

A shell with nothing to choose from completes the names of files, so paths are left to it. Whatever
is wrong with a config or a folder is no concern here: then there is less to choose from. Configs
and runs are imported where they are needed, as every command imports this module.
"""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from vaexp.errors import RunError, UserError
from vaexp.evaluation.groups import GROUPS
from vaexp.paths import expanded

if TYPE_CHECKING:
    from vaexp.config import Config
    from vaexp.config.section import Section

Candidates = list[tuple[str, str]]
"""What may stand there, each with a few words for shells that show them."""


def configs(incomplete: str) -> Candidates:
    """The shipped configs whose names begin so."""
    from vaexp.config import shipped_configs, summary

    return [
        (name, summary(path))
        for name, path in shipped_configs().items()
        if name.startswith(incomplete)
    ]


def configs_and_sweeps(incomplete: str) -> Candidates:
    """The shipped configs and the shipped sweeps whose names begin so."""
    from vaexp.config import shipped_sweeps, summary

    return configs(incomplete) + [
        (name, summary(path))
        for name, path in shipped_sweeps().items()
        if name.startswith(incomplete)
    ]


def configs_or_settings(ctx: typer.Context, incomplete: str) -> Candidates:
    """The arguments of ``validate``: configs and sweeps, and after the first of them settings."""
    given = ctx.params.get("arguments") or ()
    return configs_and_sweeps(incomplete) + (
        _settings(given[:1], given, incomplete) if given else []
    )


def settings(ctx: typer.Context, incomplete: str) -> Candidates:
    """KEY=VALUE with the keys of the config that was given, and values where there are a few."""
    config = ctx.params.get("config")
    given = ctx.params.get("overrides") or ()
    return _settings([] if config is None else [config], given, incomplete)


def _settings(config: Sequence[str], given: Sequence[str], incomplete: str) -> Candidates:
    experiments = _experiments(config)
    every = {name: words for one in experiments for name, words in _keys(one)}
    key, equals, value = incomplete.partition("=")
    if equals:
        found = _values(experiments, key)
        return [(f"{key}={one}", "") for one in found if one.startswith(value)]
    # bash takes the = for a word of its own, which is lost where nothing follows it
    before = [word for word in given[-2:] if word != "="]
    if before and before[-1] in every:
        found = _values(experiments, before[-1])
        return [(one, "") for one in found if one.startswith(incomplete)]
    return [(f"{name}=", words) for name, words in every.items() if name.startswith(incomplete)]


def varied_settings(ctx: typer.Context, incomplete: str) -> Candidates:
    """The keys that the options of ``sweep`` take, followed by =."""
    return [] if "=" in incomplete else settings(ctx, incomplete)


def _experiments(config: Sequence[str]) -> "list[type[Config]]":
    """The kind of experiment that a config describes; all of them if it cannot be read.

    Stdin, for which - stands, is the terminal as long as the shell completes.
    """
    from vaexp.config import read_config
    from vaexp.config.experiments import EXPERIMENTS

    if config[:1] == ["-"]:
        return [*EXPERIMENTS.values()]
    try:
        return [type(read_config(config[0])[0])]
    except (UserError, RunError, OSError, IndexError):
        return [*EXPERIMENTS.values()]


def _keys(section: "type[Section]", before: str = "") -> Iterator[tuple[str, str]]:
    """The dotted keys of a section that have values, and the first sentence on each."""
    for key, field in section.model_fields.items():
        below = section.below(key)
        if below is None:
            yield f"{before}{key}", (field.description or "").partition(". ")[0].replace("\n", " ")
        else:
            yield from _keys(below, f"{before}{key}.")


def _values(experiments: "Sequence[type[Config]]", key: str) -> list[str]:
    """The values that a dotted key may have, where they can be listed."""
    found: dict[str, None] = {}
    for experiment in experiments:
        section: type[Section] | None = experiment
        *above, last = key.split(".")
        for part in above:
            section = None if section is None else section.below(part)
        if section is not None and last in section.model_fields:
            found |= dict.fromkeys(section.choices(last))
    return [*found]


def runs(ctx: typer.Context, incomplete: str) -> Candidates:
    """The runs whose names begin so, with or without date and time, and ``latest``."""
    from vaexp.runs.find import LATEST, RUNS, runs_below
    from vaexp.runs.folder import short_name

    if "/" in incomplete:
        return []
    folder = ctx.params.get("runs_dir") or RUNS
    try:
        path = expanded(folder)
        names = [run.path.name for run in runs_below(path)] if os.path.isdir(path) else []
    except (UserError, OSError):
        return []
    both = [name for run in reversed(names) for name in (run, short_name(run))]
    found = [name for name in dict.fromkeys(both) if incomplete and name.startswith(incomplete)]
    if not incomplete:
        found = names[::-1]
    latest = [LATEST] if names and LATEST.startswith(incomplete) else []
    return [(name, "") for name in (*latest, *found)]


def run_keys(ctx: typer.Context, incomplete: str) -> Candidates:
    """The keys of the runs in the folder that is listed, or in runs/.

    While an option has no value yet, what was given before it stands in ``ctx.args``.
    """
    from vaexp.runs.find import RUNS
    from vaexp.runs.keys import known_keys
    from vaexp.runs.listing import list_runs

    try:
        path = expanded(ctx.args[0] if ctx.args else RUNS)
        listed = list_runs(path) if os.path.isdir(path) else []
    except (UserError, OSError):
        return []
    keys = known_keys(listed) if listed else []
    return [(key, "") for key in keys if key.startswith(incomplete)]


def several_run_keys(ctx: typer.Context, incomplete: str) -> Candidates:
    """The same, of which several may be given with commas between."""
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    found = [key for key, _ in run_keys(ctx, last) if key not in given]
    return [(f"{before}{comma}{key}", "") for key in found]


def groups(incomplete: str) -> Candidates:
    """The groups of measures, of which several may be given with commas between."""
    before, comma, last = incomplete.rpartition(",")
    return [
        (f"{before}{comma}{name}", group.answers)
        for name, group in GROUPS.items()
        if name.startswith(last) and name not in before.split(",")
    ]
