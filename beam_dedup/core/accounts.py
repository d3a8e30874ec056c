"""What reading says it did, to be held against what was listed and what was judged."""

import dataclasses
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

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
    uris = [blocks.to_bytes(reference.uri) for reference in references if not reference.known]
    return uri_sums.tally(pa.array(uris, pa.binary()))


def of_fingerprints(block: bytes) -> Tallied:
    table = blocks.load([block], blocks.FINGERPRINTS).select(["uri", "known"])
    new = table.filter(pc.invert(table["known"]))
    return uri_sums.tally(new["uri"].combine_chunks())


def of_verdicts(block: bytes) -> Tallied:
    return uri_sums.tally(blocks.load([block], blocks.VERDICTS)["uri"].combine_chunks())
