"""Codes of other libraries, bit for bit: what their users get for `Image.open(path)`, and have stored.

That is the picture decoded in full, as it is stored: no scaled decode, no turning by EXIF, no white under what is
transparent; the first frame of an animation. Bits are in the order of the library's own hexadecimal form, the
first being the most significant one.
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
    """The base code of a picture, by a library; a code of fewer bits than its bytes ends in zeros."""
    bits = _pdq(image) if algorithm.name == "pdq" else _imagehash(image, _IMAGEHASH[algorithm.name])
    return Code(algorithm.kind, np.packbits(bits).tobytes().ljust(_SIZES[algorithm.kind], b"\0"))


def _imagehash(image: Image.Image, function: str) -> npt.NDArray[np.bool_]:
    import imagehash  # with scipy and wavelets: only who uses it waits for it

    found: npt.NDArray[np.bool_] = getattr(imagehash, function)(image).hash.ravel()
    return found


def _pdq(image: Image.Image) -> npt.NDArray[np.bool_]:
    import pdqhash

    found, _quality = pdqhash.compute(np.asarray(image.convert("RGB")))
    return np.asarray(found, dtype=np.bool_)
