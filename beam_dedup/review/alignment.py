"""Finds how to lay a duplicate over its kept picture: by which turn, or on which part of one of the two.

A record has the view through which the pictures matched, but not whose view it is. The thumbnails show that.
"""

from typing import Any

import numpy as np
from PIL import Image

from beam_dedup.core.codes import TURNS
from beam_dedup.core.imaging.dct import Pixels
from beam_dedup.core.imaging.decode import Box, Thumbnail, oriented
from beam_dedup.core.imaging.views import aspects, centres, cuts, without_border

_SIDE = 32  # pixels at which the two pictures are compared
_TURNED = range(2, 9)  # EXIF orientations that change something


def alignment(kept: Pixels, other: Pixels, view: str | None) -> dict[str, Any] | None:
    """Returns how the two pictures lie over each other.

    Args:
      kept, other: (height, width, 3) uint8, thumbnails.
      view: of the record.

    Returns:
      `{"turn": n}`, the EXIF orientation that turns the other picture into the kept one; `{"of": "kept", "box": box}`
      or `{"of": "other", "box": box}`, the part of one picture that is the whole of the other one, as left, top, right
      and bottom from 0 to 1; None if the whole pictures lie over each other, or the part is not known.
    """
    if view in TURNS:
        return {"turn": min(_TURNED, key=lambda turn: _error(kept, oriented(other, turn)))}
    candidates = []
    for of, whole, part in (("kept", other, kept), ("other", kept, other)):
        if box := _box(part, view):
            candidates.append((_error(whole, _cut(part, box)), of, box))
    if not candidates:
        return None
    _, of, box = min(candidates)
    return {"of": of, "box": [round(edge, 4) for edge in box]}


def _box(pixels: Pixels, view: str | None) -> Box | None:
    """Returns the part of a picture that a view shows."""
    height, width = pixels.shape[:2]
    if view == "trim":
        return without_border(Thumbnail(Image.fromarray(pixels).convert("L"), width, height))
    boxes = dict([*centres(), *cuts(), *aspects(width, height)])
    return boxes.get(view or "")


def _cut(pixels: Pixels, box: Box) -> Pixels:
    height, width = pixels.shape[:2]
    left, top, right, bottom = (
        round(edge * side) for edge, side in zip(box, (width, height, width, height), strict=True)
    )
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)]


def _error(one: Pixels, other: Pixels) -> float:
    """Returns the mean difference of two pictures, in grey levels."""
    return float(np.abs(_square(one) - _square(other)).mean())


def _square(pixels: Pixels) -> Any:
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    return np.asarray(grey).astype(np.int16)
