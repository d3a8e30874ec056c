"""Where images come from: references to them, not their bytes."""

import dataclasses
import itertools
import os
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import PBegin, PCollection

from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.model import ImageRef
from beam_dedup.core.paths import PARTIAL_PREFIX, is_partial

# References in one element: an engine's cost per element becomes one per batch, and one worker's work at a time.
DECODED_AT_ONCE = 32
DIGESTED_AT_ONCE = 256


@dataclasses.dataclass
class ReadImages(beam.PTransform[PBegin, PCollection[list[ImageRef]]]):
    """Lists the files of a folder and of all folders below it, whatever their names.

    Out: one `ImageRef` per file, some in a list, bounded, in the global window. Links to files are listed as files, links
    to folders are followed, but no folder is listed twice. What can't be listed is passed on as well, to be rejected with
    a reason where it is opened.

    folder: a local folder. exclude: files and folders that are not input, though they lie in it. known: they are kept
    beforehand, as images to compare with. batch: how many in a list.
    """

    folder: str
    exclude: tuple[str, ...] = ()
    known: bool = False
    batch: int = DECODED_AT_ONCE

    def expand(self, pbegin: PBegin) -> PCollection[list[ImageRef]]:
        return (
            pbegin
            | "Folder" >> beam.Create([to_bytes(self.folder)], reshuffle=False)
            | "List" >> beam.FlatMap(list_references, self.exclude, self.known, self.batch)
        )


def list_references(
    path: bytes, exclude: tuple[str, ...], known: bool, size: int
) -> Iterator[list[ImageRef]]:
    """Yields a reference for each file that `list_files` finds, `size` of them at a time."""
    folder = to_text(path)
    names = iter(list_files(folder, exclude))
    prefix = os.path.join(folder, "")
    while batch := list(itertools.islice(names, size)):
        yield [ImageRef(prefix + name, name.replace(os.sep, "/"), "", known) for name in batch]


def list_files(folder: str, exclude: Iterable[str] = ()) -> Iterator[str]:
    """Yields the paths, relative to `folder`, of everything in it that is not a folder, in the order of their names.

    A folder that can't be listed is yielded itself. Linked folders come after all others, so that a file is known
    by the path without links if it has one.
    """
    left_out = {os.path.realpath(path) for path in exclude}
    names_left_out = {os.path.basename(path) for path in left_out}
    visited: set[tuple[int, int]] = set()
    todo = [""]
    linked: list[str] = []
    while todo or linked:
        here = todo.pop() if todo else linked.pop(0)
        path = os.path.join(folder, here) if here else folder
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            yield here
            continue
        folders = []
        prefix = os.path.join(here, "")
        for entry in entries:  # of which there may be millions: cheap questions first
            name = entry.name
            is_link = entry.is_symlink()
            if name.startswith(PARTIAL_PREFIX) and is_partial(name):
                continue
            # Links are resolved, and others only where the name makes it possible.
            if left_out and (is_link or name in names_left_out) and _is_one_of(entry, left_out):
                continue
            if not _is_folder(entry):
                yield prefix + name
            elif is_link:
                linked.append(prefix + name)
            else:
                folders.append(prefix + name)
        todo.extend(reversed(folders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or through a folder that is closed to us: told when it is opened
        return False


def _is_one_of(entry: os.DirEntry[str], real_paths: set[str]) -> bool:
    """Whether an entry is one of some paths, or links to one or into it."""
    real = os.path.realpath(entry.path)
    return any(real == path or real.startswith(path + os.sep) for path in real_paths)
