"""Converts between single references, fingerprints or verdicts and blocks of many."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, tables
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.model import Fingerprint, ImageRef, Verdict
from transforms.read import DECODED_AT_ONCE

FINGERPRINTS_PER_BLOCK = 1024


@dataclasses.dataclass
class BatchReferences(beam.PTransform[PCollection[ImageRef], PCollection[list[ImageRef]]]):
    """Groups single references into the lists that `DeduplicateImages` and `FingerprintImages` read.

    Element in: one `ImageRef`. Element out: a list of them. Bounded and windowed as the input; a list never mixes
    windows. A list ends with its bundle, so it may be shorter than `size`.

    Args:
      size: references per list. A runner's cost per element becomes a cost per list, but one worker reads a list
        alone.
    """

    size: int = DECODED_AT_ONCE

    def expand(self, references: PCollection[ImageRef]) -> PCollection[list[ImageRef]]:
        return references | "Batch" >> beam.BatchElements(self.size, self.size)


@dataclasses.dataclass
class BatchFingerprints(beam.PTransform[PCollection[Fingerprint], PCollection[FingerprintBlock]]):
    """Groups single fingerprints into the blocks that `MarkExactDuplicates` and `MarkNearDuplicates` judge.

    Element in: one `Fingerprint`. Element out: a block of `FINGERPRINTS`. Bounded and windowed as the input; a block
    never mixes windows.

    Args:
      size: the most fingerprints per block.
    """

    size: int = FINGERPRINTS_PER_BLOCK

    def expand(self, fingerprints: PCollection[Fingerprint]) -> PCollection[FingerprintBlock]:
        return (
            fingerprints
            | "Batch" >> beam.BatchElements(self.size, self.size)
            | "Pack" >> beam.Map(fingerprint_block)
        )


@dataclasses.dataclass
class UnbatchVerdicts(beam.PTransform[PCollection[VerdictBlock], PCollection[Verdict]]):
    """Splits blocks of verdicts into single ones.

    Element in: a block of `VERDICTS`. Element out: one `Verdict`, in the window of its block. Bounded as the input.
    """

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[Verdict]:
        return verdicts | "Unpack" >> beam.FlatMap(verdicts_in)


def fingerprint_block(fingerprints: list[Fingerprint]) -> FingerprintBlock:
    """Returns fingerprints as one block, in their order."""
    return blocks.dump(tables.fingerprints_table(fingerprints))


def verdicts_in(block: VerdictBlock) -> Iterator[Verdict]:
    """Yields the verdicts of a block, in its order."""
    yield from tables.verdicts_of(blocks.load([block], blocks.VERDICTS))
