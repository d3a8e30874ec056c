"""Where codes meet: the keys of the step `band`.

    all                 all codes that are not flat, of a plan whose codes are gathered in one place
    word/prefix/shard   those whose word, in the bands of the prefix, has a value of this shard
    flat/range          flat pictures by mean colour: ranges overlap, and each profile goes to two

Every pair within k meets at one of them at least (`beam_dedup.core.plan`), whatever the shards are.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import PROFILE_BYTES, IntArray
from beam_dedup.core.pairing import compact
from beam_dedup.core.plan import shard_of
from beam_dedup.core.stream.messages import PROFILE_ROWS, Rows, code_rows, occurrences, send
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan, Topic
from beam_dedup.core.within import SHORT_BITS, Within

_EVERYTHING = b"all"
_FLAT = b"flat"
_RANGES = 2  # that a profile is in


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """What is looked at in a place.

    masks: keys over the words of its codes; none where flat pictures meet. keys: the same, of each word. dtype: rows of
    its messages. mask, word: the key by which codes are sorted, and the word that it is over, if there is just one key;
    else the mask is 0. piece_dtype: columns of what is settled.
    """

    within: Within
    masks: tuple[int, ...]
    keys: tuple[tuple[int, ...], ...]
    dtype: np.dtype[np.void]
    word: int
    mask: int
    piece_dtype: np.dtype[np.void]


@functools.lru_cache(maxsize=1 << 14)
def place_of(plan: StreamPlan, key: bytes) -> Place:
    """The place of a key."""
    if key.startswith(_FLAT):
        return Place(plan.within, (), (), PROFILE_ROWS, 0, 0, PROFILE_ROWS)
    dtype = code_rows(plan.words)
    masks = plan.pairs.all_masks
    if key != _EVERYTHING:
        word, prefix, _ = map(int, key.split(b"/"))
        masks = plan.pairs.masks(word, plan.pairs.prefixes[prefix])
    keys = tuple(_over(masks, word) for word in range(plan.pairs.words))
    if len(masks) != 1 or not masks[0]:
        return Place(plan.within, masks, keys, dtype, 0, 0, dtype)
    word = next(number for number, some in enumerate(keys) if some)
    key_dtype = compact(np.zeros(0, np.uint64), keys[word][0])[0].dtype
    columns = [*((name, dtype[name]) for name in dtype.names or ()), ("key", key_dtype)]
    return Place(plan.within, masks, keys, dtype, word, keys[word][0], np.dtype(columns))


def _over(masks: tuple[int, ...], word: int) -> tuple[int, ...]:
    """The keys over one word; the empty one is every word's."""
    if 0 in masks:
        return (0,)
    return tuple(mask >> SHORT_BITS * word for mask in masks if (mask.bit_length() - 1) // SHORT_BITS == word)


def answers_of(plan: StreamPlan, rows: Rows, profiles: Rows, images: IntArray) -> IntArray:
    """How many codes of each image, copies counted, are sent to places: so many will be answered."""
    of_rows, of_profiles = (occurrences(np.sort(part["image"]), images) for part in (rows, profiles))
    return (plan.pairs.copies if plan.pairs.prefix else 1) * of_rows + _RANGES * of_profiles


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
