"""Images with equal codes: one of them is compared with the rest of the world, the others share its fate.

A million copies of one picture, or a million blank pages, are one entry in one bucket.
"""

import numpy as np

from beam_dedup.core.codes import BoolArray, Codes, IntArray, WordArray
from beam_dedup.core.plan import mixed


def leaders(codes: Codes, known: BoolArray) -> IntArray:
    """For each image the best-ranked one that has the same single code; itself, if it has several codes or none.

    Known images, which are kept whatever they are near to, and others do not lead each other: a new image may have an
    equal known one, but a better-ranked known one just as near by its short code.

    Only neighbours by hash are compared, so that of two groups whose hashes agree (one in 2**64) a few members may lead
    themselves: they are then compared with all others, as if they were different.

    Returns: (images,).
    """
    images = len(known)
    leader = np.arange(images)
    if not len(codes):
        return leader
    single = np.flatnonzero(np.bincount(codes.image, minlength=images)[codes.image] == 1)
    words = _words(codes)[single]
    words[:, 0] += known[codes.image[single]].astype(np.uint64) << np.uint64(8)
    hashes = np.zeros(len(single), np.uint64)
    for column in words.T:
        hashes = mixed(hashes ^ column)
    order = np.lexsort((codes.image[single], hashes))
    same = (words[order[1:]] == words[order[:-1]]).all(axis=1)
    starts = np.flatnonzero(np.concatenate([[True], ~same])) if len(order) else np.zeros(0, np.int64)
    sizes = np.diff(starts, append=len(order))
    in_order = codes.image[single][order]
    leader[in_order] = np.repeat(in_order[starts], sizes)
    return leader


def _words(codes: Codes) -> WordArray:
    """All that a code is, in words: (n, 13)."""
    words = np.zeros((len(codes), 13), np.uint64)
    words[:, 0] = codes.kind
    words[:, 1:5] = codes.long
    words[:, 5] = codes.short
    words[codes.flat, 1:] = np.ascontiguousarray(codes.pixels).view(np.uint64)
    return words
