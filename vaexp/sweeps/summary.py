"""``comparison.md``: the trials of a sweep by their settings, with mean and spread over seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from vaexp.comparison.compare import compare
from vaexp.comparison.notes import seed_notes
from vaexp.comparison.render import render
from vaexp.comparison.view import metric_name, seed_tables
from vaexp.errors import RunError, UserError
from vaexp.files import write_text
from vaexp.shown import median_beside, show_entry
from vaexp.sweeps.folder import TABLE, State, Sweep
from vaexp.sweeps.trials import Trial
from vaexp.tables import Table, markdown

NAME = "comparison.md"
MOST_SIDE_BY_SIDE = 8  # runs or groups of runs, each of which has two columns
MOST_COMPARED = 200  # runs, whose arrays are read for it

Entries = dict[str, dict[str, Any]]
Settings = tuple[str, ...]
"""The values of the keys that are varied, other than the seed, as overrides write them."""


def write_summary(sweep: Sweep, states: Sequence[State]) -> Path | None:
    """Write comparison.md anew, unless no trial has finished; returns its path.

    It stays as it is while it is newer than everything that it shows.
    """
    path = sweep.path / NAME
    done = [
        (trial, state) for trial, state in zip(sweep.trials, states, strict=True) if state.is_done
    ]
    if not done:
        return None
    shown = [
        sweep.path / TABLE,
        *(state.run.path / "metrics.json" for _, state in done if state.run),
    ]
    if path.exists() and path.stat().st_mtime >= max(one.stat().st_mtime for one in shown):
        return path
    groups = by_settings(sweep, done)
    headers, rows = test_metrics(sweep, groups)
    runs = {row[headers.index("runs")] for row in rows}
    what = "mean ± standard deviation over seeds"
    if "1" in runs:
        only = "of one run the value " if len(runs) > 1 else "value "
        what = (f"{what}; " if len(runs) > 1 else "") + f"{only}± standard error over images"
    parts = [
        f"# {sweep.path.resolve().name}",
        f"{describe(states)}. The config is {sweep.record.config}: "
        f"{sweep.record.base.config.describe()}, with the settings below. {TABLE} has a row for "
        "every trial.",
        f"## Test metrics by settings: {what}",
        markdown(Table("", headers, rows)).rstrip(),
        "A density depends on what stands in brackets beside it. Only the comparison of runs says "
        "which numbers may be subtracted.",
        *criteria(sweep, groups),
        _side_by_side(done),
    ]
    write_text(path, "\n\n".join(parts) + "\n")
    return path


def describe(states: Sequence[State]) -> str:
    """How many trials there are, and how many of each status."""
    counts = Counter(state.status for state in states)
    listed = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    return f"{len(states):,} {'trial' if len(states) == 1 else 'trials'}: {listed}"


def by_settings(sweep: Sweep, done: Sequence[tuple[Trial, State]]) -> dict[Settings, list[State]]:
    """The finished trials, those of all seeds together."""
    groups: dict[Settings, list[State]] = {}
    for trial, state in done:
        values = dict(zip(sweep.record.keys, sweep.record.values(trial), strict=True))
        settings = tuple(values[key] for key in varied(sweep))
        groups.setdefault(settings, []).append(state)
    return groups


def varied(sweep: Sweep) -> list[str]:
    """The keys that any trial sets, other than the seed."""
    return [key for key in sweep.record.keys if key != "seed"]


def test_metrics(
    sweep: Sweep, groups: Mapping[Settings, Sequence[State]]
) -> tuple[list[str], list[list[str]]]:
    """The headers and rows of the table of test metrics by settings."""
    runs = [state.metrics for states in groups.values() for state in states]
    names = [
        name
        for name in dict.fromkeys(name for run in runs for name in run)
        if all("group" not in run.get(name, {}) for run in runs)
    ]
    titles = [metric_name(name, [run.get(name) for run in runs]) for name in names]
    rows = [
        [
            *values,
            str(len(states)),
            *(cell([state.metrics for state in states], name) for name in names),
        ]
        for values, states in groups.items()
    ]
    return [*varied(sweep), "runs", *titles], rows


def criteria(sweep: Sweep, groups: Mapping[Settings, Sequence[State]]) -> list[str]:
    """The paragraphs on AIC and BIC by settings, and on the settings at which they are smallest.

    There are none if no run has these numbers, which need ln p(x) itself. Where the training images
    or their transform differ between runs, nothing is chosen.
    """
    splits = {
        values: [state.run.metrics() for state in states if state.run is not None]
        for values, states in groups.items()
    }
    train = {values: [one.get("train", {}) for one in runs] for values, runs in splits.items()}
    held_out = {
        values: [one.get("validation", {}) for one in runs] for values, runs in splits.items()
    }
    aic = means(train, "aic")
    bic = {values: one for values, one in means(train, "bic").items() if values in aic}
    if not bic:
        return []
    keys, title = varied(sweep), "## Information criteria of the training images"
    differ = [key for key in keys if key.startswith("data.")]
    order = list(bic) if differ else sorted(bic, key=bic.__getitem__)
    rows = [
        [
            *values,
            f"{max(run['bic'].get('parameters', 0) for run in train[values]):,}",
            cell(train[values], "bic"),
            cell(train[values], "aic"),
            cell(held_out[values], "log_prob"),
        ]
        for values in order
    ]
    headers = [*keys, "free parameters", "bic, train", "aic, train", "log_prob, validation"]
    table = markdown(Table("", headers, rows)).rstrip()
    if differ:
        why = f"The images differ by {' and '.join(differ)}, so nothing can be chosen by them."
        return [title, table, why]
    if len(bic) < 2:
        return [title, table]
    said = f"BIC is smallest at {_at(keys, order[0])}, and AIC at "
    said += f"{_at(keys, min(order, key=aic.__getitem__))}."
    log_prob = {values: one for values, one in means(held_out, "log_prob").items() if values in bic}
    if log_prob:
        best = _at(keys, max(log_prob, key=log_prob.__getitem__))
        said += f" ln p(x) of the validation images is largest at {best}."
    if len({run["bic"].get("covariance_floor") for values in bic for run in train[values]}) > 1:
        said += " Their floors differ, and a density depends on its floor."
    return [f"{title}, the smallest BIC first", table, said]


def means(groups: Mapping[Settings, Sequence[Entries]], name: str) -> dict[Settings, float]:
    """The mean of a metric over seeds, of those settings whose runs have it."""
    return {
        values: mean(run[name]["value"] for run in runs)
        for values, runs in groups.items()
        if all(name in run for run in runs)
    }


def _at(keys: Sequence[str], values: Settings) -> str:
    """Settings as overrides."""
    return " ".join(f"{key}={value}" for key, value in zip(keys, values, strict=True))


def cell(runs: Sequence[Entries], name: str) -> str:
    """A metric of runs that differ in their seed, as text; a dash where none has it.

    Of one run it is the value ± standard error over images, of several their mean ± standard
    deviation. The median stands beside it as ``median_over_seeds`` says.
    """
    entries = [run[name] for run in runs if name in run]
    return show_entry(over_seeds(entries), median_over_seeds(entries))


def over_seeds(entries: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The entries of one metric as one, whose value is their mean and ``se`` their spread.

    Of a single entry it is that one, and of none None.
    """
    if len(entries) < 2:
        return entries[0] if entries else None
    values = [entry["value"] for entry in entries]
    shown = entries[0] | {"value": mean(values), "se": stdev(values)}
    effective = [one["effective_samples"] for one in entries if "effective_samples" in one]
    return shown | ({"effective_samples": min(effective)} if effective else {})


