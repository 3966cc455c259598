"""Pictures of a page: PNG files that are decoded, checked and encoded again.

The bytes of a file never reach the page, as a file that ends with .png may hold anything.
"""

import base64
import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

MOST_BYTES = 2**26  # of a file
MOST_PIXELS = 2**25  # which the largest figures are far from
MOST_WORDS = 2_000  # characters of a description
SMALL = 320  # pixels of the longer side of a thumbnail
_HEADER = struct.Struct(">8s8xII")  # the signature of a PNG file, the width and the height
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Embedded:
    """An image that is part of the page."""

    address: str
    """A ``data:`` address."""
    width: int
    height: int


@dataclass(frozen=True)
class Picture:
    """A picture as the page shows it: in place, or small with the full size on demand."""

    name: str
    words: str
    """What it shows, for those who do not see it."""
    full: Embedded | None
    small: Embedded | None = None
    """None if the full size stands in place."""
    file: str = ""
    """The address of its file, relative to the page, where the full size is not embedded."""


@dataclass(frozen=True)
class Drawn:
    """A picture that was read from a PNG file."""

    name: str
    words: str
    pixels: Image.Image
    """RGB on white."""

    @classmethod
    def read(cls, file: BinaryIO, name: str, of: str = "") -> "Drawn | None":
        """Decode a PNG file, or return None if it is none, is damaged or is too large.

        Its words begin with ``of``. The rest of them is its Description, or else its name.
        """
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return None
        signature, width, height = _HEADER.unpack(head)
        if signature != _SIGNATURE or not 0 < width * height <= MOST_PIXELS:
            return None
        file.seek(0)
        try:
            with Image.open(file, formats=["PNG"]) as picture:
                words = str(picture.info.get("Description", name))[:MOST_WORDS]
                return cls(name, of + words, _on_white(picture))
        except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error):
            return None  # all of these are how Pillow says that a file is damaged

    def large(self) -> Picture:
        """The picture in its full size, in place."""
        return Picture(self.name, self.words, _embedded(self.pixels, exact=True))

    def folded(self) -> Picture:
        """The picture small, with its full size in the page."""
        full = _embedded(self.pixels, exact=True)
        return Picture(self.name, self.words, full, _embedded(self._thumbnail(), exact=False))

    def linked(self, file: str) -> Picture:
        """The picture small, with its full size in a file at an address relative to the page."""
        return Picture(self.name, self.words, None, _embedded(self._thumbnail(), exact=False), file)

    def _thumbnail(self) -> Image.Image:
        small = self.pixels.copy()
        small.thumbnail((SMALL, SMALL), Image.Resampling.BICUBIC, reducing_gap=1.5)
        return small


def _on_white(picture: Image.Image) -> Image.Image:
    """The picture as RGB. What is transparent becomes white."""
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    rgba = picture.convert("RGBA")
    opaque, _ = rgba.getchannel("A").getextrema()
    if opaque == 255:
        return rgba.convert("RGB")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _embedded(pixels: Image.Image, *, exact: bool) -> Embedded:
    """The image as an address: a PNG with the same pixels if ``exact``, and else a JPEG."""
    out = BytesIO()
    if exact:
        _with_palette(pixels).save(out, "PNG")
    else:
        pixels.save(out, "JPEG", quality=75)
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return Embedded(f"data:image/{'png' if exact else 'jpeg'};base64,{data}", *pixels.size)


def _with_palette(pixels: Image.Image) -> Image.Image:
    """The same image with a byte for each pixel if it has few enough colours, as most have."""
    if pixels.getcolors(256) is None:
        return pixels
    channels = np.asarray(pixels).astype(np.uint32)
    packed = channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]
    colours, places = np.unique(packed, return_inverse=True)
    image = Image.fromarray(places.reshape(packed.shape).astype(np.uint8))
    palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1)
    image.putpalette(palette.astype(np.uint8).tobytes())
    return image
