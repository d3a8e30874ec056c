"""Where codes meet: the keys of the step `band`.

    all                 all codes that are not flat, of a plan whose codes are gathered in one place
    word/prefix/shard   those whose word, in the bands of the prefix, has a value of this shard
    flat/range          flat pictures by mean colour: ranges overlap, and each profile goes to two

Every pair within k meets at one of them at least (`beam_dedup.core.plan`), whatever the shards are.
"""

import itertools
from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import PROFILE_BYTES, IntArray
from beam_dedup.core.plan import shard_of
from beam_dedup.core.stream.messages import Rows, send
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan, Topic

_EVERYTHING = b"all"
_FLAT = b"flat"
_RANGES = 2  # that a profile is in


def is_flat(place: bytes) -> bool:
    return place.startswith(_FLAT)


def masks_of(plan: StreamPlan, place: bytes) -> tuple[int, ...]:
    """The keys that are looked at in a place, as masks over the words of a code."""
    if place == _EVERYTHING:
        return plan.pairs.all_masks
    word, prefix, _ = place.split(b"/")
    return plan.pairs.masks(int(word), plan.pairs.prefixes[int(prefix)])


def answers_of(plan: StreamPlan, rows: Rows, profiles: Rows, images: IntArray) -> IntArray:
    """How many codes of each image, copies counted, are sent to places: so many will be answered."""
    each = plan.pairs.copies if plan.pairs.prefix else 1

    def count(part: Rows) -> IntArray:
        ordered = np.sort(part["image"])
        return np.searchsorted(ordered, images, side="right") - np.searchsorted(ordered, images)

    return each * count(rows) + _RANGES * count(profiles)


def to_places(plan: StreamPlan, rows: Rows, profiles: Rows) -> Iterator[Message]:
    """Codes, to all places where they may meet one within k."""
    if len(profiles):
        yield from _profile_places(plan, profiles)
    if not len(rows):
        return
    if not plan.pairs.prefix:
        yield from send(Step.BAND, _EVERYTHING, Topic.CODES, rows)
        return
    for word, (number, prefix) in itertools.product(range(plan.pairs.words), enumerate(plan.pairs.prefixes)):
        words = np.ascontiguousarray(rows[f"word{word}"])
        shards = shard_of(words, plan.pairs, prefix).astype(np.int64)
        for shard, part in _split(rows, shards):
            yield from send(Step.BAND, b"%d/%d/%d" % (word, number, shard), Topic.CODES, part)


def _profile_places(plan: StreamPlan, profiles: Rows) -> Iterator[Message]:
    """Profiles within k differ in their sums by less than the width of a range, so two such share one."""
    width = max(plan.within.flat_levels, 1) * PROFILE_BYTES
    number = profiles["pixels"].sum(axis=1, dtype=np.int64) // width
    for shift in range(_RANGES):
        for shard, part in _split(profiles, number + shift):
            yield from send(Step.BAND, b"%s/%d" % (_FLAT, shard), Topic.PROFILES, part)


def _split(rows: Rows, shards: IntArray) -> Iterator[tuple[int, Rows]]:
    order = np.argsort(shards, kind="stable")
    numbers, starts = np.unique(shards[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(rows[order], starts[1:]), strict=True)
