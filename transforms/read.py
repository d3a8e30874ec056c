"""Lists images: the files below directories and prefixes, or the rows of a metadata file."""

import contextlib
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, Final, Literal, NamedTuple, cast

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_dedup.core.allowed import leads_to, refusal
from beam_dedup.core.archives.members import file_uri, member_uri
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.metadata.row import PATH_KEY
from beam_dedup.core.metadata.rows import BadRow, Row, rows
from beam_dedup.core.model import ImageRef, Reason
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading.selection import EVERYTHING, Exclusions, Selection, Selector, path_in_row
from transforms import lineage, metrics
from transforms.storage.files import open_bytes
from transforms.storage.listing import Listed, lies_in, list_files, list_inputs

__all__ = ["ReadImages", "list_files", "list_inputs"]

# References per element. More make the runner's cost per image smaller, but one worker reads all of an element.
DECODED_AT_ONCE = 32
DIGESTED_AT_ONCE = 256

# Names of files that may be archives, each of which is an element of its own. This only helps to share out the work: the
# content of a file decides whether it is an archive.
_PACKED = (".tar", ".zip", ".warc", ".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst")
_ARCHIVES = (*_PACKED, ".parquet", ".arrow", ".feather", ".tfrecord", ".tfrecords")


_EXCLUSIONS: Final = "exclusions"
_TaggedExclusions = TaggedOutput[Literal["exclusions"], Exclusions]


class ListedImages(NamedTuple):
    """The outputs of `ListImages` and `ListRows`."""

    images: PCollection[list[ImageRef]]  # one reference per file or row
    exclusions: PCollection[Exclusions]  # what was left out


@dataclasses.dataclass
class ReadImages(beam.PTransform[PBegin, PCollection[list[ImageRef]]]):
    """Lists all files below directories and prefixes, whatever their names.

    Element out: a list of `ImageRef`, one per file. A file that may be an archive is alone in its list. Bounded, in the
    global window.

    Links to files are listed as files. Links to directories are followed, but no directory is listed twice. A path
    that cannot be listed becomes a reference too, which is rejected with a reason when it is opened.

    Args:
      paths: one path or several: of directories, files, or patterns (with `*`, `?`, `[...]`, `**`), local or of a file
        system of Beam (gs://..., s3://...). If there are several, the name of each image begins with the last part of
        its path.
      exclude: files and directories that are not input although they are below it.
      known: whether the images are known: kept beforehand, only to be compared with.
      batch: the most references per list.
      links_inside: whether links that lead out of the paths are rejected instead of followed. Files that are read need
        the same limit (`Limits.roots`).
      selection: which of the files are wanted; by default all of them.
      companions: whether the companions of images in local directories (`beam_dedup.core.companions`) are listed with
        these images instead of as files of their own.
      splits: the split of each path, if they have any; see `transforms.storage.listing.list_inputs`.
    """

    paths: str | tuple[str, ...]
    exclude: tuple[str, ...] = ()
    known: bool = False
    batch: int = DECODED_AT_ONCE
    links_inside: bool = False
    selection: Selection = EVERYTHING
    companions: bool = False
    splits: tuple[str, ...] = ()

    def expand(self, pbegin: PBegin) -> PCollection[list[ImageRef]]:
        return self.listed(pbegin).images

    def listed(self, pbegin: PBegin) -> ListedImages:
        """Adds the steps; returns the references and what was left out."""
        paths = (self.paths,) if isinstance(self.paths, str) else self.paths
        arguments = (
            self.exclude,
            self.known,
            self.batch,
            self.links_inside,
            self.selection,
            self.companions,
            self.splits,
        )
        folder = pbegin | "Folder" >> beam.Create([[to_bytes(path) for path in paths]], reshuffle=False)
        return _listed(folder, "List", list_references, arguments)


