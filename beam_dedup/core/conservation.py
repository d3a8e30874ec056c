"""Proves that no image was lost or counted twice: compares what was listed, read and judged.

Two collections with equal sums hold the same URIs equally often, but for a chance of about 2**-128: a lost image can't be
hidden by another that comes twice. Every URI has a hash of 128 bits, whose halves are added up.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from beam_dedup.core import blocks
from beam_dedup.core.model import ImageRef
from beam_dedup.core.reading.isolated_decoder import DecodeResult

UriTally = tuple[
    int, bytes
]  # how many, and the two halves of the sum; bytes, since coders refuse whole numbers of 2**63

_HASH_BYTES = 16

NO_URIS: UriTally = (0, bytes(_HASH_BYTES))


def tally_uris(uris: Iterable[bytes]) -> UriTally:
    hashes = [hashlib.blake2b(uri, digest_size=_HASH_BYTES).digest() for uri in uris]
    return len(hashes), _sum_hashes(hashes)


def sum_tallies(parts: Iterable[UriTally]) -> UriTally:
    """Of several collections together."""
    counts, sums = zip(NO_URIS, *parts, strict=True)
    return sum(counts), _sum_hashes(sums)


def _sum_hashes(hashes: Iterable[bytes]) -> bytes:
    halves = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, _HASH_BYTES // 8)
    return bytes(np.add.reduce(halves, axis=0))


@dataclasses.dataclass(frozen=True, slots=True)
class ReadTally:
    """References that were read, and the images that they led to: none, one, or an archive's. Without known ones."""

    references: UriTally = NO_URIS
    images: UriTally = NO_URIS
    skipped: int = 0  # records of crawls that are no images


def read_tally(references: Sequence[ImageRef], answers: Sequence[DecodeResult]) -> ReadTally:
    """What became of some references."""
    images = [
        *(tally_fingerprints(block) for answer in answers for block in answer.fingerprints),
        *(tally_verdicts(block) for answer in answers for block in answer.rejections),
    ]
    return ReadTally(
        tally_references(references),
        sum_tallies(images),
        sum(answer.skipped for answer in answers),
    )


def sum_reads(parts: Iterable[ReadTally]) -> ReadTally:
    """Of several parts together."""
    all_parts = list(parts)
    return ReadTally(
        sum_tallies(part.references for part in all_parts),
        sum_tallies(part.images for part in all_parts),
        sum(part.skipped for part in all_parts),
    )


def tally_references(references: Sequence[ImageRef]) -> UriTally:
    return tally_uris(blocks.to_bytes(reference.uri) for reference in references if not reference.known)


def tally_fingerprints(block: bytes) -> UriTally:
    rows = blocks.batch(block, blocks.FINGERPRINTS)
    uris, known = rows["uri"].to_pylist(), rows["known"].to_pylist()
    return tally_uris(uri for uri, is_known in zip(uris, known, strict=True) if not is_known)


def tally_verdicts(block: bytes) -> UriTally:
    return tally_uris(blocks.batch(block, blocks.VERDICTS)["uri"].to_pylist())
