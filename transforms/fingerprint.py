"""From references to fingerprints: the step that reads and decodes."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Final, Literal, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core import conservation
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.isolated_decoder import DecodeResult, IsolatedDecoder
from beam_dedup.core.reading.reader import fallback_or_rejection
from transforms import metrics
from transforms.storage.prefetch import AT_ONCE, fetched_in_turn
from transforms.tally import READ, Tally
from transforms.threaded import ThreadedDoFn

_REJECTIONS: Final = "rejections"
_READ_TALLY: Final = "read_tally"
_RejectionBlock = TaggedOutput[Literal["rejections"], bytes]
_TaggedReadTally = TaggedOutput[Literal["read_tally"], ReadTally]


class Fingerprinted(NamedTuple):
    """What came of the references. Each image is in one of the first two, except known ones that are rejected."""

    fingerprints: PCollection[bytes]  # blocks of FINGERPRINTS
    rejections: PCollection[bytes]  # blocks of VERDICTS
    read_tally: PCollection[ReadTally]  # which references were read, and which images found


@dataclasses.dataclass
class FingerprintImages(beam.PTransform[PCollection[list[ImageRef]], Fingerprinted]):
    """Reads every image once, and takes its digest and the codes of its picture.

    In: references, some at a time. Out: `Fingerprinted`. Image bytes stay on the worker that reads them. An image that
    can't be read or is none becomes a rejection; one whose picture can't be decoded has a fingerprint without codes. A
    reference to an archive leads to its members, each an image: `beam_dedup.core.archives.containers` tells which there are.

    recipe: what codes are made; None leaves out decoding, for exact mode. processes: decoding processes of one worker;
    more than one where the engine itself has one worker on a machine of several cores. limits: what a file may ask for.
    """

    recipe: Recipe | None = Recipe()
    processes: int = 1
    tally: Tally | None = None
    limits: Limits = Limits()

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[list[ImageRef]]) -> Fingerprinted:
        read = _FingerprintFn(self.recipe, self.processes, self.tally, self.limits)
        if self.processes == 1:
            # Listing is one worker's work, reading is everybody's: without this they would be fused. Where there is one
            # worker only, being fused lets the first images be read while the last are listed.
            images |= "Spread" >> beam.Reshuffle()
        reading = beam.ParDo(read).with_output_types(bytes, rejections=bytes, read_tally=ReadTally)
        done = images | "Read" >> reading.with_outputs(_REJECTIONS, _READ_TALLY, main="main")
        return Fingerprinted(done["main"], done[_REJECTIONS], done[_READ_TALLY])


class _FingerprintFn(ThreadedDoFn):
    """list[ImageRef] -> blocks of FINGERPRINTS; on tagged outputs blocks of VERDICTS for what was rejected, and an account.

    One thread for each process that decodes: it waits for it. Others, for all of them, fetch what is not on this machine.
    """

    def __init__(self, recipe: Recipe | None, processes: int, tally: Tally | None, limits: Limits) -> None:
        super().__init__(threads=processes)
        self.recipe = recipe
        self.limits = limits
        self.tally = tally
        self.bytes_read = Metrics.counter(metrics.NAMESPACE, metrics.BYTES_READ)
        self.known_rejected = Metrics.counter(metrics.NAMESPACE, metrics.KNOWN_REJECTED)
        self.skipped = Metrics.counter(metrics.NAMESPACE, metrics.SKIPPED)

    def setup(self) -> None:
        super().setup()
        self.fetching = ThreadPoolExecutor(AT_ONCE)
        self.idle: SimpleQueue[IsolatedDecoder] = SimpleQueue()
        for _ in range(self.threads):
            self.idle.put(IsolatedDecoder(self.recipe, self.limits))

    def teardown(self) -> None:
        super().teardown()
        self.fetching.shutdown(cancel_futures=True)
        while not self.idle.empty():
            self.idle.get().close()

    def work(self, element: list[ImageRef]) -> list[DecodeResult]:
        decoder = self.idle.get()
        try:
            local = [reference for reference in element if not is_remote(reference.uri)]
            answers = [decoder.read(local)] if local else []
            remote = [reference for reference in element if is_remote(reference.uri)]
            return [*answers, *self._read_remote(decoder, remote)]
        finally:
            self.idle.put(decoder)

    def _read_remote(self, decoder: IsolatedDecoder, remote: list[ImageRef]) -> Iterator[DecodeResult]:
        for reference, found in fetched_in_turn(self.fetching, remote, self.limits.max_bytes):
            if isinstance(found, ImageError):
                yield DecodeResult.of(fallback_or_rejection(reference, found, self.recipe))
            else:
                yield decoder.read([reference], found)

    def outputs(
        self, element: list[ImageRef], result: list[DecodeResult]
    ) -> Iterator[bytes | _RejectionBlock | _TaggedReadTally]:
        for answer in result:
            yield from answer.fingerprints
            for block in answer.rejections:
                rejected: _RejectionBlock = TaggedOutput(_REJECTIONS, block)
                yield rejected
            self.bytes_read.inc(answer.bytes_read)
            if answer.known_rejected:
                self.known_rejected.inc(answer.known_rejected)
            if answer.skipped:
                self.skipped.inc(answer.skipped)
        account: _TaggedReadTally = TaggedOutput(_READ_TALLY, conservation.read_tally(element, result))
        yield account
        if self.tally:
            self.tally.add(READ, len(element))
