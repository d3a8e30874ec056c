"""Waits until all answers about an image have come. Without predecessors it is an anchor, and kept."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, IntArray
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.messages import (
    ANSWER_ROWS,
    NO_IMAGE,
    OPENED,
    QUESTION_ROWS,
    STATUSES,
    Rows,
    int_column,
    load_rows,
    message_bodies,
    occurrences,
    send,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change


def gather(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Sends the status of each image that has all its answers: whether it is an anchor.

    For an image that is no anchor, sends questions about its named predecessors to `confirm`, and the image
    to `decide`. Images and answers that are not complete wait in the state.
    """
    received = blocks_by_topic([*cells.waiting, *bodies])
    opened = blocks.load(received[Topic.OPENED], OPENED)
    answers = merge_answers(load_rows(received[Topic.ANSWERS], ANSWER_ROWS))
    answered, near = _answer_totals(answers, int_column(opened))
    complete = answered == int_column(opened, "expected")
    if not complete.any():
        return Result(Change(waiting=CellChange(add=bodies)), [])
    done, left = opened.filter(pa.array(complete)), opened.filter(pa.array(~complete))
    images = int_column(done)
    is_done = np.isin(answers["image"], images)
    waiting = message_bodies((Topic.OPENED, left), (Topic.ANSWERS, answers[~is_done]))
    named = answers[is_done & (answers["other"] != NO_IMAGE)]
    return Result(
        Change(waiting=CellChange(True, waiting)),
        [
            *_statuses(key, done, near[complete]),
            *_questions(plan, named),
            *_undecided(key, done, near[complete], named),
        ],
    )


def merge_answers(answers: Rows) -> Rows:
    """Merges answers, by image: one summary row per image, and one row per named predecessor.

    A predecessor keeps the values of the nearest pair of codes; among equally near ones, those of the first
    view.
    """
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


def _answer_totals(answers: Rows, images: IntArray) -> tuple[IntArray, BoolArray]:
    """Returns for each image how many codes are answered, and whether it has predecessors; both (images,).

    Both are 0 for an image until all the predecessors that its summary row announces have been named.
    """
    is_named = answers["other"] != NO_IMAGE
    summaries, names = answers[~is_named], answers[is_named]
    if not len(summaries):
        return np.zeros(len(images), np.int64), np.zeros(len(images), bool)
    at = np.minimum(np.searchsorted(summaries["image"], images), len(summaries) - 1)
    named = occurrences(np.repeat(names["image"], names["count"]), images)
    is_complete = (summaries["image"][at] == images) & (summaries["named"][at] == named)
    return np.where(is_complete, summaries["count"][at], 0).astype(np.int64), is_complete & (
        summaries["near"][at] > 0
    )


def _statuses(key: bytes, done: pa.Table, near: BoolArray) -> list[Message]:
    """Returns the statuses for `confirm`, and for `settle` the outcome of each anchor: it is kept."""
    anchor = pa.array(~near)
    names = [
        pc.if_else(anchor, done[name], pa.scalar(None, STATUSES.field(name).type))
        for name in ("uri", "digest")
    ]
    statuses = pa.Table.from_arrays([done["image"], *names], schema=STATUSES)
    anchors = done.filter(anchor)
    return [
        *send(Step.CONFIRM, key, Topic.STATUSES, statuses),
        *send(Step.SETTLE, key, Topic.OUTCOMES, messages.kept_outcomes(int_column(anchors), anchors)),
    ]


def _questions(plan: StreamPlan, named: Rows) -> list[Message]:
    """Returns the messages to `confirm` that ask whether each named predecessor is an anchor."""
    questions = np.zeros(len(named), QUESTION_ROWS)
    for name in QUESTION_ROWS.names or ():
        questions[name] = named[name]
    return send_to_digest_shards(plan, Step.CONFIRM, Topic.QUESTIONS, questions, questions["other"])


def _undecided(key: bytes, done: pa.Table, near: BoolArray, named: Rows) -> list[Message]:
    """Returns the images with predecessors, with the number of questions asked for each as `expected`."""
    undecided = done.filter(pa.array(near))
    images = int_column(undecided)
    asked = occurrences(named["image"], images)
    at = undecided.schema.get_field_index("expected")
    return send(Step.DECIDE, key, Topic.UNDECIDED, undecided.set_column(at, "expected", pa.array(asked)))
