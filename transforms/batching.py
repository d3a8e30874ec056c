"""Single images into blocks and out of them, for pipelines that have or want them one by one."""

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core import blocks, tables
from beam_dedup.core.model import Fingerprint, ImageRef, Verdict
from transforms.read import DECODED_AT_ONCE

_PACKED = 1024  # images a block


@dataclasses.dataclass
class PackReferences(beam.PTransform[PCollection[ImageRef], PCollection[list[ImageRef]]]):
    """References one by one into the lists that `DeduplicateImages` reads."""

    size: int = DECODED_AT_ONCE

    def expand(self, references: PCollection[ImageRef]) -> PCollection[list[ImageRef]]:
        return references | "Batch" >> beam.BatchElements(self.size, self.size)


@dataclasses.dataclass
class PackFingerprints(beam.PTransform[PCollection[Fingerprint], PCollection[bytes]]):
    """Fingerprints one by one into blocks of `blocks.FINGERPRINTS`, in the window of the input."""

    def expand(self, fingerprints: PCollection[Fingerprint]) -> PCollection[bytes]:
        return (
            fingerprints
            | "Batch" >> beam.BatchElements(_PACKED, _PACKED)
            | "Pack" >> beam.Map(pack_fingerprints)
        )


@dataclasses.dataclass
class UnpackVerdicts(beam.PTransform[PCollection[bytes], PCollection[Verdict]]):
    """Blocks of `blocks.VERDICTS` into verdicts one by one."""

    def expand(self, verdicts: PCollection[bytes]) -> PCollection[Verdict]:
        return verdicts | "Unpack" >> beam.FlatMap(unpack_verdicts)


def pack_fingerprints(fingerprints: list[Fingerprint]) -> bytes:
    return blocks.dump(tables.fingerprints_table(fingerprints))


def unpack_verdicts(block: bytes) -> Iterator[Verdict]:
    yield from tables.verdicts_of(blocks.load([block], blocks.VERDICTS))
