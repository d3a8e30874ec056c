"""What travels in blocks, made from single images and taken apart again: composites are tested on what is in them."""

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, tables
from beam_dedup.core.model import Fingerprint, ImageRef, Verdict

SOME = 7  # images a block, so that there are several blocks, the last of them not full


def references(
    pipeline: beam.Pipeline, images: Sequence[ImageRef], label: str = "Images"
) -> PCollection[list[ImageRef]]:
    lists = [list(images[i : i + SOME]) for i in range(0, len(images), SOME)]
    return pipeline | label >> beam.Create(lists, reshuffle=False).with_output_types(list[ImageRef])


def verdicts(
    pipeline: beam.Pipeline, judged: Sequence[Verdict], label: str = "Verdicts", reshuffle: bool = True
) -> PCollection[bytes]:
    return pipeline | label >> beam.Create(blocks_of(judged), reshuffle).with_output_types(bytes)


def blocks_of(judged: Sequence[Verdict]) -> list[bytes]:
    parts = [judged[i : i + SOME] for i in range(0, len(judged), SOME)]
    return [blocks.dump(tables.verdicts_table(part)) for part in parts]


def unpack_fingerprints(block: bytes) -> Iterator[Fingerprint]:
    """What `UnbatchVerdicts` does, for fingerprints: as a step."""
    return tables.fingerprints_of(blocks.load([block], blocks.FINGERPRINTS))
