"""Judging images that are spread over many places: what each place does with the codes that meet there.

A *place* sees the codes that agree on some bands (see `beam_dedup.core.matching.plan`), so every pair within k meets at one
place at least. Tables in and out are those of `beam_dedup.core.blocks`; answers are sorted by the home they go to.

    known, codes --places--> near_anchors_here --home--> without        what is near a known image is a duplicate
    codes --places--> flags_here --home--> divide  -> anchors, rest     an anchor has no better neighbour: it is kept
    anchors, rest --places--> near_anchors_here --home--> without       what is near an anchor is a duplicate
    what remains goes round again, then to gather_here, which judges it in one place
    kept, duplicates --places--> witnesses_here                         the nearest kept one
"""

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import NO_DISTANCE, PROFILE_BYTES, BoolArray, Codes
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.plan import Key, Plan, shard_of
from beam_dedup.core.matching.selection import Witnesses
from beam_dedup.core.model import CodeKind
from beam_dedup.core.tables import codes_of
from beam_dedup.core.thresholds import Thresholds

EVERYTHING = "all"  # the place of a plan without prefix


@dataclasses.dataclass(frozen=True, slots=True)
class Gathered:
    """The codes of one place: images numbered by rank, and the rows they came from."""

    rows: pa.Table  # of blocks.CODES, sorted by rank
    codes: Codes  # the same rows
    images: pa.Table  # the first row of each image
    kept: BoolArray  # (images,)


def code_shards(codes: pa.Table, plan: Plan, thresholds: Thresholds) -> Iterator[tuple[str, pa.Table]]:
    """Sends each code to the places where it may meet one within k."""
    if not plan.prefix:
        if len(codes):
            yield EVERYTHING, codes
        return
    flat = np.asarray(pc.equal(codes["kind"], int(CodeKind.FLAT)).combine_chunks())
    yield from _flat_shards(codes.filter(pa.array(flat)), thresholds)
    hashed = codes.filter(pa.array(~flat))
    columns = codes_of(hashed)
    for word, (number, prefix) in itertools.product(range(plan.words), enumerate(plan.prefixes)):
        words = columns.short if plan.words == 1 else columns.long[:, word]
        for shard, rows in blocks.split(hashed, shard_of(words, plan, prefix)):
            yield f"{word}/{number}/{shard}", rows


def _flat_shards(flat: pa.Table, thresholds: Thresholds) -> Iterator[tuple[str, pa.Table]]:
    """Overlapping ranges of mean colour, each as wide as flat pictures within k can be apart: two such share one."""
    width = max(thresholds.flat_levels, 1) * PROFILE_BYTES
    bucket = codes_of(flat).pixels.sum(axis=1, dtype=np.int64) // width
    for shift in (0, 1):
        for number, rows in blocks.split(flat, bucket + shift):
            yield f"flat/{number}", rows


def keys_of(place: str, plan: Plan) -> tuple[Key, ...] | None:
    """The keys that are looked at in a place; None for all of them."""
    word, *rest = place.split("/")
    if not word.isdigit():
        return None
    return plan.keys_in(int(word), plan.prefixes[int(rest[0])])


def gather(codes: pa.Table) -> Gathered:
    """Numbers the images of some rows of `CODES` by rank."""
    codes = codes.sort_by("rank").combine_chunks()
    first = blocks.first_rows(codes["rank"])
    images = codes.filter(pa.array(first))
    return Gathered(
        rows=codes,
        codes=codes_of(codes, np.cumsum(first) - 1),
        images=images,
        kept=np.asarray(images["kept"].combine_chunks()).astype(bool),
    )


def flags_here(
    here: Gathered, thresholds: Thresholds, keys: tuple[Key, ...] | None
) -> Iterator[tuple[bytes, pa.Table]]:
    """Tells the homes which of their images have neighbours here (`FLAGS`); silence means none."""
    better, worse = selection.neighbour_flags(here.codes, len(here.images), thresholds, keys)
    yield from _to_digest_shards(here, better | worse, {"better": better, "worse": worse})


def near_anchors_here(
    here: Gathered, thresholds: Thresholds, keys: tuple[Key, ...] | None
) -> Iterator[tuple[bytes, pa.Table]]:
    """Tells the homes which of their images lie within k of a kept one here."""
    near = selection.near_marked(here.codes, here.kept, thresholds, keys)
    yield from _to_digest_shards(here, near, {"better": near, "worse": near})


