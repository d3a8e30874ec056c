"""Makes blocks of single images, and single images of blocks, for tests of composites."""

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, tables
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.model import Fingerprint, ImageRef, Verdict

IMAGES_PER_BLOCK = 7  # so few that tests have several blocks, the last of them not full


def references(
    pipeline: beam.Pipeline, images: Sequence[ImageRef], label: str = "Images"
) -> PCollection[list[ImageRef]]:
    """Creates lists of references."""
    lists = [list(images[i : i + IMAGES_PER_BLOCK]) for i in range(0, len(images), IMAGES_PER_BLOCK)]
    return pipeline | label >> beam.Create(lists, reshuffle=False).with_output_types(list[ImageRef])


def verdicts(
    pipeline: beam.Pipeline,
    judged: Sequence[Verdict],
    label: str = "Verdicts",
    reshuffle: bool = True,
    size: int = IMAGES_PER_BLOCK,
) -> PCollection[VerdictBlock]:
    """Creates blocks of verdicts, `size` in each."""
    parts = [judged[i : i + size] for i in range(0, len(judged), size)]
    made = [blocks.dump(tables.verdicts_table(part)) for part in parts]
    return pipeline | label >> beam.Create(made, reshuffle).with_output_types(bytes)


def fingerprints_in(block: FingerprintBlock) -> Iterator[Fingerprint]:
    """Yields the fingerprints of a block, as `UnbatchVerdicts` does with verdicts."""
    return tables.fingerprints_of(blocks.load([block], blocks.FINGERPRINTS))
