"""Bytes of an image -> its fingerprint, by the recipe `dct/1`.

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
"""

import hashlib
import io
import os
import warnings
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from beam_dedup.core import formats, limits
from beam_dedup.core.errors import DecodeError, ImageError
from beam_dedup.core.model import Code, Fingerprint, Flag, ImageRef, Kind, Reason

ALGORITHM = "dct/1"

SIDE = 64  # pixels of the square that is transformed
LONG_SIDE, SHORT_SIDE = 16, 8  # coefficients a side
LONG_BITS, SHORT_BITS = LONG_SIDE**2, SHORT_SIDE**2
DEAD_ZONE = 2  # grey levels
DRAFT_SIDE = 128  # pixels a JPEG is decoded to at least

TINY_SIDE = 24  # pixels: a picture with a shorter side below this has no long code
FLAT_ACTIVE = 8  # a picture with fewer coefficients outside the dead zone is flat
PROFILE_CELLS = 16  # of each of the two profiles of a flat picture

_CHUNK_BYTES = 1 << 20
BUFFERED_BYTES = 1 << 26  # a file up to here is read once, as a whole; a larger one is digested in a stream

_SCALE = 1 << 15
_COSINES: npt.NDArray[np.float64] = np.rint(
    _SCALE
    * np.sqrt(2 / SIDE)
    * np.cos(np.pi / SIDE * np.outer(np.arange(1, LONG_SIDE + 1), np.arange(SIDE) + 0.5))
)
_ORIENTATION_TAG = 0x0112


def _bit_order() -> npt.NDArray[np.intp]:
    at = np.arange(LONG_BITS).reshape(LONG_SIDE, LONG_SIDE)
    low = np.zeros_like(at, dtype=bool)
    low[:SHORT_SIDE, :SHORT_SIDE] = True
    return np.concatenate([at[low], at[~low]])


_BIT_ORDER = _bit_order()


def prepare_decoders() -> None:
    """Sets Pillow up for untrusted files; call once per process, before the first fingerprint.

    Pillow's own pixel limit knows nothing of scaled decoding; `decode` has a finer one. It refuses twice what it is set
    to, and stays as a second line.
    """
    Image.MAX_IMAGE_PIXELS = limits.MAX_PIXELS_SCALED // 2
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.preinit()
    Image.init()


