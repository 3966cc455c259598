"""Measure how fast vaexp is beside its peers and beside the least that the work takes.

    python -m benchmarks [CASE ...]     from the root of the repository

It needs pythae, of the dependency group ``bench``. Without CASE all cases are measured, which takes
half an hour on two cores; nothing else should run beside it. What was measured is kept in
benchmarks/measured.json, where a case replaces its own last numbers, and the table in
benchmarks/README.md is made from that file. ``OMP_NUM_THREADS`` sets the threads of all programs.
"""

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks import commands, importance, mixtures, training
from benchmarks.harness import Case, Measured, measure, table

FILE = Path(__file__).with_name("measured.json")
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- python -m benchmarks: begin -->\n", "<!-- python -m benchmarks: end -->\n"
CASES = {
    **training.CASES,
    **importance.CASES,
    **mixtures.CASES,
    **commands.CASES,
}
"""Name -> makes the case, given a folder for its files."""


def kept() -> dict[str, Measured]:
    """What was measured before, in the order of the cases."""
    found = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return {name: Measured.load(found[name]) for name in CASES if name in found}


def keep(measured: dict[str, Measured]) -> None:
    """Write what was measured, and the table of README.md."""
    data = {name: measured[name].dump() for name in CASES if name in measured}
    FILE.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    whole = f"{before}{BEGIN}{table([*kept().values()])}\n{END}{after}"
    README.write_text(whole, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    arguments = parser.parse_args()
    unknown = [name for name in arguments.cases if name not in CASES]
    if unknown:
        parser.error(f"no case {', '.join(unknown)}; the cases are {', '.join(CASES)}")
    for name in arguments.cases or CASES:
        with tempfile.TemporaryDirectory() as folder:
            case: Case = CASES[name](Path(folder))
            measured = measure(case)
        print(table([measured]), flush=True)
        keep(kept() | {name: measured})


if __name__ == "__main__":
    main()
