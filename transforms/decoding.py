"""Runs decoder processes in a worker, and outputs what they found."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Final, Literal

from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from beam_dedup.core import conservation
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

REJECTIONS: Final = "rejections"
READ_TALLY: Final = "read_tally"
_TaggedRejections = TaggedOutput[Literal["rejections"], VerdictBlock]
_TaggedReadTally = TaggedOutput[Literal["read_tally"], ReadTally]


class DecodingDoFn(ThreadedDoFn):
    """Outputs blocks of `FINGERPRINTS`; tagged: blocks of `VERDICTS` on rejected images, and a tally.

    `work` is left to subclasses, and returns what `outputs` takes.

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

    @contextlib.contextmanager
    def decoder(self) -> Iterator[IsolatedDecoder]:
        """Yields a decoder that no other thread uses meanwhile."""
        decoder = self.idle.get()
        try:
            yield decoder
        finally:
            self.idle.put(decoder)

    def read(self, decoder: IsolatedDecoder, references: list[ImageRef]) -> list[DecodeResult]:
        """Reads the images that references lead to."""
        # What listing has rejected is not fetched.
        local = [one for one in references if one.refused or not is_remote(one.uri)]
        results = [decoder.read(local, on_images=self.count_images)] if local else []
        if files := of_no_image(local, [block for one in results for block in one.fingerprints]):
            results.append(decoder.read(files, on_images=self.count_images))
        remote = [one for one in references if not one.refused and is_remote(one.uri)]
        return [*results, *self._read_remote(decoder, remote)]

    def count_images(self, count: int) -> None:
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
                yield decoder.read([reference], [found], self.count_images)

    def outputs(
        self, element: list[ImageRef], result: list[DecodeResult]
    ) -> Iterator[FingerprintBlock | _TaggedRejections | _TaggedReadTally]:
        for decoded in result:
            yield from decoded.fingerprints
            for block in decoded.rejections:
                rejected: _TaggedRejections = TaggedOutput(REJECTIONS, block)
                yield rejected
            self.bytes_read.inc(decoded.bytes_read)
            if decoded.known_rejected:
                self.known_rejected.inc(decoded.known_rejected)
            if decoded.skipped:
                self.skipped.inc(decoded.skipped)
        read = conservation.read_tally(element, result)
        tally: _TaggedReadTally = TaggedOutput(READ_TALLY, read)
        yield tally
        if read.companions:
            self.companions.inc(read.companions)
        found, _ = read.images
        self.references_read.inc(len(element))
        self.images_found.inc(found)
        if self.settings.tally:
            self.settings.tally.add(READ, len(element))
            self.settings.tally.add(FOUND, found)
