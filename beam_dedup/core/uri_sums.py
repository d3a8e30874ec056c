"""Which URIs there are, in two numbers that do not depend on their order: to prove that none was lost or came twice.

Two collections with equal sums hold the same URIs equally often, but for a chance of about 2**-128: a lost image can't be
hidden by another that comes twice. Every URI has a hash of 128 bits, whose halves are added up.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

Tallied = tuple[
    int, bytes
]  # how many, and the two halves of the sum; bytes, since coders refuse whole numbers of 2**63

_HASH_BYTES = 16

NONE: Tallied = (0, bytes(_HASH_BYTES))


def tally(uris: Iterable[bytes]) -> Tallied:
    hashes = [hashlib.blake2b(uri, digest_size=_HASH_BYTES).digest() for uri in uris]
    return len(hashes), _sum(hashes)


def total(parts: Iterable[Tallied]) -> Tallied:
    """Of several collections together."""
    counts, sums = zip(NONE, *parts, strict=True)
    return sum(counts), _sum(sums)


def _sum(hashes: Iterable[bytes]) -> bytes:
    halves = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, _HASH_BYTES // 8)
    return bytes(np.add.reduce(halves, axis=0))
