"""Puts many thumbnails into a few JPEG files, so that a page need not load a file for each."""

import os
from typing import NamedTuple

from PIL import Image

from beam_dedup.core.imaging.dct import Pixels
from beam_dedup.core.imaging.thumbnail import MAX_SIDE

COLUMNS = ROWS = 12  # thumbnails per file; a file is decoded whole, which takes 9 MB
_QUALITY = 78
_GROUND = (127, 127, 127)


class Tile(NamedTuple):
    """Where a thumbnail is: number of the file, number in it (by rows), width and height in pixels."""

    sprite: int
    place: int
    width: int
    height: int


class SpriteWriter:
    """Writes the files `0000.jpg`, `0001.jpg`, ... to a directory.

    Args:
      directory: an existing one.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._sheet: Image.Image | None = None
        self._count = 0

    def add(self, pixels: Pixels) -> Tile:
        """Adds a thumbnail of at most `MAX_SIDE` pixels a side."""
        sprite, place = divmod(self._count, COLUMNS * ROWS)
        if self._sheet is None:
            self._sheet = Image.new("RGB", (COLUMNS * MAX_SIDE, ROWS * MAX_SIDE), _GROUND)
        row, column = divmod(place, COLUMNS)
        self._sheet.paste(Image.fromarray(pixels), (column * MAX_SIDE, row * MAX_SIDE))
        self._count += 1
        if place + 1 == COLUMNS * ROWS:
            self.flush()
        height, width = pixels.shape[:2]
        return Tile(sprite, place, width, height)

    def flush(self) -> None:
        """Writes the file that is not full yet."""
        if self._sheet is None:
            return
        sprite = (self._count - 1) // (COLUMNS * ROWS)
        used = min(ROWS, ((self._count - 1) % (COLUMNS * ROWS)) // COLUMNS + 1)
        sheet = self._sheet.crop((0, 0, COLUMNS * MAX_SIDE, used * MAX_SIDE))
        sheet.save(os.path.join(self._directory, f"{sprite:04}.jpg"), "JPEG", quality=_QUALITY)
        self._sheet = None
