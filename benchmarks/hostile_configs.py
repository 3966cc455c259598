"""Mutated configs through ``vaexp validate``, in one process: no traceback, no hang, exit 0 or 2.

    python -m benchmarks.hostile_configs [--configs 3500] [--seed 1] [--sweeps]

Each config is a shipped one, or with --sweeps a shipped sweep, changed one to four times: in its
bytes, its lines, its scalars, its structure, or replaced by something large or deep. Anything that
is written, in the current folder or in a HOME of its own, is a failure too. Prints every failure
with the seed that makes it again, and the slowest config. The exit code is 1 if one failed.
"""

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from benchmarks.outside import changes, snapshot
from vaexp.cli import app
from vaexp.config import shipped_configs, shipped_sweeps

LIMIT = 2.0  # seconds
TAGS = [
    *("!!int", "!!float", "!!bool", "!!null", "!!str", "!!binary", "!!timestamp", "!!set"),
    *("!!omap", "!!map", "!!seq", "!!python/object/apply:os.system", "!", "!x", "!<tag:a,b>"),
    "!!%0a%1b",
]
SCALARS = [
    *("null", "~", "", "true", "on", ".nan", "-.inf", "1e999", "-0", "-1", "1_0", "0b1", "0o8"),
    *("0x" + "f" * 3000, "9" * 5000, "9" * 400, "1e-400", "2026-11-26", "1:30", "'", '"', "["),
    *("{", "- ", "? ", "*a", "&a 1", "&a [*a]", "<<", "<<: *a", "|\n  x", ">-\n x", "%TAG", "@"),
    *("`", "\\0", '"\\0"', "\ud800", "\u2028", "\u202e", "\x1b[2J", "\x00", "\x85", "é", "日本"),
    *("x" * 70_000, "#", " #", ": ", "$HOME", "$NO_SUCH", "~nobody_at_all/x", "[[[[]]]]"),
    *("{a: {b: {c: 1}}}", "[1, [2]]"),
]
SIGNS = ":-{}[]&*#!|>'\"%@`,?"


def _position(text: str, draw: random.Random) -> int:
    return draw.randrange(len(text) + 1)


def change_bytes(text: str, draw: random.Random) -> str:
    for _ in range(draw.choice([1, 3, 30])):
        at = _position(text, draw)
        kind = draw.randrange(3)
        new = draw.choice([chr(draw.randrange(128)), chr(draw.randrange(0xD7FF)), *SIGNS])
        text = text[:at] + (new if kind else "") + text[at + (kind != 1) :]
    return text


def change_lines(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    at, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(5):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[other])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = " " * draw.randrange(9) + lines[at].lstrip()
        case _:
            lines[at] = "\t" + lines[at]
    return "".join(lines)


