"""Computes the detail code of a picture with much plain ground, by the recipe `dct/2`.

The signs of low frequencies describe where the parts of a picture are. On a plain ground that is nearly all they
describe: two title pages, two bar codes or two letters in the centre of a sheet agree in most of them. Such pictures get
512 more bits, from finer detail:

1. A picture has *plain ground* if at least a fifth of its 16 x 16 cells, of 4 x 4 pixels each, hold one grey level, give or
   take one. Photos of a clear sky rarely do: they have noise and gradients.
2. The picture is resized to 128 x 128 pixels, from the same decode. Of its DCT-II coefficients 1..32 x 1..32, only the
   sign counts: +1 or -1, and 0 below `DEAD_ZONE`.
3. Each of the 512 bits is the sign of the inner product of these 1024 numbers with a fixed pattern of +1 and -1 (Charikar,
   "Similarity estimation techniques from rounding algorithms", 2002). The share of differing bits of two codes is the
   angle between their coefficients, divided by pi, give or take some bits. Patterns that are orthogonal to each other
   estimate it better than random ones (Ji et al., "Super-bit locality-sensitive hashing", 2012): they are rows of
   Sylvester's Hadamard matrix, with random signs of the columns.

All sums are of whole numbers below 2**53, so no code depends on machine, library or batch size.
"""

import functools
import hashlib

import numpy as np
import numpy.typing as npt

from beam_dedup.core.imaging.dct import Coefficients, Pixels, cosines
from beam_dedup.core.thresholds import DETAIL_BITS

SIDE = 128  # pixels of the square that is transformed
FREQUENCIES = 32  # coefficients a side
DEAD_ZONE = 1  # grey levels
LEAST_SIDE = 80  # pixels; a picture whose shorter side has fewer has no such detail, and gets no detail code

CELL = 4  # pixels a side, of 64 x 64
PLAIN_LEVELS = 1  # by which the pixels of a plain cell may differ
PLAIN_SHARE = 0.2  # of the cells; with fewer plain ones, a picture gets no detail code

_SCALE = 1 << 15
_COSINES = cosines(SIDE, FREQUENCIES, _SCALE)
_THRESHOLD = DEAD_ZONE * _SCALE**2


def has_plain_ground(whole: Pixels) -> bool:
    """Returns whether a picture, given as (64, 64) uint8 grey pixels, has much plain ground."""
    spans = _of_cells(whole, np.maximum) - _of_cells(whole, np.minimum)
    return bool(np.count_nonzero(spans <= PLAIN_LEVELS) >= PLAIN_SHARE * spans.size)


def _of_cells(whole: Pixels, bound: np.ufunc) -> Pixels:
    """Returns the greatest or the least level of each cell: (64, 64) -> (16, 16)."""
    rows = functools.reduce(bound, (whole[row::CELL] for row in range(CELL)))
    levels: Pixels = functools.reduce(bound, (rows[:, column::CELL] for column in range(CELL)))
    return levels


def coefficients(pixels: Pixels) -> Coefficients:
    """Returns the coefficients 1..32 x 1..32 of grey squares: (..., 128, 128) uint8 -> (..., 32, 32) float64.

    They are in units of 1 / 2**30 grey levels.
    """
    return np.asarray(_COSINES @ pixels.astype(np.float64) @ _COSINES.T)


def detail_bits(coefs: Coefficients) -> npt.NDArray[np.uint8]:
    """Returns the detail codes of (n, 32, 32) coefficients: (n, 64) uint8."""
    signs = (coefs > _THRESHOLD).astype(np.float32) - (coefs < -_THRESHOLD).astype(np.float32)
    return np.packbits(signs.reshape(len(coefs), -1) @ _patterns() > 0, axis=-1)


@functools.cache
def _patterns() -> npt.NDArray[np.float32]:
    """Returns the fixed patterns of +1 and -1, (1024, 512)."""
    count = FREQUENCIES**2
    number = np.arange(count, dtype=np.uint32)
    rows = np.argsort(
        np.frombuffer(hashlib.shake_128(b"dct/2: rows").digest(4 * count), ">u4"), kind="stable"
    )
    signs = np.unpackbits(np.frombuffer(hashlib.shake_128(b"dct/2: signs").digest(count // 8), np.uint8))
    odd = np.bitwise_count(number[:, None] & number[rows[:DETAIL_BITS]]) % 2 != signs[:, None]
    return np.where(odd, np.float32(-1), np.float32(1))
