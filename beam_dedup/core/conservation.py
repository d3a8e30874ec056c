"""Tallies URIs, so that a run can prove that it lost no image and counted none twice.

A run compares the tallies of the images that it listed, read and judged. A tally is the number of URIs and
a sum of their hashes: each URI has a hash of 128 bits, whose two halves are added up separately. Two
collections with equal tallies hold the same URIs equally often, except with a probability of about 2**-128:
a lost image cannot be hidden by another that occurs twice.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow.compute as pc

from beam_dedup.core import blocks, companions
from beam_dedup.core.model import Flag, ImageRef
from beam_dedup.core.reading.isolated_decoder import DecodeResult

# Number of URIs, and the two 64-bit halves of the sum of their hashes. The sum is bytes because Beam's
# coders refuse integers of 2**63 and more.
UriTally = tuple[int, bytes]

_HASH_BYTES = 16

NO_URIS: UriTally = (0, bytes(_HASH_BYTES))


def tally_uris(uris: Iterable[bytes]) -> UriTally:
    """Returns the tally of some URIs."""
    hashes = [hashlib.blake2b(uri, digest_size=_HASH_BYTES).digest() for uri in uris]
    return len(hashes), _sum_hashes(hashes)


def sum_tallies(parts: Iterable[UriTally]) -> UriTally:
    """Returns the tally of several collections together."""
    counts, sums = zip(NO_URIS, *parts, strict=True)
    return sum(counts), _sum_hashes(sums)


def _sum_hashes(hashes: Iterable[bytes]) -> bytes:
    halves = np.frombuffer(b"".join(hashes), np.uint64).reshape(-1, _HASH_BYTES // 8)
    return bytes(np.add.reduce(halves, axis=0))


@dataclasses.dataclass(frozen=True, slots=True)
class ReadTally:
    """Tallies of references and of the images found in them, known images excluded.

    A reference leads to one image, or, if it is an archive, to any number of images.
    """

    references: UriTally = NO_URIS
    images: UriTally = NO_URIS
    skipped: int = 0  # records of crawls that are not images
    out_of_memory: int = 0  # images that could not be decoded for lack of memory, known images included
    companions: int = 0  # files that belong to the images, and are not judged


def read_tally(references: Sequence[ImageRef], results: Sequence[DecodeResult]) -> ReadTally:
    """Returns the tally of some references and of the results of decoding them."""
    images = [
        *(tally_fingerprints(block) for result in results for block in result.fingerprints),
        *(tally_verdicts(block) for result in results for block in result.rejections),
    ]
    return ReadTally(
        tally_references(references),
        sum_tallies(images),
        sum(result.skipped for result in results),
        sum(count_out_of_memory(block) for result in results for block in result.fingerprints),
        companions.count(references, [block for result in results for block in result.fingerprints]),
    )


def sum_reads(parts: Iterable[ReadTally]) -> ReadTally:
    """Returns the tally of several parts together."""
    all_parts = list(parts)
    return ReadTally(
        sum_tallies(part.references for part in all_parts),
        sum_tallies(part.images for part in all_parts),
        sum(part.skipped for part in all_parts),
        sum(part.out_of_memory for part in all_parts),
        sum(part.companions for part in all_parts),
    )


def tally_references(references: Sequence[ImageRef]) -> UriTally:
    """Returns the tally of references, without those of known images."""
    return tally_uris(blocks.to_bytes(reference.uri) for reference in references if not reference.known)


def tally_fingerprints(block: bytes) -> UriTally:
    """Returns the tally of a block of FINGERPRINTS, without known images."""
    rows = blocks.batch(block, blocks.FINGERPRINTS)
    uris, known = rows["uri"].to_pylist(), rows["known"].to_pylist()
    return tally_uris(uri for uri, is_known in zip(uris, known, strict=True) if not is_known)


def count_out_of_memory(block: bytes) -> int:
    """Returns how many images of a block of FINGERPRINTS could not be decoded for lack of memory."""
    flags = blocks.batch(block, blocks.FINGERPRINTS)["flags"]
    return pc.sum(pc.match_substring(flags, Flag.OUT_OF_MEMORY.value)).as_py() or 0


def tally_verdicts(block: bytes) -> UriTally:
    """Returns the tally of a block of VERDICTS."""
    return tally_uris(blocks.batch(block, blocks.VERDICTS)["uri"].to_pylist())
