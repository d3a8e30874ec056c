"""What is there of a picture whose file is cut short: crawlers cut what is long, so cut pictures are common.

How much is there is seen by decoding twice, over black and over white: rows that come out the same have been decoded.
A progressive JPEG is there as a whole, if blurred, as soon as its first scan is.
"""

import os
import re
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging.animation import gif_delays, png_chunks

# Of the rows. With less, what is compared would be more of the filling than of the picture: of photos cut to 3/4 of
# their rows 1 in 2 is within the default thresholds of the whole one, of those cut to 9/10, 9 in 10.
ENOUGH = 0.75

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "PPM")  # decoded row by row into what was there before
_END_OF_IMAGE = b"\xff\xd9"
_MOST_WALKED = 1 << 26  # bytes
_START_OF_SCAN = 0xDA
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in a scan: no stuffing, no restart


class CutShortError(DecodeError):
    """Too little of the picture is there."""


def salvaged(stream: BinaryIO, reopen: Callable[[BinaryIO], Image.Image]) -> tuple[Image.Image, float]:
    """The upper part of a picture that could not be decoded as a whole, and the share of its rows that is there.

    reopen: opens the picture again, ready to be decoded.
    Returns: the picture of all rows that there should be, in a mode without palette; what is missing is filled with
      the mean of what is there.

    Raises:
      CutShortError: less than `ENOUGH` is there.
    """
    image = reopen(stream)
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        return _progressive(image, stream), 1.0
    over_black, over_white = (_decoded_over(reopen(stream), level) for level in (0, 255))
    pixels = np.asarray(over_black)
    there = (pixels == np.asarray(over_white)).reshape(len(pixels), -1).all(axis=1)
    rows = len(there) if there.all() else int(np.argmin(there))
    share = rows / len(there)
    if share < ENOUGH:
        raise CutShortError(f"cut short: {share:.0%} of its rows are there")
    return _filled(over_black, rows), share


def has_end(stream: BinaryIO, image_format: str) -> bool:
    """Whether a file has its end marker. All pixels may be there without it, and Pillow be content."""
    before = stream.tell()
    try:
        match image_format:
            case "PNG":
                return any(kind == b"IEND" for kind, _ in png_chunks(stream))
            case "GIF":
                return any(delay is None for delay in gif_delays(stream))
            case "JPEG":
                stream.seek(-len(_END_OF_IMAGE), os.SEEK_END)
                return stream.read(len(_END_OF_IMAGE)) == _END_OF_IMAGE or _jpeg_scans(stream)[1]
            case _:
                return True  # or its decoder has complained
    finally:
        stream.seek(before)


def _decoded_over(image: Image.Image, level: int) -> Image.Image:
    """Decodes what is there into a picture of one colour."""
    bands = len(image.getbands())
    image.im = Image.new(image.mode, image.size, (level,) * bands if bands > 1 else level).im
    if image.format in ("JPEG", "MPO"):
        # Pillow would say that the picture ends, and the decoder make up the rest.
        image.load_read = image.fp.read  # type: ignore[attr-defined]
    return _loaded(image)


def _loaded(image: Image.Image) -> Image.Image:
    ImageFile.LOAD_TRUNCATED_IMAGES = (
        True  # of all decoders of the process, which decodes one picture at a time
    )
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return image


def _progressive(image: Image.Image, stream: BinaryIO) -> Image.Image:
    """A progressive JPEG with the detail that is there.

    Raises:
      CutShortError: not even the first scan is complete.
    """

    if _jpeg_scans(stream)[0] < 2:
        raise CutShortError("cut short: the first of its scans is not complete")
    return _loaded(image)


def _jpeg_scans(stream: BinaryIO) -> tuple[int, bool]:
    """How many scans of a JPEG have begun, and whether its end marker has come; of a huge one, within its first bytes,
    and then the end is taken on trust.
    """
    stream.seek(0)
    data = stream.read(_MOST_WALKED)
    count, at = 0, 2
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != _END_OF_IMAGE:
        if at + 4 > len(data):
            return count, len(data) == _MOST_WALKED
        marker = data[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            count += 1
            following = _NEXT_MARKER.search(data, at)
            if following is None:
                return count, len(data) == _MOST_WALKED
            at = following.start(1) - 1
    return count, data[at : at + 2] == _END_OF_IMAGE


def _filled(image: Image.Image, rows: int) -> Image.Image:
    """The first rows of a picture, and their mean in place of the others: L or RGB, over white."""
    width, height = image.size
    there = image.crop((0, 0, width, rows))
    if "transparency" in image.info:
        there.info["transparency"] = image.info["transparency"]
    if there.mode in ("P", "PA", "LA", "RGBA") or "transparency" in there.info:
        there = there.convert("RGBA")
        there = Image.alpha_composite(Image.new("RGBA", there.size, "white"), there).convert("RGB")
    mean = np.asarray(there).reshape(rows * width, -1).mean(axis=0).round()
    levels = tuple(int(level) for level in mean)
    filled = Image.new(there.mode, (width, height), levels if len(levels) > 1 else levels[0])
    filled.paste(there, (0, 0))
    filled.format = image.format
    return filled
