"""A file that holds a picture -> pixels: opening it within limits, and squares of 64 x 64 of it and of parts of it."""

import contextlib
import dataclasses
import functools
import importlib.util
import math
import warnings
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from beam_dedup.core import limits
from beam_dedup.core.errors import DecodeError, install_command
from beam_dedup.core.imaging import formats, truncated
from beam_dedup.core.imaging.dct import SIDE, Pixels
from beam_dedup.core.limits import Limits

Box = tuple[float, float, float, float]  # left, top, right, bottom, as fractions of width and height
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)

DRAFT_SIDE = (
    128  # pixels of each side that a JPEG's scaled decode, and reducing by whole numbers, leave at least
)

_ORIENTATION_TAG = 0x0112


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """A picture whose header has been read."""

    image: Image.Image
    stored_mode: str  # of the file; `image.mode` differs if a JPEG is to be decoded to grey
    format: str
    orientation: int  # EXIF, 1..8
    width: int  # pixels, as a viewer shows it
    height: int
    share: float | None = None  # of its rows that are there, if its file is cut short


@dataclasses.dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as stored (not yet turned), reduced to between 128 and 256 pixels a side where it was larger."""

    image: Image.Image  # L or RGB; RGBa where there is transparency
    width: float  # of what is picture of it: the last column or row may be an incomplete one
    height: float


def prepare_decoders() -> None:
    """Sets Pillow up for untrusted files; call once per process, before the first fingerprint.

    Pillow's own pixel limit knows nothing of scaled decoding; `opened` has a finer one. It refuses twice what it is set
    to, and stays as a second line.
    """
    Image.MAX_IMAGE_PIXELS = limits.MAX_PIXELS_SCALED // 2
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.preinit()
    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def check_decoded(image_format: str) -> None:
    """Raises DecodeError if pictures of a format are not decoded."""
    if image_format in _decoded_formats():
        return
    more = f"; run {install_command('heif')}" if image_format == formats.HEIF else ""
    raise DecodeError(f"{image_format} is not decoded{more}")


def _decoded_formats() -> tuple[str, ...]:
    """What Pillow may open."""
    has_heif = formats.HEIF in Image.OPEN
    return (*formats.DECODED_FORMATS, formats.HEIF) if has_heif else formats.DECODED_FORMATS


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Gives whatever goes wrong in a decoder one name; keep our own arithmetic out of it, or its bugs would be hidden.

    Raises:
      DecodeError: Pillow can't open or decode the picture.
    """
    try:
        yield
    except DecodeError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError("damaged: no decoder can read its header") from error
    except Exception as error:  # decoders raise almost anything on damaged bytes; none of it may stop a run
        raise DecodeError(f"{type(error).__name__}: {error}"[:300]) from error


def opened(stream: BinaryIO, scaled: bool, heavy: bool, allowed: Limits) -> Opened:
    """Reads the header of a picture.

    scaled: decode a JPEG to grey, at the smallest scale that leaves `DRAFT_SIDE` pixels.
    heavy: refuse what has more pixels than can be worked on at several times the memory.

    Raises:
      DecodeError: it has too many pixels to try; anything else if Pillow can't open it, so call it in `decoding`.
    """
    stream.seek(0)
    if stream.read(4) == formats.ICON_SIGNATURE:
        limits.check_icon(stream)
    image = _open(stream)
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


def loaded(stream: BinaryIO, picture: Opened, scaled: bool) -> Opened:
    """The picture with its pixels decoded; if its file is cut short, with those that are there.

    Raises:
      DecodeError: too little is there. Anything else if Pillow can't decode it, so call it in `decoding`.
    """
    try:
        picture.image.load()
    except MemoryError:
        raise
    except Exception:  # decoders raise almost anything where bytes are missing
        if picture.format not in truncated.FORMATS:
            raise
        image, share = truncated.salvaged(stream, functools.partial(_ready, scaled=scaled))
        return dataclasses.replace(picture, image=image, stored_mode=image.mode, share=share)
    return picture if truncated.has_end(stream, picture.format) else dataclasses.replace(picture, share=1.0)


def _ready(stream: BinaryIO, scaled: bool) -> Image.Image:
    image = _open(stream)
    if scaled:
        image.draft("L", (DRAFT_SIDE, DRAFT_SIDE))
    return image


def _open(stream: BinaryIO) -> Image.Image:
    stream.seek(0)
    return Image.open(stream, formats=_decoded_formats())


