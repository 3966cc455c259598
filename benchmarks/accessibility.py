"""What axe-core finds on pages that vaexp writes, at two widths, in light and in dark.

    npm pack axe-core && tar xf axe-core-*.tgz
    python -m benchmarks.accessibility package/axe.min.js PAGE.html ...

It opens the pages from disk in a headless Chromium and prints a Markdown table: how many of axe's
rules found nothing, and each rule that found something with its impact and the number of elements.
It ends with exit code 1 if anything is serious or critical.
"""

import argparse
import tempfile
from pathlib import Path

from tests.browser import Browser, started

WIDTHS = (360, 1600)
SERIOUS = ("serious", "critical")


def findings(browser: Browser, axe: str, page: Path, width: int, dark: bool) -> tuple[str, bool]:
    """A row of the table, and whether anything in it is serious."""
    tab = browser.open(page, width, dark=dark)
    tab.call("Runtime.evaluate", expression=axe)
    version, passed, found = tab.ask(
        "axe.run().then((r) => [axe.version, r.passes.length, "
        "r.violations.map((v) => [v.id, v.impact, v.nodes.length])])"
    )
    said = "; ".join(f"{name} ({impact}, {count})" for name, impact, count in found) or "nothing"
    cells = [page.name, str(width), "dark" if dark else "light", version, str(passed), said]
    return f"| {' | '.join(cells)} |", any(impact in SERIOUS for _, impact, _ in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("axe", type=Path, help="axe.min.js")
    parser.add_argument("pages", type=Path, nargs="+")
    options = parser.parse_args()
    axe = options.axe.read_text(encoding="utf-8")
    serious = False
    print("| page | width | colours | axe | rules without a finding | findings |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as profile, started(Path(profile)) as browser:
        for page in options.pages:
            for width in WIDTHS:
                for dark in (False, True):
                    row, bad = findings(browser, axe, page, width, dark)
                    print(row, flush=True)
                    serious = serious or bad
    raise SystemExit(int(serious))


if __name__ == "__main__":
    main()
