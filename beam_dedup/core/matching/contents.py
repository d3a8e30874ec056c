"""Chooses the contents of a digest shard whose codes are compared to find all pairs within k.

A content is all images of one digest. The codes of its best-ranked image count, as they do for verdicts
(`beam_dedup.core.matching.shard_verdicts`). Contents with equal codes are within k of the same contents and of each
other, so one of them, the representative, is compared in place of the others, its twins.
"""

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.matching.shard_verdicts import (
    are_compared,
    code_rows,
    firsts_of,
    group_images,
    of_base,
    picture_numbers,
    rows_without_codes,
)
from beam_dedup.core.model import CodeKind
from beam_dedup.core.rank import are_known, uris_of

# Columns of `IMAGES` that pairs do not need. They are emptied before images are shuffled.
_UNUSED = ("name", "metadata", "format", "detail", "companions")


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a digest shard."""

    codes: pa.Table  # CODES of the representatives; `rank` is the digest, `kept` whether no image is new
    twins: pa.Table  # TWINS
    names: pa.Table  # NAMES of all contents


def slim(images: pa.Table) -> pa.Table:
    """Returns a table of `IMAGES` without the texts that pairs do not need."""
    empty = pa.array(np.full(len(images), b""), pa.binary())
    for name in _UNUSED:
        images = images.set_column(images.schema.get_field_index(name), images.schema.field(name), empty)
    return images


def contents_of(images: pa.Table, number: int, decisions: Decisions = NO_DECISIONS) -> Contents:
    """Returns the contents of a digest shard.

    A content that a person decided about is compared by itself. So is one of which all images are known: two of
    these are no pair.

    Args:
      images: rows of `IMAGES`: all images of the shard.
      number: the number of the shard.
      decisions: pairs of digests whose relation a person decided.
    """
    shard = group_images(images, decisions=decisions)
    images, rows = shard.images, np.arange(len(shard.images))
    digests = images["digest"].combine_chunks()
    is_known = np.asarray(are_known(images["rank"].combine_chunks())).astype(bool)
    is_fixed = shard.is_fixed | decisions.are_kept(digests) if decisions else shard.is_fixed
    is_first = shard.same_bytes == rows
    has_new = np.zeros(len(rows), dtype=bool)
    has_new[shard.same_bytes[~is_known]] = True
    compared = is_first & are_compared(images, is_fixed)

    alone = ~has_new | (decisions.are_alone(digests) if decisions else False)
    may_be_twin = np.flatnonzero(compared & ~alone)
    representative = rows.copy()
    pictures = picture_numbers(images.take(pa.array(may_be_twin)))
    representative[may_be_twin] = may_be_twin[firsts_of(pictures)]

    is_twin = representative != rows
    # `code_rows` and `rows_without_codes` take the last argument as the column `kept`.
    codes = code_rows(shard, number, compared & ~is_twin, ~has_new)
    if decisions.same:
        declared = np.isin(decisions.numbers_of(digests), decisions.same_numbers)
        without = rows_without_codes(shard, number, is_first & ~compared & declared, ~has_new)
        codes = pa.concat_tables([codes, without])
    is_full = pc.fill_null(pc.equal(of_base(images, "kind"), int(CodeKind.FULL)), False)
    twins, firsts = pa.array(np.flatnonzero(is_twin)), pa.array(np.flatnonzero(is_first))
    return Contents(
        codes.set_column(1, "rank", codes["digest"].cast(pa.large_binary())),
        pa.Table.from_arrays(
            [digests.take(twins), digests.take(pa.array(representative[is_twin])), is_full.take(twins)],
            schema=blocks.TWINS,
        ),
        pa.Table.from_arrays(
            [
                digests.take(firsts),
                uris_of(images["rank"].combine_chunks().take(firsts)),
                pa.array(is_known[is_first]),
            ],
            schema=blocks.NAMES,
        ),
    )
