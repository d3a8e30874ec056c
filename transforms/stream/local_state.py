"""What a stream on this machine needs to go on after it was stopped, beside its records: kept in a folder of its own.

codes-*.blocks        the codes of all images, by digest; appended to
undelivered-*.block   verdicts whose records are written, but whose copies and messages may not be made yet
processes             the numbers of processes that began to write and did not come to their end
lock                  empty; held by the one that runs
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.errors import DedupError
from transforms.storage.files import whole_file

CODES = pa.schema([("digest", pa.binary(32)), blocks.FINGERPRINTS.field("codes")])

_CODES_PREFIX, _CODES_SUFFIX = "codes-", ".blocks"
_UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX = "undelivered-", ".block"
_PROCESSES, _LOCK = "processes", "lock"
_WITHOUT_CODES = "without it only the whole of pictures that were kept before is compared"
_WITHOUT_UNDELIVERED = "without it copies and messages of the records of that name may be missing"
_LENGTH = struct.Struct(">Q")


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """While this lasts, nobody else goes on from this folder. It ends with the process, however that ends.

    Raises:
      BlockingIOError: somebody does.
    """
    with open(os.path.join(folder, _LOCK), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a file system without locks: all that can be done was tried
            pass
        yield


def begun(folder: str) -> list[int]:
    """Notes that this process writes. Returns: the processes that did so before, and were killed."""
    path = os.path.join(folder, _PROCESSES)
    with open(path, "a+", encoding="ascii", errors="replace") as file:
        file.seek(0)
        before = sorted({int(line) for line in file.read().split() if line.isdecimal()})
        file.write(f"{os.getpid()}\n")
    return before


def ended(folder: str) -> None:
    """This process has finished all that it began to write, and what was left by those before it is removed."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, _PROCESSES))


class RememberCodesFn(beam.DoFn):
    """Blocks of `blocks.FINGERPRINTS`, which are passed on, and their codes appended to a file."""

    def __init__(self, folder: str, run: str) -> None:
        self.path = os.path.join(folder, f"{_CODES_PREFIX}{run}{_CODES_SUFFIX}")

    def process(self, block: bytes) -> Iterator[bytes]:
        append(self.path, blocks.load([block], blocks.FINGERPRINTS).select(CODES.names))
        yield block


def append(path: str, codes: pa.Table) -> None:
    """Appends a table of `CODES`."""
    block = blocks.dump(codes.cast(CODES))
    with open(path, "ab") as file:
        file.write(_LENGTH.pack(len(block)) + block)


def codes_of(folder: str, digests: pa.Array) -> pa.Table:
    """The codes of some images, each once, as far as they are there (`CODES`); and forgets those of all others."""
    paths = _files(folder, _CODES_PREFIX, _CODES_SUFFIX)
    parts = [
        _wanted(_loaded(block, CODES, path, _WITHOUT_CODES), digests)
        for path in paths
        for block in _blocks(path)
    ]
    found = pa.concat_tables([CODES.empty_table(), *parts]).combine_chunks()
    first = found.append_column("row", pa.array(range(len(found)), pa.int64()))
    rows = first.group_by("digest").aggregate([("row", "min")])["row_min"]
    found = found.take(rows)
    if paths:
        with whole_file(os.path.join(folder, f"{_CODES_PREFIX}0{_CODES_SUFFIX}")) as file:
            block = blocks.dump(found)
            file.write(_LENGTH.pack(len(block)) + block)
        for path in paths:
            if os.path.basename(path) != f"{_CODES_PREFIX}0{_CODES_SUFFIX}":
                os.remove(path)
    return found


def _wanted(codes: pa.Table, digests: pa.Array) -> pa.Table:
    return codes.filter(pc.is_in(codes["digest"].cast(pa.binary()), value_set=digests))


def _blocks(path: str) -> Iterator[bytes]:
    """The blocks of a file; the last may have been cut off."""
    left = os.path.getsize(path)
    with open(path, "rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            left -= _LENGTH.size + length
            if left < 0:
                return
            yield file.read(length)


def _loaded(block: bytes, schema: pa.Schema, path: str, without: str) -> pa.Table:
    """
    Raises:
      DedupError: it is damaged.
    """
    try:
        return blocks.load([block], schema)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DedupError(f"{path} is damaged: put it elsewhere, and start again; {without}") from error


def note_undelivered(folder: str, name: str, block: bytes) -> None:
    """Notes verdicts before their records get a name."""
    path = os.path.join(folder, f"{_UNDELIVERED_PREFIX}{name}{_UNDELIVERED_SUFFIX}")
    with whole_file(path, lasting=True) as file:
        file.write(block)


def forget_undelivered(folder: str) -> None:
    """All that was recorded is delivered."""
    for path in _files(folder, _UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX):
        os.remove(path)


def undelivered(folder: str) -> Iterator[tuple[str, bytes]]:
    """Names of what was recorded and may not be delivered, and the verdicts."""
    for path in _files(folder, _UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX):
        name = os.path.basename(path)[len(_UNDELIVERED_PREFIX) : -len(_UNDELIVERED_SUFFIX)]
        with open(path, "rb") as file:
            block = file.read()
        _loaded(block, blocks.VERDICTS, path, _WITHOUT_UNDELIVERED)
        yield name, block


def _files(folder: str, prefix: str, suffix: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    names = sorted(name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(suffix))
    return [os.path.join(folder, name) for name in names]
