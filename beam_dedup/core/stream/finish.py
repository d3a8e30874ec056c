"""Judges orphans one after the other, in order of arrival, against the orphans kept so far.

The step has a single key, so that all orphans are judged in one order. They are few: images without
predecessors and images near an anchor never come here. Only kept orphans are stored, without truncated ones: like in
`band`, these are compared with the others, but are no witnesses.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, Codes, concatenate
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.selection import Witnesses
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.messages import (
    ORPHANS,
    PROFILE_ROWS,
    TRUNCATED,
    code_rows,
    codes_from_rows,
    int_column,
    load_rows,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import Cells, add_block


def finish(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Judges a block of orphans, sends their outcomes to `settle`, and stores those that are kept."""
    del key
    orphans = blocks.load(blocks_by_topic(bodies)[Topic.ORPHANS], ORPHANS)
    before = blocks.load([*cells.settled, *cells.recent], ORPHANS)
    every = pa.concat_tables([before, orphans])
    known = np.arange(len(every)) < len(before)
    codes, truncated = _codes(every, plan.words)
    whole = selection.keep(codes.of(~truncated), len(every), plan.thresholds, known=known) & ~truncated
    witnesses = selection.nearest_kept(codes, whole, plan.thresholds)
    kept = whole | (truncated & ~np.isin(np.arange(len(every)), witnesses.image))
    new = every.filter(pa.array(kept & ~known))
    to_store = every.filter(pa.array(whole & ~known))
    outcomes = pa.concat_tables([messages.kept_outcomes(int_column(new), new), _duplicates(every, witnesses)])

    def join(parts: Sequence[bytes]) -> bytes:
        return blocks.dump(blocks.load(parts, ORPHANS))

    def merge(recent: bytes) -> list[bytes]:
        return [*cells.settled, recent]

    return Result(
        add_block(cells, blocks.dump(to_store) if len(to_store) else b"", join, merge),
        send_to_digest_shards(plan, Step.SETTLE, Topic.OUTCOMES, outcomes, int_column(outcomes)),
    )


def _codes(orphans: pa.Table, words: int) -> tuple[Codes, BoolArray]:
    """Returns all codes of some orphans, and which orphans are truncated.

    `image` of a code is the row of its orphan.
    """
    rows = load_rows([blocks.joined(orphans["codes"])], code_rows(words))
    profiles = load_rows([blocks.joined(orphans["profiles"])], PROFILE_ROWS)
    codes = concatenate([codes_from_rows(rows), codes_from_rows(profiles)])
    images = int_column(orphans)
    order = np.argsort(images)
    flagged = [part["image"][part["flags"] & TRUNCATED > 0] for part in (rows, profiles)]
    truncated = np.isin(images, np.concatenate(flagged))
    return Codes(
        order[np.searchsorted(images, codes.image, sorter=order)],
        codes.view,
        codes.kind,
        codes.short,
        codes.long,
        codes.pixels,
        codes.detail,
    ), truncated


def _duplicates(orphans: pa.Table, witnesses: Witnesses) -> pa.Table:
    """Returns the outcomes (`OUTCOMES`) of duplicates; `witnesses` holds row numbers of `orphans`."""
    names = orphans.take(pa.array(witnesses.kept))
    return messages.duplicate_outcomes(
        int_column(orphans)[witnesses.image],
        names,
        witnesses.distance,
        witnesses.long_distance,
        witnesses.view,
    )
