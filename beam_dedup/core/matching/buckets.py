"""Words that agree on a key lie together when they are sorted by it: buckets."""

import numpy as np
import numpy.typing as npt

from beam_dedup.core.codes import IntArray, WordArray

KeyArray = npt.NDArray[np.unsignedinteger]

_TABLE_BITS = 20  # keys up to here are looked up in a table


def compact(words: WordArray, mask: int) -> tuple[KeyArray, int]:
    """The bits of each word that are set in a mask, moved together, and how many they are; of more than 32 the first 32.

    >>> compact(np.array([0xABCD], np.uint64), 0xF0F0)[0].tolist() == [0xAC]
    True
    """
    bits = mask.bit_count()
    key = np.zeros(len(words), np.uint64)
    at = low = 0
    while mask >> low:
        low += (mask >> low & -(mask >> low)).bit_length() - 1
        width = (~(mask >> low) & (mask >> low) + 1).bit_length() - 1
        key |= (words >> np.uint64(low) & np.uint64((1 << width) - 1)) << np.uint64(at)
        low, at = low + width, at + width
    if bits > 32:
        key >>= np.uint64(bits - 32)
        bits = 32
    return key.astype(np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32), bits


def order_of(key: KeyArray, bits: int) -> IntArray:
    """The order that sorts keys of so many bits. Of 16 bits and less NumPy sorts by radix, some times faster than else."""
    if bits <= 16:
        return np.argsort(key, kind="stable")
    order = np.argsort(key.astype(np.uint16), kind="stable")
    high = (key >> np.uint32(16)).astype(np.uint8 if bits <= 24 else np.uint16)
    return np.take(order, np.argsort(np.take(high, order), kind="stable"))


def starts_of(sorted_keys: KeyArray) -> IntArray:
    """Where each bucket begins among sorted keys."""
    if not len(sorted_keys):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1])


def runs_of(sorted_keys: KeyArray, keys: KeyArray, bits: int) -> tuple[IntArray, IntArray]:
    """Where the run of each key begins among sorted ones, and how long it is."""
    if bits <= _TABLE_BITS:
        sizes = np.bincount(sorted_keys, minlength=1 << bits)
        return np.take(np.cumsum(sizes) - sizes, keys), np.take(sizes, keys)
    first = np.searchsorted(sorted_keys, keys, side="left")
    return first, np.searchsorted(sorted_keys, keys, side="right") - first


def discriminating_bits(words: WordArray) -> int:
    """The bits that part words: those in which one in 32 at least differs from the others, as a mask."""
    set_bits = np.unpackbits(words.astype(">u8").view(np.uint8)).reshape(-1, 64).sum(axis=0, dtype=np.int64)
    parts = np.minimum(set_bits, len(words) - set_bits) * 32 >= len(words)
    return int(np.packbits(parts).view(">u8")[0])
