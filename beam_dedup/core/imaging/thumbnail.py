"""Makes small colour pictures of images, for people to look at, and finds the date on which a photo was taken."""

import dataclasses
import re
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging import decode
from beam_dedup.core.imaging.dct import Pixels
from beam_dedup.core.imaging.decode import Opened
from beam_dedup.core.imaging.fingerprint import fingerprint
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef

MAX_SIDE = 128  # pixels of the longer side of a thumbnail

_TAKEN_TAGS = ((0x8769, 0x9003), (0x8769, 0x9004))  # EXIF: when it was taken, when it was digitised
_DATE = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")
_SIZE_BYTES = 2


class Thumbnail(NamedTuple):
    """A small picture as a viewer shows it, over white.

    Attributes:
      digest: SHA-256 of the file from which it was made.
      modified_ms: time of modification of that file, in milliseconds since the epoch; 0 if it is unknown.
      taken: when the photo was taken, as `2019-05-03 12:00:00`; "" if it is unknown.
      pixels: (height, width, 3) uint8 RGB; None if the picture can't be decoded.
    """

    digest: bytes
    modified_ms: int
    taken: str
    pixels: Pixels | None


def make(
    ref: ImageRef,
    stream: BinaryIO,
    size_bytes: int,
    modified_ms: int,
    recipe: Recipe | None,
    limits: Limits,
) -> Fingerprint:
    """Returns the thumbnail of an image as the only code of a fingerprint, from which `of` gets it back.

    Pixels and no file travel, so that the process that receives them decodes nothing made by strangers.

    Args:
      ref, stream, size_bytes, modified_ms, limits: as of `fingerprint`.
      recipe: not used.

    Raises:
      ImageError: the file is no image.
    """
    found = fingerprint(ref, stream, size_bytes, modified_ms, recipe, limits)
    try:
        with decode.decoding():
            picture = decode.open_picture(stream, scaled=True, heavy=False, allowed=limits)
            taken = _taken(picture.image)
            pixels = _pixels(stream, picture)
    except DecodeError:
        return dataclasses.replace(found, codes=(), detail="")
    return dataclasses.replace(found, codes=(Code(CodeKind.FULL, _packed(pixels)),), detail=taken)


def of(found: Fingerprint) -> Thumbnail:
    """Returns the thumbnail that `make` put into a fingerprint.

    Raises:
      ValueError: it was not made by `make`.
    """
    pixels = _unpacked(found.codes[0].data) if found.codes else None
    if found.detail and not re.fullmatch(r"[\d :-]{19}", found.detail):
        raise ValueError("no date")
    return Thumbnail(found.digest, found.modified_ms, found.detail, pixels)


def _pixels(stream: BinaryIO, picture: Opened) -> Pixels:
    """Decodes a picture to at most `MAX_SIDE` pixels a side: in colour, or in grey if a part of it is missing."""
    colour = decode.colours(stream, picture)
    try:
        colour.load()
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  decoders raise almost any exception when bytes are missing
        colour = decode.load_picture(stream, picture, scaled=True).image
    small = decode.thumbnail(colour, "RGB").image
    plain = Image.fromarray(decode.over_white(small, "RGB"))
    plain = _with_shape(plain, colour.size)
    return np.ascontiguousarray(decode.oriented(np.asarray(plain), picture.orientation))


def _with_shape(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Resizes an image to the shape of a picture of another size; a small picture keeps its pixels."""
    scale = min(1.0, MAX_SIDE / max(size))
    shape = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
    return image if image.size == shape else image.resize(shape, Image.Resampling.BILINEAR)


def _taken(image: Image.Image) -> str:
    """Returns the date of the EXIF data; "" if there is none."""
    if image.format == "JPEG" and "exif" not in image.info:
        return ""
    try:
        exif = image.getexif()
        texts = [str(exif.get_ifd(directory).get(tag, "")) for directory, tag in _TAKEN_TAGS]
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  parsers raise almost anything on damaged EXIF
        return ""
    for match in filter(None, map(_DATE.match, texts)):
        year, month, day, *time = match.groups()
        if year > "1800" and "01" <= month <= "12" and "01" <= day <= "31":
            return f"{year}-{month}-{day} {':'.join(time)}"
    return ""


def _packed(pixels: Pixels) -> bytes:
    height, width = pixels.shape[:2]
    return b"".join((width.to_bytes(_SIZE_BYTES), height.to_bytes(_SIZE_BYTES), pixels.tobytes()))


def _unpacked(data: bytes) -> Pixels:
    width, height = (int.from_bytes(data[at : at + _SIZE_BYTES]) for at in (0, _SIZE_BYTES))
    pixels = np.frombuffer(data, np.uint8, offset=2 * _SIZE_BYTES)
    if not 0 < max(width, height) <= MAX_SIDE or len(pixels) != width * height * 3:
        raise ValueError("no thumbnail")
    return pixels.reshape(height, width, 3)
