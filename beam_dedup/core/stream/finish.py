"""Where orphans are judged one after the other, in the order in which they come, against those that were kept before.

There is one key, so that there is an order at all. Orphans are few: what is near nothing, and what is near an anchor,
never comes here. Only what is kept is remembered.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import Codes, concatenate
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.selection import Witnesses
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.messages import (
    ORPHANS,
    PROFILE_ROWS,
    code_rows,
    codes_from_rows,
    numbers,
    rows_of,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import Cells, remembered


def finish(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Judges orphans."""
    del key
    orphans = blocks.load(by_topic(bodies)[Topic.ORPHANS], ORPHANS)
    before = blocks.load([*cells.settled, *cells.recent], ORPHANS)
    every = pa.concat_tables([before, orphans])
    known = np.arange(len(every)) < len(before)
    codes = _codes(every, plan.words)
    kept = selection.keep(codes, len(every), plan.thresholds, known=known)
    found = selection.nearest_kept(codes, kept, plan.thresholds)
    new = every.filter(pa.array(kept & ~known))
    told = pa.concat_tables([messages.kept_outcomes(numbers(new), new), _duplicates(every, found)])

    def join(parts: Sequence[bytes]) -> bytes:
        return blocks.dump(blocks.load(parts, ORPHANS))

    def merge(recent: bytes) -> list[bytes]:
        return [*cells.settled, recent]

    return Result(
        remembered(cells, blocks.dump(new) if len(new) else b"", join, merge),
        send_to_digest_shards(plan, Step.SETTLE, Topic.OUTCOMES, told, numbers(told)),
    )


def _codes(orphans: pa.Table, words: int) -> Codes:
    """All codes of some orphans, which are numbered by their rows."""
    rows = rows_of([blocks.joined(orphans["codes"])], code_rows(words))
    profiles = rows_of([blocks.joined(orphans["profiles"])], PROFILE_ROWS)
    codes = concatenate([codes_from_rows(rows), codes_from_rows(profiles)])
    images = numbers(orphans)
    order = np.argsort(images)
    return Codes(
        order[np.searchsorted(images, codes.image, sorter=order)],
        codes.view,
        codes.kind,
        codes.short,
        codes.long,
        codes.pixels,
    )


def _duplicates(orphans: pa.Table, found: Witnesses) -> pa.Table:
    witnesses = orphans.take(pa.array(found.kept))
    return messages.duplicate_outcomes(
        numbers(orphans)[found.image], witnesses, found.distance, found.long_distance, found.view
    )
