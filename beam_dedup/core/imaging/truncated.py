"""Decodes the part of a picture that a truncated file contains. Crawlers truncate long files, so this is common.

The number of rows that are present is found by decoding twice, over black and over white: rows that come
out the same both times have been decoded. A progressive JPEG is complete, if blurred, as soon as its first
scan is.
"""

import os
import re
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile

from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging.animation import gif_delays, png_chunks

# The least share of the rows. With fewer rows, a comparison would see more of the filling than of the
# picture. Measured on photos, against the complete one: with 3/4 of the rows 1 in 2 is within the default
# thresholds, with 9/10 it is 9 in 10.
MIN_SHARE = 0.75

FORMATS = ("JPEG", "PNG", "GIF", "TIFF", "PPM")  # decoded row by row into the existing pixels of the image
MAX_SCANNED_BYTES = 1 << 26  # of a JPEG that is searched for its scans
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_STANDALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
# The marker that ends the data of a scan: any but a stuffed byte (FF 00) and the restart markers.
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


class TruncatedError(DecodeError):
    """Too little of the picture is present."""


def decode_partially(
    stream: BinaryIO, reopen: Callable[[BinaryIO], Image.Image]
) -> tuple[Image.Image, float]:
    """Decodes the upper part of a picture that could not be decoded completely.

    Args:
      stream: the file, seekable.
      reopen: opens the picture again, without decoding it.
    Returns:
      The picture, at full height and in a mode without palette, with its missing rows filled with the mean
      of the others; and the share of its rows that is present, `MIN_SHARE` to 1.
    Raises:
      TruncatedError: less than `MIN_SHARE` is present.
    """
    image = reopen(stream)
    if image.format in ("JPEG", "MPO") and "progressive" in image.info:
        return _progressive(image, stream), 1.0
    over_black, over_white = (_decoded_over(reopen(stream), level) for level in (0, 255))
    pixels = np.asarray(over_black)
    present = (pixels == np.asarray(over_white)).reshape(len(pixels), -1).all(axis=1)
    rows = len(present) if present.all() else int(np.argmin(present))
    share = rows / len(present)
    if share < MIN_SHARE:
        raise TruncatedError(f"truncated: {share:.0%} of its rows are present")
    return _filled(over_black, rows), share


def has_end(stream: BinaryIO, image_format: str) -> bool:
    """Returns whether a file has its end marker. Without it, Pillow may still decode all pixels.

    The position of the stream is the same afterwards.
    """
    before = stream.tell()
    try:
        match image_format:
            case "PNG":
                return any(kind == b"IEND" for kind, _ in png_chunks(stream))
            case "GIF":
                return any(delay is None for delay in gif_delays(stream))
            case "JPEG":
                stream.seek(-len(_END_OF_IMAGE), os.SEEK_END)
                return stream.read(len(_END_OF_IMAGE)) == _END_OF_IMAGE or jpeg_scans(stream)[1]
            case _:
                return True  # the decoders of other formats raise an error
    finally:
        stream.seek(before)


def _decoded_over(image: Image.Image, level: int) -> Image.Image:
    """Decodes the rows that are present into a picture filled with one grey level."""
    bands = len(image.getbands())
    image.im = Image.new(image.mode, image.size, (level,) * bands if bands > 1 else level).im
    if image.format in ("JPEG", "MPO"):
        # Pillow's own `load_read` appends an end marker, after which the decoder invents the missing rows.
        image.load_read = image.fp.read  # type: ignore[attr-defined]
    return _loaded(image)


def _loaded(image: Image.Image) -> Image.Image:
    # Global to the process, which decodes one picture at a time.
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        image.load()
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False
    return image


def _progressive(image: Image.Image, stream: BinaryIO) -> Image.Image:
    """Decodes the scans that are present of a progressive JPEG.

    Raises:
      TruncatedError: not even the first scan is complete.
    """
    if jpeg_scans(stream)[0] < 2:
        raise TruncatedError("truncated: the first of its scans is not complete")
    return _loaded(image)


def jpeg_scans(stream: BinaryIO) -> tuple[int, bool]:
    """Counts the scans that begin in a JPEG, and returns with the count whether the file has its end marker.

    Only the first `MAX_SCANNED_BYTES` bytes are searched. A longer file is assumed to have its end marker.
    """
    stream.seek(0)
    data = stream.read(MAX_SCANNED_BYTES)
    count, at = 0, 2
    while data[at : at + 1] == b"\xff" and data[at : at + 2] != _END_OF_IMAGE:
        if at + 4 > len(data):
            return count, len(data) == MAX_SCANNED_BYTES
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _START_OF_SCAN:
            count += 1
            next_marker = _NEXT_MARKER.search(data, at)
            if next_marker is None:
                return count, len(data) == MAX_SCANNED_BYTES
            at = next_marker.start(1) - 1
    return count, data[at : at + 2] == _END_OF_IMAGE


def _filled(image: Image.Image, rows: int) -> Image.Image:
    """Returns a picture with all but its first `rows` rows filled with their mean: no palette, over white."""
    width, height = image.size
    present = image.crop((0, 0, width, rows))
    if "transparency" in image.info:
        present.info["transparency"] = image.info["transparency"]
    if present.mode in ("P", "PA", "LA", "RGBA") or "transparency" in present.info:
        present = present.convert("RGBA")
        present = Image.alpha_composite(Image.new("RGBA", present.size, "white"), present).convert("RGB")
    mean = np.asarray(present).reshape(rows * width, -1).mean(axis=0).round()
    levels = tuple(int(level) for level in mean)
    filled = Image.new(present.mode, (width, height), levels if len(levels) > 1 else levels[0])
    filled.paste(present, (0, 0))
    filled.format = image.format
    return filled
