"""Make docs/explore.html, the live page of the quickstart, and its picture docs/explore.png.

    python scripts/explore_page.py [RUN]

It trains the quickstart first, for a minute or two, unless RUN is a run of it. The picture is
taken by Chromium, and left as it is where there is none.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGE, PICTURE = DOCS / "explore.html", DOCS / "explore.png"
SHOWN = "#z=0.6,-0.4&sigma=0.2"  # a point off the codes, and a sigma by hand
SIZE = "1200,1530"  # pixels: down to the questions


def trained(folder: Path) -> Path:
    """A new run of the quickstart in a folder."""
    command = ["train", "quickstart", "--quick", "--runs-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "vaexp", *command], check=True, stdout=subprocess.PIPE, text=True
    )
    return Path(done.stdout.strip())


def take_picture() -> None:
    """Take the picture of the page, in its light colours."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        print("there is no Chromium here, so the picture was not taken", file=sys.stderr)
        return
    with TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        options += [f"--user-data-dir={profile}", f"--window-size={SIZE}"]
        options += ["--virtual-time-budget=20000", f"--screenshot={PICTURE}"]
        command = [browser, *options, PAGE.as_uri() + SHOWN]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def main() -> None:
    """Make the page and its picture, and print their paths."""
    with TemporaryDirectory() as folder:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else trained(Path(folder))
        explore = [sys.executable, "-m", "vaexp", "explore", str(run), "--out", str(PAGE)]
        subprocess.run(explore, check=True)
    take_picture()
    print(PICTURE)


if __name__ == "__main__":
    main()
