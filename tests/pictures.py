"""Generates test pictures that are the same on every machine, encodes them, and compares their codes."""

import io
from typing import Any

import numpy as np
from PIL import Image

from beam_dedup.core.imaging.fingerprint import fingerprint
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef

REF = ImageRef("file:///in/a", "a")


def photo(seed: int = 1, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Returns an RGB picture with structure at all the frequencies of a code, like a photograph.

    It is the same on every machine: legacy `RandomState` never changes, and neither does enlarging by the
    pinned Pillow.
    """
    random = np.random.RandomState(seed)
    coarse, fine = (
        Image.fromarray(random.randint(0, 256, (cells, cells, 3)).astype(np.uint8)).resize(
            size, Image.Resampling.BICUBIC
        )
        for cells in (6, 24)
    )
    return Image.blend(coarse, fine, 0.4)


def encoded(image: Image.Image, image_format: str = "PNG", **options: Any) -> bytes:
    """Returns the file of a picture."""
    stream = io.BytesIO()
    if image_format == "PNG":
        options.setdefault("compress_level", 1)  # six times as fast as the default
    image.save(stream, image_format, **options)
    return stream.getvalue()


def fingerprint_of(data: bytes, **options: Any) -> Fingerprint:
    """Returns the fingerprint of a file."""
    return fingerprint(REF, io.BytesIO(data), len(data), **options)


def code_of(image: Image.Image, image_format: str = "PNG", **options: Any) -> Code:
    """Encodes a picture and returns its base code."""
    return fingerprint_of(encoded(image, image_format, **options)).codes[0]


def bits_apart(one: Code, other: Code) -> int:
    """Returns the Hamming distance of two codes of the same kind; for kinds with a long code, of the long codes."""
    if {one.kind, other.kind} <= {CodeKind.FULL, CodeKind.DETAILED}:
        return (int.from_bytes(one.data[:32]) ^ int.from_bytes(other.data[:32])).bit_count()
    assert one.kind == other.kind, (one.kind, other.kind)
    return (int.from_bytes(one.data) ^ int.from_bytes(other.data)).bit_count()


def levels_apart(one: Code, other: Code) -> int:
    """Returns the largest difference, in grey levels, between the profiles of two flat pictures."""
    assert len(one.data) == len(other.data) == 96
    return max(abs(a - b) for a, b in zip(one.data, other.data, strict=True))
