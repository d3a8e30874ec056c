"""Which parts of a picture have codes of their own, so that crops and borders do not hide it.

All are cut from the one decode. `trim` is the picture without its uniform border, where it has one; the others are cut
by fractions, whatever is in them:

    centre90            left05              topleft05           1:1
    +-----------+       +-+---------+       +-----------+       +---+-----+---+
    | +-------+ |       | |         |       |-+         |       |   |     |   |
    | |  90 % | |       | |  95 %   |       | |  95 %   |       |   |     |   |
    | +-------+ |       | |         |       | | each    |       |   |     |   |
    +-----------+       +-+---------+       +-+---------+       +---+-----+---+
    of each side        cut from the left   cut from two sides  the largest of this shape, from the centre

`trim` can't tell a border from a clear sky, and need not: a view more does no harm. A tilted view is the picture turned
by a few degrees and cut to the largest frame of its shape that it fills.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from beam_dedup.core.algorithms import Recipe, Views
from beam_dedup.core.codes import TURNS, VIEWS
from beam_dedup.core.imaging.dct import Pixels
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

BORDER_LEVELS = 12  # grey levels that a border may differ from its own colour
EDGE_LEVELS = 48  # and that the edge of a picture in 64 x 64 may span, where what is within shows through
LEAST_SHARE = 0.3  # of a side that a trim leaves at least: less is an object on a ground
LEAST_SIDE = 24  # pixels of a part's shorter side; as for a whole picture, fewer have no long code
LEAST_TRIM = 0.01  # of a side that a trim takes at least: the code of the whole survives less
LEAST_CUT = 0.02  # of a side that an aspect crop takes at least

CENTRES = (95, 90, 85, 80, 70)
CUTS = (0.05, 0.1)
TILT = 2.5  # degrees; what was turned by 1.5 to 3 is near enough
_MIRRORED = (2, 4, 5, 7)  # EXIF orientations that swap left and right
ASPECTS = ((1, 1), (4, 3), (16, 9), (9, 16))


def squares(views: str, picture: Opened, source: Thumbnail, whole: Pixels) -> list[tuple[str, Pixels]]:
    """The views of a picture besides the whole, as grey squares that are turned as a viewer shows them.

    They are in the order of `codes.VIEWS`. A view of too few pixels is left out. `whole`: the square of the whole.
    """
    found = [(name, square(source, "L", part)) for name, part in parts(views, picture, source, whole)]
    shorter = min(picture.width, picture.height)
    if views == Views.CROPS and shorter * tilted_share(picture.width, picture.height, TILT) >= LEAST_SIDE:
        left = -TILT if picture.orientation in _MIRRORED else TILT
        found += [("tiltleft", tilted(source, left)), ("tiltright", tilted(source, -left))]
    return [(name, oriented(pixels, picture.orientation)) for name, pixels in found]


def parts(views: str, picture: Opened, source: Thumbnail, whole: Pixels) -> list[tuple[str, Box]]:
    """Where in a picture as stored its views are that are cut from it."""
    found = []
    if views != Views.NONE and has_edge(whole) and (inner := border_free(source)):
        found.append(("trim", inner))
    if views in (Views.CENTRE, Views.CROPS):
        found += [(name, as_stored(part, picture.orientation)) for name, part in centres()]
    if views == Views.CROPS:
        shown = [*cuts(), *aspects(picture.width, picture.height)]
        found += [(name, as_stored(part, picture.orientation)) for name, part in shown]
    sides = (picture.width, picture.height) if picture.orientation < 5 else (picture.height, picture.width)
    return [(name, part) for name, part in found if _shorter_side(part, sides) >= LEAST_SIDE]


def _shorter_side(part: Box, sides: tuple[int, int]) -> float:
    left, top, right, bottom = part
    return min((right - left) * sides[0], (bottom - top) * sides[1])


def centres() -> Iterator[tuple[str, Box]]:
    for percent in CENTRES:
        yield f"centre{percent}", _inner(percent / 100, percent / 100)


def cuts() -> Iterator[tuple[str, Box]]:
    """One side cut, then two that meet in a corner."""
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
    """The largest part of each of some shapes, from the centre; not where it is nearly the whole."""
    for across, down in ASPECTS:
        ratio = across * height / (down * width)
        share = (min(ratio, 1.0), min(1 / ratio, 1.0))
        if min(share) <= 1 - LEAST_CUT:
            yield f"{across}:{down}", _inner(*share)


def _inner(across: float, down: float) -> Box:
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


def border_free(source: Thumbnail) -> Box | None:
    """What is left without lines of one colour at the edges; None if that is nearly the whole, or too little."""
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


def has_edge(whole: Pixels) -> bool:
    """Whether a picture may have a border: in 64 x 64, one of its four edges is nearly of one colour.

    Most pictures have none, and this costs less than looking for it in the thumbnail.
    """
    edges = whole[0], whole[-1], whole[:, 0], whole[:, -1]
    return any(_span(edge) <= EDGE_LEVELS for edge in edges)


def _plain_ends(lines: Pixels) -> tuple[int, int]:
    """How many of the first lines are of the colour of the very first, and of the last that of the very last."""
    if min(_span(lines[0]), _span(lines[-1])) > 2 * BORDER_LEVELS:
        return (
            0,
            0,
        )  # as of most pictures: the very first and last are of several colours, and the others not looked at
    lows, highs = lines.min(axis=1).astype(int), lines.max(axis=1).astype(int)
    return _plain_start(lows, highs), _plain_start(lows[::-1], highs[::-1])


def _plain_start(lows: npt.NDArray[np.int_], highs: npt.NDArray[np.int_]) -> int:
    twice = lows[0] + highs[0]
    plain = (2 * lows >= twice - 2 * BORDER_LEVELS) & (2 * highs <= twice + 2 * BORDER_LEVELS)
    return len(plain) if plain.all() else int(np.argmin(plain))


def _span(line: Pixels) -> int:
    return int(line.max()) - int(line.min())


def most_codes(recipe: Recipe) -> int:
    """How many codes an image has at most."""
    crops = len(VIEWS) - len(TURNS)
    of_views = {Views.NONE: 1, Views.TRIM: 2, Views.CENTRE: 2 + len(CENTRES), Views.CROPS: crops}
    return of_views[Views(recipe.views)] + (len(TURNS) if recipe.turns else 0)
