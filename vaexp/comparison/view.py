"""A comparison as titled tables: two or three runs are columns, and more are rows."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

from vaexp.comparison.compare import Comparison
from vaexp.comparison.differences import Difference
from vaexp.comparison.over_seeds import OverSeeds, Spread
from vaexp.evaluation.groups import GROUPS
from vaexp.evaluation.tails import ROWS as TAIL_ROWS
from vaexp.evaluation.tails import tail_numbers
from vaexp.runs.listing import HEADLINE
from vaexp.shown import ABSENT, show_entry, show_error, show_number, show_value
from vaexp.tables import Table

MOST_COLUMNS = 3  # runs, or groups of runs, that are columns
MAIN = (*HEADLINE, "rate")
"""The metrics of the table in which each run is a row."""


def tables(comparison: Comparison, *, tails: bool = True) -> list[Table]:
    """The tables of a comparison: the runs, their settings, their metrics, and means over seeds.

    ``tails`` says whether many runs have the numbers that say how much of a mean few images hold.
    Two or three runs always have them.
    """
    if len(comparison.runs) > MOST_COLUMNS:
        return [*_runs_as_rows(comparison, tails), *seed_tables(comparison, tails=tails)]
    legend = [
        [name, description, path]
        for name, description, path in zip(
            comparison.runs, comparison.descriptions, comparison.paths, strict=True
        )
    ]
    if not comparison.others:
        return [Table("Run", ["run", "model", "folder"], legend), *_of_one_run(comparison)]
    settings = [[key, *map(show_value, values)] for key, values in comparison.settings.items()] or [
        ["none", *[""] * len(comparison.runs)]
    ]
    minus = [f"{name} minus {comparison.baseline}" for name in comparison.others]
    headers = ["metric", *comparison.runs, *minus]
    return [
        Table("Runs", ["run", "model", "folder"], legend),
        Table("Settings that differ", ["setting", *comparison.runs], settings),
        *[
            Table(
                title, headers, [[row.title, *row.values, *row.differences] for row in rows]
            ).without_empty(1 + len(comparison.runs))
            for title, rows in _by_group(comparison).items()
        ],
        *seed_tables(comparison),
    ]


def _of_one_run(comparison: Comparison) -> list[Table]:
    """The measures of a single run, with the interval around each."""
    return [
        Table(
            title,
            ["metric", "value", "95 % interval"],
            [
                [row.title, *row.values, ABSENT if row.is_tail else _interval(entry)]
                for row in rows
                for entry in comparison.metrics[row.metric]
            ],
        )
        for title, rows in _by_group(comparison).items()
    ]


def _interval(entry: dict[str, Any] | None) -> str:
    """The interval that a measure states, or else its value ± 1.96 standard errors."""
    if entry is None or not (entry.get("se") or "interval" in entry):
        return ABSENT
    value, away = entry["value"], 1.96 * (entry.get("se") or 0.0)
    low, high = entry.get("interval", (value - away, value + away))
    error = (high - low) / 4  # so that both ends have the digits that the value has
    return " to ".join(show_number(end, error).split(" ± ")[0] for end in (low, high))


class _Row(NamedTuple):
    """A metric, or one of the tails that stand below it, as text."""

    metric: str
    title: str
    is_tail: bool
    values: list[str]
    """One for each run."""
    differences: list[str]
    """One for each run except the baseline."""


def _by_group(comparison: Comparison) -> dict[str, list[_Row]]:
    """By its title, the rows of the test metrics and of each group of vaexp evaluate."""
    rows: dict[str, list[_Row]] = {}
    for name, entries in comparison.metrics.items():
        differences = comparison.differences[name]
        values = list(map(show_entry, entries))
        row = _Row(
            name, metric_name(name, entries), False, values, list(map(show_difference, differences))
        )
        rows.setdefault(title_of(entries), []).extend([row, *_tails(name, entries, differences)])
    titles = [TITLE, *(group.title for group in GROUPS.values())]
    known = [title for title in titles if title in rows]
    return {title: rows[title] for title in dict.fromkeys([*known, *rows])}


def _tails(
    name: str, entries: Sequence[dict[str, Any] | None], differences: Sequence[Difference] = ()
) -> list[_Row]:
    """The rows that say how much of a metric's means a few images hold."""
    values = [tail_numbers(entry or {}) for entry in entries]
    minus = [tail_numbers(asdict(one.tails), signed=True) for one in differences]
    return [
        _Row(
            name,
            f"· {title}",
            True,
            [cell.get(row, ABSENT) for cell in values],
            [cell.get(row, ABSENT) for cell in minus],
        )
        for row, title in TAIL_ROWS.items()
        if any(row in cell for cell in [*values, *minus])
    ]


