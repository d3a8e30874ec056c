"""Where codes meet: the keys of the step `band`.

    all                 all codes that are not flat, of a plan whose codes are gathered in one place
    word/prefix/shard   those whose word, in the bands of the prefix, has a value of this shard
    flat/range          flat pictures by mean colour: ranges overlap, and each profile goes to two

Every pair within k meets at one of them at least (`beam_dedup.core.matching.plan`), whatever the shards are.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator

import numpy as np

from beam_dedup.core.codes import PROFILE_BYTES, IntArray
from beam_dedup.core.matching.buckets import compact
from beam_dedup.core.matching.plan import ALL_WITH_ALL, Key, keys_over, shard_of
from beam_dedup.core.stream.messages import PROFILE_ROWS, Rows, code_rows, occurrences, send
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan, Topic
from beam_dedup.core.thresholds import Thresholds

_EVERYTHING = b"all"
_FLAT = b"flat"
_RANGES = 2  # that a profile is in


@dataclasses.dataclass(frozen=True, slots=True)
class CodeShard:
    """What is looked at in a place.

    keys: where pairs are looked for, with masks over the words of its codes; none where flat pictures meet. of_word: the
    same, of each word. dtype: rows of its messages. key, word: that by which codes are sorted, and the word that it is
    over, if there is just one; else the empty one. piece_dtype: columns of what is settled.
    """

    thresholds: Thresholds
    keys: tuple[Key, ...]
    of_word: tuple[tuple[Key, ...], ...]
    dtype: np.dtype[np.void]
    word: int
    key: Key
    piece_dtype: np.dtype[np.void]


@functools.lru_cache(maxsize=1 << 14)
def code_shard_of(plan: StreamPlan, key: bytes) -> CodeShard:
    """The place of a key."""
    if key.startswith(_FLAT):
        return CodeShard(plan.thresholds, (), (), PROFILE_ROWS, 0, ALL_WITH_ALL, PROFILE_ROWS)
    dtype = code_rows(plan.words)
    keys = plan.pairs.all_keys
    if key != _EVERYTHING:
        word, prefix, _ = map(int, key.split(b"/"))
        keys = plan.pairs.keys_in(word, plan.pairs.prefixes[prefix])
    # A pair is found at each key on which it agrees, not at the first alone: so each place can tell what it need not
    # remember, a code that it has already.
    keys = tuple(Key(key.mask) for key in keys)
    of_word = tuple(keys_over(keys, word) for word in range(plan.pairs.words))
    if len(keys) != 1 or not keys[0].mask:
        return CodeShard(plan.thresholds, keys, of_word, dtype, 0, ALL_WITH_ALL, dtype)
    word = next(number for number, some in enumerate(of_word) if some)
    (only,) = of_word[word]
    key_dtype = compact(np.zeros(0, np.uint64), only.mask)[0].dtype
    columns = [*((name, dtype[name]) for name in dtype.names or ()), ("key", key_dtype)]
    return CodeShard(plan.thresholds, keys, of_word, dtype, word, only, np.dtype(columns))


def answers_of(plan: StreamPlan, rows: Rows, profiles: Rows, images: IntArray) -> IntArray:
    """How many codes of each image, copies counted, are sent to places: so many will be answered."""
    of_rows, of_profiles = (occurrences(np.sort(part["image"]), images) for part in (rows, profiles))
    return (plan.pairs.copies if plan.pairs.prefix else 1) * of_rows + _RANGES * of_profiles


def to_code_shards(plan: StreamPlan, rows: Rows, profiles: Rows) -> Iterator[Message]:
    """Codes, to all places where they may meet one within k."""
    if len(profiles):
        yield from _profile_shards(plan, profiles)
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


def _profile_shards(plan: StreamPlan, profiles: Rows) -> Iterator[Message]:
    """Profiles within k differ in their sums by less than the width of a range, so two such share one."""
    width = max(plan.thresholds.flat_levels, 1) * PROFILE_BYTES
    number = profiles["pixels"].sum(axis=1, dtype=np.int64) // width
    for shift in range(_RANGES):
        for shard, part in _split(profiles, number + shift):
            yield from send(Step.BAND, b"%s/%d" % (_FLAT, shard), Topic.PROFILES, part)


def _split(rows: Rows, shards: IntArray) -> Iterator[tuple[int, Rows]]:
    order = np.argsort(shards, kind="stable")
    numbers, starts = np.unique(shards[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(rows[order], starts[1:]), strict=True)
