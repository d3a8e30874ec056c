"""Waits until all replies about an image have come. Near an anchor it is a duplicate, otherwise an orphan."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import NO_DISTANCE
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.messages import (
    ORPHANS,
    REPLIES,
    UNDECIDED,
    int_column,
    message_bodies,
    occurrences,
    send,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change

FINISH_KEY = b"all"


def decide(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Sends each image that has all its replies to `settle` as a duplicate, or to `finish` as an orphan."""
    del plan
    received = blocks_by_topic([*cells.waiting, *bodies])
    undecided = blocks.load(received[Topic.UNDECIDED], UNDECIDED)
    replies = blocks.load(received[Topic.REPLIES], REPLIES)
    images = int_column(undecided)
    complete = occurrences(np.sort(int_column(replies)), images) == int_column(undecided, "expected")
    if not complete.any():
        return Result(Change(waiting=CellChange(add=bodies)), [])
    of_complete = pa.array(np.isin(int_column(replies), images[complete]))
    waiting = message_bodies(
        (Topic.UNDECIDED, undecided.filter(pa.array(~complete))),
        (Topic.REPLIES, replies.filter(pc.invert(of_complete))),
    )
    nearest = _nearest(replies.filter(of_complete))
    orphans = undecided.filter(pa.array(complete & ~np.isin(images, int_column(nearest))))
    return Result(
        Change(waiting=CellChange(True, waiting)),
        [
            *send(Step.SETTLE, key, Topic.OUTCOMES, _duplicates(nearest)),
            *send(Step.FINISH, FINISH_KEY, Topic.ORPHANS, orphans.select(ORPHANS.names)),
        ],
    )


def _nearest(replies: pa.Table) -> pa.Table:
    """Returns the reply of the nearest anchor of each image; if equally near, the smallest number."""
    anchors = replies.filter(replies["uri"].is_valid())
    anchors = anchors.sort_by([(name, "ascending") for name in ("image", "distance", "other")])
    return anchors.filter(pa.array(blocks.first_rows(anchors["image"])))


def _duplicates(nearest: pa.Table) -> pa.Table:
    """Returns the outcomes (`OUTCOMES`) of duplicates, from the reply (`REPLIES`) of the witness of each."""
    long = np.asarray(pc.fill_null(nearest["long_distance"], NO_DISTANCE).combine_chunks())
    view = int_column(nearest, "view").astype(np.uint8)
    return messages.duplicate_outcomes(
        int_column(nearest), nearest, int_column(nearest, "distance"), long, view
    )
