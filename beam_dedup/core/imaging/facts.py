"""Reads from a picture when it was taken, and which kinds of metadata it has.

Metadata come from strangers, and Pillow parses them: whatever fails counts as missing, and the picture is compared all
the same. The decoder process limits time and memory.
"""

import datetime
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

from PIL import ExifTags, Image

_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_MOST_TEXT = 64  # characters of a time
_XMP_TAG, _IPTC_TAG = 700, 33723  # of TIFF
_PHOTOSHOP_IPTC = 0x0404  # resource of Photoshop, in a JPEG


class Facts(NamedTuple):
    """What a picture says about itself.

    Attributes:
      taken: local time at which it was taken (EXIF DateTimeOriginal), as the number YYYYMMDDhhmmss; 0 if unknown.
      metadata: number of these that it has: EXIF, a time in it, a position in it, XMP, IPTC.
    """

    taken: int = 0
    metadata: int = 0


def facts_of(image: Image.Image) -> Facts:
    """Returns the facts of a picture whose header has been read."""
    exif, others = (_read(image, read) for read in (_exif, _other_kinds))
    return Facts(exif.taken, exif.metadata + others.metadata)


def _read(image: Image.Image, read: Callable[[Image.Image], Facts]) -> Facts:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damage
            return read(image)
    except Exception:  # noqa: BLE001  parsers raise almost anything on damaged metadata; MemoryError too
        return Facts()


def _exif(image: Image.Image) -> Facts:
    if image.format in ("JPEG", "MPO") and "exif" not in image.info:
        return Facts()
    exif = image.getexif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    # A TIFF has tags in any case, among them those that describe its pixels.
    if not details and (image.format == "TIFF" or not exif):
        return Facts()
    taken = taken_of(details.get(ExifTags.Base.DateTimeOriginal))
    has_position = ExifTags.GPS.GPSLatitude in exif.get_ifd(ExifTags.IFD.GPSInfo)
    return Facts(taken, 1 + bool(taken) + has_position)


def _other_kinds(image: Image.Image) -> Facts:
    tags: Any = getattr(image, "tag_v2", {})
    resources = image.info.get("photoshop")
    has_xmp = bool(image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")) or _XMP_TAG in tags
    has_iptc = _IPTC_TAG in tags or (isinstance(resources, dict) and _PHOTOSHOP_IPTC in resources)
    return Facts(metadata=has_xmp + has_iptc)


def taken_of(value: Any) -> int:
    """Returns an EXIF time as the number YYYYMMDDhhmmss; 0 for anything that is no time.

    >>> taken_of("2019:01:02 03:04:05"), taken_of("0000:00:00 00:00:00"), taken_of(None)
    (20190102030405, 0, 0)
    """
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    match = _TIME.match(text.strip()) if isinstance(text, str) and len(text) <= _MOST_TEXT else None
    if not match or not match[0].isascii():
        return 0
    year, month, day, hour, minute, second = map(int, match.groups())
    try:
        datetime.datetime(year, month, day, hour, minute, second)
    except ValueError:
        return 0
    return int("".join(match.groups()))