def coefficients(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """DCT-II coefficients 1..16 x 1..16 of grey squares, in units of 1 / 2**30 grey levels.

    Args:
      pixels: (..., 64, 64) grey levels.
    Returns:
      (..., 16, 16), rows are vertical frequencies.
    """
    return np.asarray(_COSINES @ pixels.astype(np.float64) @ _COSINES.T)


def code_bits(coefs: npt.NDArray[np.float64]) -> bytes:
    """The 32 bytes of the long code (first 8: the short code) from (16, 16) coefficients."""
    above: npt.NDArray[np.bool_] = coefs > DEAD_ZONE * _SCALE**2
    return np.packbits(above.reshape(LONG_BITS)[_BIT_ORDER]).tobytes()


def active(coefs: npt.NDArray[np.float64]) -> int:
    """How many coefficients lie outside the dead zone."""
    return int(np.count_nonzero(np.abs(coefs) > DEAD_ZONE * _SCALE**2))


def profiles(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Colours of a flat picture, 96 bytes: the mean of each of 16 vertical strips, then of 16 horizontal ones.

    A picture without active coefficients is a function of x plus a function of y, so these say all there is.

    Args:
      pixels: (64, 64, 3) RGB.
    """
    cells = pixels.reshape(PROFILE_CELLS, -1, PROFILE_CELLS, SIDE // PROFILE_CELLS, 3).astype(np.float64)
    both = np.concatenate([cells.mean(axis=(0, 1, 3)), cells.mean(axis=(1, 2, 3))])
    rounded: npt.NDArray[np.uint8] = np.rint(both).astype(np.uint8)
    return rounded.tobytes()


def square(image: Image.Image, mode: str) -> npt.NDArray[np.uint8]:
    """The picture in `mode` ("L" or "RGB"), resized to 64 x 64 over white: (64, 64) or (64, 64, 3)."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "I":
        wide = np.asarray(image)
        image = Image.fromarray(np.clip(wide >> 8 if wide.max() > 255 else wide, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        wide = np.nan_to_num(np.asarray(image))
        image = Image.fromarray(np.clip(wide * 255 if wide.max() <= 1 else wide, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # Premultiplied, so that what is scaled away does not bleed; white shows through what alpha leaves.
        small = _resized(image.convert("RGBA").convert("RGBa"))
        rgba = np.asarray(small).astype(np.uint16)
        over_white = np.minimum(rgba[..., :3] + (255 - rgba[..., 3:]), 255).astype(np.uint8)
        return np.asarray(Image.fromarray(over_white).convert(mode))
    return np.asarray(_resized(image.convert(mode)))


def _resized(image: Image.Image) -> Image.Image:
    return image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)


def oriented(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """A square picture turned and mirrored as EXIF `orientation` (1..8) asks; other values change nothing.

    The first two axes are rows and columns.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _orientation(image: Image.Image) -> int:
    # Without EXIF there is nothing to parse, and Pillow turns a TIFF itself when it decodes it.
    if image.format == "TIFF" or (image.format == "JPEG" and "exif" not in image.info):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  parsers raise almost anything on damaged metadata; shown as stored then
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _open(stream: BinaryIO, mode: str) -> Image.Image:
    stream.seek(0)
    image = Image.open(stream, formats=formats.DECODED_FORMATS)
    image.draft(mode, (DRAFT_SIDE, DRAFT_SIDE))
    return image


def decode(stream: BinaryIO) -> tuple[str, int, int, tuple[Code, ...], tuple[Flag, ...]]:
    """Decodes a picture and fingerprints it.

    Returns: format, width and height in pixels as a viewer shows them, codes (base view only), flags.

    Raises:
      DecodeError: Pillow can't open or decode it, or it has too many pixels to try.
    """
    try:
        stream.seek(0)
        if stream.read(4) == formats.ICON_SIGNATURE:
            limits.check_icon(stream)
        stream.seek(0)
        with Image.open(stream, formats=formats.DECODED_FORMATS) as image:
            stored = image.size
            limit = limits.most_pixels(image)
            if stored[0] * stored[1] > limit:
                raise DecodeError(f"{stored[0]} x {stored[1]} pixels; at most {limit} are decoded")
            own_mode = image.mode
            image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
            orientation = _orientation(image)
            grey = oriented(square(image, "L"), orientation)
            coefs = coefficients(grey)
            name = "JPEG" if image.format == "MPO" else str(image.format)
            width, height = stored if orientation < 5 else stored[::-1]
            if active(coefs) < FLAT_ACTIVE:
                if image.mode == own_mode:
                    colour = square(image, "RGB")
                else:  # decoded to grey only: flat pictures are rare, so a second decode costs less than colour for all
                    colour = square(_open(stream, "RGB"), "RGB")
                code = Code(Kind.FLAT, profiles(oriented(colour, orientation)))
                return name, width, height, (code,), (Flag.FLAT,)
            bits = code_bits(coefs)
            if min(stored) < TINY_SIDE:
                return name, width, height, (Code(Kind.TINY, bits[: SHORT_BITS // 8]),), (Flag.TINY,)
            return name, width, height, (Code(Kind.FULL, bits),), ()
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("damaged: no decoder can read its header") from error
    except Exception as error:  # decoders raise almost anything on damaged bytes; none of it may stop a run
        raise DecodeError(f"{type(error).__name__}: {error}"[:300]) from error


def _read(stream: BinaryIO, size_bytes: int) -> tuple[BinaryIO, bytes, bytes]:
    """One read of the file: (a stream to decode from, its first bytes, its SHA-256)."""
    if size_bytes <= BUFFERED_BYTES:
        data = stream.read(limits.MAX_BYTES) or b""
        return io.BytesIO(data), data[: formats.HEAD_BYTES], hashlib.sha256(data).digest()
    sha256 = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        sha256.update(chunk)
    stream.seek(0)
    return stream, stream.read(formats.HEAD_BYTES), sha256.digest()


def fingerprint(
    ref: ImageRef, stream: BinaryIO, size_bytes: int, modified_ms: int = 0, pictures: bool = True
) -> Fingerprint:
    """Digest and codes of one image.

    Args:
      stream: the file, seekable, at its beginning.
      size_bytes: its size, which decides how it is read.
      pictures: False leaves out decoding, for exact mode: digest and format only.
    Raises:
      ImageError: there are no bytes, too many, or they are not an image's.
      OSError: from reading the stream.
    """
    if size_bytes > limits.MAX_BYTES:
        raise ImageError(Reason.TOO_LARGE, f"{size_bytes} bytes; an image may have {limits.MAX_BYTES}")
    picture, head, digest = _read(stream, size_bytes)
    if not head:
        raise ImageError(Reason.EMPTY)
    known = formats.sniff(head)
    if known is None:
        raise ImageError(Reason.NOT_AN_IMAGE, f"first bytes: {head[:16]!r}")
    size_bytes = picture.seek(0, os.SEEK_END)
    codes: tuple[Code, ...] = ()
    flags: tuple[Flag, ...] = ()
    width = height = 0
    detail = ""
    if pictures:
        try:
            if known not in formats.DECODED_FORMATS:
                raise DecodeError(f"{known} is not decoded")
            known, width, height, codes, flags = decode(picture)
        except DecodeError as error:
            flags, detail = (Flag.UNDECODABLE,), str(error)
    return Fingerprint(
        ref=ref,
        digest=digest,
        size_bytes=size_bytes,
        modified_ms=modified_ms,
        format=known,
        width=width,
        height=height,
        algorithm=ALGORITHM if codes else "",
        codes=codes,
        flags=flags,
        detail=detail,
    )
