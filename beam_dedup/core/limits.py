"""What a file may ask of a worker. Crawled files are written by strangers: limits come before decoding."""

import dataclasses
from typing import BinaryIO

from PIL import Image

from beam_dedup.core.errors import DecodeError

# A picture with more pixels is not decoded, whatever `Limits` say. JPEG is decoded at 1/8 on the way, so it may be larger for the same memory;
# not if it is progressive, since all of its coefficients are held.
MAX_PIXELS = 120_000_000
MAX_PIXELS_SCALED = 250_000_000
MAX_PIXELS_HEAVY = 30_000_000  # for an algorithm that makes arrays of numbers as large as the picture

_ICON_BYTES = 1 << 24
_PNG_HEADER = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What an image, and an archive, may ask for.

    An image of more than `max_bytes` is rejected, and so is one that takes longer than `decode_seconds` to read or to decode.
    A picture of more than `max_pixels` is not decoded; neither is one that would want too much memory (`most_pixels`).

    A member of an archive is held in memory, twice for a moment, so it may have fewer bytes than a file. `max_ratio` is unpacked
    to packed bytes. It counts only beyond `free_bytes` unpacked, which is a second or two of work: a blank picture packs a
    thousandfold, and so do many copies of one.
    """

    max_bytes: int = 1 << 30
    max_pixels: int = MAX_PIXELS_SCALED
    decode_seconds: float = 120.0  # a hundred times what the largest that is let pass takes
    max_member_bytes: int = 1 << 27
    max_members: int = 2_000_000
    max_decompressed_bytes: int = 1 << 40
    max_ratio: int = 1000
    free_bytes: int = 1 << 30


def most_pixels(image: Image.Image, scaled: bool, heavy: bool, limits: Limits) -> int:
    """How many pixels a picture may have: no more than is asked for, nor than can be worked on in a few hundred megabytes.

    scaled: a JPEG is decoded at 1/8. heavy: what is done with the pixels takes much more than they do.
    """
    return min(limits.max_pixels, _affordable_pixels(image, scaled, heavy))


def _affordable_pixels(image: Image.Image, scaled: bool, heavy: bool) -> int:
    if heavy:
        return MAX_PIXELS_HEAVY
    if scaled and image.format in ("JPEG", "MPO"):
        return MAX_PIXELS if "progressive" in image.info else MAX_PIXELS_SCALED
    if image.mode in ("F", "I"):
        return MAX_PIXELS // 4
    if "A" in image.mode or "a" in image.mode or "transparency" in image.info:
        return MAX_PIXELS // 2
    return MAX_PIXELS


def check_icon(stream: BinaryIO) -> None:
    """Refuses an icon that holds a PNG far larger than its directory says: Pillow decodes it on opening the icon.

    Raises:
      DecodeError: it does, or there is more of it than is searched.
    """
    stream.seek(0)
    data = stream.read(_ICON_BYTES)
    at = -1
    while (at := data.find(_PNG_HEADER, at + 1)) >= 0:
        width, height = (int.from_bytes(data[at + start : at + start + 4], "big") for start in (16, 20))
        if width * height > MAX_PIXELS // 8:
            raise DecodeError(f"an icon with a picture of {width} x {height} pixels")
    if stream.read(1):
        raise DecodeError(f"an icon of more than {_ICON_BYTES} bytes")
