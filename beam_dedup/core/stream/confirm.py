"""Where it is known of each image whether it is an anchor, and others ask for it.

A question may come before its answer is known, and then waits. What has been answered is forgotten. What an image is, is
remembered, since others ask for as long as they find its codes; of an anchor the names too.
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
    bodies_of,
    rows_of,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells


def confirm(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Remembers what images are, and answers the questions that can be answered."""
    del key
    received = by_topic([*cells.waiting, *bodies])
    statuses = blocks.load(received[Topic.STATUSES], STATUSES)
    questions = rows_of(received[Topic.QUESTIONS], QUESTION_ROWS)
    found, rows = state_tables.find_images(cells, statuses, questions["other"])
    waiting = CellChange(bool(cells.waiting), bodies_of((Topic.QUESTIONS, questions[~found])))
    replies = _replies(questions[found], rows)
    return Result(
        dataclasses.replace(state_tables.add_images(cells, statuses), waiting=waiting),
        send_to_digest_shards(plan, Step.DECIDE, Topic.REPLIES, replies, questions["image"][found]),
    )


def _replies(questions: Rows, statuses: pa.Table) -> pa.Table:
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
