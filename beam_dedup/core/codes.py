"""Holds the codes of many images as arrays, and computes distances between them.

One row is one code: (image, view, code). Images are numbers. Code that judges images numbers them by rank,
so that the smaller of two numbers belongs to the preferred image.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from beam_dedup.core.model import BASE_VIEW, Code, CodeKind
from beam_dedup.core.thresholds import DETAIL_BITS, LONG_BITS

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
WordArray = npt.NDArray[np.uint64]
ByteArray = npt.NDArray[np.uint8]

Found = Iterator[tuple[IntArray, IntArray, ByteArray]]  # pairs of rows (i, j), and their distances

# Names of the views. The stored number of a view is its index here, so new views go to the end. If two
# views match equally well, the one with the smaller number is reported. `beam_dedup.core.imaging.views`
# and, for turns, `.dct` compute the views.
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
# The kind of a row that stands for an image without codes. It is within k of nothing, unless a person says so.
NO_CODE = len(CodeKind)
LONG_WORDS = LONG_BITS // 64  # 64-bit words of a long code
DETAIL_WORDS = DETAIL_BITS // 64  # 64-bit words of a detail code
# Bytes of a code, indexed by CodeKind or NO_CODE.
_SIZES = np.array(
    [8 * LONG_WORDS, 8, PROFILE_BYTES, 8, 8 * LONG_WORDS, 8, 8 * (LONG_WORDS + DETAIL_WORDS), 0]
)
FULL_KINDS = (CodeKind.FULL, CodeKind.DETAILED)  # those with a long distance
_COMPARED_AS = np.arange(NO_CODE + 1, dtype=np.uint8)
_COMPARED_AS[CodeKind.DETAILED] = CodeKind.FULL
MAX_KIND = max(CodeKind)
NO_DISTANCE = -1  # stands for the long distance of a pair that has none
# Stands for the distance of a pair whose codes can't be compared, but which a person declared the same. It is
# larger than all distances.
UNMEASURED = 1 << 9


@dataclasses.dataclass(frozen=True, slots=True)
class DecidedPairs:
    """Pairs of images that a person decided, whatever their codes say.

    Args:
      different: (pairs,) int64, sorted: the pairs that are not within k. A pair is the smaller number of an image
        times `images`, plus the larger one.
      same: (pairs, 2) int64: the pairs that are within k.
      images: number of images, or a larger number.
    """

    different: IntArray
    same: IntArray
    images: int

    @classmethod
    def of(cls, different: IntArray, same: IntArray, images: int) -> "DecidedPairs":
        """Returns pairs of images, given as (pairs, 2) numbers in either order."""
        smaller, larger = different.min(axis=1, initial=images), different.max(axis=1, initial=-1)
        return cls(np.sort(smaller * images + larger), same, images)

    def are_different(self, a: IntArray, b: IntArray) -> BoolArray:
        """Returns which pairs of images (a, b) are not within k."""
        result = np.zeros(len(a), dtype=bool)
        if len(self.different):
            keys = np.minimum(a, b) * self.images + np.maximum(a, b)
            at = np.searchsorted(self.different, keys)
            result = self.different[np.minimum(at, len(self.different) - 1)] == keys
        return result

    def decided_images(self) -> IntArray:
        """Returns the images that are in any pair."""
        return np.unique(
            np.concatenate([self.different // self.images, self.different % self.images, self.same.ravel()])
        )


_UNDECIDED = DecidedPairs(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), 1)


@dataclasses.dataclass(frozen=True, slots=True)
class Codes:
    """Columns of length n, one row per code; `pixels` has one row per flat code."""

    image: IntArray  # (n,) number of the image
    view: ByteArray  # (n,) index into VIEWS
    kind: ByteArray  # (n,) CodeKind
    short: WordArray  # (n,) the first 64 bits; 0 for flat codes
    long: WordArray  # (n, 4) the first 256 bits; 0 for codes of 8 bytes and for flat codes
    pixels: ByteArray  # (number of flat rows, 96) colour profiles, in the order of the flat rows
    # (n, 8) all bits of the detail codes, 0 for other codes; or (0, 8) if there are no detail codes
    detail: WordArray = dataclasses.field(default_factory=lambda: np.zeros((0, DETAIL_WORDS), np.uint64))
    decided: DecidedPairs = _UNDECIDED  # by the numbers of images; may name images that have no row here
    # (images,) the number of each image's input, if images of one input are not within k of each other
    inputs: IntArray | None = None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def hashed(self) -> IntArray:
        """The numbers of the rows with a code that is not flat."""
        return np.flatnonzero((self.kind != CodeKind.FLAT) & (self.kind != NO_CODE))

    @property
    def flat(self) -> IntArray:
        """The numbers of the flat rows; row i of `pixels` belongs to the i-th of them."""
        return np.flatnonzero(self.kind == CodeKind.FLAT)

    def detail_words(self) -> WordArray:
        """Returns the detail codes as (n, 8) words, 0 for other codes."""
        return self.detail if len(self.detail) else np.zeros((len(self), DETAIL_WORDS), np.uint64)

    def take(self, rows: IntArray) -> "Codes":
        """Returns the given rows, in the given order."""
        flat_row = np.cumsum(self.kind == CodeKind.FLAT) - 1
        chosen_flat = rows[self.kind[rows] == CodeKind.FLAT]
        return Codes(
            self.image[rows],
            self.view[rows],
            self.kind[rows],
            self.short[rows],
            self.long[rows],
            self.pixels[flat_row[chosen_flat]],
            self.detail[rows] if len(self.detail) else self.detail,
            self.decided,
            self.inputs,
        )

    def of(self, images: BoolArray) -> "Codes":
        """Returns the rows of the images that are True in a mask over all images."""
        return self.take(np.flatnonzero(images[self.image]))


def compared_as(kinds: ByteArray) -> ByteArray:
    """Returns the kinds as which codes are compared, apart from their detail codes: DETAILED counts as FULL."""
    result: ByteArray = _COMPARED_AS[kinds]
    return result


def code_bytes(kinds: ByteArray) -> IntArray:
    """Returns the number of bytes of a code of each kind.

    >>> code_bytes(np.array([0, 1], np.uint8)).tolist()
    [32, 8]
    """
    sizes: IntArray = _SIZES[kinds]
    return sizes


def from_codes(codes_of_images: Sequence[Sequence[Code]]) -> Codes:
    """Returns the codes of images 0, 1, 2, ... as arrays."""
    rows = [(image, code) for image, codes in enumerate(codes_of_images) for code in codes]
    return from_columns(
        np.array([image for image, _ in rows], dtype=np.int64),
        np.array([VIEWS.index(code.view) for _, code in rows], dtype=np.uint8),
        np.array([code.kind for _, code in rows], dtype=np.uint8),
        b"".join(code.data for _, code in rows),
    )


def from_columns(image: IntArray, view: ByteArray, kind: ByteArray, data: bytes) -> Codes:
    """Returns columns (n,) as arrays.

    Args:
      data: the bytes of all codes, concatenated in the order of the rows.
    """
    n = len(image)
    sizes = _SIZES[kind] if n else np.zeros(0, np.int64)
    starts = np.cumsum(sizes) - sizes
    raw = np.frombuffer(data, np.uint8)
    long = np.zeros((n, LONG_WORDS), np.uint64)
    short = np.zeros(n, np.uint64)
    flat = np.flatnonzero(kind == CodeKind.FLAT)
    wide = np.flatnonzero(np.isin(kind, (*FULL_KINDS, CodeKind.WIDE)))
    detailed = np.flatnonzero(kind == CodeKind.DETAILED)
    narrow = np.flatnonzero(sizes == 8)
    long[wide] = _words(raw, starts[wide], 8 * LONG_WORDS)
    short[wide] = long[wide, 0]
    short[narrow] = _words(raw, starts[narrow], 8)[:, 0]
    detail = np.zeros((n if len(detailed) else 0, DETAIL_WORDS), np.uint64)
    detail[detailed] = _words(raw, starts[detailed] + 8 * LONG_WORDS, 8 * DETAIL_WORDS)
    return Codes(image, view, kind, short, long, _gather(raw, starts[flat], PROFILE_BYTES), detail)


def _gather(raw: ByteArray, starts: IntArray, size: int) -> ByteArray:
    """Returns `size` bytes from each start, as an array of shape (starts, size)."""
    if len(raw) == len(starts) * size:  # the usual case: all codes have this size
        return raw.reshape(-1, size)
    gathered: ByteArray = raw[starts[:, None] + np.arange(size)]
    return gathered


def _words(raw: ByteArray, starts: IntArray, size: int) -> WordArray:
    return _gather(raw, starts, size).view(">u8").astype(np.uint64)


def concatenate(parts: Sequence[Codes]) -> Codes:
    """Returns the rows of all parts; images keep their numbers. No pairs of them may be decided, and no inputs known."""
    apart = ("detail", "decided", "inputs")
    names = [field.name for field in dataclasses.fields(Codes) if field.name not in apart]
    image, view, kind, short, long, pixels = (
        np.concatenate([getattr(part, name) for part in parts]) for name in names
    )
    detail = np.zeros((0, DETAIL_WORDS), np.uint64)
    if any(len(part.detail) for part in parts):
        detail = np.concatenate([part.detail_words() for part in parts])
    return Codes(image, view, kind, short, long, pixels, detail)


def whole_distance(codes: Codes, a: IntArray, b: IntArray) -> IntArray:
    """Returns the distance of all 256 bits of each pair of rows (a, b), both of which must have 256 bits."""
    bits: IntArray = np.bitwise_count(codes.long[a] ^ codes.long[b]).sum(axis=1, dtype=np.int64)
    return bits


def long_distance(codes: Codes, a: IntArray, b: IntArray) -> IntArray:
    """Returns the long distance of each pair of rows (a, b).

    It is NO_DISTANCE where one of the two has no long code.
    """
    both = (compared_as(codes.kind[a]) == CodeKind.FULL) & (compared_as(codes.kind[b]) == CodeKind.FULL)
    return np.where(both, whole_distance(codes, a, b), NO_DISTANCE)


def detail_distance(codes: Codes, a: IntArray, b: IntArray) -> IntArray:
    """Returns the distance of the detail codes of each pair of rows (a, b).

    It is NO_DISTANCE where one of the two has no detail code.
    """
    if not len(codes.detail):
        return np.full(len(a), NO_DISTANCE)
    both = (codes.kind[a] == CodeKind.DETAILED) & (codes.kind[b] == CodeKind.DETAILED)
    distance = np.full(len(a), NO_DISTANCE)
    differing = codes.detail[a[both]] ^ codes.detail[b[both]]
    distance[both] = np.bitwise_count(differing).sum(axis=1, dtype=np.int64)
    return distance


def measured_distance(codes: Codes, a: IntArray, b: IntArray) -> IntArray:
    """Returns the distance of each pair of rows (a, b), however far apart; UNMEASURED where it has none.

    It is that to which k applies: bits of the short or whole code; of flat pictures, levels of colour.
    """
    kind_a, kind_b = compared_as(codes.kind[a]), compared_as(codes.kind[b])
    distance = np.full(len(a), UNMEASURED, np.int64)
    is_flat = (kind_a == CodeKind.FLAT) & (kind_b == CodeKind.FLAT)
    flat_row = np.cumsum(codes.kind == CodeKind.FLAT) - 1
    pixels_a, pixels_b = (codes.pixels[flat_row[rows[is_flat]]].astype(np.int64) for rows in (a, b))
    distance[is_flat] = np.abs(pixels_a - pixels_b).max(axis=1, initial=0)
    is_wide = (kind_a == CodeKind.WIDE) & (kind_b == CodeKind.WIDE)
    distance[is_wide] = whole_distance(codes, a[is_wide], b[is_wide])
    has_short = ~is_flat & ~is_wide & (kind_a != NO_CODE)
    has_short &= (kind_a == kind_b) | (kind_a <= CodeKind.TINY) & (kind_b <= CodeKind.TINY)
    distance[has_short] = np.bitwise_count(codes.short[a[has_short]] ^ codes.short[b[has_short]])
    return distance
