"""Limits bytes, pixels, seconds and archive members per input file; they are checked before decoding.

The limits protect workers: crawled files are written by strangers.
"""

import dataclasses
import resource
from typing import BinaryIO

from PIL import Image

from beam_dedup.core.errors import DecodeError
from beam_dedup.core.model import Reason

# Pictures with more pixels are not decoded, whatever `Limits` allow. A JPEG is decoded at 1/8 of its size,
# so it may have more pixels for the same memory; a progressive JPEG may not, since the decoder holds all of
# its coefficients.
MAX_PIXELS = 120_000_000
MAX_PIXELS_SCALED = 250_000_000
MAX_PIXELS_HEAVY = 30_000_000  # for algorithms that allocate arrays of numbers as large as the picture

# Memory that decoding one image may take besides mapped files: enough for every image that these limits
# accept. The decoder process is not allowed more.
MEMORY_BYTES = 1 << 30
_MAPPED_BYTES = 1 << 29  # address space of the decoder process that is no such memory: its program above all

_ICON_BYTES = 1 << 24
_PNG_HEADER = b"\x89PNG\r\n\x1a\n"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits on one image and on one archive.

    An image of more than `max_bytes`, or that takes longer than `decode_seconds` to read or to decode, is
    rejected. A picture with more than `max_pixels`, or one that would take too much memory (see
    `most_pixels`), is not decoded.

    A member of an archive is held in memory, for a moment twice, so its limit is lower than that of a file.
    `max_ratio` limits decompressed to compressed bytes. It applies only beyond the first `free_bytes`
    decompressed bytes, which take a second or two to decompress: a blank picture, and many copies of one
    picture, legitimately compress a thousandfold.

    A local file whose real path lies in none of the `roots` is rejected unread, with the reason `outside`; known
    images are exempt. Without roots every file is read.

    Of Parquet files, the column `image_column` is read, like the members of an archive. Without it they are no
    images.
    """

    max_bytes: int = 1 << 30  # 1 GiB
    max_pixels: int = MAX_PIXELS_SCALED
    decode_seconds: float = 120.0  # a hundred times as long as the largest accepted picture takes
    max_member_bytes: int = 1 << 27  # 128 MiB
    max_members: int = 2_000_000
    max_decompressed_bytes: int = 1 << 40  # 1 TiB, decompressed
    max_ratio: int = 1000
    free_bytes: int = 1 << 30  # 1 GiB, decompressed
    roots: tuple[str, ...] = ()  # directories and files
    outside: str = Reason.LINK_OUTSIDE.value
    image_column: str = ""


def most_pixels(image: Image.Image, scaled: bool, heavy: bool, limits: Limits) -> int:
    """Returns the maximum number of pixels for a picture.

    It is `limits.max_pixels`, or fewer if decoding would take more than a few hundred MB.

    Args:
      image: the opened, not yet decoded picture.
      scaled: whether a JPEG is decoded at 1/8 of its size.
      heavy: whether the algorithm needs much more memory than the pixels themselves.
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


def is_memory_short() -> bool:
    """Returns whether the system allows this process less memory than decoding may take (`ulimit -d`, `-v`).

    Then a decoder that fails may have run out of memory. Many decoders report that like damage of the file.
    """
    data, _ = resource.getrlimit(resource.RLIMIT_DATA)
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    return _is_below(data, MEMORY_BYTES) or _is_below(addresses, MEMORY_BYTES + _MAPPED_BYTES)


def _is_below(limit: int, size_bytes: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < size_bytes


def check_icon(stream: BinaryIO) -> None:
    """Checks an icon before Pillow opens it, since Pillow then decodes any PNG inside, however large.

    Raises:
      DecodeError: the icon contains a PNG far larger than an icon's directory can declare, or has more than
        16 MiB, beyond which it is not searched.
    """
    stream.seek(0)
    data = stream.read(_ICON_BYTES)
    at = -1
    while (at := data.find(_PNG_HEADER, at + 1)) >= 0:
        width, height = (int.from_bytes(data[at + start : at + start + 4], "big") for start in (16, 20))
        if width * height > MAX_PIXELS // 8:
            raise DecodeError(f"the icon contains a picture of {width} x {height} pixels")
    if stream.read(1):
        raise DecodeError(f"the icon has more than {_ICON_BYTES} bytes")