@dataclasses.dataclass
class ListImages(beam.PTransform[PBegin, ListedImages]):
    """Does what a `ReadImages` or a `ReadMetadata` does, and also returns what was left out.

    Out: `ListedImages`, two PCollections: the lists of references, and one `Exclusions`. Bounded, in the global window.

    Counters: `Excluded_Count`, `Excluded_Directory_Count`.

    Args:
      read: the transform that names the images.
    """

    read: "ReadImages | ReadMetadata"

    @no_annotations  # Beam has no types for several outputs
    def expand(self, pbegin: PBegin) -> ListedImages:
        return self.read.listed(pbegin)


_List = Callable[..., Iterator[list[ImageRef]]]  # of an element, arguments, and the `Exclusions` to add to


def _listed(
    source: PCollection[Any], label: str, function: _List, arguments: tuple[Any, ...]
) -> ListedImages:
    """Applies a function that lists references to the one element of a source."""
    listing = beam.ParDo(_ListFn(function, arguments)).with_output_types(
        list[ImageRef], exclusions=Exclusions
    )
    done = source | label >> listing.with_outputs(_EXCLUSIONS, main="main")
    return ListedImages(done["main"], done[_EXCLUSIONS])


class _ListFn(beam.DoFn):
    """Yields the references that a function lists, and after them, tagged, what it left out."""

    def __init__(self, function: _List, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments

    def process(self, element: Any) -> Iterator[list[ImageRef] | _TaggedExclusions]:
        exclusions = Exclusions()
        yield from self.function(element, *self.arguments, exclusions)
        metrics.add(metrics.excluded_counts(exclusions))
        tagged: _TaggedExclusions = TaggedOutput(_EXCLUSIONS, exclusions)
        yield tagged


def list_references(
    paths: list[bytes],
    exclude: tuple[str, ...],
    known: bool,
    size: int,
    links_inside: bool = False,
    selection: Selection = EVERYTHING,
    companions: bool = False,
    splits: tuple[str, ...] = (),
    exclusions: Exclusions | None = None,
) -> Iterator[list[ImageRef]]:
    """Yields references to the files that `list_inputs` finds, in lists as `batched` makes them."""
    for path in paths:
        lineage.report_read(to_text(path))
    files = list_inputs(
        [to_text(path) for path in paths], exclude, links_inside, selection, exclusions, companions, splits
    )
    yield from batched((_file_reference(file, known) for file in files), size)


def _file_reference(file: Listed, known: bool) -> ImageRef:
    if not file.leads_outside:
        own, shared = file.companions
        return ImageRef(file.path, file.name, file.metadata, known, companions=own, shared=shared)
    refused = (Reason.LINK_OUTSIDE.value, leads_to(file.path))
    return ImageRef(file_uri(file.path), file.name, file.metadata, known, refused=refused)


def batched(references: Iterable[ImageRef], size: int) -> Iterator[list[ImageRef]]:
    """Yields the references in lists of up to `size`; each one that may be an archive is alone in its list."""
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
    """Lists the images that the rows of a metadata file name: JSON, CSV, Avro or Parquet.

    A row has the path of an image in `__path__`, or another field, and its metadata in other fields.

    Element out: a list of `ImageRef`, one per row. A file that may be an archive is alone in its list. Bounded, in the
    global window. The references are `described`: an image that cannot be opened is compared by its metadata. A row
    that names no image becomes a reference too, which is rejected with a reason.

    Args:
      path: the metadata file, local or of a file system of Beam.
      exclude: files and directories that are not input.
      batch: the most references per list.
      allow: prefixes of the paths that rows may name, as `beam_dedup.core.allowed.checked_prefix` returns them; () allows
        every path. Files that are read need the same limit (`Limits.roots`).
      directory: the directory to which relative paths of rows are relative; "" for the current one of the worker. The
        names of copies do not change with it.
      selection: which of the images are wanted; only its patterns apply.
      path_field: the field with the path of an image; "" for `__path__`.
    """

    path: str
    exclude: tuple[str, ...] = ()
    batch: int = DECODED_AT_ONCE
    allow: tuple[str, ...] = ()
    directory: str = ""
    selection: Selection = EVERYTHING
    path_field: str = ""

    def expand(self, pbegin: PBegin) -> PCollection[list[ImageRef]]:
        return self.listed(pbegin).images

    def listed(self, pbegin: PBegin) -> ListedImages:
        """Adds the steps; returns the references and what was left out."""
        arguments = (
            self.exclude,
            self.batch,
            self.allow,
            self.directory,
            self.selection,
            self.path_field,
        )
        file = pbegin | "File" >> beam.Create([to_bytes(self.path)], reshuffle=False)
        return _listed(file, "Rows", row_references, arguments)


def row_references(
    path: bytes,
    exclude: tuple[str, ...],
    size: int,
    allow: tuple[str, ...] = (),
    directory: str = "",
    selection: Selection = EVERYTHING,
    path_field: str = "",
    exclusions: Exclusions | None = None,
) -> Iterator[list[ImageRef]]:
    """Yields references to the images that `list_rows` finds, in lists as `batched` makes them."""
    lineage.report_read(to_text(path))
    found = list_rows(to_text(path), exclude, allow, directory, selection, exclusions, path_field)
    yield from lineage.reporting(batched(found, size))


def list_rows(
    path: str,
    exclude: Iterable[str] = (),
    allow: tuple[str, ...] = (),
    directory: str = "",
    selection: Selection = EVERYTHING,
    exclusions: Exclusions | None = None,
    path_field: str = "",
) -> Iterator[ImageRef]:
    """Yields one reference per row of a metadata file, without those in excluded files and directories.

    Args:
      path: the metadata file.
      exclude: files and directories to leave out.
      allow: prefixes of the paths that rows may name; () allows every path.
      directory: makes relative paths of rows absolute; "" leaves them as they are.
      selection: which of the images are wanted. Only its patterns apply, to the path as the row has it
        (`beam_dedup.core.reading.selection.path_in_row`).
      exclusions: what the selection leaves out is added to it.
      path_field: the field with the path of an image; "" for `__path__`.

    Raises:
      OSError: the file cannot be read.
    """
    excluded = {os.path.realpath(other) for other in exclude}
    selector = Selector(selection.of_named_images)
    has_patterns = not selection.of_named_images.is_everything
    left_out = Exclusions() if exclusions is None else exclusions
    with _open_seekable(path) as stream:
        for row in rows(stream, directory, path_field or PATH_KEY):
            if isinstance(row, BadRow):
                number = str(row.number)
                refused = (row.reason.value, row.detail)
                yield ImageRef(
                    member_uri(path, number), f"{os.path.basename(path)}/{number}", refused=refused
                )
            elif has_patterns and (cause := selector.file_anywhere(path_in_row(row.name))):
                left_out.add_file(cause)
            elif not excluded or is_remote(row.path) or not lies_in(row.path, excluded):
                yield _reference(row, allow)


def _reference(row: Row, allow: tuple[str, ...]) -> ImageRef:
    # json.dumps escapes all but ASCII: the metadata may hold lone surrogates, which UTF-8 cannot encode.
    metadata = json.dumps(row.metadata) if row.metadata else ""
    if allow and (why := refusal(row.path, allow)):
        refused = (Reason.NOT_ALLOWED.value, why)
        return ImageRef(file_uri(row.path), _name(row.name), metadata, refused=refused)
    return ImageRef(row.path, _name(row.name), metadata, described=True)


def _name(path: str) -> str:
    """Returns the name of the copy: the path without the slashes at its beginning, and without `://`.

    >>> _name("/a/b.jpg"), _name("b.jpg"), _name("gs://bucket/b.jpg")
    ('a/b.jpg', 'b.jpg', 'gs/bucket/b.jpg')
    """
    return path.replace("://", "/", 1).lstrip("/")


@contextlib.contextmanager
def _open_seekable(path: str) -> Iterator[BinaryIO]:
    """Opens a file for reading. A remote file is copied to a temporary local file first."""
    with open_bytes(path) as stream:
        if not is_remote(path):
            yield stream
            return
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            copy.seek(0)
            yield cast(BinaryIO, copy)
