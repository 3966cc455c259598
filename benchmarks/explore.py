"""Measure how fast a live page decodes, in a headless Chromium.

    python benchmarks/explore.py [PAGE] [--rounds 50]

PAGE is docs/explore.html by default, which scripts/explore_page.py makes: the quickstart, whose
decoder has layers of 256 and 512. It prints, as a Markdown table, the time of a decode with its
picture and of a plane of 21 x 21 images, and how many frames a second are drawn while the point is
dragged. The fastest time is that of a machine with nothing else to do.
"""

import argparse
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from browser import Browser, Tab, started  # noqa: E402

AIMS = {"decode": 4, "plane": 200}  # ms
NAMES = {"decode": "a decode and its picture", "plane": "a plane of 21 × 21 images"}

# It runs behind the modules of the page, in their scope.
TIMING = """
window.timed = async (rounds) => {
  const data = await opened();
  const { model } = data.runs[0];
  const canvas = document.createElement("canvas");
  const random = randomFrom(1);
  const point = () => Array.from({ length: model.latent }, () => random.normal());
  const decoded = () => decode(model, LIKELIHOODS, point(), 4).mean;
  const of = (work) => {
    const began = performance.now();
    work();
    return performance.now() - began;
  };
  const times = (count, work) => {
    const sorted = Array.from({ length: count }, () => of(work)).sort((a, b) => a - b);
    return { median: sorted[count >> 1], fastest: sorted[0] };
  };
  const row = () => decodeAll(model, LIKELIHOODS, Array.from({ length: 21 }, point), 4)
    .map(({ mean }) => mean);
  times(20, decoded);
  return {
    decode: times(rounds, () => {
      paintImage(canvas, decoded());
      canvas.getContext("2d").getImageData(0, 0, 1, 1); // waits until it is painted
    }),
    plane: times(15, () => mosaic(Array.from({ length: 21 }, row))),
  };
};
"""

DRAG = """
new Promise((done) => {
  const plane = document.querySelector("#plane");
  const box = plane.getBoundingClientRect();
  const at = (name, i) => plane.dispatchEvent(new PointerEvent(name, { pointerId: 1,
    clientX: box.left + box.width * (0.5 + 0.3 * Math.cos(i / 20)),
    clientY: box.top + box.height * (0.5 + 0.3 * Math.sin(i / 20)) }));
  plane.setPointerCapture = () => {};
  plane.hasPointerCapture = () => true;
  const times = [];
  const step = (now) => {
    times.push(now);
    if (times.length > 120) {
      done(120000 / (times[120] - times[0]));
      return;
    }
    at(times.length === 1 ? "pointerdown" : "pointermove", times.length);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})
"""


def measured(
    browser: Browser, page: Path, folder: Path, rounds: int
) -> tuple[dict[str, dict[str, float]], float]:
    """The times in ms of the same page with the timing behind its script, and its frames a second.

    The policy of the page is taken out, as it names the script without the timing.
    """
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    before, script = text.split('<script type="module">')
    script, after = script.split("</script>")
    copy = folder / "timed.html"
    copy.write_text(f'{before}<script type="module">{script}{TIMING}</script>{after}', "utf-8")
    tab: Tab = browser.open(copy)
    return tab.ask(f"window.timed({rounds})"), tab.ask(DRAG)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path, default=ROOT / "docs" / "explore.html")
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder, started(Path(folder) / "profile") as browser:
        times, frames = measured(browser, arguments.page, Path(folder), arguments.rounds)
    print("| what | median ms | fastest ms | aim ms |\n|---|---|---|---|")
    for name, words in NAMES.items():
        found = times[name]
        print(f"| {words} | {found['median']:.1f} | {found['fastest']:.1f} | {AIMS[name]} |")
    print(f"\nDragging the point: {frames:.0f} frames a second. The aim is 60.")


if __name__ == "__main__":
    main()
