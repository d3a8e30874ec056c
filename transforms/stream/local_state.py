"""Keeps what a local stream needs to resume, beside its records, in a state directory.

codes-*.blocks        the codes of all images, by digest; appended to
undelivered-*.block   verdicts whose records are written, but whose copies and messages may be missing
processes             the numbers of processes that started to write and did not finish
lock                  empty; locked by the running process
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
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.errors import DedupError
from transforms.storage.files import whole_file

CODES = pa.schema([("digest", pa.binary(32)), blocks.FINGERPRINTS.field("codes")])

_CODES_PREFIX, _CODES_SUFFIX = "codes-", ".blocks"
_UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX = "undelivered-", ".block"
_PROCESSES, _LOCK = "processes", "lock"
WITHOUT_CODES = "without it, new images are only compared with the base views of images kept before"
WITHOUT_UNDELIVERED = "without it, copies and messages for the records of that name may be missing"
_LENGTH = struct.Struct(">Q")


@contextlib.contextmanager
def exclusive_lock(folder: str) -> Iterator[None]:
    """Holds the lock of a state directory. The lock also ends with the process, however that ends.

    Raises:
      BlockingIOError: another process holds the lock.
    """
    with open(os.path.join(folder, _LOCK), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # the file system has no locks
            pass
        yield


def note_started(folder: str) -> list[int]:
    """Notes that this process has started to write.

    Returns:
      The numbers of the processes that noted this before and did not finish: they were killed.
    """
    path = os.path.join(folder, _PROCESSES)
    with open(path, "a+", encoding="ascii", errors="replace") as file:
        file.seek(0)
        before = sorted({int(line) for line in file.read().split() if line.isdecimal()})
        file.write(f"{os.getpid()}\n")
    return before


def note_finished(folder: str) -> None:
    """Notes that this process has finished its files, and those left by killed processes are removed."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, _PROCESSES))


class SaveCodesFn(beam.DoFn):
    """Appends the codes in blocks of `blocks.FINGERPRINTS` to a file, and passes the blocks on."""

    def __init__(self, folder: str, run: str) -> None:
        self.path = os.path.join(folder, f"{_CODES_PREFIX}{run}{_CODES_SUFFIX}")

    def process(self, block: FingerprintBlock) -> Iterator[FingerprintBlock]:
        append(self.path, blocks.load([block], blocks.FINGERPRINTS).select(CODES.names))
        yield block


def append(path: str, codes: pa.Table) -> None:
    """Appends a table of `CODES` to a file, as a block with its length."""
    block = blocks.dump(codes.cast(CODES))
    with open(path, "ab") as file:
        file.write(_LENGTH.pack(len(block)) + block)


def take_codes(folder: str, digests: pa.Array) -> pa.Table:
    """Returns the stored codes of some images, and removes those of all others.

    Args:
      folder: the state directory.
      digests: of the images.

    Returns:
      One row of `CODES` per image whose codes are stored.

    Raises:
      DedupError: a file is damaged.
    """
    paths = _files(folder, _CODES_PREFIX, _CODES_SUFFIX)
    parts = [
        _wanted(_loaded(block, CODES, path, WITHOUT_CODES), digests)
        for path in paths
        for block in read_blocks(path)
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


def read_blocks(path: str) -> Iterator[bytes]:
    """Yields the blocks of a file. A last block that is incomplete is left out."""
    left = os.path.getsize(path)
    with open(path, "rb") as file:
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            left -= _LENGTH.size + length
            if left < 0:
                return
            yield file.read(length)


def _loaded(block: bytes, schema: pa.Schema, path: str, without: str) -> pa.Table:
    """Loads a block. path and without (what its loss means) are for the error message.

    Raises:
      DedupError: the block is damaged.
    """
    try:
        return blocks.load([block], schema)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise DedupError(f"{path} is damaged; move it elsewhere and start again ({without})") from error


def note_undelivered(folder: str, name: str, block: VerdictBlock) -> None:
    """Saves verdicts before the file of their records gets its name.

    name: of the records, without prefix and suffix.
    """
    path = os.path.join(folder, f"{_UNDELIVERED_PREFIX}{name}{_UNDELIVERED_SUFFIX}")
    with whole_file(path, lasting=True) as file:
        file.write(block)


def forget_undelivered(folder: str) -> None:
    """Removes the saved verdicts: the copies and messages of all recorded verdicts are made."""
    for path in _files(folder, _UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX):
        os.remove(path)


def undelivered(folder: str) -> Iterator[tuple[str, VerdictBlock]]:
    """Yields the saved verdicts, whose copies and messages may be missing, with the name of their records.

    Raises:
      DedupError: a file is damaged.
    """
    for path in _files(folder, _UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX):
        name = os.path.basename(path)[len(_UNDELIVERED_PREFIX) : -len(_UNDELIVERED_SUFFIX)]
        with open(path, "rb") as file:
            block = file.read()
        _loaded(block, blocks.VERDICTS, path, WITHOUT_UNDELIVERED)
        yield name, block


def _files(folder: str, prefix: str, suffix: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    names = sorted(name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(suffix))
    return [os.path.join(folder, name) for name in names]
