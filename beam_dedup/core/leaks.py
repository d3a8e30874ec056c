"""Finds leaks between splits: images of one split whose content another split has too, exactly or nearly.

A content is a digest. It belongs to every split that has an image with this digest. An image of split s leaks to split t

- exactly, if its content belongs to t;
- nearly, if it does not, and a content within k of its content belongs to t.

A set of splits is one integer: bit i stands for split i.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks, dropped
from beam_dedup.core.blocks import FingerprintBlock
from beam_dedup.core.codes import BASE, BoolArray, IntArray
from beam_dedup.core.model import Reason
from beam_dedup.core.splits import NO_SPLIT, Splits

# How many images with this digest a split has, and the first of them by URI. Known images have the split `NO_SPLIT`.
CONTENTS = pa.schema(
    [("digest", pa.binary(32)), ("split", pa.int64()), ("images", pa.int64()), ("uri", pa.binary())]
)
# A set of splits to which contents within k of this digest belong, and maybe its own; a digest may have several rows.
NEIGHBOURS = pa.schema([("digest", pa.binary(32)), ("splits", pa.int64())])
# The splits to which the images of CONTENTS leak: two sets without common members.
LEAKS = pa.schema([*CONTENTS, ("exact", pa.int64()), ("near", pa.int64())])
# Pairs, and the sets of splits to which their contents belong; 0 for that of a known image alone.
PAIRS_IN_SPLITS = pa.schema([*blocks.PAIRS, ("splits_a", pa.int64()), ("splits_b", pa.int64())])

ContentBlock = bytes  # rows of CONTENTS
NeighbourBlock = bytes  # rows of NEIGHBOURS
LeakBlock = bytes  # rows of LEAKS
SplitPairBlock = bytes  # rows of PAIRS_IN_SPLITS


@dataclasses.dataclass(frozen=True)
class Leakage:
    """How many images leak, for each pair of splits.

    Args:
      splits: the names of the splits.
      images: the number of images of each split.
      leaking: the number of images of each split that leak to any other.
      exact: [from][to] the number of images that leak exactly.
      near: [from][to] the number of images that leak nearly.
    """

    splits: tuple[str, ...]
    images: tuple[int, ...]
    leaking: tuple[int, ...]
    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]

    def as_fields(self) -> dict[str, Any]:
        """Returns the leakage as the counts file has it: per split its numbers, and those per other split."""
        return {
            split: {
                "images": self.images[one],
                "leaking": self.leaking[one],
                "to": {
                    other: {"exact": self.exact[one][two], "near": self.near[one][two]}
                    for two, other in enumerate(self.splits)
                    if two != one
                },
            }
            for one, split in enumerate(self.splits)
        }


def contents_of(block: FingerprintBlock, splits: Splits) -> pa.Table:
    """Returns the contents (`CONTENTS`) of a block of fingerprints."""
    rows = blocks.load([block], blocks.FINGERPRINTS).select(["digest", "name", "known", "uri"])
    numbers = splits.numbers_of(rows["name"])
    numbers[np.asarray(rows["known"].combine_chunks()).astype(bool)] = NO_SPLIT
    images = pa.array(np.ones(len(rows), np.int64))
    return summed(pa.table([rows["digest"], pa.array(numbers), images, rows["uri"]], CONTENTS))


def summed(contents: pa.Table) -> pa.Table:
    """Returns contents with one row per digest and split, sorted."""
    groups = contents.group_by(["digest", "split"]).aggregate([("images", "sum"), ("uri", "min")])
    columns = [groups[name] for name in ("digest", "split", "images_sum", "uri_min")]
    return pa.table(columns, CONTENTS).sort_by([("digest", "ascending"), ("split", "ascending")])


class SplitSets(NamedTuple):
    """The set of splits to which each digest belongs."""

    digests: pa.Array  # distinct
    sets: IntArray

    @classmethod
    def of(cls, rows: pa.Table, sets: IntArray) -> "SplitSets":
        """Returns the union of the sets of each digest; row i has `sets[i]`."""
        numbers = rows["digest"].combine_chunks().dictionary_encode()
        unions = np.zeros(len(numbers.dictionary), np.int64)
        np.bitwise_or.at(unions, np.asarray(numbers.indices), sets)
        return cls(numbers.dictionary, unions)

    @classmethod
    def of_contents(cls, contents: pa.Table) -> "SplitSets":
        return cls.of(contents, _bits(_numbers(contents, "split")))

    @classmethod
    def of_neighbours(cls, neighbours: pa.Table) -> "SplitSets":
        return cls.of(neighbours, _numbers(neighbours, "splits"))

    def of_digests(self, digests: pa.ChunkedArray) -> IntArray:
        """Returns the set of each of some digests; 0 for one that is not known here."""
        found = pc.fill_null(pc.index_in(digests.combine_chunks(), self.digests), len(self.sets))
        sets: IntArray = np.append(self.sets, 0)[np.asarray(found).astype(np.int64)]
        return sets


def leaks(contents: pa.Table, neighbours: pa.Table) -> pa.Table:
    """Returns where the images of all contents leak to (`LEAKS`), sorted; also those that do not leak. Known images are left out.

    Args:
      contents: all `CONTENTS` with some digests.
      neighbours: all `NEIGHBOURS` of these digests.
    """
    contents = summed(contents.filter(pc.not_equal(contents["split"], NO_SPLIT)))
    own = SplitSets.of_contents(contents).of_digests(contents["digest"])
    near = SplitSets.of_neighbours(neighbours).of_digests(contents["digest"])
    exact = own & ~_bits(_numbers(contents, "split"))
    return pa.table([*contents.columns, pa.array(exact), pa.array(near & ~own)], LEAKS)


def without_splits(pairs: pa.Table) -> pa.Table:
    """Returns pairs (`PAIRS`) as rows of `PAIRS_IN_SPLITS`, of whose contents no split is known yet."""
    nothing = pa.array(np.zeros(len(pairs), np.int64))
    return pa.table([*pairs.columns, nothing, nothing], PAIRS_IN_SPLITS)


def with_split_sets(pairs: pa.Table, contents: pa.Table, end: str) -> pa.Table:
    """Returns pairs (`PAIRS_IN_SPLITS`) with the sets of splits of one end, "a" or "b", whose contents are all given."""
    sets = SplitSets.of_contents(contents).of_digests(pairs[end])
    at = pairs.schema.get_field_index(f"splits_{end}")
    return pairs.set_column(at, pairs.schema.field(at), pa.array(sets))


def pairs_of_splits(pairs: pa.Table, splits: int) -> pa.Table:
    """Returns pairs (`PAIRS_IN_SPLITS`) once for each split of `a` and each of `b` (`PAIRS_OF_SPLITS`).

    Args:
      pairs: the pairs. A content of known images alone has no split.
      splits: the number of splits.
    """
    sets = [_numbers(pairs, f"splits_{end}") for end in ("a", "b")]
    numbers = range(NO_SPLIT, splits)
    parts = []
    for one, other in itertools.product(numbers, numbers):
        chosen = np.flatnonzero(_has(sets[0], one) & _has(sets[1], other))
        rows = pairs.take(pa.array(chosen)).select(blocks.PAIRS.names)
        ends = [pa.array(np.full(len(chosen), number, np.int64)) for number in (one, other)]
        parts.append(pa.table([*rows.columns, *ends], blocks.PAIRS_OF_SPLITS))
    return pa.concat_tables(parts)


def _has(sets: IntArray, split: int) -> BoolArray:
    has: BoolArray = sets == 0 if split == NO_SPLIT else (sets >> split) & 1 == 1
    return has


def equal_pairs(contents: pa.Table, splits: int) -> pa.Table:
    """Returns a row of `PAIRS_OF_SPLITS` for each content and each two splits that both have it, with distance 0.

    Args:
      contents: all `CONTENTS` with some digests.
      splits: the number of splits.
    """
    digests, sets = SplitSets.of_contents(contents)
    parts = []
    for one, other in itertools.combinations(range(splits), 2):
        rows = digests.filter(pa.array(_has(sets, one) & _has(sets, other)))
        zeros, none = pa.array(np.zeros(len(rows), np.int32)), pa.nulls(len(rows), pa.int32())
        view = pa.array(np.full(len(rows), BASE, np.uint8))
        ends = [pa.array(np.full(len(rows), number, np.int64)) for number in (one, other)]
        parts.append(pa.table([rows, rows, zeros, none, view, *ends], blocks.PAIRS_OF_SPLITS))
    return pa.concat_tables(parts)


def names_of_splits(contents: pa.Table) -> pa.Table:
    """Returns the first image of each content and split, as `NAMES_OF_SPLITS`.

    Args:
      contents: all `CONTENTS` with some digests.
    """
    contents = summed(contents)
    known = pc.equal(contents["split"], NO_SPLIT)
    return pa.table([contents["digest"], contents["uri"], known, contents["split"]], blocks.NAMES_OF_SPLITS)


def by_shard(table: pa.Table, column: str, digest_shards: int) -> Iterator[tuple[int, pa.Table]]:
    """Yields (digest shard, rows) for the digests in a column."""
    digests = pa.table({"digest": table[column]})
    return blocks.split(table, blocks.digest_shards(digests, digest_shards))


def counts_of(found: pa.Table, splits: int) -> list[int]:
    """Returns the numbers of leaking images as a list, which can be added up; `leakage_of` reads it.

    Args:
      found: rows of `LEAKS`.
      splits: the number of splits.
    """
    split, images, exact, near = (_numbers(found, name) for name in ("split", "images", "exact", "near"))

    def per_split(chosen: BoolArray | slice) -> IntArray:
        counts = np.zeros(splits, np.int64)
        np.add.at(counts, split[chosen], images[chosen])
        return counts

    rows = [per_split(slice(None)), per_split((exact | near) != 0)]
    for sets in (exact, near):
        rows += [per_split((sets >> number) & 1 == 1) for number in range(splits)]
    return [int(count) for count in np.concatenate(rows)]


def leaking_in(counts: Sequence[int], splits: int) -> int:
    """Returns how many images leak, given a result of `counts_of`."""
    return sum(counts[splits : 2 * splits])


def added(counts: Iterable[Sequence[int]], splits: int) -> list[int]:
    """Returns the sum of several results of `counts_of`."""
    total = np.zeros(2 * splits + 2 * splits * splits, np.int64)
    for one in counts:
        total += np.asarray(one, np.int64)
    return [int(count) for count in total]


def leakage_of(counts: Sequence[int], splits: tuple[str, ...]) -> Leakage:
    """Returns the leakage of a sum of `counts_of`."""
    rows = np.asarray(counts, np.int64).reshape(-1, len(splits))
    size = len(splits)

    def tuples(matrix: IntArray) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(map(int, row)) for row in matrix)

    images, leaking = tuples(rows[:2])  # the others: [to][from]
    return Leakage(splits, images, leaking, tuples(rows[2 : 2 + size].T), tuples(rows[2 + size :].T))


def leaking_from(found: pa.Table, split: int) -> pa.Table:
    """Returns the rows of `LEAKS` of images of one split that leak."""
    is_leaking = (_numbers(found, "exact") | _numbers(found, "near")) != 0
    return found.filter(pa.array(is_leaking & (_numbers(found, "split") == split)))


def split_leaked(
    fingerprints: pa.Table, found: pa.Table, splits: Splits, number: int
) -> tuple[pa.Table, pa.Table]:
    """Returns the images to judge (`FINGERPRINTS`), and verdicts (`VERDICTS`) that reject those that leak.

    Args:
      fingerprints: rows of `FINGERPRINTS`.
      found: what `leaking_from` returns for all of their digests.
      splits: the splits.
      number: that of the split from which leaking images are rejected.
    """
    at = pc.index_in(fingerprints["digest"].combine_chunks(), found["digest"].combine_chunks())
    is_new = ~np.asarray(fingerprints["known"].combine_chunks()).astype(bool)
    in_split = splits.numbers_of(fingerprints["name"]) == number
    is_leaked = np.asarray(at.is_valid()).astype(bool) & is_new & in_split
    rows = found.take(at.filter(pa.array(is_leaked)))
    details = [
        _detail(splits, exact, near)
        for exact, near in zip(_numbers(rows, "exact").tolist(), _numbers(rows, "near").tolist(), strict=True)
    ]
    verdicts = dropped.rejected(fingerprints.filter(pa.array(is_leaked)), Reason.LEAKED, details)
    return fingerprints.filter(pa.array(~is_leaked)), verdicts


def _detail(splits: Splits, exact: int, near: int) -> str:
    """Returns where an image leaks to.

    >>> _detail(Splits(("a", "b", "c"), ("train", "val", "test")), 2, 4)
    'the same bytes as an image of val; near an image of test'
    """
    parts = (("the same bytes as", exact), ("near", near))
    return "; ".join(
        f"{how} an image of {' and of '.join(name for bit, name in enumerate(splits.all) if members >> bit & 1)}"
        for how, members in parts
        if members
    )


def _bits(splits: IntArray) -> IntArray:
    """Returns the set that has one split each; the empty one for `NO_SPLIT`."""
    bits: IntArray = np.where(splits == NO_SPLIT, 0, np.int64(1) << np.maximum(splits, 0))
    return bits


def _numbers(table: pa.Table, column: str) -> IntArray:
    return np.asarray(table[column].combine_chunks()).astype(np.int64)
