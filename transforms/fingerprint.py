"""From references to fingerprints: the step that reads and decodes."""

import dataclasses
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.isolation import Answer, IsolatedDecoder
from beam_dedup.core.model import ImageRef, Rejection, Verdict
from beam_dedup.core.paths import is_remote
from transforms import metrics
from transforms.progress import READ, Tally
from transforms.storage import read_remote
from transforms.threaded import ThreadedDoFn

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

    recipe: what codes are made; None leaves out decoding, for exact mode. processes: decoding processes of one worker;
    more than one where the engine itself has one worker on a machine of several cores.
    """

    recipe: Recipe | None = Recipe()
    processes: int = 1
    tally: Tally | None = None

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[list[ImageRef]]) -> Fingerprinted:
        read = _FingerprintFn(self.recipe, self.processes, self.tally)
        if self.processes == 1:
            # Listing is one worker's work, reading is everybody's: without this they would be fused. Where there is one
            # worker only, being fused lets the first images be read while the last are listed.
            images |= "Spread" >> beam.Reshuffle()
        reading = beam.ParDo(read).with_output_types(bytes, rejections=bytes)
        done = images | "Read" >> reading.with_outputs(_REJECTIONS, main="main")
        return Fingerprinted(done["main"], done[_REJECTIONS])


class _FingerprintFn(ThreadedDoFn):
    """list[ImageRef] -> block of FINGERPRINTS, and of VERDICTS on the tagged output for what was rejected.

    One thread for each process that decodes: it waits for it, and reads for it what is not on this machine.
    """

    def __init__(self, recipe: Recipe | None, processes: int, tally: Tally | None) -> None:
        super().__init__(threads=processes)
        self.recipe = recipe
        self.tally = tally
        self.bytes_read = Metrics.counter(metrics.NAMESPACE, metrics.BYTES_READ)
        self.known_rejected = Metrics.counter(metrics.NAMESPACE, metrics.KNOWN_REJECTED)

    def setup(self) -> None:
        super().setup()
        self.idle: SimpleQueue[IsolatedDecoder] = SimpleQueue()
        for _ in range(self.threads):
            self.idle.put(IsolatedDecoder(self.recipe))

    def teardown(self) -> None:
        super().teardown()
        while not self.idle.empty():
            self.idle.get().close()

    def work(self, element: list[ImageRef]) -> list[Answer]:
        decoder = self.idle.get()
        try:
            local = [reference for reference in element if not is_remote(reference.uri)]
            answers = [decoder.read(local)] if local else []
            remote = [reference for reference in element if is_remote(reference.uri)]
            return [*answers, *(_read_remote(decoder, reference) for reference in remote)]
        finally:
            self.idle.put(decoder)

    def outputs(self, element: list[ImageRef], result: list[Answer]) -> Iterator[bytes | _RejectionBlock]:
        for answer in result:
            if answer.fingerprints:
                yield answer.fingerprints
            for block in answer.rejections:
                yield TaggedOutput(_REJECTIONS, block)
            self.bytes_read.inc(answer.bytes_read)
            if answer.known_rejected:
                self.known_rejected.inc(answer.known_rejected)
        if self.tally:
            self.tally.add(READ, len(element))


def _read_remote(decoder: IsolatedDecoder, reference: ImageRef) -> Answer:
    try:
        return decoder.read([reference], read_remote(reference.uri))
    except ImageError as error:
        rejection = Rejection(reference, error.reason, error.detail)
        return Answer().with_rejected([Verdict.of_rejection(rejection)])
