"""A picture of 64 x 64 pixels -> its code, by the recipe `dct/1`.

The recipe is stored beside every fingerprint, and fingerprints of two recipes are never compared. It is:

1. One scaled decode: JPEG by `draft` to at least 128 pixels a side, the rest by the resize's own reduction.
   First frame of an animation; transparent parts over white; 16 bits by their upper 8.
2. Grey (ITU-R 601 luma), **one** bilinear resize to 64 x 64, then the EXIF orientation (of 64 x 64 pixels, so it is free).
3. Orthonormal DCT-II. Of the coefficients 1..16 x 1..16 (row 0 and column 0 hold brightness and gradients,
   in which different pictures on a plain ground agree) one bit each: above `DEAD_ZONE` grey levels or not.
   The dead zone keeps coefficients that are noise around zero from flipping bits.

Bit order of the 256 bits (most significant bit of the first byte first): the 64 of 1..8 x 1..8 row by row, then
the other 192 row by row. So the first 8 bytes are the *short code*, and all 32 the *long code*.

            column 1 ....... 8 9 ....... 16
    row 1        +----------+-----------+
      .          | short:   |           |
      8          | bits 0-63|           |
                 +----------+           |
     16          |    bits 64 .. 255    |
                 +----------------------+

The transform is exact: cosines are rounded to 1/32768 and every product and sum is a whole number below 2**53, so
floating point adds nothing of its own and a code does not depend on machine, library or batch size.

Steps 1 and 2 are in `beam_dedup.core.imaging.decode`.
"""

import math

import numpy as np
import numpy.typing as npt

from beam_dedup.core.thresholds import LONG_BITS, SHORT_BITS

Coefficients = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

SIDE = 64  # pixels of the square that is transformed
LONG_SIDE, SHORT_SIDE = math.isqrt(LONG_BITS), math.isqrt(SHORT_BITS)  # coefficients a side: 16 and 8
DEAD_ZONE = 2  # grey levels

FLAT_ACTIVE = 8  # a picture with fewer coefficients outside the dead zone is flat
PROFILE_CELLS = 16  # of each of the two profiles of a flat picture

_SCALE = 1 << 15
_COSINES: Coefficients = np.rint(
    _SCALE
    * np.sqrt(2 / SIDE)
    * np.cos(np.pi / SIDE * np.outer(np.arange(1, LONG_SIDE + 1), np.arange(SIDE) + 0.5))
)
_THRESHOLD = DEAD_ZONE * _SCALE**2

# A mirror negates the waves that are odd about the middle: those of odd frequency, 1, 3, ...
_ODD = np.where(np.arange(1, LONG_SIDE + 1) % 2, -1.0, 1.0)


def _bit_order() -> npt.NDArray[np.intp]:
    at = np.arange(LONG_BITS).reshape(LONG_SIDE, LONG_SIDE)
    low = np.zeros_like(at, dtype=bool)
    low[:SHORT_SIDE, :SHORT_SIDE] = True
    return np.concatenate([at[low], at[~low]])


_BIT_ORDER = _bit_order()


def coefficients(pixels: Pixels) -> Coefficients:
    """DCT-II coefficients 1..16 x 1..16 of grey squares, in units of 1 / 2**30 grey levels.

    Args:
      pixels: (..., 64, 64) grey levels.
    Returns:
      (..., 16, 16), rows are vertical frequencies.
    """
    return np.asarray(_COSINES @ pixels.astype(np.float64) @ _COSINES.T)


def code_bits(coefs: Coefficients) -> npt.NDArray[np.uint8]:
    """The 32 bytes of the long code (first 8: the short code) of each (..., 16, 16): (..., 32)."""
    above: npt.NDArray[np.bool_] = coefs > _THRESHOLD
    return np.packbits(above.reshape(*coefs.shape[:-2], LONG_BITS)[..., _BIT_ORDER], axis=-1)


def active(coefs: Coefficients) -> npt.NDArray[np.intp]:
    """How many coefficients of each (..., 16, 16) lie outside the dead zone: (...)."""
    return np.asarray((np.abs(coefs) > _THRESHOLD).sum(axis=(-2, -1)))


def turned(coefs: Coefficients) -> Coefficients:
    """The coefficients of the picture mirrored and turned, in the order of `codes.TURNS`: (16, 16) -> (7, 16, 16).

    mirror swaps left and right, flip top and bottom; rot90 turns by a quarter against the clock; transpose swaps rows
    and columns, transverse does so about the other diagonal.
    """
    across, down = coefs * _ODD, coefs * _ODD[:, None]
    swapped = coefs.T
    return np.stack(
        [
            across,
            down,
            across * _ODD[:, None],
            swapped * _ODD[:, None],
            swapped * _ODD,
            swapped,
            swapped * _ODD * _ODD[:, None],
        ]
    )


def profiles(pixels: Pixels) -> bytes:
    """Colours of a flat picture, 96 bytes: the mean of each of 16 vertical strips, then of 16 horizontal ones.

    A picture without active coefficients is a function of x plus a function of y, so these say all there is.

    Args:
      pixels: (64, 64, 3) RGB.
    """
    cells = pixels.reshape(PROFILE_CELLS, -1, PROFILE_CELLS, SIDE // PROFILE_CELLS, 3).astype(np.float64)
    both = np.concatenate([cells.mean(axis=(0, 1, 3)), cells.mean(axis=(1, 2, 3))])
    rounded: Pixels = np.rint(both).astype(np.uint8)
    return rounded.tobytes()
