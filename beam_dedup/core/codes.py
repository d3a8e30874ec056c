"""Codes of many images as arrays.

One row is one code: (image, view, code). Images are numbers; wherever judging is concerned they are numbered by
rank, so that of two images the smaller number is the preferred one.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from beam_dedup.core.model import BASE_VIEW, Code, CodeKind

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
WordArray = npt.NDArray[np.uint64]
ByteArray = npt.NDArray[np.uint8]

Found = Iterator[tuple[IntArray, IntArray, ByteArray]]  # pairs of rows (i, j), and their distances

# Names of the views; a view's number, which is stored, is its place here: add at the end. Of two views that match
# equally well the first counts. What each is of a picture: `beam_dedup.core.imaging.views` and, for turns, `.dct`.
TURNS = ("mirror", "flip", "rot180", "rot90", "rot270", "transpose", "transverse")
VIEWS = (
    BASE_VIEW,
    "trim",
    *(f"centre{percent}" for percent in (95, 90, 85, 80, 70)),
    *(f"{side}{percent}" for percent in ("05", "10") for side in ("left", "right", "top", "bottom")),
    *(
        f"{corner}{percent}"
        for percent in ("05", "10")
        for corner in ("topleft", "topright", "bottomleft", "bottomright")
    ),
    *("1:1", "4:3", "16:9", "9:16"),
    *("tiltleft", "tiltright"),
    *TURNS,
)
BASE = 0

PROFILE_BYTES = 96
_SIZES = np.array([32, 8, PROFILE_BYTES, 8, 32, 8])  # bytes of a code, by kind
MAX_KIND = len(_SIZES) - 1
NO_DISTANCE = -1  # in arrays, where a pair has no long distance


@dataclasses.dataclass(frozen=True, slots=True)
class Codes:
    """Columns of equal length n; one row per code."""

    image: IntArray  # (n,)
    view: ByteArray  # (n,) index into VIEWS
    kind: ByteArray  # (n,) Kind
    short: WordArray  # (n,); 0 for flat
    long: WordArray  # (n, 4); 0 for those of 8 bytes, and for flat
    pixels: ByteArray  # (number of flat rows, 96), in the order of those rows

    def __len__(self) -> int:
        return len(self.image)

    @property
    def hashed(self) -> IntArray:
        """Rows that are not flat."""
        return np.flatnonzero(self.kind != CodeKind.FLAT)

    @property
    def flat(self) -> IntArray:
        """Rows that are flat; `pixels` belongs to them."""
        return np.flatnonzero(self.kind == CodeKind.FLAT)

    def take(self, rows: IntArray) -> "Codes":
        """The given rows, in the given order."""
        flat_row = np.cumsum(self.kind == CodeKind.FLAT) - 1
        chosen_flat = rows[self.kind[rows] == CodeKind.FLAT]
        return Codes(
            self.image[rows],
            self.view[rows],
            self.kind[rows],
            self.short[rows],
            self.long[rows],
            self.pixels[flat_row[chosen_flat]],
        )

    def of(self, images: BoolArray) -> "Codes":
        """The rows of the images that are True in a mask over all images."""
        return self.take(np.flatnonzero(images[self.image]))


def code_bytes(kinds: ByteArray) -> IntArray:
    """Returns the number of bytes of a code of each kind.

    >>> code_bytes(np.array([0, 1], np.uint8)).tolist()
    [32, 8]
    """
    sizes: IntArray = _SIZES[kinds]
    return sizes


def pack(codes_of_images: Sequence[Sequence[Code]]) -> Codes:
    """Arrays from the codes of images 0, 1, 2, ..."""
    rows = [(image, code) for image, codes in enumerate(codes_of_images) for code in codes]
    return from_columns(
        np.array([image for image, _ in rows], dtype=np.int64),
        np.array([VIEWS.index(code.view) for _, code in rows], dtype=np.uint8),
        np.array([code.kind for _, code in rows], dtype=np.uint8),
        b"".join(code.data for _, code in rows),
    )


def from_columns(image: IntArray, view: ByteArray, kind: ByteArray, data: bytes) -> Codes:
    """Arrays from columns, `data` being the bytes of all codes one after the other."""
    n = len(image)
    sizes = _SIZES[kind] if n else np.zeros(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    raw = np.frombuffer(data, np.uint8)
    long = np.zeros((n, 4), np.uint64)
    short = np.zeros(n, np.uint64)
    flat = np.flatnonzero(kind == CodeKind.FLAT)
    wide = np.flatnonzero((kind == CodeKind.FULL) | (kind == CodeKind.WIDE))
    narrow = np.flatnonzero(sizes == 8)
    long[wide] = _words(raw, starts[wide], 32)
    short[wide] = long[wide, 0]
    short[narrow] = _words(raw, starts[narrow], 8)[:, 0]
    return Codes(image, view, kind, short, long, _gather(raw, starts[flat], PROFILE_BYTES))


def _gather(raw: ByteArray, starts: IntArray, size: int) -> ByteArray:
    if len(raw) == len(starts) * size:  # nothing else is there, as most often
        return raw.reshape(-1, size)
    gathered: ByteArray = raw[starts[:, None] + np.arange(size)]
    return gathered


def _words(raw: ByteArray, starts: IntArray, size: int) -> WordArray:
    return _gather(raw, starts, size).view(">u8").astype(np.uint64)


def concatenate(parts: Sequence[Codes]) -> Codes:
    """All rows of all parts, images keeping their numbers."""
    return Codes(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Codes)
        )
    )


def whole_distance(codes: Codes, a: IntArray, b: IntArray) -> IntArray:
    """Distance of all 256 bits of each pair of rows (a, b); for codes that have so many."""
    bits: IntArray = np.bitwise_count(codes.long[a] ^ codes.long[b]).sum(axis=1, dtype=np.int64)
    return bits


def long_distance(codes: Codes, a: IntArray, b: IntArray) -> IntArray:
    """Long distance of each pair of rows (a, b), or NO_DISTANCE where one of them has no long code."""
    both = (codes.kind[a] == CodeKind.FULL) & (codes.kind[b] == CodeKind.FULL)
    return np.where(both, whole_distance(codes, a, b), NO_DISTANCE)
