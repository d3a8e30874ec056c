"""Where an image that has predecessors waits for all replies: near an anchor it is a duplicate, else an orphan."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import NO_DISTANCE
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.messages import ORPHANS, REPLIES, UNDECIDED, bodies_of, numbers, occurrences, send
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change

FINISH_KEY = b"all"


def decide(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Decides on the images to which all replies have come."""
    del plan
    received = by_topic([*cells.waiting, *bodies])
    undecided = blocks.load(received[Topic.UNDECIDED], UNDECIDED)
    replies = blocks.load(received[Topic.REPLIES], REPLIES)
    images = numbers(undecided)
    complete = occurrences(np.sort(numbers(replies)), images) == numbers(undecided, "expected")
    if not complete.any():
        return Result(Change(waiting=CellChange(add=bodies)), [])
    of_done = pa.array(np.isin(numbers(replies), images[complete]))
    waiting = bodies_of(
        (Topic.UNDECIDED, undecided.filter(pa.array(~complete))),
        (Topic.REPLIES, replies.filter(pc.invert(of_done))),
    )
    nearest = _nearest(replies.filter(of_done))
    orphans = undecided.filter(pa.array(complete & ~np.isin(images, numbers(nearest))))
    return Result(
        Change(waiting=CellChange(True, waiting)),
        [
            *send(Step.SETTLE, key, Topic.OUTCOMES, _duplicates(nearest)),
            *send(Step.FINISH, FINISH_KEY, Topic.ORPHANS, orphans.select(ORPHANS.names)),
        ],
    )


def _nearest(replies: pa.Table) -> pa.Table:
    """The nearest anchor of each image that has one."""
    anchors = replies.filter(replies["uri"].is_valid())
    anchors = anchors.sort_by([(name, "ascending") for name in ("image", "distance", "other")])
    return anchors.filter(pa.array(blocks.first_rows(anchors["image"])))


def _duplicates(nearest: pa.Table) -> pa.Table:
    long = np.asarray(pc.fill_null(nearest["long_distance"], NO_DISTANCE).combine_chunks())
    view = numbers(nearest, "view").astype(np.uint8)
    return messages.duplicate_outcomes(numbers(nearest), nearest, numbers(nearest, "distance"), long, view)
