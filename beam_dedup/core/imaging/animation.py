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

from PIL import Image

from beam_dedup.core.errors import DecodeError

MAX_FRAMES = 1_000_000

_GIF_HEADER = 13  # bytes: signature, screen size, palette flags
_GIF_IMAGE, _GIF_EXTENSION, _GIF_TRAILER = 0x2C, 0x21, 0x3B
_GIF_CONTROL = 0xF9  # label of the extension that holds the delay
_HAS_PALETTE, _PALETTE_BITS = 0x80, 0x07


class Animation(NamedTuple):
    """The number of frames and their total duration; 0 ms where the file does not state one."""

    frames: int
    milliseconds: int

    def pad(self, length: int) -> bytes:
        """Returns the `length` bytes that codes of this animation are combined with."""
        description = f"{self.frames} frames, {self.milliseconds} ms".encode()
        return hashlib.shake_128(description).digest(length)

    def mixed(self, code: bytes) -> bytes:
        """Returns a code of the first frame as a code of the animation; a second call with the result undoes it."""
        length = len(code)
        mixed = int.from_bytes(code, "big") ^ int.from_bytes(self.pad(length), "big")
        return mixed.to_bytes(length, "big")


def animation_of(stream: BinaryIO, image: Image.Image, max_frames: int = MAX_FRAMES) -> Animation | None:
    """Returns the animation in a file, or None for a still picture. The pages of a document count as frames.

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
            case "AVIF" | "HEIF" | "TIFF":  # their delays, if any, cannot be read without decoding
                delays = iter([0] * min(getattr(image, "n_frames", 1), max_frames + 1))
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
