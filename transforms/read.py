"""Lists images: the files of folders, archives and stores, or the rows of a file of metadata."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from typing import BinaryIO, cast

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_dedup.core.archives.members import member_uri
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.metadata.rows import BadRow, Row, rows
from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import is_remote
from transforms.storage.files import open_bytes
from transforms.storage.listing import lies_in, list_files, list_inputs

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


@dataclasses.dataclass
class ReadMetadata(beam.PTransform[PBegin, PCollection[list[ImageRef]]]):
    """Lists the images that the rows of a file name: JSON Lines, Avro or parquet, of `__path__` and what is said of it.

    Out: one `ImageRef` per row, some in a list, bounded, in the global window: `described`, so that the metadata stand for an
    image that can't be opened. A row that names no image is passed on as well, to be rejected with a reason.

    path: of the file, also of Beam's file systems. exclude: files and folders that are not input. batch: how many in a list.
    """

    path: str
    exclude: tuple[str, ...] = ()
    batch: int = DECODED_AT_ONCE

    def expand(self, pbegin: PBegin) -> PCollection[list[ImageRef]]:
        return (
            pbegin
            | "File" >> beam.Create([to_bytes(self.path)], reshuffle=False)
            | "Rows" >> beam.FlatMap(row_references, self.exclude, self.batch)
        )


def row_references(path: bytes, exclude: tuple[str, ...], size: int) -> Iterator[list[ImageRef]]:
    """Yields a reference for each row that `list_rows` finds, `size` of them at a time."""
    yield from batched(list_rows(to_text(path), exclude), size)


def list_rows(path: str, exclude: Iterable[str] = ()) -> Iterator[ImageRef]:
    """Yields a reference for each row of a file of metadata.

    Raises:
      OSError: the file can't be read.
    """
    left_out = {os.path.realpath(other) for other in exclude}
    with _opened(path) as stream:
        for row in rows(stream):
            if isinstance(row, BadRow):
                number = str(row.number)
                refused = (row.reason.value, row.detail)
                yield ImageRef(
                    member_uri(path, number), f"{os.path.basename(path)}/{number}", refused=refused
                )
            elif not left_out or is_remote(row.path) or not lies_in(row.path, left_out):
                yield _reference(row)


def _reference(row: Row) -> ImageRef:
    # In ASCII: what a stranger wrote may hold what no encoding can carry.
    said = json.dumps(row.metadata) if row.metadata else ""
    return ImageRef(row.path, _name(row.path), said, described=True)


def _name(path: str) -> str:
    """What a copy is called: its path without what can't begin a name.

    >>> _name("/a/b.jpg"), _name("b.jpg"), _name("gs://bucket/b.jpg")
    ('a/b.jpg', 'b.jpg', 'gs/bucket/b.jpg')
    """
    return path.replace("://", "/", 1).lstrip("/")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """A file, seekable."""
    with open_bytes(path) as stream:
        if not is_remote(path):
            yield stream
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            yield cast(BinaryIO, copy)
