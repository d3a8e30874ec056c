"""Judges images whose codes are spread over several code shards.

Each function does one step for one code shard or one digest shard.

A *code shard* sees the codes that agree on some bands (see `beam_dedup.core.matching.plan`), so every pair
within k meets in at least one code shard. Tables in and out have the schemas of `beam_dedup.core.blocks`.
Answers of a code shard are grouped by the digest shard that they go to.

    input             in code shards    in digest shards
    known, codes  ->  flag_near_kept    -> split_near       an image near a known or protected one is a duplicate
    codes         ->  flag_neighbours   -> split_anchors    an anchor has no better neighbour: it is kept
    anchors, rest ->  flag_near_kept    -> split_near       an image near an anchor is a duplicate
    rest          ->  the same two steps again, a fixed number of times
    rest          ->  keep_in_shard, in one code shard      the remaining images are judged in order of rank
    all codes     ->  find_witnesses                        the witness is the nearest kept image

If one code shard holds all codes from the beginning, `judge_shard` does all of this at once.
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import (
    NO_CODE,
    NO_DISTANCE,
    PROFILE_BYTES,
    UNMEASURED,
    BoolArray,
    Codes,
    DecidedPairs,
    IntArray,
)
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.near_pairs import near_pairs
from beam_dedup.core.matching.plan import Key, Plan, shard_of
from beam_dedup.core.matching.selection import MAX_PAIRS, Witnesses
from beam_dedup.core.model import CodeKind
from beam_dedup.core.tables import codes_of
from beam_dedup.core.thresholds import Thresholds

EVERYTHING = "all"  # name of the only code shard of a plan without prefix
DECLARED_SAME = "same"  # name of the code shard where images meet that a person declared the same


@dataclasses.dataclass(frozen=True, slots=True)
class CodeShard:
    """The codes of one code shard. Images are numbered by rank."""

    rows: pa.Table  # of blocks.CODES, sorted by rank
    codes: Codes  # the same rows
    images: pa.Table  # the first row of each image
    kept: BoolArray  # (images,) whether each image is kept, as far as that is decided


def code_shards(
    codes: pa.Table, plan: Plan, thresholds: Thresholds, decisions: Decisions = NO_DECISIONS
) -> Iterator[tuple[str, pa.Table]]:
    """Yields (name of a code shard, rows of `CODES`).

    Each code goes to all code shards in which it may meet a code within k.
    """
    if not plan.prefix:
        if len(codes):
            yield EVERYTHING, codes
        return
    if decisions.same:
        numbers = decisions.numbers_of(codes["digest"].combine_chunks())
        same = codes.filter(pa.array(np.isin(numbers, decisions.same_numbers)))
        if len(same):
            yield DECLARED_SAME, same
    kind = np.asarray(codes["kind"].combine_chunks())
    yield from _flat_shards(codes.filter(pa.array(kind == CodeKind.FLAT)), thresholds)
    hashed = codes.filter(pa.array((kind != CodeKind.FLAT) & (kind != NO_CODE)))
    columns = codes_of(hashed)
    for word, (number, prefix) in itertools.product(range(plan.words), enumerate(plan.prefixes)):
        words = columns.short if plan.words == 1 else columns.long[:, word]
        for shard, rows in blocks.split(hashed, shard_of(words, plan, prefix)):
            yield f"{word}/{number}/{shard}", rows


def _flat_shards(flat: pa.Table, thresholds: Thresholds) -> Iterator[tuple[str, pa.Table]]:
    """Divides flat codes into overlapping ranges of mean colour.

    Each range is twice as wide as the mean colours of two flat pictures within k can differ, so two such
    pictures share a range.
    """
    width = max(thresholds.flat_levels, 1) * PROFILE_BYTES
    bucket = codes_of(flat).pixels.sum(axis=1, dtype=np.int64) // width
    for shift in (0, 1):
        for number, rows in blocks.split(flat, bucket + shift):
            yield f"flat/{number}", rows


def keys_of(shard_name: str, plan: Plan) -> tuple[Key, ...] | None:
    """Returns the keys at which a code shard looks for pairs; None for all keys."""
    word, *rest = shard_name.split("/")
    if not word.isdigit():
        return None
    return plan.keys_in(int(word), plan.prefixes[int(rest[0])])


def gather(codes: pa.Table, decisions: Decisions = NO_DECISIONS) -> CodeShard:
    """Returns rows of `CODES` as a code shard, with images numbered by rank, and the pairs of them that are decided."""
    codes = codes.sort_by("rank").combine_chunks()
    first = blocks.first_rows(codes["rank"])
    images = codes.filter(pa.array(first))
    columns = codes_of(codes, np.cumsum(first) - 1)
    inputs = np.asarray(images["input"].combine_chunks()).astype(np.int64)
    if inputs.any():
        columns = dataclasses.replace(columns, inputs=inputs)
    if decisions:
        columns = dataclasses.replace(columns, decided=_decided_pairs(images, decisions))
    return CodeShard(
        rows=codes,
        codes=columns,
        images=images,
        kept=np.asarray(images["kept"].combine_chunks()).astype(bool),
    )


def _decided_pairs(images: pa.Table, decisions: Decisions) -> DecidedPairs:
    """Returns the decided pairs of images with different digests, as a code shard has them.

    Equal bytes count as declared the same if they are in such a pair, since they may have no codes to compare. Only images
    of different inputs can have them.
    """
    numbers = decisions.numbers_of(images["digest"].combine_chunks())
    here = np.flatnonzero(numbers >= 0)
    here = here[np.argsort(numbers[here], kind="stable")]
    same = decisions.same_numbers
    own = np.unique(same)
    same = np.concatenate([same, np.stack([own, own], axis=1)])
    different, same = (
        _image_pairs(pairs, here, numbers[here]) for pairs in (decisions.different_numbers, same)
    )
    return DecidedPairs.of(different, same[same[:, 0] != same[:, 1]], max(len(images), 1))


def _image_pairs(pairs: IntArray, images: IntArray, numbers: IntArray) -> IntArray:
    """Returns the pairs of images with the digests of some pairs: (pairs, 2).

    Args:
      pairs: (pairs, 2) numbers of digests.
      images: (images,) with digests in pairs, sorted by the number of these.
      numbers: (images,) the number of each one's digest.
    """
    start, end = (np.searchsorted(numbers, pairs, side=side) for side in ("left", "right"))
    sizes = end - start
    combinations = sizes.prod(axis=1)
    pair = np.repeat(np.arange(len(pairs)), combinations)
    number = np.arange(len(pair)) - np.repeat(np.cumsum(combinations) - combinations, combinations)
    first, second = start[pair, 0] + number // sizes[pair, 1], start[pair, 1] + number % sizes[pair, 1]
    return np.stack([images[first], images[second]], axis=1)


def count_pinned(codes: pa.Table, thresholds: Thresholds, decisions: Decisions) -> int:
    """Returns how many pairs of digests that a person declared different are within k by their codes.

    Pairs of two images that are kept beforehand do not count.

    Args:
      codes: rows of `CODES`: of all images in such pairs at least (`in_different_pairs`).
    """
    shard = gather(codes, decisions)
    decided, count = shard.codes.decided, max(decisions.digest_count, 1)
    numbers = decisions.numbers_of(shard.images["digest"].combine_chunks())
    alone = dataclasses.replace(
        shard.codes,
        decided=dataclasses.replace(decided, different=decided.different[:0], same=decided.same[:0]),
    )
    found = [np.zeros(0, np.int64)]
    for pairs in near_pairs(alone, thresholds):
        a, b = shard.codes.image[pairs.a], shard.codes.image[pairs.b]
        pinned = decided.are_different(a, b) & ~(shard.kept[a] & shard.kept[b])
        a, b = numbers[a[pinned]], numbers[b[pinned]]
        found.append(np.unique(np.minimum(a, b) * count + np.maximum(a, b)))
    return len(np.unique(np.concatenate(found)))


def in_different_pairs(codes: pa.Table, decisions: Decisions) -> pa.Table:
    """Returns the rows of `CODES` of images in pairs that a person declared different."""
    numbers = decisions.numbers_of(codes["digest"].combine_chunks())
    return codes.filter(pa.array(np.isin(numbers, decisions.different_numbers)))


def flag_neighbours(
    shard: CodeShard, thresholds: Thresholds, keys: tuple[Key, ...] | None
) -> Iterator[tuple[bytes, pa.Table]]:
    """Yields (digest shard, `FLAGS`) for the images that have neighbours in this code shard."""
    better, worse = selection.neighbour_flags(shard.codes, len(shard.images), thresholds, keys)
    yield from _flags(shard, better | worse, {"better": better, "worse": worse})


def flag_near_kept(
    shard: CodeShard, thresholds: Thresholds, keys: tuple[Key, ...] | None
) -> Iterator[tuple[bytes, pa.Table]]:
    """Yields (digest shard, `FLAGS`) for the images within k of a kept image in this code shard."""
    near = selection.near_marked(shard.codes, shard.kept, thresholds, keys)
    yield from _flags(shard, near, {"better": near, "worse": near})


def _flags(
    shard: CodeShard, chosen: BoolArray, columns: dict[str, BoolArray]
) -> Iterator[tuple[bytes, pa.Table]]:
    """Yields (digest shard, `FLAGS`) for the images `chosen`; `columns` holds the flags of all images."""
    rows = pa.array(np.flatnonzero(chosen))
    images = shard.images.take(rows)
    table = pa.Table.from_arrays(
        [images["rank"], *(pa.array(column).take(rows) for column in columns.values())], schema=blocks.FLAGS
    )
    yield from _by_digest_shard(images, table)


def find_witnesses(
    shard: CodeShard,
    thresholds: Thresholds,
    keys: tuple[Key, ...] | None,
    max_pairs: int = MAX_PAIRS,
) -> Iterator[tuple[bytes, pa.Table]]:
    """Yields (digest shard, `MARKS`): the nearest kept image in this code shard for each of its duplicates.

    Args:
      max_pairs: number of pairs held at a time.
    """
    witnesses = selection.nearest_kept(shard.codes, shard.kept, thresholds, keys, max_pairs=max_pairs)
    yield from _marks(shard, witnesses)


def judge_shard(
    shard: CodeShard,
    thresholds: Thresholds,
    plan: Plan,
    threads: int,
    max_pairs: int = MAX_PAIRS,
) -> Iterator[tuple[bytes, pa.Table]]:
    """Judges a code shard that holds all images, and yields (digest shard, `MARKS` of its duplicates).

    Args:
      threads: number of keys that are searched at a time.
      max_pairs: number of pairs held at a time.
    """
    _, witnesses = selection.judge(
        shard.codes, len(shard.images), thresholds, shard.kept, plan.all_keys, threads, max_pairs
    )
    yield from _marks(shard, witnesses)


def _marks(shard: CodeShard, witnesses: Witnesses) -> Iterator[tuple[bytes, pa.Table]]:
    """Yields (digest shard, `MARKS`) for witnesses, whose images are rows of `shard.images`."""
    images = shard.images.take(pa.array(witnesses.image))
    kept = shard.images.take(pa.array(witnesses.kept))
    long_distance = pa.array(witnesses.long_distance, pa.int32(), mask=witnesses.long_distance == NO_DISTANCE)
    table = pa.Table.from_arrays(
        [
            images["rank"],
            kept["rank"],
            kept["digest"],
            pa.array(witnesses.distance, pa.int32(), mask=witnesses.distance == UNMEASURED),
            long_distance,
            pa.array(witnesses.view, pa.uint8()),
        ],
        schema=blocks.MARKS,
    )
    yield from _by_digest_shard(images, table)


def _by_digest_shard(images: pa.Table, table: pa.Table) -> Iterator[tuple[bytes, pa.Table]]:
    """Yields (digest shard, rows of `table`); row i of `table` belongs to row i of `images`."""
    for number, rows in blocks.split(table, np.asarray(images["digest_shard"].combine_chunks())):
        yield b"%d" % number, rows


def split_anchors(codes: pa.Table, flags: pa.Table, all_undecided: bool) -> tuple[pa.Table, pa.Table]:
    """Splits the undecided codes of a digest shard, by the flags of all code shards, into (anchors, rest).

    Args:
      codes: rows of `CODES`.
      flags: rows of `FLAGS`.
      all_undecided: whether no image at all has been decided yet. An image without any neighbour is then
        kept and needs no further step, so it is in neither table. In later rounds such an image may still
        be the nearest witness of a duplicate.
    """
    better = pc.is_in(codes["rank"], flags.filter(flags["better"])["rank"])
    worse = pc.is_in(codes["rank"], flags.filter(flags["worse"])["rank"])
    anchors = codes.filter(pc.and_(pc.invert(better), worse) if all_undecided else pc.invert(better))
    return _with_kept(anchors, True), codes.filter(better)


def split_known(codes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Splits codes into (codes of known and protected images, codes of images to judge)."""
    return codes.filter(codes["kept"]), codes.filter(pc.invert(codes["kept"]))


def split_near(codes: pa.Table, flags: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Splits undecided codes, by the flags of images near a kept one, into (duplicates, rest)."""
    near = pc.is_in(codes["rank"], flags["rank"])
    return codes.filter(near), codes.filter(pc.invert(near))


def keep_in_shard(shard: CodeShard, thresholds: Thresholds) -> CodeShard:
    """Judges all images of a code shard, and returns it with the new kept images.

    No image of the shard may have an undecided neighbour elsewhere. Images that were kept before remain kept.
    """
    kept = selection.keep(shard.codes, len(shard.images), thresholds, known=shard.kept)
    return dataclasses.replace(shard, kept=kept)


def split_kept(shard: CodeShard) -> tuple[pa.Table, pa.Table]:
    """Splits the codes of a judged code shard into (codes of kept images, codes of duplicates)."""
    kept = pa.array(shard.kept[shard.codes.image])
    return _with_kept(shard.rows.filter(kept), True), shard.rows.filter(pc.invert(kept))


def _with_kept(codes: pa.Table, kept: bool) -> pa.Table:
    """Returns rows of `CODES` with the column `kept` set to one value."""
    at = codes.schema.get_field_index("kept")
    return codes.set_column(at, "kept", pa.array(np.full(len(codes), kept)))
