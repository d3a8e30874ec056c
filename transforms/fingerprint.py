"""Reads and decodes images: turns references into fingerprints."""

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
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.companions import of_no_image
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.isolated_decoder import DecodeResult, IsolatedDecoder
from beam_dedup.core.reading.reader import fallback_or_rejection
from transforms import metrics
from transforms.read_settings import ReadSettings
from transforms.storage.prefetch import AT_ONCE, fetched_in_turn
from transforms.tally import FOUND, IMAGES, READ
from transforms.threaded import ThreadedDoFn

_REJECTIONS: Final = "rejections"
_READ_TALLY: Final = "read_tally"
_TaggedRejections = TaggedOutput[Literal["rejections"], VerdictBlock]
_TaggedReadTally = TaggedOutput[Literal["read_tally"], ReadTally]


class Fingerprinted(NamedTuple):
    """The outputs of `FingerprintImages`.

    Each image is in exactly one of the first two. A known image that is rejected is in neither; it is only counted.
    """

    fingerprints: PCollection[FingerprintBlock]
    rejections: PCollection[VerdictBlock]  # one verdict per image that was rejected
    read_tally: PCollection[ReadTally]  # which references were read, and which images were found, for a proof


@dataclasses.dataclass(kw_only=True)
class FingerprintImages(beam.PTransform[PCollection[list[ImageRef]], Fingerprinted]):
    """Reads every image once, and computes its digest and the codes of its picture.

    Element in: a list of `ImageRef` (`BatchReferences` makes lists of single references). Out: `Fingerprinted`, three
    PCollections: blocks of `FINGERPRINTS`, blocks of `VERDICTS`, and `ReadTally`. Bounded and windowed as the input.

    Image bytes do not leave the worker that reads them. An image that cannot be read, or a file that is no image,
    becomes a rejection. An image whose picture cannot be decoded has a fingerprint without codes. A reference to an
    archive leads to the members of the archive, each an image (formats: `beam_dedup.core.archives.containers`).

    Companions are not read, unless the file that they belong to is no image: then they are files like others.

    Counters: `Read_Byte_Count`, `Known_Rejected_Count`, `Skipped_Page_Count`, `Companion_Count`.

    Args:
      settings: how images are read. By default they are read with the default recipe. A recipe of None decodes nothing
        and leaves out the codes, for exact duplicates alone.
    """

    settings: ReadSettings = ReadSettings(recipe=Recipe())

    @no_annotations  # Beam has no types for several outputs
    def expand(self, images: PCollection[list[ImageRef]]) -> Fingerprinted:
        read = _FingerprintFn(self.settings)
        if self.settings.decoder_processes == 1:
            # One worker lists the files. Without this step the runner would fuse listing with reading, and that one
            # worker would read all images. If there is one worker only, fusing is better: it reads the first images
            # while it lists the last ones.
            images |= "Spread" >> beam.Reshuffle()
        reading = beam.ParDo(read).with_output_types(bytes, rejections=bytes, read_tally=ReadTally)
        done = images | "Read" >> reading.with_outputs(_REJECTIONS, _READ_TALLY, main="main")
        return Fingerprinted(done["main"], done[_REJECTIONS], done[_READ_TALLY])


class _FingerprintFn(ThreadedDoFn):
    """Turns a list of references into blocks of `FINGERPRINTS`; tagged: blocks of `VERDICTS` on rejected images, and a tally.

    Each decoder process has one thread that waits for it. More threads, shared by all, fetch remote files.
    """

    def __init__(self, settings: ReadSettings) -> None:
        super().__init__(threads=settings.decoder_processes)
        self.settings = settings
        self.bytes_read = Metrics.counter(metrics.NAMESPACE, metrics.BYTES_READ)
        self.references_read = Metrics.counter(metrics.NAMESPACE, metrics.REFERENCES_READ)
        self.images_found = Metrics.counter(metrics.NAMESPACE, metrics.IMAGES_FOUND)
        self.known_rejected = Metrics.counter(metrics.NAMESPACE, metrics.KNOWN_REJECTED)
        self.companions = Metrics.counter(metrics.NAMESPACE, metrics.COMPANIONS)
        self.skipped = Metrics.counter(metrics.NAMESPACE, metrics.SKIPPED)

    def setup(self) -> None:
        super().setup()
        self.fetching = ThreadPoolExecutor(AT_ONCE)
        self.idle: SimpleQueue[IsolatedDecoder] = SimpleQueue()
        for _ in range(self.threads):
            self.idle.put(IsolatedDecoder(self.settings.recipe, self.settings.limits))

    def teardown(self) -> None:
        super().teardown()
        self.fetching.shutdown(cancel_futures=True)
        while not self.idle.empty():
            self.idle.get().close()

    def work(self, element: list[ImageRef]) -> list[DecodeResult]:
        decoder = self.idle.get()
        try:
            # What listing has rejected is not fetched.
            local = [one for one in element if one.refused or not is_remote(one.uri)]
            results = [decoder.read(local, on_images=self._count_images)] if local else []
            if files := of_no_image(local, [block for one in results for block in one.fingerprints]):
                results.append(decoder.read(files, on_images=self._count_images))
            remote = [one for one in element if not one.refused and is_remote(one.uri)]
            return [*results, *self._read_remote(decoder, remote)]
        finally:
            self.idle.put(decoder)

    def _count_images(self, count: int) -> None:
        """Counts images for the progress display as they are read; members of archives too."""
        if self.settings.tally:
            self.settings.tally.add(IMAGES, count)

    def _read_remote(self, decoder: IsolatedDecoder, remote: list[ImageRef]) -> Iterator[DecodeResult]:
        limits = self.settings.limits
        turns = fetched_in_turn(self.fetching, remote, limits.max_bytes, image_column=limits.image_column)
        for reference, found in turns:
            if isinstance(found, ImageError):
                yield DecodeResult.of(fallback_or_rejection(reference, found, self.settings.recipe))
            else:
                yield decoder.read([reference], found, self._count_images)

    def outputs(
        self, element: list[ImageRef], result: list[DecodeResult]
    ) -> Iterator[FingerprintBlock | _TaggedRejections | _TaggedReadTally]:
        for decoded in result:
            yield from decoded.fingerprints
            for block in decoded.rejections:
                rejected: _TaggedRejections = TaggedOutput(_REJECTIONS, block)
                yield rejected
            self.bytes_read.inc(decoded.bytes_read)
            if decoded.known_rejected:
                self.known_rejected.inc(decoded.known_rejected)
            if decoded.skipped:
                self.skipped.inc(decoded.skipped)
        read = conservation.read_tally(element, result)
        tally: _TaggedReadTally = TaggedOutput(_READ_TALLY, read)
        yield tally
        if read.companions:
            self.companions.inc(read.companions)
        found, _ = read.images
        self.references_read.inc(len(element))
        self.images_found.inc(found)
        if self.settings.tally:
            self.settings.tally.add(READ, len(element))
            self.settings.tally.add(FOUND, found)