def colours(stream: BinaryIO, picture: Opened) -> Image.Image:
    """The picture of the same file in colour, opened once more if it was decoded to grey."""
    if picture.image.mode == picture.stored_mode:
        return picture.image
    image = _open(stream)
    image.draft("RGB", (DRAFT_SIDE, DRAFT_SIDE))
    return image


def thumbnail(image: Image.Image, mode: str) -> Thumbnail:
    """The picture in `mode` ("L" or "RGB"), decoded and reduced."""
    image.load()
    if image.mode != mode or "transparency" in image.info:
        image = _plain(image, mode)
    width, height = image.size
    factors = max(width // DRAFT_SIDE, 1), max(height // DRAFT_SIDE, 1)
    if factors == (1, 1):
        return Thumbnail(image, width, height)
    return Thumbnail(image.reduce(factors), width / factors[0], height / factors[1])


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """The picture in `mode`, or in RGBa if it is transparent somewhere."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "I":
        wide = np.asarray(image)
        image = Image.fromarray(np.clip(wide >> 8 if wide.max() > 255 else wide, 0, 255).astype(np.uint8))
    elif image.mode == "F":
        wide = np.nan_to_num(np.asarray(image))
        image = Image.fromarray(np.clip(wide * 255 if wide.max() <= 1 else wide, 0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # Premultiplied, so that what is scaled away does not bleed.
        return image.convert("RGBA").convert("RGBa")
    return image.convert(mode)


def square(source: Thumbnail, mode: str, part: Box = WHOLE) -> Pixels:
    """Part of a picture, resized to 64 x 64 over white: (64, 64), or (64, 64, 3) if `mode` is "RGB"."""
    left, top, right, bottom = part
    box = (left * source.width, top * source.height, right * source.width, bottom * source.height)
    return over_white(source.image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box), mode)


def tilted(source: Thumbnail, degrees: float) -> Pixels:
    """The picture turned against the clock by a few degrees, cut to the frame that it still fills, in grey: (64, 64)."""
    angle = math.radians(degrees)
    width, height = source.width, source.height
    share = tilted_share(width, height, degrees)
    # Twice the size first: a turn takes single pixels, so what is to be scaled down would be lost in parts.
    side = 2 * SIDE
    across, down = share * width / side, share * height / side
    x_by_x, x_by_y = math.cos(angle) * across, -math.sin(angle) * down
    y_by_x, y_by_y = math.sin(angle) * across, math.cos(angle) * down
    x_start = width / 2 - (x_by_x + x_by_y) * side / 2
    y_start = height / 2 - (y_by_x + y_by_y) * side / 2
    image = source.image if source.image.mode == "L" else Image.fromarray(over_white(source.image, "L"))
    turned = image.transform(
        (side, side),
        Image.Transform.AFFINE,
        (x_by_x, x_by_y, x_start, y_by_x, y_by_y, y_start),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(turned.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def tilted_share(width: float, height: float, degrees: float) -> float:
    """What is left of each side of a picture that was turned by a few degrees and cut to its frame's shape."""
    angle = math.radians(abs(degrees))
    return 1 / (math.cos(angle) + max(width / height, height / width) * math.sin(angle))


def over_white(image: Image.Image, mode: str) -> Pixels:
    """Pixels of a picture in L, RGB, or RGBa, where white shows through what alpha leaves."""
    if image.mode == mode:
        return np.asarray(image)
    rgba = np.asarray(image).astype(np.uint16)
    over = np.minimum(rgba[..., :3] + (255 - rgba[..., 3:]), 255).astype(np.uint8)
    return np.asarray(Image.fromarray(over).convert(mode))


def oriented(pixels: Pixels, orientation: int) -> Pixels:
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


def as_stored(part: Box, orientation: int) -> Box:
    """Where the part of a picture is that `oriented` has yet to turn."""
    left, top, right, bottom = part
    if orientation in (2, 3, 6, 7):
        left, right = 1 - right, 1 - left
    if orientation in (3, 4, 7, 8):
        top, bottom = 1 - bottom, 1 - top
    if orientation in (5, 6, 7, 8):
        left, top, right, bottom = top, left, bottom, right
    return left, top, right, bottom


def _orientation(image: Image.Image) -> int:
    # Without EXIF there is nothing to parse, and Pillow turns a TIFF itself when it decodes it.
    if image.format == "TIFF" or (image.format == "JPEG" and "exif" not in image.info):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001  parsers raise almost anything on damaged metadata; shown as stored then
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
