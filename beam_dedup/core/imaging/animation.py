"""Reads the frame count and the duration of an animation from the file's structure, without decoding.

A still picture must not match an animation that begins with it, and two animations must not match because
their first frames agree. So every code of an animation is combined, by exclusive or, with a hash of its
frame count and duration. Between animations that agree in both numbers all distances stay the same. Any
other pair of codes then compares like two random codes, which practically never are within k of each other.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from beam_dedup.core.errors import DecodeError
from beam_dedup.core.imaging.formats import NEW_SUBFILE_TYPE

MAX_FRAMES = 1_000_000

_NO_PAGE = 1 | 4  # its bits for a reduced copy of another page, and for a mask
_COPY_LEVELS = 6  # grey levels by which a reduced copy differs from its original on average at most
_MOST_DIRECTORIES = 10_000  # that are examined; reading more would take long

_GIF_HEADER = 13  # bytes: signature, screen size, palette flags
_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B
_GIF_CONTROL = 0xF9  # label of the extension that holds the delay
_HAS_PALETTE, _PALETTE_BITS = 0x80, 0x07


class Animation(NamedTuple):
    """The number of frames and their total duration; 0 ms where the file does not state one."""

    frames: int
    milliseconds: int

    @property
    def description(self) -> str:
        """What codes of this animation are combined with."""
        return f"{self.frames} frames, {self.milliseconds} ms"

    def mixed(self, code: bytes) -> bytes:
        """Returns a code of the first frame as a code of the animation; a second call with the result undoes it."""
        return mixed_with(self.description, code)


def mixed_with(description: str, code: bytes) -> bytes:
    """Returns a code combined with a description; a second call with the result undoes it.

    All distances between codes of one description stay the same. Codes of two descriptions compare like random ones.
    """
    pad = hashlib.shake_128(description.encode()).digest(len(code))
    mixed = int.from_bytes(code, "big") ^ int.from_bytes(pad, "big")
    return mixed.to_bytes(len(code), "big")


def animation_of(stream: BinaryIO, image: Image.Image, max_frames: int = MAX_FRAMES) -> Animation | None:
    """Returns the animation in a file, or None for a still picture. The pages of a document count as
    frames; the pictures of a HEIF file do not: they are shots of a burst, edits, or depths of one picture.

    Args:
      stream: the file, seekable; its position is the same afterwards.
      image: opened by Pillow from the stream, not necessarily decoded.
      max_frames: the largest number of frames that is counted.
    Raises:
      DecodeError: the file has more than `max_frames` frames.
      Exception: any other exception, if Pillow cannot read the list of pages.
    """
    before = stream.tell()
    try:
        match image.format:
            case "GIF":
                delays: Iterator[int | None] = gif_delays(stream)
            case "PNG" if getattr(image, "is_animated", False):
                delays = png_delays(stream)
            case "WEBP" if getattr(image, "is_animated", False):
                delays = webp_delays(stream)
            case "AVIF":  # its delays cannot be read without decoding
                delays = iter([0] * min(getattr(image, "n_frames", 1), max_frames + 1))
            case "TIFF":
                delays = iter([0] * count_pages(image, max_frames + 1))
            case _:
                return None
        frames = milliseconds = 0
        for delay in delays:
            if delay is None:
                break
            frames += 1
            milliseconds += delay
            if frames > max_frames:
                raise DecodeError(f"more than {max_frames} frames")
    finally:
        stream.seek(before)
    return Animation(frames, milliseconds) if frames > 1 else None


def count_pages(image: Image.Image, most: int) -> int:
    """Counts the pages of a TIFF, up to `most`. Masks, and smaller copies of the first page, are no pages.

    Leaves the image at its first page.

    Raises:
      Exception: Pillow cannot read the list of pages.
    """
    directories = min(getattr(image, "n_frames", 1), most)
    if directories > _MOST_DIRECTORIES:
        return directories
    pages, (width, height) = 1, image.size
    of_first: npt.NDArray[np.int16] | None = None
    for number in range(1, directories):
        image.seek(number)
        kind = image.tag_v2.get(NEW_SUBFILE_TYPE, 0)  # type: ignore[attr-defined]  # a TiffImageFile
        if isinstance(kind, int) and kind & _NO_PAGE:
            continue
        # Its sides are those of the first page, scaled and rounded.
        is_reduced = image.width < width and image.height < height
        if is_reduced and abs(image.width * height - image.height * width) <= max(width, height):
            if of_first is None:
                image.seek(0)
                of_first = _small(image)
                image.seek(number)
            if np.abs(_small(image) - of_first).mean() <= _COPY_LEVELS:
                continue
        pages += 1
    image.seek(0)
    return pages


def _small(page: Image.Image) -> npt.NDArray[np.int16]:
    """Returns the grey levels of a page at 32 x 32 pixels."""
    return np.asarray(page.convert("L").resize((32, 32), Image.Resampling.BOX)).astype(np.int16)


def gif_delays(stream: BinaryIO) -> Iterator[int | None]:
    """Yields the delay in milliseconds of each frame of a GIF, then None if the trailer is reached.

    Stops without the None at an unknown block or at the end of a truncated file. Follows the GIF89a
    specification.
    """
    stream.seek(0)
    header = stream.read(_GIF_HEADER)
    if len(header) < _GIF_HEADER:
        return
    stream.seek(_palette_bytes(header[10]), 1)
    delay = 0
    while block := stream.read(1):
        if block[0] == _GIF_IMAGE:
            descriptor = stream.read(9)
            if len(descriptor) < 9:
                return
            yield delay * 10
            delay = 0
            stream.seek(_palette_bytes(descriptor[8]) + 1, 1)  # the palette and the one byte of the code size
            _skip_sub_blocks(stream)
        elif block[0] == _GIF_EXTENSION:
            label = stream.read(1)
            if label and label[0] == _GIF_CONTROL:
                control = stream.read(5)  # length, flags, delay (2 bytes), transparent colour
                if len(control) == 5:
                    (delay,) = struct.unpack_from("<H", control, 2)
            _skip_sub_blocks(stream)
        else:
            if block[0] == _GIF_TRAILER:
                yield None
            return  # data after the trailer, or an unknown block, cannot be followed


def _palette_bytes(flags: int) -> int:
    """Returns the size of the palette that the flags of a GIF screen or image announce; 0 if it has none."""
    return 3 << (flags & _PALETTE_BITS) + 1 if flags & _HAS_PALETTE else 0


def _skip_sub_blocks(stream: BinaryIO) -> None:
    """Moves the stream behind a GIF's chain of data blocks: each starts with its length, and 0 ends the chain."""
    while (size := stream.read(1)) and size[0]:
        stream.seek(size[0], 1)


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yields type and length of each chunk of a PNG, with the stream at the start of the chunk's data."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        next_chunk = stream.tell() + length + 4  # 4 bytes of checksum follow the data
        yield kind, length
        stream.seek(next_chunk)


def png_delays(stream: BinaryIO) -> Iterator[int]:
    """Yields the delay in milliseconds of each frame of an animated PNG, from its fcTL chunks.

    Follows the PNG specification, third edition.
    """
    for kind, _ in png_chunks(stream):
        if kind == b"fcTL":
            control = stream.read(24)
            if len(control) < 24:
                return
            numerator, denominator = struct.unpack_from(">HH", control, 20)
            yield numerator * 1000 // (denominator or 100)


def webp_delays(stream: BinaryIO) -> Iterator[int]:
    """Yields the delay in milliseconds of each frame of an animated WebP, from its ANMF chunks (RFC 9649)."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        next_chunk = stream.tell() + length + length % 2
        if kind == b"ANMF":
            frame = stream.read(16)
            if len(frame) < 16:
                return
            yield int.from_bytes(frame[12:15], "little")
        stream.seek(next_chunk)