def median_over_seeds(entries: Sequence[dict[str, Any]]) -> str:
    """The median over images, the mean over seeds, where the mean contradicts it; else nothing.

    The error that decides is the standard error over images of a run.
    """
    if not entries or not all(
        entry.get("se") and entry.get("median") is not None for entry in entries
    ):
        return ""
    together = {key: mean(one[key] for one in entries) for key in ("value", "se", "median")}
    error = stdev(one["value"] for one in entries) if len(entries) > 1 else None
    return median_beside(together, error)


def _side_by_side(done: Sequence[tuple[Trial, State]]) -> str:
    """What ``vaexp compare`` says of the runs, as far as they are few enough for a column each."""
    runs = [state.run for _, state in done if state.run is not None]
    if 2 <= len(runs) <= MOST_COMPARED:
        try:
            comparison = compare(runs)
        except (UserError, RunError) as error:
            return f"The runs could not be compared: {error}"
        if len(runs) <= MOST_SIDE_BY_SIDE:
            return f"## Run by run\n\n{render(comparison, 'md')}".rstrip()
        if 1 < len(comparison.over_seeds) <= MOST_SIDE_BY_SIDE:
            parts = [markdown(table) for table in seed_tables(comparison)]
            return "\n".join([*parts, *[f"{note}\n" for note in seed_notes(comparison)]]).rstrip()
    return f"`vaexp compare` puts any of the runs side by side: their folders are in {TABLE}."
