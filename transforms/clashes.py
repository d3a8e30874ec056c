"""Names the copies of images, and finds the names that would be those of a file and of a directory.

A crawl has images at `/img` and at `/img/1.jpg`. A file system can't hold both under their names. Which name changes
must not depend on which image is placed first, so all names are compared before any image is placed.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import PCollection

from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import Flag, Status, Verdict
from beam_dedup.core.paths import copy_name, duplicate_name, name_hash
from transforms.batching import verdicts_in

_SHARDS = 16  # parts of the hashes, each of which meets in the memory of one worker
_FILES, _DIRECTORIES = b"f", b"d"
_HASHES = np.dtype(">u8")


@dataclasses.dataclass
class FindClashes(beam.PTransform[PCollection[VerdictBlock], PCollection[bytes]]):
    """Finds paths that are the copy of one image and a directory of the copies of others.

    Element in: a block of `VERDICTS`. Element out: 64-bit hashes (`name_hash`) of such paths, 8 bytes each, big-endian;
    no element if there are none. Bounded. Counts nothing.

    Args:
      duplicates: whether duplicates are placed too.
      portable: whether names are chosen that are different on every file system.
    """

    duplicates: bool = False
    portable: bool = False

    def expand(self, verdicts: PCollection[VerdictBlock]) -> PCollection[bytes]:
        return (
            verdicts
            | "Hash" >> beam.FlatMap(path_hashes, self.duplicates, self.portable)
            | "ByHash" >> beam.GroupByKey()
            | "Compare" >> beam.FlatMap(common_hashes)
        )


def named_copies(
    verdicts: Iterable[Verdict], duplicates: bool, portable: bool
) -> Iterator[tuple[Verdict, Callable[[str], str]]]:
    """Yields each image that is placed, and the function that returns the path of a copy by its name."""
    for verdict in verdicts:
        if Flag.DESCRIBED in verdict.flags:
            continue
        if verdict.status == Status.KEPT:
            yield verdict, functools.partial(copy_name, portable=portable)
        elif verdict.status == Status.DUPLICATE and duplicates:
            yield verdict, functools.partial(duplicate_name, verdict.group, portable=portable)


def path_hashes(block: VerdictBlock, duplicates: bool, portable: bool) -> Iterator[tuple[bytes, bytes]]:
    """Yields hashes of the paths of copies and of their directories, keyed by shard."""
    files: set[int] = set()
    directories: set[int] = set()
    for verdict, named in named_copies(verdicts_in(block), duplicates, portable):
        path = named(verdict.ref.name)
        files.add(name_hash(path))
        while "/" in path:
            path = path.rpartition("/")[0]
            hashed = name_hash(path)
            if hashed in directories:
                break
            directories.add(hashed)
    for kind, hashes in ((_FILES, files), (_DIRECTORIES, directories)):
        array = np.fromiter(hashes, np.uint64, len(hashes))
        shard = array % np.uint64(_SHARDS)
        for number in np.unique(shard).tolist():
            yield b"%d" % number, kind + array[shard == number].astype(_HASHES).tobytes()


def common_hashes(shard: tuple[bytes, Iterable[bytes]]) -> Iterator[bytes]:
    """Yields the hashes that are those of a copy and of a directory, if there are any."""
    found: dict[bytes, list[bytes]] = {_FILES: [], _DIRECTORIES: []}
    for packed in shard[1]:
        found[packed[:1]].append(packed[1:])
    files, directories = (np.frombuffer(b"".join(found[kind]), _HASHES) for kind in (_FILES, _DIRECTORIES))
    common = np.intersect1d(files, directories)
    if len(common):
        yield common.astype(_HASHES).tobytes()


def unpacked(hashes: Iterable[bytes]) -> frozenset[int]:
    """Returns the hashes in the elements of `FindClashes`."""
    return frozenset(np.frombuffer(b"".join(hashes), _HASHES).tolist())