def change_a_scalar(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    keys = [i for i, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    if not keys:
        return text
    i = draw.choice(keys)
    key, _, value = lines[i].partition(":")
    new = draw.choice(SCALARS) if draw.random() < 0.7 else value.strip()
    tag = draw.choice(TAGS) + " " if draw.random() < 0.4 else ""
    lines[i] = f"{key}: {tag}{new}\n"
    return "".join(lines)


def change_a_key(text: str, draw: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    keys = [i for i, line in enumerate(lines) if ":" in line]
    if not keys:
        return text
    i = draw.choice(keys)
    key, _, value = lines[i].partition(":")
    indent = key[: len(key) - len(key.lstrip())]
    lines[i] = f"{indent}{draw.choice([*SCALARS, 'model', 'train', 'kind', 'labels'])}:{value}"
    return "".join(lines)


def cut(text: str, draw: random.Random) -> str:
    return text[: _position(text, draw)]


def something_large(text: str, draw: random.Random) -> str:
    n = draw.choice([10, 1_000, 50_000])
    match draw.randrange(8):
        case 0:
            return text + "".join(f"key{i}: {i}\n" for i in range(n))
        case 1:
            return "[" * n + text
        case 2:
            return text + "extra: " + "{a: " * n
        case 3:
            return text + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
        case 4:
            made = (
                f"m{i}: &m{i} {{<<: [*m{i - 1}, *m{i - 1}, *m{i - 1}]}}\n" for i in range(1, 40)
            )
            return "m0: &m0 {x: 1}\n" + "".join(made) + text
        case 5:
            return text + "#" * n + "\n" + "\n" * n
        case 6:
            return text + "extra: '" + "''" * n + "'\n"
        case _:
            return text + "- " * n


CHANGES: list[Callable[[str, random.Random], str]] = [
    *(change_bytes, change_lines, change_a_scalar, change_a_scalar, change_a_key, cut),
    something_large,
]


def hostile(seed: int, shipped: dict[str, Path]) -> bytes:
    """The config of a seed, made of one of those that are shipped."""
    draw = random.Random(seed)
    text = draw.choice([*shipped.values()]).read_text(encoding="utf-8")
    for _ in range(draw.randint(1, 4)):
        text = draw.choice(CHANGES)(text, draw)
    content = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.05:  # not UTF-8, or another encoding
        content = draw.choice(
            [text.encode("utf-16", "surrogatepass"), content + b"\xff", b"\xef\xbb\xbf" + content]
        )
    return content


def overrides(seed: int) -> list[str]:
    """What is changed in the config of a seed on the command line."""
    draw = random.Random(seed)
    value = draw.choice(SCALARS).replace("\0", "0")
    return [f"model.beta={value}"] if draw.random() < 0.2 else []


def complaint(path: Path, settings: list[str]) -> tuple[str | None, int, float]:
    """What is wrong with how ``validate`` takes a file, its exit code and its seconds."""
    began = time.perf_counter()
    done = CliRunner().invoke(app, ["validate", "--", str(path), *settings])
    seconds = time.perf_counter() - began
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {done.exception}"[:200], done.exit_code, seconds
    if done.exit_code not in (0, 2):
        return f"exit code {done.exit_code}: {done.stderr[:200]}", done.exit_code, seconds
    if (
        "Traceback" in done.stderr
        or "a fault of vaexp" in done.stderr
        or (done.exit_code == 2 and not done.stderr.strip())
    ):
        return f"says {done.stderr[:200]!r}", done.exit_code, seconds
    if len(done.stderr) > 20_000 or any(c < " " and c != "\n" for c in done.stderr):
        return f"{len(done.stderr)} characters, or control characters", done.exit_code, seconds
    if seconds > LIMIT:
        return f"{seconds:.1f} s", done.exit_code, seconds
    return None, done.exit_code, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--configs", type=int, default=3_500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sweeps", action="store_true", help="change the shipped sweeps")
    wanted = parser.parse_args()
    shipped = shipped_sweeps() if wanted.sweeps else shipped_configs()
    codes, failures, slowest = Counter[int](), 0, (0.0, 0)
    with tempfile.TemporaryDirectory() as temporary:
        home, here = Path(temporary, "home"), Path(temporary, "here")
        home.mkdir()
        here.mkdir()
        (home / ".profile").write_text("export EDITOR=vi\n")
        os.environ |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
        os.environ["MPLCONFIGDIR"] = str(Path(temporary, "matplotlib"))
        before, path = snapshot(home), Path("hostile.yaml")
        with contextlib.chdir(here):
            for seed in range(wanted.seed, wanted.seed + wanted.configs):
                path.write_bytes(hostile(seed, shipped))
                wrong, code, seconds = complaint(path, overrides(seed))
                written = changes(before, snapshot(home)) + [
                    each.name for each in Path().iterdir() if each != path
                ]
                codes[code] += 1
                slowest = max(slowest, (seconds, seed))
                for fault in (wrong, f"written: {written}" if written else None):
                    if fault is not None:
                        failures += 1
                        print(f"seed {seed}: {fault}")
                if written:
                    sys.exit(1)  # as all others after it would be blamed for it
    print(f"{wanted.configs} configs, exit codes {dict(codes)}, {failures} failures")
    print(f"slowest: {slowest[0]:.2f} s, seed {slowest[1]}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
