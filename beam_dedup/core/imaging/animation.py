"""How many frames a picture has and how long they last, read from the file's structure without decoding one.

A still must not match a film that begins with it, nor a film another one. So all codes of a film are mixed (by
exclusive or) with a hash of both numbers: between films that agree in them every distance stays what it was; otherwise
what is compared is as good as random, and random codes are never within k of each other.
"""

import hashlib
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from PIL import Image

from beam_dedup.core.errors import DecodeError

MAX_FRAMES = 1_000_000

_GIF_HEADER = 13  # bytes: signature, size of the screen, palette
_GIF_IMAGE, _GIF_EXTENSION, _GIF_END = 0x2C, 0x21, 0x3B
_GIF_CONTROL = 0xF9  # the extension that tells the delay
_HAS_PALETTE, _PALETTE_BITS = 0x80, 0x07


class Motion(NamedTuple):
    """Of a film: its frames and how long they last together; 0 where the file does not tell."""

    frames: int
    milliseconds: int

    def pad(self, length: int) -> bytes:
        """Bytes to mix a code of so many with."""
        said = f"{self.frames} frames, {self.milliseconds} ms".encode()
        return hashlib.shake_128(said).digest(length)

    def mixed(self, code: bytes) -> bytes:
        """A code of the film's first frame as a code of the film; twice gives the first one back."""
        length = len(code)
        mixed = int.from_bytes(code, "big") ^ int.from_bytes(self.pad(length), "big")
        return mixed.to_bytes(length, "big")


def motion_of(stream: BinaryIO, image: Image.Image) -> Motion | None:
    """What moves in a picture; None for a still. Pages of a document count as frames.

    image: opened from the stream, whose position is the same afterwards.

    Raises:
      DecodeError: it has more frames than are counted. Anything else if Pillow can't follow its pages.
    """
    before = stream.tell()
    try:
        match image.format:
            case "GIF":
                delays: Iterator[int | None] = gif_delays(stream)
            case "PNG" if getattr(image, "is_animated", False):
                delays = _png(stream)
            case "WEBP" if getattr(image, "is_animated", False):
                delays = _webp(stream)
            case "AVIF" | "HEIF" | "TIFF":  # no delays that could be had without decoding
                delays = iter([0] * min(getattr(image, "n_frames", 1), MAX_FRAMES + 1))
            case _:
                return None
        frames = length = 0
        for delay in delays:
            if delay is None:
                break
            frames += 1
            length += delay
            if frames > MAX_FRAMES:
                raise DecodeError(f"more than {MAX_FRAMES} frames")
    finally:
        stream.seek(before)
    return Motion(frames, length) if frames > 1 else None


def gif_delays(stream: BinaryIO) -> Iterator[int | None]:
    """Milliseconds of each frame of a GIF, as far as its blocks can be followed (GIF89a specification); None at its end."""
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
            stream.seek(_palette_bytes(descriptor[8]) + 1, 1)  # and the code size
            _skip_sub_blocks(stream)
        elif block[0] == _GIF_EXTENSION:
            label = stream.read(1)
            if label and label[0] == _GIF_CONTROL:
                control = stream.read(5)  # length, flags, delay, transparent colour
                if len(control) == 5:
                    (delay,) = struct.unpack_from("<H", control, 2)
            _skip_sub_blocks(stream)
        else:
            if block[0] == _GIF_END:
                yield None
            return  # what comes after the end, or of an unknown block, can't be followed


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & _PALETTE_BITS) + 1 if flags & _HAS_PALETTE else 0


def _skip_sub_blocks(stream: BinaryIO) -> None:
    while (size := stream.read(1)) and size[0]:
        stream.seek(size[0], 1)


def png_chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Kind and length of each chunk of a PNG; the stream is at its data meanwhile."""
    stream.seek(8)
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        following = stream.tell() + length + 4  # the checksum
        yield kind, length
        stream.seek(following)


def _png(stream: BinaryIO) -> Iterator[int]:
    """Milliseconds of each frame of an animated PNG, from its fcTL chunks (PNG specification, third edition)."""
    for kind, _ in png_chunks(stream):
        if kind == b"fcTL":
            control = stream.read(24)
            if len(control) < 24:
                return
            numerator, denominator = struct.unpack_from(">HH", control, 20)
            yield numerator * 1000 // (denominator or 100)


def _webp(stream: BinaryIO) -> Iterator[int]:
    """Milliseconds of each frame of an animated WebP, from its ANMF chunks (RFC 9649)."""
    stream.seek(12)
    while len(head := stream.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        following = stream.tell() + length + length % 2
        if kind == b"ANMF":
            frame = stream.read(16)
            if len(frame) < 16:
                return
            yield int.from_bytes(frame[12:15], "little")
        stream.seek(following)