def tail_rows(entry: dict[str, Any]) -> list[list[str]]:
    """The titles and numbers of the tails of one entry of metrics.json."""
    return [[row.title, *row.values] for row in _tails("", [entry])]


TITLE = "Test metrics, ± standard error over images"


def title_of(entries: Sequence[dict[str, Any] | None]) -> str:
    """The title of the table that a metric belongs to."""
    name = group(entries)
    known = None if name is None else GROUPS.get(name)  # another version of vaexp may know it
    return TITLE if name is None else name if known is None else known.title


def _runs_as_rows(comparison: Comparison, tails: bool) -> list[Table]:
    """The tables in which each run is a row: the headlines, and then all metrics by group."""
    runs, settings = comparison.runs, comparison.settings
    shown = [name for name in MAIN if name in comparison.metrics]
    places = _places(comparison)
    columns = [["rank", *(places.get(run, ABSENT) for run in runs)]] if places else []
    columns += [
        [metric_name(name, entries), *map(show_entry, entries)]
        for name in shown
        for entries in [comparison.metrics[name]]
    ]
    columns += [[key, *map(show_value, values)] for key, values in settings.items()]
    columns.append(["folder", *comparison.paths])
    title = f"{len(runs)} runs: test metrics ± standard error over images, and settings that differ"
    main = Table(title, ["", *runs], columns, _common(comparison)).transposed("run")
    answer = [main.without_shared()]
    by_group = _by_group(comparison)
    for title, rows in by_group.items():
        columns = [
            [_column(row), *row.values]
            for row in rows
            if (tails if row.is_tail else row.metric not in shown)
        ]
        answer += _rows_of(title, runs, columns)
    for title, rows in by_group.items():
        columns = [[_column(row), *row.differences] for row in rows if tails or not row.is_tail]
        title = f"{title.split(',')[0]}, minus {comparison.baseline}"
        answer += _rows_of(title, comparison.others, columns)
    return answer


def _places(comparison: Comparison) -> dict[str, str]:
    """The place of each ranked run, and the group in which it has it if there are several."""
    several = len(comparison.rankings) > 1
    return {
        run: f"{place} in group {i}" if several else place
        for i, ranking in enumerate(comparison.rankings, start=1)
        for run, place in ranking.places().items()
    }


def _rows_of(title: str, runs: Sequence[str], columns: list[list[str]]) -> list[Table]:
    """A table with a row for each run that has any of it, or none if nothing stands in it."""
    rows = Table(title, ["", *runs], columns).transposed("run")
    some = [row for row in rows.rows if set(row[1:]) != {ABSENT}]
    left = len(rows.rows) - len(some)
    above = f"{left} of the runs have none of these." if left > 1 else ""
    above = "1 of the runs has none of these." if left == 1 else above
    table = replace(rows, rows=some, above=above).without_shared()
    return [table] if some and (len(table.headers) > 1 or table.above) else []


def _column(row: _Row) -> str:
    """The title of a row as the header of a column, which stands alone."""
    return f"{row.metric} {row.title}" if row.is_tail else row.title


def _common(comparison: Comparison) -> str:
    """What the descriptions of all runs say, in a sentence."""
    parts = [description.split(", ") for description in comparison.descriptions]
    shared = [part for part in parts[0] if all(part in other for other in parts)]
    return f"All runs: {', '.join(shared)}." if shared else ""


def group(entries: Sequence[dict[str, Any] | None]) -> str | None:
    """The group of a measure, from its entries in each run, or None if training measures it."""
    return next((entry.get("group") for entry in entries if entry), None)


