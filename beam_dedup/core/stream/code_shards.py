"""Assigns codes to code shards: the keys of the step `band`.

    all                 all codes that are not flat, if the plan has no prefix
    word/prefix/shard   codes whose word has, in the bands of the prefix, a value of this shard
    flat/range          flat pictures by their mean colour: ranges overlap, and each profile is in two

Every pair within k shares at least one of these keys (`beam_dedup.core.matching.plan`), whatever the number
of shards.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from beam_dedup.core.codes import LONG_WORDS, PROFILE_BYTES, IntArray
from beam_dedup.core.matching.buckets import compact
from beam_dedup.core.matching.plan import ALL_WITH_ALL, Key, keys_over, shard_of
from beam_dedup.core.stream.messages import PROFILE_ROWS, Rows, code_rows, occurrences, send
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan, Topic
from beam_dedup.core.thresholds import Thresholds

_ALL_CODES = b"all"
_FLAT = b"flat"
_RANGES = 2  # code shards per profile


@dataclasses.dataclass(frozen=True, slots=True)
class CodeShard:
    """How the codes of one code shard are stored and compared.

    Attributes:
      thresholds: when two codes match.
      keys: matching codes agree on one of these; masks over all words of a code. Empty for flat pictures.
      of_word: the same keys by word; masks over that word.
      dtype: type of the rows in messages and of recent codes.
      word, key: the key that stored codes are sorted by, and its word, if there is exactly one key; otherwise
        the empty key.
      piece_dtype: type of settled rows: `dtype`, and the value of `key` if there is one.
      narrow_dtype: the same without detail codes: few pictures have one, and most of the state is settled rows.
    """

    thresholds: Thresholds
    keys: tuple[Key, ...]
    of_word: tuple[tuple[Key, ...], ...]
    dtype: np.dtype[np.void]
    word: int
    key: Key
    piece_dtype: np.dtype[np.void]
    narrow_dtype: np.dtype[np.void]


@functools.lru_cache(maxsize=1 << 14)
def code_shard_of(plan: StreamPlan, key: bytes) -> CodeShard:
    """Returns how the codes at a key of `band` are stored and compared."""
    if key.startswith(_FLAT):
        return CodeShard(plan.thresholds, (), (), PROFILE_ROWS, 0, ALL_WITH_ALL, PROFILE_ROWS, PROFILE_ROWS)
    dtype, narrow = code_rows(plan.words), code_rows(min(plan.words, LONG_WORDS))
    keys = plan.pairs.all_keys
    if key != _ALL_CODES:
        word, prefix, _ = map(int, key.split(b"/"))
        keys = plan.pairs.keys_in(word, plan.pairs.prefixes[prefix])
    # Without `earlier`: a pair is found at each key on which it agrees, not only at the first. So each code
    # shard can see by itself that it has stored an equal code already.
    keys = tuple(Key(key.mask) for key in keys)
    of_word = tuple(keys_over(keys, word) for word in range(plan.pairs.words))
    if len(keys) != 1 or not keys[0].mask:
        return CodeShard(plan.thresholds, keys, of_word, dtype, 0, ALL_WITH_ALL, dtype, narrow)
    word = next(number for number, some in enumerate(of_word) if some)
    (only,) = of_word[word]
    key_dtype = compact(np.zeros(0, np.uint64), only.mask)[0].dtype
    return CodeShard(
        plan.thresholds,
        keys,
        of_word,
        dtype,
        word,
        only,
        _with_key(dtype, key_dtype),
        _with_key(narrow, key_dtype),
    )


def _with_key(dtype: np.dtype[np.void], key: np.dtype[Any]) -> np.dtype[np.void]:
    """Returns a row type with a further field for a key."""
    return np.dtype([*((name, dtype[name]) for name in dtype.names or ()), ("key", key)])


def expected_answers(plan: StreamPlan, rows: Rows, profiles: Rows, images: IntArray) -> IntArray:
    """Returns how many answers each image will get: one per code and code shard that the code is sent to."""
    of_rows, of_profiles = (occurrences(np.sort(part["image"]), images) for part in (rows, profiles))
    return (plan.pairs.copies if plan.pairs.prefix else 1) * of_rows + _RANGES * of_profiles


def to_code_shards(plan: StreamPlan, rows: Rows, profiles: Rows) -> Iterator[Message]:
    """Yields the messages that send codes to all code shards where they may meet a code within k.

    Args:
      plan: of the stream.
      rows: codes that are not flat (`code_rows`).
      profiles: codes of flat pictures (`PROFILE_ROWS`).
    """
    if len(profiles):
        yield from _profile_shards(plan, profiles)
    if not len(rows):
        return
    if not plan.pairs.prefix:
        yield from send(Step.BAND, _ALL_CODES, Topic.CODES, rows)
        return
    for word, (number, prefix) in itertools.product(range(plan.pairs.words), enumerate(plan.pairs.prefixes)):
        words = np.ascontiguousarray(rows[f"word{word}"])
        shards = shard_of(words, plan.pairs, prefix).astype(np.int64)
        for shard, part in _split(rows, shards):
            yield from send(Step.BAND, b"%d/%d/%d" % (word, number, shard), Topic.CODES, part)


def _profile_shards(plan: StreamPlan, profiles: Rows) -> Iterator[Message]:
    """Yields each profile for two adjacent ranges.

    The sums of two matching profiles differ by at most the width of a range, so they share at least one.
    """
    width = max(plan.thresholds.flat_levels, 1) * PROFILE_BYTES
    number = profiles["pixels"].sum(axis=1, dtype=np.int64) // width
    for shift in range(_RANGES):
        for shard, part in _split(profiles, number + shift):
            yield from send(Step.BAND, b"%s/%d" % (_FLAT, shard), Topic.PROFILES, part)


def _split(rows: Rows, shards: IntArray) -> Iterator[tuple[int, Rows]]:
    order = np.argsort(shards, kind="stable")
    numbers, starts = np.unique(shards[order], return_index=True)
    yield from zip(numbers.tolist(), np.split(rows[order], starts[1:]), strict=True)
