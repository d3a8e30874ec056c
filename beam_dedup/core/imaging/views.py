"""Cuts the views of a picture: the parts with codes of their own, by which crops and borders are found.

All views are cut from one decode. `trim` is the picture without its uniform border, if it has one. The
other views are fixed fractions of the picture, whatever its content:

    centre90            left05              topleft05           1:1
    +-----------+       +-+---------+       +-----------+       +---+-----+---+
    | +-------+ |       | |         |       |-+         |       |   |     |   |
    | |  90 % | |       | |  95 %   |       | |  95 %   |       |   |     |   |
    | +-------+ |       | |         |       | | each    |       |   |     |   |
    +-----------+       +-+---------+       +-+---------+       +---+-----+---+
    of each side        cut from the left   cut from two sides  the largest of this shape, from the centre

`trim` cannot distinguish a border from a clear sky, and need not: an extra view does no harm. A tilted view is
the picture rotated by a few degrees and cropped to the largest frame of its shape that lies in the picture.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from beam_dedup.core.algorithms import Recipe, Views
from beam_dedup.core.codes import TURNS, VIEWS
from beam_dedup.core.imaging.dct import SIDE, Pixels
from beam_dedup.core.imaging.decode import (
    Box,
    Opened,
    Thumbnail,
    as_stored,
    oriented,
    over_white,
    square,
    tilted,
    tilted_share,
)

BORDER_LEVELS = 12  # grey levels by which a border may deviate from its own colour
# Greatest difference, in grey levels, between the pixels of an edge that may be a border, at 64 x 64. It is greater
# than in the border itself, since resizing mixes the inside of the picture into the edge.
EDGE_LEVELS = 48
LEAST_SHARE = 0.3  # of a side that a trim leaves at least; a smaller rest is an object on a plain background
LEAST_SIDE = 24  # pixels of a view's shorter side, as for the long code of a whole picture
LEAST_TRIM = 0.01  # of a side that a trim removes at least; a thinner border leaves the base code near enough
LEAST_CUT = 0.02  # of a side that an aspect crop removes at least

CENTRES = (95, 90, 85, 80, 70)  # percent of each side
CUTS = (0.05, 0.1)  # of a side
TILT = 2.5  # degrees; near enough for pictures rotated by 1.5 to 3 degrees
_MIRRORED = (2, 4, 5, 7)  # EXIF orientations that mirror the picture
ASPECTS = ((1, 1), (4, 3), (16, 9), (9, 16))


def squares(
    views: str, picture: Opened, source: Thumbnail, whole: Pixels, side: int = SIDE
) -> list[tuple[str, Pixels]]:
    """Returns the views of a picture besides the base, as pairs of name and (side, side) uint8 grey pixels.

    They are in the order of `codes.VIEWS`, with the EXIF orientation applied. A view of too few pixels is
    left out.

    Args:
      views: a value of `Views`.
      picture: for its size and orientation.
      source: the decoded picture, from which the views are cut.
      whole: (64, 64) uint8, the pixels of the base view.
      side: of the squares, in pixels.
    """
    found = [(name, square(source, "L", part, side)) for name, part in parts(views, picture, source, whole)]
    shorter = min(picture.width, picture.height)
    if views == Views.CROPS and shorter * tilted_share(picture.width, picture.height, TILT) >= LEAST_SIDE:
        left = -TILT if picture.orientation in _MIRRORED else TILT
        found += [("tiltleft", tilted(source, left, side)), ("tiltright", tilted(source, -left, side))]
    return [(name, oriented(pixels, picture.orientation)) for name, pixels in found]


def parts(views: str, picture: Opened, source: Thumbnail, whole: Pixels) -> list[tuple[str, Box]]:
    """Returns name and box of each view that is cut out without rotation; boxes are in the picture as stored."""
    found = []
    if views != Views.NONE and may_have_border(whole) and (inner := without_border(source)):
        found.append(("trim", inner))
    if views in (Views.CENTRE, Views.CROPS):
        found += [(name, as_stored(part, picture.orientation)) for name, part in centres()]
    if views == Views.CROPS:
        shown = [*cuts(), *aspects(picture.width, picture.height)]
        found += [(name, as_stored(part, picture.orientation)) for name, part in shown]
    return [(name, part) for name, part in found if _shorter_side(part, picture.stored_size) >= LEAST_SIDE]


def _shorter_side(part: Box, sides: tuple[int, int]) -> float:
    left, top, right, bottom = part
    return min((right - left) * sides[0], (bottom - top) * sides[1])


def centres() -> Iterator[tuple[str, Box]]:
    """Yields the centre crops."""
    for percent in CENTRES:
        yield f"centre{percent}", _inner(percent / 100, percent / 100)


def cuts() -> Iterator[tuple[str, Box]]:
    """Yields the crops with one side cut off, then those with two sides that meet in a corner."""
    for cut in CUTS:
        percent = f"{round(cut * 100):02}"
        yield f"left{percent}", (cut, 0, 1, 1)
        yield f"right{percent}", (0, 0, 1 - cut, 1)
        yield f"top{percent}", (0, cut, 1, 1)
        yield f"bottom{percent}", (0, 0, 1, 1 - cut)
    for cut in CUTS:
        percent = f"{round(cut * 100):02}"
        yield f"topleft{percent}", (cut, cut, 1, 1)
        yield f"topright{percent}", (0, cut, 1 - cut, 1)
        yield f"bottomleft{percent}", (cut, 0, 1, 1 - cut)
        yield f"bottomright{percent}", (0, 0, 1 - cut, 1 - cut)


def aspects(width: int, height: int) -> Iterator[tuple[str, Box]]:
    """Yields the largest centred crop of each of some aspect ratios, unless it is nearly the whole picture."""
    for across, down in ASPECTS:
        ratio = across * height / (down * width)
        share = (min(ratio, 1.0), min(1 / ratio, 1.0))
        if min(share) <= 1 - LEAST_CUT:
            yield f"{across}:{down}", _inner(*share)


def _inner(across: float, down: float) -> Box:
    """Returns the centred box with these shares of width and height."""
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


def without_border(source: Thumbnail) -> Box | None:
    """Returns the box inside the uniform border; None if it is nearly the whole picture, or too small."""
    width, height = source.image.size
    pixels = over_white(source.image, "L")
    top, bottom = _plain_ends(pixels)
    if top + bottom >= height:
        return None
    left, right = _plain_ends(pixels[top : height - bottom].T)
    inner = (
        left / source.width,
        top / source.height,
        min((width - right) / source.width, 1.0),
        min((height - bottom) / source.height, 1.0),
    )
    shares = inner[2] - inner[0], inner[3] - inner[1]
    return inner if LEAST_SHARE <= min(shares) <= 1 - LEAST_TRIM else None


def may_have_border(whole: Pixels) -> bool:
    """Returns whether one of the four edges of a picture is nearly of one colour.

    Most pictures have no border, and this test costs less than a search in the thumbnail.

    Args:
      whole: (64, 64) uint8, the pixels of the base view.
    """
    edges = whole[0], whole[-1], whole[:, 0], whole[:, -1]
    return any(_span(edge) <= EDGE_LEVELS for edge in edges)


def _plain_ends(lines: Pixels) -> tuple[int, int]:
    """Counts the first lines that share the one colour of the very first, and the last lines likewise."""
    if min(_span(lines[0]), _span(lines[-1])) > 2 * BORDER_LEVELS:
        return 0, 0  # as in most pictures: neither the first nor the last line is of one colour
    lows, highs = lines.min(axis=1).astype(int), lines.max(axis=1).astype(int)
    return _plain_start(lows, highs), _plain_start(lows[::-1], highs[::-1])


def _plain_start(lows: npt.NDArray[np.int_], highs: npt.NDArray[np.int_]) -> int:
    """Counts the first lines that share one colour, from the darkest and the lightest pixel of each line."""
    twice = lows[0] + highs[0]
    plain = (2 * lows >= twice - 2 * BORDER_LEVELS) & (2 * highs <= twice + 2 * BORDER_LEVELS)
    return len(plain) if plain.all() else int(np.argmin(plain))


def _span(line: Pixels) -> int:
    """Returns the difference between the lightest and the darkest pixel, in grey levels."""
    return int(line.max()) - int(line.min())


def most_codes(recipe: Recipe) -> int:
    """Returns the largest number of codes that an image can have."""
    crops = len(VIEWS) - len(TURNS)
    of_views = {Views.NONE: 1, Views.TRIM: 2, Views.CENTRE: 2 + len(CENTRES), Views.CROPS: crops}
    return of_views[Views(recipe.views)] + (len(TURNS) if recipe.turns else 0)
