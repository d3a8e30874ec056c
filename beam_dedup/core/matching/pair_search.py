"""Finds all pairs of different contents within k, not only the pairs of a duplicate and its witness.

There may be as many pairs as the square of the number of contents. So the number of pairs that are returned is
limited, and `Components` needs memory for contents only. The functions work on one code shard (`CodeShard`), in which
contents are numbered by digest, and `kept` marks the known contents; two of these are no pair.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import (
    BASE,
    FULL_KINDS,
    NO_DISTANCE,
    UNMEASURED,
    BoolArray,
    Codes,
    IntArray,
    long_distance,
)
from beam_dedup.core.errors import PlanError
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.connected import connected, numbered
from beam_dedup.core.matching.near_pairs import Pairs, near_pairs
from beam_dedup.core.matching.plan import Key
from beam_dedup.core.matching.rounds import CodeShard
from beam_dedup.core.thresholds import MAX_PAIRS, Thresholds

WAITING_PAIRS = 1 << 22  # pairs that are found before repeated ones among them are removed
PATIENCE = (
    1 << 26
)  # pairs that are found before a search for components leaves out those inside of components
BLOCK_PAIRS = 1 << 15  # most pairs of a block: 2.4 MB
_SAMPLE = 256  # contents from which the number of pairs is estimated

# The match of a pair as one number, the best match being the least one: distance, view, long distance + 1.
_VIEW_SHIFT, _DISTANCE_SHIFT = 10, 18

_Keys = Sequence[Key] | None


@dataclasses.dataclass(frozen=True, slots=True)
class PairSet:
    """Columns of length n: pairs of numbers, each once, in ascending order."""

    key: IntArray  # (n,) the smaller number times `numbers`, plus the larger one
    match: IntArray  # (n,)
    numbers: int

    @property
    def a(self) -> IntArray:
        return self.key // self.numbers

    @property
    def b(self) -> IntArray:
        return self.key % self.numbers

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def of(cls, parts: Iterable[tuple[IntArray, IntArray]], numbers: int) -> "PairSet":
        """Returns the distinct pairs of several parts (keys, matches), each with its best match."""
        keys, matches = (
            np.concatenate([np.zeros(0, np.int64), *columns]) for columns in zip(*parts, strict=True)
        )
        order = np.lexsort((matches, keys))
        keys, matches = keys[order], matches[order]
        first = np.flatnonzero(np.diff(keys, prepend=-1))
        return cls(keys[first], matches[first], max(numbers, 1))


def pairs_in_shard(
    shard: CodeShard,
    thresholds: Thresholds,
    keys: _Keys,
    threads: int = 1,
    whole: bool = False,
    max_pairs: int = MAX_PAIRS,
    waiting_pairs: int = WAITING_PAIRS,
) -> tuple[pa.Table, pa.Table]:
    """Returns the `PAIRS` of a code shard, and the `TWINS` that were found in it.

    Args:
      shard: the codes; contents are numbered by digest.
      thresholds: when two codes are within k.
      keys: the keys of the code shard; None for all.
      threads: number of keys that are searched at a time.
      whole: whether the shard has all codes of all contents, so that twins can be recognised.
      max_pairs: the search ends as soon as it has more distinct pairs.
      waiting_pairs: pairs that are found before repeated ones among them are removed.

    Raises:
      PlanError: the search ended early; the message estimates how many pairs there are.
    """
    codes, twins = _without_twins(shard, whole)
    numbers = max(len(shard.images), 1)
    found: list[tuple[IntArray, IntArray]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    waiting = 0
    for searched, pairs in _search(codes, shard.kept, thresholds, keys, threads):
        found.append(_keys_and_matches(searched, pairs, numbers))
        waiting += len(pairs)
        if waiting > waiting_pairs:
            # Similar codes agree on most keys and are found at each of them.
            distinct = PairSet.of(found, numbers)
            if len(distinct) > max_pairs:
                estimate = _estimated(codes, shard.kept, thresholds, keys)
                raise too_many(max(estimate, len(distinct)), max_pairs, "about ")
            found, waiting = [(distinct.key, distinct.match)], 0
    distinct = PairSet.of(found, numbers)
    return pairs_table(shard.images["digest"].combine_chunks(), distinct), twins


def too_many(pairs: int, max_pairs: int, roughly: str = "") -> PlanError:
    """Returns the error that refuses to list so many pairs; `roughly` stands before a number that is not exact."""
    return PlanError(
        f"{roughly}{pairs:,} pairs are within the thresholds, and --max_pairs allows {max_pairs:,}: "
        "use a smaller -k or a larger --max_pairs"
    )


def components_in_shard(
    shard: CodeShard,
    thresholds: Thresholds,
    keys: _Keys,
    threads: int = 1,
    whole: bool = False,
    waiting_pairs: int = WAITING_PAIRS,
    patience: int = PATIENCE,
) -> pa.Table:
    """Returns the `COMPONENTS` of the pairs of a code shard.

    Thousands of frames of one scene have millions of pairs, few of which are needed. So after `patience` pairs images are
    judged, and each is joined with the nearest kept one. Then the search begins again, for pairs of different
    components only; once more after `patience` of these, after twice as many, and so on.

    Args:
      patience: number of pairs.
      other arguments: those of `pairs_in_shard`.
    """
    codes, twins = _without_twins(shard, whole)
    label = np.arange(len(shard.images))
    search = _search(codes, shard.kept, thresholds, keys, threads)
    label, is_complete = _connected_further(label, search, waiting_pairs, patience)
    if not is_complete:
        label = _with_edges(label, [_stars(codes, shard.kept, thresholds, keys, threads, waiting_pairs)])
    while not is_complete:
        search = _search_between(codes, shard.kept, label, thresholds, keys, threads)
        label, is_complete = _connected_further(label, search, waiting_pairs, patience)
        patience *= 2
    digests = shard.images["digest"].combine_chunks()
    joined = pa.array(np.flatnonzero(label != np.arange(len(label))))
    edges = [digests.take(joined), digests.take(pa.array(label)).take(joined)]
    found = pa.Table.from_arrays(edges, schema=blocks.COMPONENTS)
    return pa.concat_tables([found, twin_edges(twins)])


def _connected_further(
    label: IntArray, search: Iterator[tuple[Codes, Pairs]], waiting_pairs: int, patience: int
) -> tuple[IntArray, bool]:
    """Returns the labels of components after pairs are added, and whether these are all pairs that a search finds.

    Args:
      label: (images,) the lowest image in the component of each image.
      search: yields pairs.
      waiting_pairs: number of pairs that are added at a time.
      patience: number of pairs after which the search is given up.
    """
    waiting: list[tuple[IntArray, IntArray]] = []
    size = total = 0
    for codes, pairs in search:
        waiting.append((codes.image[pairs.a], codes.image[pairs.b]))
        size += len(pairs)
        total += len(pairs)
        if total > patience:
            return _with_edges(label, waiting), False
        if size > waiting_pairs:
            label, waiting, size = _with_edges(label, waiting), [], 0
    return _with_edges(label, waiting), True


def _stars(
    codes: Codes, known: BoolArray, thresholds: Thresholds, keys: _Keys, threads: int, max_pairs: int
) -> tuple[IntArray, IntArray]:
    """Returns a pair within k of most images that are in any: with the nearest kept image, if contents are judged.

    With the keys of one code shard, images may be kept although they are within k. It does not matter here.
    """
    kept = selection.keep(codes, len(known), thresholds, max_pairs, known, keys, threads)
    found = selection.nearest_kept(codes, kept, thresholds, keys, threads, max_pairs)
    return found.image, found.kept


def _with_edges(label: IntArray, edges: list[tuple[IntArray, IntArray]]) -> IntArray:
    """Returns the labels of components after edges are added."""
    if not edges:
        return label
    a, b = (np.concatenate(column) for column in zip(*edges, strict=True))
    return connected(len(label), label[a], label[b])[label]


def twin_edges(twins: pa.Table) -> pa.Table:
    """Returns `TWINS` as edges, in a table of `COMPONENTS`."""
    return pa.Table.from_arrays([twins["digest"], twins["representative"]], schema=blocks.COMPONENTS)


def _search(
    codes: Codes, known: BoolArray, thresholds: Thresholds, keys: _Keys, threads: int
) -> Iterator[tuple[Codes, Pairs]]:
    """Yields all pairs within k, except those of two known contents, with the codes of which they are rows."""
    new = codes
    if known.any():
        new = codes.of(~known)
        for pairs in near_pairs(codes, thresholds, keys, roles=known, threads=threads):
            yield codes, pairs
    for pairs in near_pairs(new, thresholds, keys, threads=threads):
        yield new, pairs


def _search_between(
    codes: Codes, known: BoolArray, label: IntArray, thresholds: Thresholds, keys: _Keys, threads: int
) -> Iterator[tuple[Codes, Pairs]]:
    """Yields all pairs within k of different components, except those of two known contents; some of them several times.

    The numbers of two components differ in at least one bit, so the pairs are those of images that differ in the first
    bit, those that differ in the second bit, and so on.

    Args:
      label: (images,) the component of each image.
    """
    names, number = np.unique(label, return_inverse=True)
    new = codes.of(~known) if known.any() else codes
    for bit in range((len(names) - 1).bit_length()):
        side = (number >> bit & 1).astype(bool)
        for pairs in near_pairs(new, thresholds, keys, roles=side, threads=threads):
            yield new, pairs
        for one in (side, ~side) if known.any() else ():
            some = codes.of(np.where(known, one, ~one))
            for pairs in near_pairs(some, thresholds, keys, roles=known, threads=threads):
                yield some, pairs


def _without_twins(shard: CodeShard, whole: bool) -> tuple[Codes, pa.Table]:
    """Returns the codes of representatives, and the `TWINS` of the other contents.

    Contents may have been spread over digest shards, in each of which one is the representative.
    """
    count = len(shard.images)
    itself = np.arange(count)
    representative = selection.representatives(shard.codes, shard.kept) if whole else itself
    representative = np.where(shard.kept, itself, representative)
    twins = np.flatnonzero(representative != itself)
    digests = shard.images["digest"].combine_chunks()
    kind = np.zeros(count, np.uint8)
    kind[shard.codes.image] = shard.codes.kind  # a twin has one code
    table = pa.Table.from_arrays(
        [
            digests.take(pa.array(twins)),
            digests.take(pa.array(representative[twins])),
            pa.array(np.isin(kind[twins], FULL_KINDS)),
        ],
        schema=blocks.TWINS,
    )
    return shard.codes.of(representative == itself) if len(twins) else shard.codes, table


def _keys_and_matches(codes: Codes, pairs: Pairs, numbers: int) -> tuple[IntArray, IntArray]:
    a, b = codes.image[pairs.a], codes.image[pairs.b]
    view = np.where(codes.view[pairs.a] == BASE, codes.view[pairs.b], codes.view[pairs.a])
    match = _match(pairs.distance.astype(np.int64), long_distance(codes, pairs.a, pairs.b), view)
    return np.minimum(a, b) * numbers + np.maximum(a, b), match


def _match(distance: IntArray, long: IntArray, view: IntArray) -> IntArray:
    packed: IntArray = (
        distance << _DISTANCE_SHIFT
        | view.astype(np.int64) << _VIEW_SHIFT
        | long.astype(np.int64) - NO_DISTANCE
    )
    return packed


def _estimated(codes: Codes, known: BoolArray, thresholds: Thresholds, keys: _Keys) -> int:
    """Returns about how many pairs there are, from the neighbours of some contents."""
    images = np.unique(codes.image[~known[codes.image]])
    chosen = images[:: -(-len(images) // _SAMPLE)]
    is_chosen = np.zeros(len(known), dtype=bool)
    is_chosen[chosen] = True
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for pairs in near_pairs(codes, thresholds, keys, roles=is_chosen):
        distinct = np.unique(_keys_and_matches(codes, pairs, len(known))[0])
        parts.append((distinct, np.zeros_like(distinct)))
    neighbours = len(PairSet.of(parts, len(known)))
    return round(neighbours / len(chosen) * len(images) / 2)


def pairs_table(digests: pa.Array, pairs: PairSet) -> pa.Table:
    """Returns pairs of the numbers of digests as `PAIRS`. The digests are in ascending order."""
    distance = pairs.match >> _DISTANCE_SHIFT
    view = pairs.match >> _VIEW_SHIFT & (1 << _DISTANCE_SHIFT - _VIEW_SHIFT) - 1
    long = (pairs.match & (1 << _VIEW_SHIFT) - 1) + NO_DISTANCE
    return pa.Table.from_arrays(
        [
            digests.take(pa.array(pairs.a)),
            digests.take(pa.array(pairs.b)),
            pa.array(distance, pa.int32(), mask=distance == UNMEASURED),
            pa.array(long, pa.int32(), mask=long == NO_DISTANCE),
            pa.array(view, pa.uint8()),
        ],
        schema=blocks.PAIRS,
    )


def gathered(tables: Iterable[pa.Table], max_pairs: int, waiting_pairs: int = WAITING_PAIRS) -> pa.Table:
    """Returns the pairs of several tables of `PAIRS`; a pair that is in several tables may occur several times.

    Raises:
      PlanError: there are more than `max_pairs` distinct pairs. At most twice as many are held, or `waiting_pairs`, and a
        table; if there are fewer, they are returned, so that `expanded` counts them exactly.
    """
    parts = [blocks.PAIRS.empty_table()]
    for table in tables:
        parts.append(table)
        if sum(map(len, parts)) > max(2 * max_pairs, waiting_pairs):
            pairs = pa.concat_tables(parts)
            digests, (a, b) = numbered([pairs["a"], pairs["b"]])
            distinct = PairSet.of([(_pair_keys(a, b, len(digests)), _matches_of(pairs))], len(digests))
            if len(distinct) > max_pairs:
                raise too_many(len(distinct), max_pairs, "at least ")
            parts = [pairs_table(digests, distinct)]
    return pa.concat_tables(parts)


def expanded(pairs: pa.Table, twins: pa.Table, max_pairs: int = MAX_PAIRS) -> Iterator[pa.Table]:
    """Yields the pairs of representatives, and those that follow for their twins, each once, sorted by digests.

    Args:
      pairs: rows of `PAIRS`, in which a pair may occur several times.
      twins: rows of `TWINS`; a representative may have another representative itself.
      max_pairs: the most pairs.

    Raises:
      PlanError: there are more than `max_pairs`.
    """
    digests, (a, b, twin, other) = numbered(
        [pairs["a"], pairs["b"], twins["digest"], twins["representative"]]
    )
    count = max(len(digests), 1)
    label = connected(len(digests), twin, other)
    of_classes = PairSet.of([(_pair_keys(label[a], label[b], count), _matches_of(pairs))], count)
    members, start, size = _members(label)
    weights = size[of_classes.a] * size[of_classes.b]
    total = int(weights.sum()) + int((size * (size - 1) // 2).sum())
    if total > max_pairs:
        raise too_many(total, max_pairs)
    outer = _products(of_classes.a, of_classes.b, members, start, size)
    classes = np.flatnonzero(size > 1)
    inner = _products(classes, classes, members, start, size)
    has_long = np.zeros(len(digests), np.int64)
    has_long[twin] = np.asarray(twins["has_long_code"].combine_chunks())
    once = inner[1] < inner[2]
    inner_a, inner_b = inner[1][once], inner[2][once]
    # The higher one may be the representative, of which nobody says whether it has a long code; one of them is a twin.
    long = np.where(has_long[inner_a] | has_long[inner_b], 0, NO_DISTANCE)
    zeros = np.zeros(len(long), np.int64)
    parts = [
        (_pair_keys(outer[1], outer[2], count), of_classes.match[outer[0]]),
        (_pair_keys(inner_a, inner_b, count), _match(zeros, long, zeros)),
    ]
    every = PairSet.of(parts, count)
    for at in range(0, len(every), BLOCK_PAIRS):
        some = slice(at, at + BLOCK_PAIRS)
        yield pairs_table(digests, PairSet(every.key[some], every.match[some], count))


def _pair_keys(a: IntArray, b: IntArray, numbers: int) -> IntArray:
    keys: IntArray = np.minimum(a, b) * numbers + np.maximum(a, b)
    return keys


def _matches_of(pairs: pa.Table) -> IntArray:
    distance, long, view = (pairs[name].combine_chunks() for name in ("distance", "long_distance", "view"))
    return _match(
        np.asarray(distance.fill_null(UNMEASURED)).astype(np.int64),
        np.asarray(long.fill_null(NO_DISTANCE)).astype(np.int64),
        np.asarray(view),
    )


def _members(label: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Returns the nodes in the order of their classes, and where each class starts and how many members it has."""
    members = np.argsort(label, kind="stable")
    size = np.bincount(label, minlength=len(label))
    return members, np.cumsum(size) - size, size


def _products(
    a: IntArray, b: IntArray, members: IntArray, start: IntArray, size: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Returns all pairs of a member of class `a[i]` and one of class `b[i]`, with the number i of each."""
    combinations = size[a] * size[b]
    row = np.repeat(np.arange(len(a)), combinations)
    number = np.arange(len(row)) - np.repeat(np.cumsum(combinations) - combinations, combinations)
    width = size[b][row]
    return row, members[start[a][row] + number // width], members[start[b][row] + number % width]
