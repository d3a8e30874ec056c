"""Where images come from: references to them, not their bytes."""

import dataclasses
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.model import ImageRef
from transforms.listing import list_files, list_inputs

__all__ = ["ReadImages", "list_files", "list_inputs"]

# References in one element: an engine's cost per element becomes one per batch, and one worker's work at a time.
DECODED_AT_ONCE = 32
DIGESTED_AT_ONCE = 256

# A hint how to share out the work; what is an archive is seen by its content.
_ARCHIVES = (".tar", ".zip", ".warc", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst")


@dataclasses.dataclass
class ReadImages(beam.PTransform[PBegin, PCollection[list[ImageRef]]]):
    """Lists files, and those of folders and of all folders below them, whatever their names.

    Out: one `ImageRef` per file, some in a list, bounded, in the global window. Links to files are listed as files, links
    to folders are followed, but no folder is listed twice. What can't be listed is passed on as well, to be rejected with
    a reason where it is opened.

    paths: one, or several: of folders, files, patterns (with `*`, `?`, `[...]`, `**`), also of Beam's file systems
    (gs://..., s3://...). Of several, names begin with the last part of the path. exclude: files and folders that are not
    input, though they lie in it. known: they are kept beforehand, as images to compare with. batch: how many in a list.
    """

    paths: str | tuple[str, ...]
    exclude: tuple[str, ...] = ()
    known: bool = False
    batch: int = DECODED_AT_ONCE

    def expand(self, pbegin: PBegin) -> PCollection[list[ImageRef]]:
        paths = (self.paths,) if isinstance(self.paths, str) else self.paths
        return (
            pbegin
            | "Folder" >> beam.Create([[to_bytes(path) for path in paths]], reshuffle=False)
            | "List" >> beam.FlatMap(list_references, self.exclude, self.known, self.batch)
        )


def list_references(
    paths: list[bytes], exclude: tuple[str, ...], known: bool, size: int
) -> Iterator[list[ImageRef]]:
    """Yields a reference for each file that `list_inputs` finds, `size` of them at a time; what may be an archive alone, as
    the work of one worker.
    """
    files = list_inputs([to_text(path) for path in paths], exclude)
    yield from batched((ImageRef(file.path, file.name, file.metadata, known) for file in files), size)


def batched(references: Iterable[ImageRef], size: int) -> Iterator[list[ImageRef]]:
    """The same references, `size` of them at a time; what may be an archive alone."""
    batch: list[ImageRef] = []
    for reference in references:
        if reference.name.lower().endswith(_ARCHIVES):
            yield [reference]
            continue
        batch.append(reference)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
