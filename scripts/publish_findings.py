"""Make docs/findings.md, with its pictures in docs/findings, from a finished reproduction.

    python scripts/publish_findings.py REPRODUCTION

REPRODUCTION is the folder that ``vaexp reproduce`` made. Nothing is changed but where the pictures
lie, so every number is one of its runs. Its page has the report's fourteen figures as well.
"""

import re
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
PICTURE = re.compile(r"\]\(figures/([\w-]+\.png)\)")


def main() -> None:
    """Copy the findings and the pictures that they show; print the path of the text."""
    made = Path(sys.argv[1])
    text = (made / "findings.md").read_text(encoding="utf-8")
    shutil.rmtree(DOCS / "findings", ignore_errors=True)
    (DOCS / "findings").mkdir()
    for name in PICTURE.findall(text):
        shutil.copyfile(made / "figures" / name, DOCS / "findings" / name)
    path = DOCS / "findings.md"
    path.write_text(PICTURE.sub(r"](findings/\1)", text), encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
