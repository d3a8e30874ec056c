"""Decodes an image file within limits, and resizes the picture and parts of it to squares."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from beam_dedup.core import limits
from beam_dedup.core.errors import DecodeError, OtherFormatError, OutOfMemoryError, install_command
from beam_dedup.core.imaging import formats, truncated
from beam_dedup.core.imaging.dct import SIDE, Pixels
from beam_dedup.core.limits import Limits

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of width and height
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

# Pixels a side that the scaled decode of a JPEG, and the reduction of other pictures, leave at least.
DRAFT_SIDE = 128

_ORIENTATION_TAG = 0x0112
_MAKE, _SUB_DIRECTORIES, _DNG_VERSION = 271, 330, 50706  # tags of TIFF

_INLIERS = (0.5, 99.5)  # percentiles that become black and white
_FINE_LEVELS = 48  # grey levels; more than the noise of a JPEG has
_ROWS = 256  # of a picture that are examined at a time


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A picture whose header has been read."""

    image: Image.Image
    stored_mode: str  # Pillow mode of the file; `image.mode` differs if a JPEG is decoded to grey
    format: str
    orientation: int  # EXIF, 1..8
    width: int  # pixels, as a viewer shows it
    height: int
    share: float | None = None  # of its rows that are present, if the file is truncated

    @property
    def stored_size(self) -> tuple[int, int]:
        """Width and height in pixels, with the EXIF orientation not applied."""
        return (self.width, self.height) if self.orientation < 5 else (self.height, self.width)

    @property
    def scale(self) -> int:
        """The whole number by which a JPEG was reduced when it was decoded; 1 for other pictures."""
        width, _ = self.stored_size
        return next((scale for scale in (1, 2, 4, 8) if -(-width // scale) == self.image.width), 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as stored (EXIF orientation not applied), its shorter side reduced to 128 to 255 pixels if larger.

    A reduced picture may end in a column or row that stands for fewer source pixels than the others. So
    `width` and `height`, in pixels of `image`, may be fractions.
    """

    image: Image.Image  # mode L or RGB; RGBa if the picture has transparency
    width: float
    height: float


def prepare_decoders() -> None:
    """Configures Pillow for untrusted files; call it once per process, before the first fingerprint.

    Pillow's own pixel limit takes no account of scaled decoding, and refuses only pictures of more than
    twice its value. It remains as a second line of defence behind the finer limit of `open_picture`.
    """
    Image.MAX_IMAGE_PIXELS = limits.MAX_PIXELS_SCALED // 2
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.preinit()
    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def check_decoded(image_format: str) -> None:
    """Raises DecodeError if pictures of this format are not decoded."""
    if image_format not in _decoded_formats():
        raise DecodeError(not_decoded(image_format))


def not_decoded(image_format: str) -> str:
    """Returns the detail of a record whose image is of a format that is not decoded.

    >>> not_decoded("SVG"), not_decoded("HEIF")
    ('SVG is not decoded', "HEIF is not decoded; run pip install '.[heif]' in the checkout")
    """
    more = f"; run {install_command('heif')}" if image_format == formats.HEIF else ""
    return f"{image_format} is not decoded{more}"


def _decoded_formats() -> tuple[str, ...]:
    """Returns the formats that Pillow may open."""
    has_heif = formats.HEIF in Image.OPEN
    return (*formats.DECODED_FORMATS, formats.HEIF) if has_heif else formats.DECODED_FORMATS


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Converts every exception of a decoder to DecodeError.

    Keep our own arithmetic out of this context: its bugs would be hidden.

    Raises:
      DecodeError: Pillow cannot open or decode the picture. It is an OutOfMemoryError if memory is, or may
        be, the cause.
    """
    try:
        yield
    except DecodeError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError("out of memory") from error
    except UnidentifiedImageError as error:
        raise _decode_error("damaged: no decoder can read its header") from error
    except Exception as error:  # decoders raise almost any exception on damaged bytes; none may stop a run
        raise _decode_error(f"{type(error).__name__}: {error}"[:300]) from error


def _decode_error(detail: str) -> DecodeError:
    if limits.is_memory_short():
        return OutOfMemoryError(f"{detail}; or out of memory")
    return DecodeError(detail)


def open_picture(stream: BinaryIO, scaled: bool, heavy: bool, allowed: Limits) -> Opened:
    """Reads the header of a picture. Call it in `decoding`.

    Args:
      stream: the file, seekable.
      scaled: decode a JPEG to grey, at the smallest scale that leaves `DRAFT_SIDE` pixels a side.
      heavy: apply the lower pixel limit of algorithms that need several times the memory of the pixels.
      allowed: limits on the number of pixels.
    Raises:
      DecodeError: the picture has too many pixels.
      OtherFormatError: it is a raw picture of a camera, of which Pillow would decode the thumbnail.
      Exception: any other exception, if Pillow cannot open the file.
    """
    stream.seek(0)
    if stream.read(4) == formats.ICON_SIGNATURE:
        limits.check_icon(stream)
    image = _open(stream)
    if name := _raw_format(image):
        raise OtherFormatError(name, not_decoded(name))
    width, height = image.size
    limit = limits.most_pixels(image, scaled, heavy, allowed)
    if width * height > limit:
        raise DecodeError(f"{width} x {height} pixels; at most {limit} are decoded")
    mode = image.mode
    if scaled:
        image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
    orientation = _orientation(image)
    name = "JPEG" if image.format == "MPO" else str(image.format)
    if orientation >= 5:
        width, height = height, width
    return Opened(image, mode, name, orientation, width, height)


def _raw_format(image: Image.Image) -> str:
    """Returns the format of a raw picture in a TIFF; "" for other pictures.

    Its first directory says that it is a DNG, or it is a reduced picture, and the sensor's data are in a directory below.
    """
    if image.format != "TIFF":
        return ""
    tags = image.tag_v2  # type: ignore[attr-defined]  # a TiffImageFile
    if _DNG_VERSION in tags:
        return "DNG"
    kind = tags.get(formats.NEW_SUBFILE_TYPE, 0)
    if not (isinstance(kind, int) and kind & 1 and _SUB_DIRECTORIES in tags):
        return ""
    maker = str(tags.get(_MAKE, "")).upper()
    return next((name for word, name in formats.RAW_MAKERS.items() if word in maker), formats.RAW)


def load_picture(stream: BinaryIO, picture: Opened, scaled: bool) -> Opened:
    """Decodes the pixels of a picture, or the rows that a truncated file has. Call it in `decoding`.

    Args:
      stream: the file that `open_picture` opened.
      picture: the result of `open_picture`.
      scaled: as given to `open_picture`.
    If memory is short, no part of a picture is decoded: what looks truncated may be a lack of memory.

    Raises:
      DecodeError: too few rows are present.
      Exception: any other exception, if Pillow cannot decode the picture.
    """
    try:
        picture.image.load()
    except MemoryError:
        raise
    except Exception:  # decoders raise almost any exception when bytes are missing
        if picture.format not in truncated.FORMATS or limits.is_memory_short():
            raise
        image, share = truncated.decode_partially(stream, functools.partial(_reopen, scaled=scaled))
        return dataclasses.replace(picture, image=image, stored_mode=image.mode, share=share)
    return picture if truncated.has_end(stream, picture.format) else dataclasses.replace(picture, share=1.0)


def _reopen(stream: BinaryIO, scaled: bool) -> Image.Image:
    image = _open(stream)
    if scaled:
        image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
    return image


def _open(stream: BinaryIO) -> Image.Image:
    stream.seek(0)
    return Image.open(stream, formats=_decoded_formats())


def colours(stream: BinaryIO, picture: Opened) -> Image.Image:
    """Returns the picture of the same file in colour; opens the file again if it was decoded to grey."""
    if picture.image.mode == picture.stored_mode:
        return picture.image
    image = _open(stream)
    image.draft("RGB", (DRAFT_SIDE, DRAFT_SIDE))
    return image


def reduced(picture: Opened) -> Thumbnail:
    """Returns a decoded picture in grey, reduced."""
    source = thumbnail(picture.image, "L")
    if picture.scale == 1:
        return source
    # The last column and row of a scaled JPEG may stand for fewer pixels than the others, too.
    width, height = picture.stored_size
    return dataclasses.replace(
        source,
        width=width / picture.scale * source.width / picture.image.width,
        height=height / picture.scale * source.height / picture.image.height,
    )


def thumbnail(image: Image.Image, mode: str) -> Thumbnail:
    """Decodes a picture, converts it to `mode` ("L" or "RGB") and reduces it by a power of two."""
    image.load()
    if image.mode != mode or "transparency" in image.info:
        image = _plain(image, mode)
    width, height = image.size
    # The scales of JPEG decoders, equal in both directions: a picture in another format must be reduced as its JPEG is, or
    # fine detail differs.
    factor = 1 << max((min(width, height) // DRAFT_SIDE).bit_length() - 1, 0)
    if factor == 1:
        return Thumbnail(image, width, height)
    return Thumbnail(image.reduce(factor), width / factor, height / factor)


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """Converts a picture to `mode`, or to RGBa if it has transparency."""
    if _is_wide(image):
        image = Image.fromarray(_in_8_bits(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # Premultiplied alpha: resizing must not mix the colours of transparent pixels into visible ones.
        return image.convert("RGBA").convert("RGBa")
    return image.convert(mode)


def _is_wide(image: Image.Image) -> bool:
    """Returns whether the samples of a picture have more than 8 bits."""
    return image.mode.startswith("I;16") or image.mode in ("I", "F")


def _in_8_bits(samples: npt.NDArray[Any]) -> Pixels:
    """Scales samples of more than 8 bits to 0..255, by the range that they are most likely meant to fill.

    It is 0 to 2**n - 1 for whole numbers, with the least n from 8 that holds them all: 8, 10, 12 or 16 bits, as cameras and
    scanners write them. It is 0 to 1, or 0 to 255, for fractions that lie within; else the range from the least to the
    greatest.
    """
    least, greatest = _range_of(samples)
    if not _is_usual(samples, least, greatest):
        return _stretched(samples)
    if samples.dtype.kind == "f":
        return (np.where(np.isfinite(samples), samples, 0) * (255 if greatest <= 1 else 1)).astype(np.uint8)
    shifted: Pixels = (samples >> (max(int(greatest).bit_length(), 8) - 8)).astype(np.uint8)
    return shifted


def measurements(image: Image.Image) -> str:
    """Returns a name of the samples of a decoded picture that is shown by its own range; "" for other pictures.

    Measurements may look alike by their own ranges, but differ by a factor, by what was added, or everywhere but in the
    few values that stand for missing ones.
    """
    if not _is_wide(image):
        return ""
    samples = np.asarray(image)
    if _is_usual(samples, *_range_of(samples)):
        return ""
    return f"{samples.shape} samples {hashlib.sha256(samples.tobytes()).hexdigest()}"


def is_invisible(source: Thumbnail) -> bool:
    """Returns whether all of a picture is transparent."""
    return source.image.mode == "RGBa" and not np.asarray(source.image)[..., 3].any()


def _range_of(samples: npt.NDArray[Any]) -> tuple[float, float]:
    """Returns the least and the greatest finite sample; 0 and 0 if there are none."""
    finite = samples[np.isfinite(samples)] if samples.dtype.kind == "f" else samples
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _is_usual(samples: npt.NDArray[Any], least: float, greatest: float) -> bool:
    """Returns whether samples are in a range that the samples of pictures usually fill."""
    return least >= 0 and greatest <= (255 if samples.dtype.kind == "f" else (1 << 16) - 1)


def _stretched(samples: npt.NDArray[Any]) -> Pixels:
    """Scales samples so that nearly the least finite one becomes 0, and nearly the greatest 255.

    Samples beyond count as the nearest of these: few outliers must not hide all others.
    """
    finite = samples[np.isfinite(samples)].astype(np.float64)
    if not finite.size:
        return np.zeros(samples.shape, np.uint8)
    least, greatest = map(float, np.percentile(finite, _INLIERS))
    if greatest == least:
        least, greatest = float(finite.min()), float(finite.max())
    if greatest == least:
        return np.zeros(samples.shape, np.uint8)
    half = greatest / 2 - least / 2  # the difference itself may be infinite
    numbers = np.clip(np.nan_to_num(samples.astype(np.float64), nan=least), least, greatest)
    shares = (numbers / 2 - least / 2) / half
    stretched: Pixels = (shares * 255).astype(np.uint8)
    return stretched


def other_renderings(image: Image.Image) -> Iterator[Thumbnail]:
    """Yields a decoded picture as it looks in other ways: some show what is flat, or invisible, in `thumbnail`.

    A picture with transparency is shown over black (it may be white), and without transparency, if all of it is
    invisible. One with samples of more than 8 bits is shown by the range of its own samples.

    Returns:
      Grey pictures.
    """
    if _is_wide(image):
        yield thumbnail(Image.fromarray(_stretched(np.asarray(image))), "L")
        return
    source = thumbnail(image, "L")
    if source.image.mode != "RGBa":
        return
    over_black = Image.fromarray(np.ascontiguousarray(np.asarray(source.image)[..., :3])).convert("L")
    yield dataclasses.replace(source, image=over_black)
    if is_invisible(source):
        yield thumbnail(image.convert("RGBA").convert("RGB"), "L")


def has_fine_detail(stream: BinaryIO, picture: Opened, source: Thumbnail, allowed: Limits) -> bool:
    """Returns whether a flat picture, at its full size, shows anything that 64 x 64 pixels hide, such as stars.

    What only depends on the row, or only on the column, does not count: the profiles of a flat picture describe it.

    Args:
      stream: the file that `open_picture` opened; a JPEG is decoded again.
      picture: the decoded picture.
      source: the same, reduced.
      allowed: limits on the number of pixels; a picture with more is not examined.
    """
    image = picture.image
    if image.format in ("JPEG", "MPO"):
        image = _open(stream)
        if image.width * image.height > limits.most_pixels(image, False, False, allowed):
            return False
        image.load()
    pixels = over_white(_plain(image, "L"), "L")
    coarse = np.asarray(
        Image.fromarray(square(source, "L")).resize(pixels.shape[::-1], Image.Resampling.BILINEAR)
    )
    parts = [slice(top, top + _ROWS) for top in range(0, len(pixels), _ROWS)]
    by_column = sum(
        _beyond(pixels[part], coarse[part]).sum(axis=0, dtype=np.float64) for part in parts
    ) / len(pixels)
    by_column -= np.mean(by_column)
    for part in parts:
        beyond = _beyond(pixels[part], coarse[part])
        if np.abs(beyond - beyond.mean(axis=1, keepdims=True) - by_column).max() > _FINE_LEVELS:
            return True
    return False


def _beyond(pixels: Pixels, coarse: Pixels) -> npt.NDArray[np.float32]:
    return pixels.astype(np.float32) - coarse


def square(source: Thumbnail, mode: str, part: Box = WHOLE, side: int = SIDE) -> Pixels:
    """Resizes a part of a picture to a square over white: (side, side) uint8, or (side, side, 3) for mode "RGB"."""
    left, top, right, bottom = part
    box = (left * source.width, top * source.height, right * source.width, bottom * source.height)
    return over_white(source.image.resize((side, side), Image.Resampling.BILINEAR, box), mode)


def tilted(source: Thumbnail, degrees: float, side: int = SIDE) -> Pixels:
    """Rotates a picture counter-clockwise by a few degrees and crops it: (side, side) uint8, grey.

    The crop is the largest frame of the picture's shape that includes nothing from outside the picture.
    """
    angle = math.radians(degrees)
    width, height = source.width, source.height
    share = tilted_share(width, height, degrees)
    # Rotate at twice the size: `transform` samples single pixels, and would lose detail by scaling down.
    twice = 2 * side
    across, down = share * width / twice, share * height / twice
    x_by_x, x_by_y = math.cos(angle) * across, -math.sin(angle) * down
    y_by_x, y_by_y = math.sin(angle) * across, math.cos(angle) * down
    x_start = width / 2 - (x_by_x + x_by_y) * side
    y_start = height / 2 - (y_by_x + y_by_y) * side
    image = source.image if source.image.mode == "L" else Image.fromarray(over_white(source.image, "L"))
    rotated = image.transform(
        (twice, twice),
        Image.Transform.AFFINE,
        (x_by_x, x_by_y, x_start, y_by_x, y_by_y, y_start),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(rotated.resize((side, side), Image.Resampling.BILINEAR))


def tilted_share(width: float, height: float, degrees: float) -> float:
    """Returns the share of each side that remains after rotating a picture and cropping it to its shape."""
    angle = math.radians(abs(degrees))
    return 1 / (math.cos(angle) + max(width / height, height / width) * math.sin(angle))


def over_white(image: Image.Image, mode: str) -> Pixels:
    """Converts a picture of mode L, RGB or RGBa to pixels of `mode` ("L" or "RGB"), over white."""
    if image.mode == mode:
        return np.asarray(image)
    rgba = np.asarray(image).astype(np.uint16)
    over = np.minimum(rgba[..., :3] + (255 - rgba[..., 3:]), 255).astype(np.uint8)
    return np.asarray(Image.fromarray(over).convert(mode))


def oriented(pixels: Pixels, orientation: int) -> Pixels:
    """Turns and mirrors a square picture by its EXIF `orientation` (1..8); other values change nothing.

    Args:
      pixels: the first two axes are rows and columns.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def as_stored(part: Box, orientation: int) -> Box:
    """Converts a box in the picture as a viewer shows it to the same box in the picture as stored."""
    left, top, right, bottom = part
    if orientation in (2, 3, 6, 7):
        left, right = 1 - right, 1 - left
    if orientation in (3, 4, 7, 8):
        top, bottom = 1 - bottom, 1 - top
    if orientation in (5, 6, 7, 8):
        left, top, right, bottom = top, left, bottom, right
    return left, top, right, bottom


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation that is still to be applied, 1..8; 1 for none."""
    # A JPEG without EXIF needs no parsing. Pillow itself applies the orientation of a TIFF on decoding it.
    if image.format == "TIFF" or (image.format == "JPEG" and "exif" not in image.info):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  parsers raise almost anything on damaged EXIF; show as stored
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
