"""From references to fingerprints: the step that reads and decodes."""

import dataclasses
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import blocks, fingerprints, tables
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import Fingerprint, ImageRef, Rejection, Verdict
from transforms import metrics
from transforms.progress import READ, Tally
from transforms.storage import open_image

_REJECTIONS: Final = "rejections"
_RejectionBlock = TaggedOutput[Literal["rejections"], bytes]


class Fingerprinted(NamedTuple):
    """What came of the references: each is in exactly one of the two, except known ones that are rejected."""

    fingerprints: PCollection[bytes]  # blocks of FINGERPRINTS
    rejections: PCollection[bytes]  # blocks of VERDICTS


@dataclasses.dataclass
class FingerprintImages(beam.PTransform[PCollection[list[ImageRef]], Fingerprinted]):
    """Reads every image once, and takes its digest and the codes of its picture.

    In: references, some at a time. Out: `Fingerprinted`. Image bytes stay on the worker that reads them. An image that
    can't be read or is none becomes a rejection; one whose picture can't be decoded has a fingerprint without codes.

    pictures: False leaves out decoding, for exact mode.
    """

    pictures: bool = True
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[list[ImageRef]]) -> Fingerprinted:
        done = (
            images
            # Listing is one worker's work, reading is everybody's: without this they would be fused.
            | "Spread" >> beam.Reshuffle()
            | "Read"
            >> beam.ParDo(_FingerprintFn(self.pictures, self.tally)).with_outputs(_REJECTIONS, main="main")
        )
        return Fingerprinted(done["main"], done[_REJECTIONS])


class _FingerprintFn(beam.DoFn):
    """list[ImageRef] -> block of FINGERPRINTS, and of VERDICTS on the tagged output for what was rejected."""

    def __init__(self, pictures: bool, tally: Tally | None) -> None:
        self.pictures = pictures
        self.tally = tally
        self.bytes_read = Metrics.counter(metrics.NAMESPACE, metrics.BYTES_READ)
        self.known_rejected = Metrics.counter(metrics.NAMESPACE, metrics.KNOWN_REJECTED)

    def setup(self) -> None:
        fingerprints.prepare_decoders()

    def process(self, references: list[ImageRef]) -> Iterator[bytes | _RejectionBlock]:
        read: list[Fingerprint] = []
        rejected: list[Verdict] = []
        for reference in references:
            try:
                with open_image(reference.uri) as (stream, size_bytes, modified_ms):
                    read.append(
                        fingerprints.fingerprint(reference, stream, size_bytes, modified_ms, self.pictures)
                    )
            except ImageError as error:
                rejected.append(Verdict.of_rejection(Rejection(reference, error.reason, error.detail)))
        if read:
            self.bytes_read.inc(sum(image.size_bytes for image in read))
            yield blocks.dump(tables.fingerprints_table(read))
        if new := [verdict for verdict in rejected if not verdict.ref.known]:
            yield TaggedOutput(_REJECTIONS, blocks.dump(tables.verdicts_table(new)))
        if len(new) < len(rejected):
            self.known_rejected.inc(len(rejected) - len(new))
        if self.tally:
            self.tally.add(READ, len(references))
