"""Computes the code of a picture from its 64 x 64 pixels, by the recipe `dct/2`.

The recipe is stored beside every fingerprint; fingerprints of different recipes are never compared. Its
steps:

1. Decode once, scaled: a JPEG by Pillow's `draft` to at least 128 pixels a side, other formats by
   whole-number reduction. Use the first frame of an animation. Put transparent parts over white. Use the
   upper 8 of 16 bits.
2. Convert to grey (ITU-R 601 luma), resize **once** to 64 x 64 (bilinear), then apply the EXIF orientation
   (to 64 x 64 pixels, where it costs nothing).
3. Apply an orthonormal DCT-II. Each of the coefficients 1..16 x 1..16 gives one bit: whether it is above
   `DEAD_ZONE` grey levels. Row 0 and column 0 are left out: they hold brightness and gradients, in which
   different pictures on a plain background agree. The dead zone keeps coefficients that are noise around
   zero from flipping bits.

Order of the 256 bits (most significant bit of the first byte first): the 64 bits of 1..8 x 1..8 row by row,
then the other 192 row by row. So the first 8 bytes are the *short code*, and all 32 are the *long code*.

            column 1 ....... 8 9 ....... 16
    row 1        +----------+-----------+
      .          | short:   |           |
      8          | bits 0-63|           |
                 +----------+           |
     16          |    bits 64 .. 255    |
                 +----------------------+

The transform is exact: cosines are rounded to 1/32768, and every product and sum is a whole number below
2**53. So floating point adds no rounding error, and a code does not depend on machine, library or batch
size.

A picture with much plain ground gets a detail code besides (`beam_dedup.core.imaging.detail_code`).

Steps 1 and 2 are implemented in `beam_dedup.core.imaging.decode`.
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
PROFILE_CELLS = 16  # strips in each of the two profiles of a flat picture

_SCALE = 1 << 15


def cosines(side: int, frequencies: int, scale: int) -> Coefficients:
    """Returns the rows 1..frequencies of the orthonormal DCT-II of `side` values, in whole units of 1 / scale."""
    angles = np.pi / side * np.outer(np.arange(1, frequencies + 1), np.arange(side) + 0.5)
    rounded: Coefficients = np.rint(scale * np.sqrt(2 / side) * np.cos(angles))
    return rounded


COSINES = cosines(SIDE, LONG_SIDE, _SCALE)
_THRESHOLD = DEAD_ZONE * _SCALE**2


def _bit_order() -> npt.NDArray[np.intp]:
    at = np.arange(LONG_BITS).reshape(LONG_SIDE, LONG_SIDE)
    low = np.zeros_like(at, dtype=bool)
    low[:SHORT_SIDE, :SHORT_SIDE] = True
    return np.concatenate([at[low], at[~low]])


BIT_ORDER = _bit_order()


def coefficients(pixels: Pixels) -> Coefficients:
    """Returns the DCT-II coefficients 1..16 x 1..16 of grey squares, in units of 1 / 2**30 grey levels.

    Args:
      pixels: (..., 64, 64) uint8, grey levels.
    Returns:
      (..., 16, 16) float64; rows are vertical frequencies.
    """
    return np.asarray(COSINES @ pixels.astype(np.float64) @ COSINES.T)


def code_bits(coefs: Coefficients) -> npt.NDArray[np.uint8]:
    """Returns the long codes of (..., 16, 16) coefficients: (..., 32) uint8, the first 8 the short code."""
    above: npt.NDArray[np.bool_] = coefs > _THRESHOLD
    return np.packbits(above.reshape(*coefs.shape[:-2], LONG_BITS)[..., BIT_ORDER], axis=-1)


def active(coefs: Coefficients) -> npt.NDArray[np.intp]:
    """Counts the coefficients outside the dead zone: (..., 16, 16) -> (...)."""
    return np.asarray((np.abs(coefs) > _THRESHOLD).sum(axis=(-2, -1)))


def turned(coefs: Coefficients) -> Coefficients:
    """Returns the coefficients of the mirrored and turned picture: (n, n) -> (7, n, n).

    The order is that of `codes.TURNS`.

    mirror swaps left and right, flip swaps top and bottom, rot90 turns by a quarter counter-clockwise,
    transpose swaps rows and columns, and transverse does the same about the other diagonal.
    """
    # Mirroring a picture negates the cosines that are odd about its middle: those of frequency 1, 3, 5, ...
    odd = np.where(np.arange(1, len(coefs) + 1) % 2, -1.0, 1.0)
    across, down = coefs * odd, coefs * odd[:, None]
    swapped = coefs.T
    return np.stack(
        [
            across,
            down,
            across * odd[:, None],
            swapped * odd[:, None],
            swapped * odd,
            swapped,
            swapped * odd * odd[:, None],
        ]
    )


def profiles(pixels: Pixels) -> bytes:
    """Returns the two colour profiles of a flat picture, 96 bytes.

    They are the mean RGB of each of 16 vertical strips, then of each of 16 horizontal strips. A picture
    without active coefficients is a function of x plus a function of y, so they describe it fully.

    Args:
      pixels: (64, 64, 3) uint8, RGB.
    """
    cells = pixels.reshape(PROFILE_CELLS, -1, PROFILE_CELLS, SIDE // PROFILE_CELLS, 3).astype(np.float64)
    both = np.concatenate([cells.mean(axis=(0, 1, 3)), cells.mean(axis=(1, 2, 3))])
    rounded: Pixels = np.rint(both).astype(np.uint8)
    return rounded.tobytes()