def seed_tables(comparison: Comparison, *, tails: bool = True) -> list[Table]:
    """The tables over runs that differ in their seed only, if there are any.

    Two or three groups of runs are columns, and the numbers that say how much of a mean few images
    hold are rows below it. More groups are rows, and these numbers have a table of their own if
    ``tails`` asks for it.
    """
    groups = comparison.over_seeds
    if not groups:
        return []
    means, further = _seed_rows(comparison)
    names = [one.title for one in groups] if len(groups) > 1 else ["mean ± sd"]
    counts = [str(len(one.runs)) for one in groups]
    if len(groups) > MOST_COLUMNS or len(set(counts)) == 1:
        counts = [" or ".join(dict.fromkeys(counts))]
    title = (
        f"Over seeds: mean ± standard deviation of {', '.join(counts)} runs; differences, "
        "unpaired, ± standard error over seeds; last, ± standard error over the test images, which "
        "all seeds share"
    )
    if len(groups) <= MOST_COLUMNS:
        headers = ["metric", names[0]]
        headers += [cell for name in names[1:] for cell in (name, f"minus {names[0]}")]
        rows = [row for name in means for row in (means[name], *further[name])]
        return [Table(title, headers, rows)]
    answer = [_groups_as_rows(title, groups, list(means.values()))]
    beside = [[f"{name} {row[0]}", *row[1:]] for name in means for row in further[name]]
    if tails and beside:
        title = (
            "Over seeds, what stands beside the means of log-likelihoods: mean ± standard "
            "deviation over runs; differences are those of each image's means over runs, ± "
            "standard error over the test images"
        )
        answer.append(_groups_as_rows(title, groups, beside))
    return answer


def _groups_as_rows(title: str, groups: Sequence[OverSeeds], rows: Sequence[list[str]]) -> Table:
    """A table with a row for each group of runs, from rows for each metric."""
    names = [f"{one.runs[0]} and {len(one.runs) - 1} more" for one in groups]
    settings = [
        [key, *(show_value(one.settings[key]) for one in groups)] for key in groups[0].settings
    ]
    means = [[row[0], row[1], *row[2::2]] for row in rows]
    minus = [[f"{row[0]} minus the first row", ABSENT, *row[3::2]] for row in rows]
    table = Table(title, ["", *names], [*settings, *means, *minus])
    return table.transposed("runs").without_shared()


def _seed_rows(comparison: Comparison) -> tuple[dict[str, list[str]], dict[str, list[list[str]]]]:
    """By the name of a metric, its row over seeds, and the rows of its tails.

    A row has a title, the mean of each group, and behind all but the first its difference.
    """
    groups = comparison.over_seeds
    means, further = {}, {}
    for name in dict.fromkeys(name for one in groups for name in one.metrics):
        title = metric_name(name, comparison.metrics[name])
        spreads = [one.metrics.get(name) for one in groups]
        minus = [one.differences.get(name, Difference()) for one in groups]
        cells = [
            ABSENT
            if spread is None
            else show_number(spread.mean, spread.sd) + _over_images(spread.se_images)
            for spread in spreads
        ]
        means[name] = [title, *_with_differences(cells, map(show_difference, minus))]
        beside = [_spreads_of_tails(spread) for spread in spreads]
        of_minus = [tail_numbers(asdict(one.tails), signed=True) for one in minus]
        further[name] = [
            [
                f"· {title}",
                *_with_differences(
                    [one.get(row, ABSENT) for one in beside],
                    [one.get(row, ABSENT) for one in of_minus],
                ),
            ]
            for row, title in TAIL_ROWS.items()
            if any(row in one for one in [*beside, *of_minus])
        ]
    return means, further


def _with_differences(cells: Iterable[str], differences: Iterable[str]) -> list[str]:
    """The cells of the groups, each with its difference behind it; the first one has none."""
    first, _, *others = (cell for pair in zip(cells, differences, strict=True) for cell in pair)
    return [first, *others]


def _spreads_of_tails(spread: Spread | None) -> dict[str, str]:
    """The numbers of ``TAIL_ROWS``, mean ± standard deviation over runs, as text."""
    return {
        row: show_number(one.mean, one.sd, signed=row == "extreme_1_percent")
        for row, one in (spread.tails if spread else {}).items()
    }


def show_difference(difference: Difference) -> str:
    """A difference as text: of means over seeds its error over seeds, then that over images."""
    if difference.value is None:
        return ABSENT
    text = show_number(difference.value, difference.se, signed=True)
    return text + _over_images(difference.se_images)


def _over_images(se: float | None) -> str:
    """A second error, over images, behind that over seeds."""
    return f" ± {show_error(se)}" if se else ""


def metric_name(name: str, entries: Sequence[dict[str, Any] | None]) -> str:
    """The title of a metric's row: its name, its k, its unit and its kind."""
    entry = next(entry for entry in entries if entry is not None)
    details = [entry["unit"]]
    counts = dict.fromkeys(str(entry["k"]) for entry in entries if entry and "k" in entry)
    if counts:
        details.insert(0, f"k = {' or '.join(counts)}")
    kinds = dict.fromkeys(entry["kind"] for entry in entries if entry and "kind" in entry)
    if kinds:
        details.append(" or ".join(kinds).replace("_", " "))
    details = [detail for detail in details if detail]
    return f"{name} ({', '.join(details)})" if details else name
