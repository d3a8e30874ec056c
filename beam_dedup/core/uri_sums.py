"""Which URIs there are, in two numbers that do not depend on their order: to prove that none was lost or came twice.

Two collections with equal sums hold the same URIs equally often, but for a chance of about 2**-100: a lost image can't be
hidden by another that comes twice. Every URI has a hash of 128 bits: twice a sum of its bytes times random numbers by
their places (multilinear hashing, universal: Lemire and Kaser, "Strongly universal string hashing is fast", 2014), each
mixed once more, since sums of sums would not see two URIs that exchange a part.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from beam_dedup.core.codes import IntArray, WordArray
from beam_dedup.core.plan import mixed

Tallied = tuple[
    int, bytes
]  # how many, and the two halves of the sum; bytes, since coders refuse whole numbers of 2**63

NONE: Tallied = (0, bytes(16))
_SEEDS = (0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


def tally(uris: pa.Array) -> Tallied:
    """Of a column of binaries."""
    if not len(uris):
        return NONE
    offsets = np.frombuffer(uris.buffers()[1], np.int32)[uris.offset : uris.offset + len(uris) + 1].astype(
        np.int64
    )
    data = uris.buffers()[2]
    letters = (
        np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].astype(np.uint64)
        if data
        else np.zeros(0, np.uint64)
    )
    starts = offsets[:-1] - offsets[0]
    lengths = np.diff(offsets)
    places = (np.arange(len(letters)) - np.repeat(starts, lengths)).astype(np.uint64)
    halves = [_sum_of_hashes(letters, places, starts, lengths, seed) for seed in _SEEDS]
    return len(uris), np.array(halves, np.uint64).tobytes()


def _sum_of_hashes(
    letters: WordArray, places: WordArray, starts: IntArray, lengths: IntArray, seed: int
) -> np.uint64:
    factors = mixed(places * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)) | np.uint64(1)
    sums = np.concatenate([[np.uint64(0)], np.cumsum((letters + np.uint64(1)) * factors)])
    hashes = mixed(sums[starts + lengths] - sums[starts] + lengths.astype(np.uint64) * np.uint64(seed))
    return np.uint64(np.add.reduce(hashes))


def total(parts: Iterable[Tallied]) -> Tallied:
    """Of several collections together."""
    counts, sums = zip(NONE, *parts, strict=True)
    halves = np.frombuffer(b"".join(sums), np.uint64).reshape(-1, len(_SEEDS))
    return sum(counts), np.add.reduce(halves, axis=0).tobytes()
