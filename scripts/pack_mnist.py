"""Pack the four original MNIST files into vaexp/data/mnist, without loss.

    python scripts/pack_mnist.py IDX_DIR

IDX_DIR holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
t10k-labels-idx1-ubyte, each plain or with .gz. The script needs nothing but Python. The same
liblzma makes the same bytes again. Another version may make other bytes, which decode to the same
files.
"""

import gzip
import hashlib
import lzma
import sys
from pathlib import Path

OUTPUT = Path(__file__).resolve().parents[1] / "vaexp" / "data" / "mnist"
LIMIT = 10_000_000  # bytes, all packed files together

# Name: magic number, number of parts, SHA-256 of the original, unpacked. The training images are
# cut into parts so that several threads can decode them.
FILES = {
    "train-images-idx3-ubyte": (
        0x803,
        4,
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        0x801,
        1,
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        0x803,
        1,
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        0x801,
        1,
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}

# These were found by measuring: neighbouring pixels matter (lc=4), and alignment does not (pb=0).
# The dictionary covers a whole part. A larger one would only need more memory to read.
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": 1 << 24,
        "lc": 4,
        "lp": 0,
        "pb": 0,
    }
]


def read_original(folder: Path, name: str) -> bytes:
    """The unpacked bytes of one original file; stops the program if they are not the original's."""
    magic, _, sha256 = FILES[name]
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        data = plain.read_bytes()
    elif packed.is_file():
        data = gzip.decompress(packed.read_bytes())
    else:
        sys.exit(f"{folder}: neither {name} nor {name}.gz is there")
    if int.from_bytes(data[:4], "big") != magic:
        sys.exit(f"{folder / name}: the magic number is not {magic:#010x}: not that IDX file")
    if hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"{folder / name}: SHA-256 differs from the original MNIST's {sha256}")
    return data


def pack(data: bytes, parts: int) -> list[bytes]:
    """Cut data into equal parts and make an .xz file of each."""
    size = -(-len(data) // parts)
    return [
        lzma.compress(data[i : i + size], check=lzma.CHECK_CRC64, filters=FILTERS)
        for i in range(0, len(data), size)
    ]


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    originals = {name: read_original(Path(sys.argv[1]), name) for name in FILES}
    packed: dict[str, bytes] = {}
    for name, data in originals.items():
        files = pack(data, FILES[name][1])
        if b"".join(map(lzma.decompress, files)) != data:
            sys.exit(f"{name}: does not decode to what was packed")
        for i, file in enumerate(files, start=1):
            packed[f"{name}.part{i}.xz" if len(files) > 1 else f"{name}.xz"] = file
    total = sum(map(len, packed.values()))
    if total > LIMIT:
        sys.exit(f"{total:,} bytes are more than the {LIMIT:,} allowed: nothing was written")

    OUTPUT.mkdir(parents=True, exist_ok=True)
    for old in OUTPUT.glob("*.xz"):
        old.unlink()
    for file_name, content in packed.items():
        (OUTPUT / file_name).write_bytes(content)
        print(f"{hashlib.sha256(content).hexdigest()}  {len(content):>9,}  {file_name}")
    print(f"{total:,} bytes in {OUTPUT}")
    print(f"decoded, one after another: {hashlib.sha256(b''.join(originals.values())).hexdigest()}")


if __name__ == "__main__":
    main()
