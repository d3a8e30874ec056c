"""Replies to the question whether an image is an anchor.

Joins statuses (from `gather`) with questions (also from `gather`) by image number. A question that arrives
before the status waits in the state, and leaves it when it gets its reply. Statuses are stored for good:
images are asked about as long as their codes are found. The status of an anchor includes its URI and digest.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.codes import NO_DISTANCE
from beam_dedup.core.stream import state_tables
from beam_dedup.core.stream.messages import (
    QUESTION_ROWS,
    REPLIES,
    STATUSES,
    Rows,
    load_rows,
    message_bodies,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells


def confirm(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Stores new statuses, replies to the questions whose status is known, and keeps the others."""
    del key
    received = blocks_by_topic([*cells.waiting, *bodies])
    statuses = blocks.load(received[Topic.STATUSES], STATUSES)
    questions = load_rows(received[Topic.QUESTIONS], QUESTION_ROWS)
    found, rows = state_tables.find_images(cells, statuses, questions["other"])
    waiting = CellChange(bool(cells.waiting), message_bodies((Topic.QUESTIONS, questions[~found])))
    replies = _replies(questions[found], rows)
    return Result(
        dataclasses.replace(state_tables.add_images(cells, statuses), waiting=waiting),
        send_to_digest_shards(plan, Step.DECIDE, Topic.REPLIES, replies, questions["image"][found]),
    )


def _replies(questions: Rows, statuses: pa.Table) -> pa.Table:
    """Returns the replies (`REPLIES`) to questions; row i of `statuses` is that of the image asked about."""
    column = {name: np.ascontiguousarray(questions[name]) for name in QUESTION_ROWS.names or ()}
    long = column["long_distance"]
    return pa.Table.from_arrays(
        [
            pa.array(column["image"]),
            pa.array(column["other"]),
            pa.array(column["distance"], pa.int32()),
            pa.array(long, pa.int32(), mask=long == NO_DISTANCE),
            pa.array(column["view"]),
            statuses["uri"],
            statuses["digest"],
        ],
        schema=REPLIES,
    )
