"""Adds to verdicts the connected components of their contents."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import Status


def judged_rows(block: VerdictBlock, shards: int) -> Iterator[tuple[int, VerdictBlock]]:
    """Yields the images of a block of `VERDICTS` that are not rejected, by digest shard."""
    verdicts = blocks.load([block], blocks.VERDICTS)
    judged = verdicts.filter(pc.not_equal(verdicts["status"], Status.REJECTED.encode()))
    if len(judged):
        digests = pa.table({"digest": judged["digest"].cast(pa.binary(32))})
        for shard, rows in blocks.split(judged, blocks.digest_shards(digests, shards)):
            yield shard, blocks.dump(rows)


def rejected_rows(block: VerdictBlock) -> VerdictBlock:
    """Returns the rejected images of a block of `VERDICTS`. They have no component."""
    verdicts = blocks.load([block], blocks.VERDICTS)
    return blocks.dump(verdicts.filter(pc.equal(verdicts["status"], Status.REJECTED.encode())))


def with_components(block: VerdictBlock, components: pa.Table) -> VerdictBlock:
    """Returns verdicts with the components of their contents. A content in no pair is a component by itself.

    Args:
      block: rows of `VERDICTS`, none of them rejected.
      components: rows of `COMPONENTS`.
    """
    verdicts = blocks.load([block], blocks.VERDICTS)
    digests = verdicts["digest"].combine_chunks()
    at = pc.index_in(digests, components["digest"].combine_chunks().cast(pa.binary()))
    found = components["component"].combine_chunks().cast(pa.binary()).take(at)
    column = pc.coalesce(found, digests)
    number = blocks.VERDICTS.get_field_index("component")
    return blocks.dump(verdicts.set_column(number, blocks.VERDICTS.field("component"), column))
