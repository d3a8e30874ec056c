"""What reading says it did, to be held against what was listed and what was judged."""

import dataclasses
from collections.abc import Iterable, Sequence

from beam_dedup.core import blocks, uri_sums
from beam_dedup.core.isolation import Answer
from beam_dedup.core.model import ImageRef
from beam_dedup.core.uri_sums import Tallied


@dataclasses.dataclass(frozen=True, slots=True)
class Answered:
    """References that were read, and the images that they led to: none, one, or an archive's. Without known ones."""

    references: Tallied = uri_sums.NONE
    images: Tallied = uri_sums.NONE
    skipped: int = 0  # records of crawls that are no images


def answered(references: Sequence[ImageRef], answers: Sequence[Answer]) -> Answered:
    """What became of some references."""
    images = [
        *(of_fingerprints(block) for answer in answers for block in answer.fingerprints),
        *(of_verdicts(block) for answer in answers for block in answer.rejections),
    ]
    return Answered(
        of_references(references), uri_sums.total(images), sum(answer.skipped for answer in answers)
    )


def total(parts: Iterable[Answered]) -> Answered:
    """Of several parts together."""
    all_parts = list(parts)
    return Answered(
        uri_sums.total(part.references for part in all_parts),
        uri_sums.total(part.images for part in all_parts),
        sum(part.skipped for part in all_parts),
    )


def of_references(references: Sequence[ImageRef]) -> Tallied:
    return uri_sums.tally(blocks.to_bytes(reference.uri) for reference in references if not reference.known)


def of_fingerprints(block: bytes) -> Tallied:
    rows = blocks.batch(block, blocks.FINGERPRINTS)
    uris, known = rows["uri"].to_pylist(), rows["known"].to_pylist()
    return uri_sums.tally(uri for uri, is_known in zip(uris, known, strict=True) if not is_known)


def of_verdicts(block: bytes) -> Tallied:
    return uri_sums.tally(blocks.batch(block, blocks.VERDICTS)["uri"].to_pylist())
