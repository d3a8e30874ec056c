"""Computes the codes of the libraries imagehash and pdqhash, bit for bit as their users have stored them.

Those users pass `Image.open(path)` to the library. So the picture is decoded in full and as stored: without
scaled decoding, EXIF orientation, or white under transparent parts. The bits are in the order of the library's
hexadecimal form, the most significant bit first.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from beam_dedup.core.algorithms import Algorithm
from beam_dedup.core.model import Code, CodeKind

_SIZES = {CodeKind.HASH: 8, CodeKind.WIDE: 32}  # bytes

_IMAGEHASH = {
    "phash": "phash",
    "dhash": "dhash",
    "ahash": "average_hash",
    "whash": "whash",
    "colorhash": "colorhash",
}


def hash_of(image: Image.Image, algorithm: Algorithm) -> Code:
    """Returns the base code of a picture, computed by a library and padded with zero bits to 8 or 32 bytes.

    Args:
      image: decoded in full.
      algorithm: any but `dct` and `simhash`.
    """
    bits = _pdq(image) if algorithm.name == "pdq" else _imagehash(image, _IMAGEHASH[algorithm.name])
    return Code(algorithm.kind, np.packbits(bits).tobytes().ljust(_SIZES[algorithm.kind], b"\0"))


def _imagehash(image: Image.Image, function: str) -> npt.NDArray[np.bool_]:
    import imagehash  # slow to import (scipy, PyWavelets), so imported only where it is used

    bits: npt.NDArray[np.bool_] = getattr(imagehash, function)(image).hash.ravel()
    return bits


def _pdq(image: Image.Image) -> npt.NDArray[np.bool_]:
    import pdqhash

    bits, _quality = pdqhash.compute(np.asarray(image.convert("RGB")))
    return np.asarray(bits, dtype=np.bool_)
