"""Finds all pairs of codes within k: searches for pairs of near words, then checks the thresholds on the codes.

The result is exact: a key only decides where to look; whether two codes are within k is decided on the codes.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from beam_dedup.core.codes import (
    BASE,
    BoolArray,
    ByteArray,
    Codes,
    Found,
    IntArray,
    WordArray,
    compared_as,
    detail_distance,
    long_distance,
    measured_distance,
    whole_distance,
)
from beam_dedup.core.matching import flat_join, hamming_join
from beam_dedup.core.matching.plan import Key, keys_over
from beam_dedup.core.matching.planner import choose
from beam_dedup.core.model import CodeKind
from beam_dedup.core.threads import interleaved
from beam_dedup.core.thresholds import DETAIL_DISTANCE, VIEW_DETAIL_DISTANCE, Thresholds

_SAME_ROWS = 1 << 20  # pairs of rows of images declared the same, at a time

# Members of an enumeration are slow to look up, and each search looks them up.
_TINY, _WIDE, _METADATA = map(int, (CodeKind.TINY, CodeKind.WIDE, CodeKind.METADATA))


@dataclasses.dataclass(frozen=True, slots=True)
class Pairs:
    """Columns of length n: pairs of rows of `Codes` that are within k.

    A pair may occur more than once, in either order.
    """

    a: IntArray  # (n,) rows
    b: IntArray  # (n,) rows
    # (n,) bits of the short or whole code, whichever k applies to; flat: colour levels. UNMEASURED if a person
    # declared two images the same whose codes can't be compared.
    distance: ByteArray | IntArray

    def __len__(self) -> int:
        return len(self.a)


_Sides = list[tuple[BoolArray, BoolArray]]  # (images,) masks: pairs have one image of each
_Rows = tuple[IntArray, IntArray]  # the rows of the codes on both sides of a search
_Task = tuple[_Rows, Callable[[], Found]]  # a search, which finds indices into these rows


def near_pairs(
    codes: Codes,
    thresholds: Thresholds,
    keys: Sequence[Key] | None = None,
    roles: BoolArray | None = None,
    threads: int = 1,
) -> Iterator[Pairs]:
    """Yields every pair of rows that are within k.

    The two rows are codes of different images, and at least one of them is a base view. `codes.decided` has the last
    word: no pair of images declared different is within k, and those declared the same are, by all of their codes. If
    the inputs of images are given (`codes.inputs`), the two images belong to different inputs; pairs of one input are
    not even looked at.

    Args:
      codes: the codes to search.
      thresholds: when two codes are within k.
      keys: where to look for pairs, with masks over the words of a code; pairs that meet at none of the
        keys may or may not be found. Without it, keys are chosen such that every pair is found.
      roles: (images,) if given, only pairs of an image that is True and one that is False are found, and
        the work grows with the number of those pairs instead of all pairs.
      threads: number of keys that are searched at a time.
    """
    sides = _sides(codes, roles)
    tasks = [*_hashed_tasks(codes, thresholds, keys, sides), *_flat_tasks(codes, thresholds, sides)]
    for (rows_a, rows_b), (i, j, distance) in interleaved(tasks, threads):
        for pairs in admitted(codes, thresholds, rows_a[i], rows_b[j], distance):
            yield without_different(codes, pairs)
    yield from _same_pairs(codes, roles)


def _sides(codes: Codes, roles: BoolArray | None) -> _Sides | None:
    """Returns pairs of masks over images, such that all pairs to find have an image in each mask of some pair of masks.

    None stands for all pairs of images. Two inputs have different numbers, so at least one bit of these differs: there is
    one pair of masks for each bit (two with roles), and a pair of images that differs in several is found several times.
    """
    if codes.inputs is None:
        return None if roles is None else [(roles, ~roles)]
    sides: _Sides = []
    _, number = np.unique(codes.inputs, return_inverse=True)
    for bit in range(int(number.max(initial=0)).bit_length()):
        one = number >> bit & 1 == 1
        if roles is None:
            sides.append((one, ~one))
        else:
            sides += [(one & roles, ~one & ~roles), (~one & roles, one & ~roles)]
    return sides


def without_different(codes: Codes, pairs: Pairs) -> Pairs:
    """Returns the pairs of rows whose images nobody declared different."""
    if not len(codes.decided.different):
        return pairs
    good = ~codes.decided.are_different(codes.image[pairs.a], codes.image[pairs.b])
    return Pairs(pairs.a[good], pairs.b[good], pairs.distance[good])


def _same_pairs(codes: Codes, roles: BoolArray | None) -> Iterator[Pairs]:
    """Yields all pairs of rows, at least one of them a base, of the images that were declared the same."""
    same = codes.decided.same
    if not len(same) or not len(codes):
        return
    order = np.argsort(codes.image, kind="stable")
    images = codes.image[order]
    start, end = (np.searchsorted(images, same, side=side) for side in ("left", "right"))
    sizes = end - start
    here = sizes.all(axis=1)
    if roles is not None:
        here &= roles[same[:, 0]] != roles[same[:, 1]]
    if codes.inputs is not None:
        here &= codes.inputs[same[:, 0]] != codes.inputs[same[:, 1]]
    start, sizes = start[here], sizes[here]
    most = max(1, _SAME_ROWS // (int(sizes.max(initial=1)) ** 2))
    for at in range(0, len(sizes), most):
        first, size = start[at : at + most], sizes[at : at + most]
        combinations = size.prod(axis=1)
        pair = np.repeat(np.arange(len(size)), combinations)
        number = np.arange(len(pair)) - np.repeat(np.cumsum(combinations) - combinations, combinations)
        a = order[first[pair, 0] + number // size[pair, 1]]
        b = order[first[pair, 1] + number % size[pair, 1]]
        good = (codes.view[a] == BASE) | (codes.view[b] == BASE)
        a, b = a[good], b[good]
        yield Pairs(a, b, measured_distance(codes, a, b))


def _hashed_tasks(
    codes: Codes, thresholds: Thresholds, keys: Sequence[Key] | None, sides: _Sides | None
) -> Iterator[_Task]:
    """Yields a search for each key: of bases among each other, and of bases with views."""
    hashed = codes.hashed
    is_base = codes.view[hashed] == BASE
    if keys is None:
        keys = choose(thresholds, len(hashed), int(is_base.sum())).plan.all_keys
    base, view = hashed[is_base], hashed[~is_base]
    within: list[_Rows] = []  # searches within one array
    between: list[_Rows] = []  # searches between two arrays
    if sides is None:
        within.append((base, base))
        between.append((base, view))
    for one, other in sides or ():
        (base_one, view_one), (base_other, view_other) = (
            [rows[side[codes.image[rows]]] for rows in (base, view)] for side in (one, other)
        )
        between += [(base_one, base_other), (base_one, view_other), (base_other, view_one)]
    k = thresholds.word_k
    for words, word_keys in _words(codes, thresholds, keys):
        for rows in within:
            a = words[rows[0]]
            for key in hamming_join.worthwhile(a, a, word_keys, k):
                yield rows, functools.partial(hamming_join.pairs_of_one, a, k, key)
        for rows in between:
            a, b = words[rows[0]], words[rows[1]]
            for key in hamming_join.worthwhile(a, b, word_keys, k):
                yield rows, functools.partial(hamming_join.pairs_of_two, a, b, k, key)


def _words(
    codes: Codes, thresholds: Thresholds, keys: Sequence[Key]
) -> Iterator[tuple[WordArray, Sequence[Key]]]:
    """Yields the words to search, one word of each code at a time, with the keys over these words.

    A code has one word, or four if it has 256 bits.
    """
    if thresholds.words == 1:
        yield codes.short, keys
        return
    for number in range(thresholds.words):
        yield codes.long[:, number], keys_over(keys, number)


def _flat_tasks(codes: Codes, thresholds: Thresholds, sides: _Sides | None) -> Iterator[_Task]:
    """Yields the searches among flat pictures, if there are any."""
    rows = codes.flat
    if not len(rows):
        return
    if sides is None:
        yield (rows, rows), functools.partial(flat_join.pairs_of_one, codes.pixels, thresholds.flat_levels)
    for side, other_side in sides or ():
        one, other = (np.flatnonzero(chosen[codes.image[rows]]) for chosen in (side, other_side))
        search = functools.partial(
            flat_join.pairs_of_two, codes.pixels[one], codes.pixels[other], thresholds.flat_levels
        )
        yield (rows[one], rows[other]), search


def admitted(
    codes: Codes, thresholds: Thresholds, a: IntArray, b: IntArray, distance: ByteArray
) -> Iterator[Pairs]:
    """Yields those pairs of rows that are within k, among pairs whose words or colours are near each other.

    Args:
      a, b: (n,) rows of `codes`.
      distance: (n,) distance of the words or colours of each pair.
    """
    good = (codes.image[a] != codes.image[b]) & ((codes.view[a] == BASE) | (codes.view[b] == BASE))
    kind, other = compared_as(codes.kind[a]), compared_as(codes.kind[b])
    good &= (kind == other) | (kind <= _TINY) & (other <= _TINY)
    if not good.any():
        return
    a, b, distance, kind, other = (column[good] for column in (a, b, distance, kind, other))
    tiny = (kind == _TINY) | (other == _TINY)
    # NO_DISTANCE is below any threshold, so pairs without a long distance, or a detail distance, pass.
    good = (long_distance(codes, a, b) <= thresholds.verify) & (~tiny | (distance <= thresholds.tiny_bits))
    good &= (kind != _METADATA) | (distance <= thresholds.metadata_bits)
    both_bases = (codes.view[a] == BASE) & (codes.view[b] == BASE)
    good &= detail_distance(codes, a, b) <= np.where(both_bases, DETAIL_DISTANCE, VIEW_DETAIL_DISTANCE)
    if thresholds.words > 1:
        distance = np.where(kind == _WIDE, whole_distance(codes, a, b), distance).astype(np.uint8)
        good &= (kind != _WIDE) | (distance <= thresholds.k)
    if good.any():
        yield Pairs(a[good], b[good], distance[good])