def _to_digest_shards(
    here: Gathered, chosen: BoolArray, columns: dict[str, BoolArray]
) -> Iterator[tuple[bytes, pa.Table]]:
    rows = pa.array(np.flatnonzero(chosen))
    images = here.images.take(rows)
    table = pa.Table.from_arrays(
        [images["rank"], *(pa.array(column).take(rows) for column in columns.values())], schema=blocks.FLAGS
    )
    yield from _by_digest_shard(images, table)


def witnesses_here(
    here: Gathered, thresholds: Thresholds, keys: tuple[Key, ...] | None
) -> Iterator[tuple[bytes, pa.Table]]:
    """Tells the homes the nearest kept image (`MARKS`), of those here, of each of their duplicates."""
    yield from _marks(here, selection.nearest_kept(here.codes, here.kept, thresholds, keys))


def judge_here(
    here: Gathered, thresholds: Thresholds, plan: Plan, threads: int
) -> Iterator[tuple[bytes, pa.Table]]:
    """Judges all images there are, and tells the homes the witness (`MARKS`) of each of their duplicates."""
    _, found = selection.judge(here.codes, len(here.images), thresholds, here.kept, plan.all_keys, threads)
    yield from _marks(here, found)


def _marks(here: Gathered, found: Witnesses) -> Iterator[tuple[bytes, pa.Table]]:
    images = here.images.take(pa.array(found.image))
    kept = here.images.take(pa.array(found.kept))
    table = pa.Table.from_arrays(
        [
            images["rank"],
            kept["rank"],
            kept["digest"],
            pa.array(found.distance, pa.int32()),
            pa.array(found.long_distance, pa.int32(), mask=found.long_distance == NO_DISTANCE),
            pa.array(found.view, pa.uint8()),
        ],
        schema=blocks.MARKS,
    )
    yield from _by_digest_shard(images, table)


def _by_digest_shard(images: pa.Table, table: pa.Table) -> Iterator[tuple[bytes, pa.Table]]:
    for number, rows in blocks.split(table, np.asarray(images["digest_shard"].combine_chunks())):
        yield b"%d" % number, rows


def divide(codes: pa.Table, flags: pa.Table, all_here: bool) -> tuple[pa.Table, pa.Table]:
    """Of undecided codes and the flags of all places: (anchors, the rest).

    all_here: whether all images are undecided still. Then what has no neighbour at all is kept and needs no further
    step, so it is in neither. Later it may yet be the witness nearest to a duplicate of another.
    """
    better = pc.is_in(codes["rank"], flags.filter(flags["better"])["rank"])
    worse = pc.is_in(codes["rank"], flags.filter(flags["worse"])["rank"])
    anchors = codes.filter(pc.and_(pc.invert(better), worse) if all_here else pc.invert(better))
    return _with_kept(anchors, True), codes.filter(better)


def known_and_new(codes: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Codes of images that are kept beforehand, and those of images to be judged."""
    return codes.filter(codes["kept"]), codes.filter(pc.invert(codes["kept"]))


def without(codes: pa.Table, flags: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Of undecided codes and what lies near an anchor: (the duplicates, the rest)."""
    near = pc.is_in(codes["rank"], flags["rank"])
    return codes.filter(near), codes.filter(pc.invert(near))


def keep_here(here: Gathered, thresholds: Thresholds) -> Gathered:
    """Judges all images here, of which none may have an undecided neighbour elsewhere; what is kept stays so."""
    return dataclasses.replace(
        here, kept=selection.keep(here.codes, len(here.images), thresholds, known=here.kept)
    )


def decided(here: Gathered) -> tuple[pa.Table, pa.Table]:
    """The codes of a place that has judged all its images: (of the kept ones, of the duplicates)."""
    kept = pa.array(here.kept[here.codes.image])
    return _with_kept(here.rows.filter(kept), True), here.rows.filter(pc.invert(kept))


def _with_kept(codes: pa.Table, kept: bool) -> pa.Table:
    at = codes.schema.get_field_index("kept")
    return codes.set_column(at, "kept", pa.array(np.full(len(codes), kept)))
