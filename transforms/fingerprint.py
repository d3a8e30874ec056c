"""Reads and decodes images: turns references into fingerprints."""

import dataclasses
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.model import ImageRef
from beam_dedup.core.reading.isolated_decoder import DecodeResult
from transforms.decoding import READ_TALLY, REJECTIONS, DecodingDoFn
from transforms.read_settings import ReadSettings


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
        done = images | "Read" >> reading.with_outputs(REJECTIONS, READ_TALLY, main="main")
        return Fingerprinted(done["main"], done[REJECTIONS], done[READ_TALLY])


class _FingerprintFn(DecodingDoFn):
    """Reads lists of references."""

    def work(self, element: list[ImageRef]) -> list[DecodeResult]:
        with self.decoder() as decoder:
            return self.read(decoder, element)
