"""Where an image waits until all keys have answered: without predecessors it is an anchor, and kept."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, IntArray
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.messages import (
    ANSWER_ROWS,
    NOBODY,
    OPENED,
    QUESTION_ROWS,
    STATUSES,
    Rows,
    bodies_of,
    numbers,
    occurrences,
    rows_of,
    send,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change


def gather(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Adds up answers. Says of each image that has them all whether it is an anchor; if not, asks about predecessors."""
    received = by_topic([*cells.waiting, *bodies])
    opened = blocks.load(received[Topic.OPENED], OPENED)
    answers = totalled(rows_of(received[Topic.ANSWERS], ANSWER_ROWS))
    answered, near = _totals(answers, numbers(opened))
    complete = answered == numbers(opened, "expected")
    if not complete.any():
        return Result(Change(waiting=CellChange(add=bodies)), [])
    done, left = opened.filter(pa.array(complete)), opened.filter(pa.array(~complete))
    images = numbers(done)
    of_done = np.isin(answers["image"], images)
    waiting = bodies_of((Topic.OPENED, left), (Topic.ANSWERS, answers[~of_done]))
    named = answers[of_done & (answers["other"] != NOBODY)]
    return Result(
        Change(waiting=CellChange(True, waiting)),
        [
            *_statuses(key, done, near[complete]),
            *_questions(plan, named),
            *_undecided(key, done, near[complete], named),
        ],
    )


def totalled(answers: Rows) -> Rows:
    """Sorted by image: one row that names nobody, and one for each predecessor that is named, through the nearest pair
    of codes, of equally near ones the first view."""
    order = np.lexsort([answers[name] for name in ("long_distance", "view", "distance", "other", "image")])
    answers = answers[order]
    if not len(answers):
        return answers
    image, other = answers["image"], answers["other"]
    differs = (image[1:] != image[:-1]) | (other[1:] != other[:-1])
    starts = np.concatenate([[0], np.flatnonzero(differs) + 1])
    totals: Rows = answers[starts]
    for name in ("count", "named"):
        totals[name] = np.add.reduceat(answers[name], starts)
    totals["near"] = np.maximum.reduceat(answers["near"], starts)
    return totals


def _totals(answers: Rows, images: IntArray) -> tuple[IntArray, BoolArray]:
    """How many codes of each image have been answered, and whether it has predecessors; nothing as long as not all
    are named that will be."""
    is_name = answers["other"] != NOBODY
    tallies, names = answers[~is_name], answers[is_name]
    if not len(tallies):
        return np.zeros(len(images), np.int64), np.zeros(len(images), bool)
    at = np.minimum(np.searchsorted(tallies["image"], images), len(tallies) - 1)
    named = occurrences(np.repeat(names["image"], names["count"]), images)
    heard = (tallies["image"][at] == images) & (tallies["named"][at] == named)
    return np.where(heard, tallies["count"][at], 0).astype(np.int64), heard & (tallies["near"][at] > 0)


def _statuses(key: bytes, done: pa.Table, near: BoolArray) -> list[Message]:
    """Tells those who ask, or will; and of the anchors, that they are kept."""
    anchor = pa.array(~near)
    names = [
        pc.if_else(anchor, done[name], pa.scalar(None, STATUSES.field(name).type))
        for name in ("uri", "digest")
    ]
    statuses = pa.Table.from_arrays([done["image"], *names], schema=STATUSES)
    anchors = done.filter(anchor)
    return [
        *send(Step.CONFIRM, key, Topic.STATUSES, statuses),
        *send(Step.SETTLE, key, Topic.OUTCOMES, messages.kept_outcomes(numbers(anchors), anchors)),
    ]


def _questions(plan: StreamPlan, named: Rows) -> list[Message]:
    questions = np.zeros(len(named), QUESTION_ROWS)
    for name in QUESTION_ROWS.names or ():
        questions[name] = named[name]
    return send_to_digest_shards(plan, Step.CONFIRM, Topic.QUESTIONS, questions, questions["other"])


def _undecided(key: bytes, done: pa.Table, near: BoolArray, named: Rows) -> list[Message]:
    """Images with predecessors, and how many of these were asked about."""
    undecided = done.filter(pa.array(near))
    images = numbers(undecided)
    asked = occurrences(named["image"], images)
    at = undecided.schema.get_field_index("expected")
    return send(Step.DECIDE, key, Topic.UNDECIDED, undecided.set_column(at, "expected", pa.array(asked)))
