"""Sorts words by keys, and finds the buckets of words with equal keys in the sorted order."""

import numpy as np
import numpy.typing as npt

from beam_dedup.core.codes import IntArray, WordArray

KeyArray = npt.NDArray[np.unsignedinteger]

TABLE_BITS = 20  # runs of keys with up to this many bits are looked up in a table; others by binary search


def compact(words: WordArray, mask: int) -> tuple[KeyArray, int]:
    """Returns the keys of words: the bits set in a mask, moved together, and how many bits these are.

    If the mask has more than 32 bits, only the first (most significant) 32 are used.

    Returns:
      (words,) keys as the narrowest of uint8, uint16 and uint32; number of bits, at most 32.

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
    """Returns the order that sorts keys, stably.

    NumPy sorts keys of up to 16 bits by radix, several times faster than wider ones; so wider keys are
    sorted in two passes.

    Args:
      bits: number of bits of the keys, at most 32.
    """
    if bits <= 16:
        return np.argsort(key, kind="stable")
    order = np.argsort(key.astype(np.uint16), kind="stable")
    high = (key >> np.uint32(16)).astype(np.uint8 if bits <= 24 else np.uint16)
    return np.take(order, np.argsort(np.take(high, order), kind="stable"))


def starts_of(sorted_keys: KeyArray) -> IntArray:
    """Returns the index at which each bucket of equal keys starts."""
    if not len(sorted_keys):
        return np.zeros(0, np.int64)
    return np.concatenate([[0], np.flatnonzero(sorted_keys[1:] != sorted_keys[:-1]) + 1])


def runs_of(sorted_keys: KeyArray, keys: KeyArray, bits: int) -> tuple[IntArray, IntArray]:
    """Returns, for each of `keys`, where its run among the sorted keys starts, and how long the run is."""
    if bits <= TABLE_BITS:
        sizes = np.bincount(sorted_keys, minlength=1 << bits)
        return np.take(np.cumsum(sizes) - sizes, keys), np.take(sizes, keys)
    first = np.searchsorted(sorted_keys, keys, side="left")
    return first, np.searchsorted(sorted_keys, keys, side="right") - first


def discriminating_bits(words: WordArray) -> int:
    """Returns a mask of the bits that discriminate between words.

    These are the bits in which at least one word in 32 differs from the majority.
    """
    set_bits = np.unpackbits(words.astype(">u8").view(np.uint8)).reshape(-1, 64).sum(axis=0, dtype=np.int64)
    discriminates = np.minimum(set_bits, len(words) - set_bits) * 32 >= len(words)
    return int(np.packbits(discriminates).view(">u8")[0])
