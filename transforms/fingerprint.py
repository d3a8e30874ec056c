"""From references to fingerprints: the step that reads and decodes."""

import dataclasses
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import fingerprints
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Fingerprint, ImageRef, Rejection
from transforms import metrics
from transforms.progress import READ, Tally
from transforms.storage import open_image

BATCH_IMAGES = 16  # references in one element: an engine's cost per element becomes one per batch

_REJECTIONS: Final = "rejections"
_TaggedRejection = TaggedOutput[Literal["rejections"], Rejection]


class Fingerprinted(NamedTuple):
    """What came of the references: each is in exactly one of the two."""

    fingerprints: PCollection[Fingerprint]
    rejections: PCollection[Rejection]


@dataclasses.dataclass
class FingerprintImages(beam.PTransform[PCollection[ImageRef], Fingerprinted]):
    """Reads every image once, and takes its digest and the codes of its picture.

    In: references. Out: `Fingerprinted`. Image bytes stay on the worker that reads them. An image that can't be read
    or is none becomes a `Rejection`; one whose picture can't be decoded has a fingerprint without codes.

    pictures: False leaves out decoding, for exact mode.
    """

    pictures: bool = True
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[ImageRef]) -> Fingerprinted:
        done = (
            images
            | "Batch" >> beam.BatchElements(min_batch_size=BATCH_IMAGES, max_batch_size=BATCH_IMAGES)
            # Listing is one worker's work, reading is everybody's: without this they would be fused.
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.ParDo(_FingerprintFn(self.pictures, self.tally)).with_outputs(_REJECTIONS, main="main")
        )
        return Fingerprinted(done["main"], done[_REJECTIONS])


class _FingerprintFn(beam.DoFn):
    """list[ImageRef] -> Fingerprint each, or a Rejection on the tagged output."""

    def __init__(self, pictures: bool, tally: Tally | None) -> None:
        self.pictures = pictures
        self.tally = tally
        self.bytes_read = Metrics.counter(metrics.NAMESPACE, metrics.BYTES_READ)

    def setup(self) -> None:
        fingerprints.prepare_decoders()

    def process(self, references: list[ImageRef]) -> Iterator[Fingerprint | _TaggedRejection]:
        for reference in references:
            try:
                with open_image(reference.uri) as (stream, size_bytes, modified_ms):
                    result = fingerprints.fingerprint(
                        reference, stream, size_bytes, modified_ms, Recipe() if self.pictures else None
                    )
            except ImageError as error:
                yield TaggedOutput(_REJECTIONS, Rejection(reference, error.reason, error.detail))
            else:
                self.bytes_read.inc(result.size_bytes)
                yield result
        if self.tally:
            self.tally.add(READ, len(references))
