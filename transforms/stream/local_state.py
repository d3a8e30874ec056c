"""Keeps what a local stream needs to resume, beside its records, in a state directory.

codes-*.blocks        the codes of all images, by digest; appended to
undelivered-*.block   verdicts whose records are written, but whose copies and messages may be missing
processes             the numbers of processes that started to write and did not finish
missing-*             empty; named by the digests of kept images without a copy (`transforms.stand_ins`)
lock                  empty; locked by the running process

Everything in the directory is read with care. A file that is damaged, or is no regular file, raises a `DedupError` that
names it. It is never skipped: the new images would silently be compared with fewer images. The one exception is a last
block of codes that was cut while it was appended: the images of that block have no records yet.
"""

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.codes import MAX_KIND, VIEWS, code_bytes
from beam_dedup.core.errors import DedupError
from transforms.storage.files import named_if_full, open_regular, whole_file

CODES = pa.schema([("digest", pa.binary(32)), blocks.FINGERPRINTS.field("codes")])

_CODES_PREFIX, _CODES_SUFFIX = "codes-", ".blocks"
_UNDELIVERED_PREFIX, _UNDELIVERED_SUFFIX = "undelivered-", ".block"
_PROCESSES, _LOCK = "processes", "lock"
WITHOUT_CODES = "without it, new images are only compared with the base views of images kept before"
WITHOUT_UNDELIVERED = "without it, copies and messages for the records of that name may be missing"
WITHOUT_PROCESSES = "without it, partial files of killed runs are not removed"
WITHOUT_LOCK = "it is made again"
_LENGTH = struct.Struct(">Q")
_MESSAGE_START = b"\xff" * 4  # of each block, as Arrow writes it
_MESSAGE_HEAD_BYTES = 8  # before the metadata of a block: the start, and their length
_MAX_PROCESS_DIGITS = 9


@contextlib.contextmanager
def exclusive_lock(folder: str) -> Iterator[None]:
    """Holds the lock of a state directory. The lock also ends with the process, however that ends.

    Raises:
      BlockingIOError: another process holds the lock.
      DedupError: the lock is no regular file.
    """
    _check_readable(os.path.join(folder, _LOCK), WITHOUT_LOCK)
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

    Raises:
      DedupError: the file of the numbers is no regular file.
    """
    path = os.path.join(folder, _PROCESSES)
    _check_readable(path, WITHOUT_PROCESSES)
    with named_if_full(path), open(path, "a+", encoding="ascii", errors="replace") as file:
        file.seek(0)
        lines = file.read().split()
        before = sorted(
            {int(line) for line in lines if line.isdecimal() and len(line) <= _MAX_PROCESS_DIGITS}
        )
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
    """Appends a table of `CODES` to a file, as a block with its length; if that fails, nothing is left of it."""
    block = blocks.dump(codes.cast(CODES))
    data = memoryview(_LENGTH.pack(len(block)) + block)
    with named_if_full(path), open(path, "ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            while data:
                data = data[file.write(data) :]
        except OSError:
            file.truncate(before)
            raise


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
    parts = [_wanted(codes, digests) for path in paths for codes in _codes_in(path)]
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


def _codes_in(path: str) -> Iterator[pa.Table]:
    for block in read_blocks(path):
        codes = _loaded(block, CODES, path, WITHOUT_CODES)
        if not _are_codes(codes):
            raise _damaged(path, WITHOUT_CODES)
        yield codes


def _are_codes(table: pa.Table) -> bool:
    """Returns whether all codes in a table of `CODES` are of known views and kinds, and of the length of their kind."""
    codes = table["codes"].combine_chunks().flatten()
    view, kind = (np.asarray(codes.field(name)) for name in ("view", "kind"))
    if (view >= len(VIEWS)).any() or (kind > MAX_KIND).any():
        return False
    return bool((np.asarray(pc.binary_length(codes.field("data"))) == code_bytes(kind)).all())


def read_blocks(path: str) -> Iterator[bytes]:
    """Yields the blocks of a file. A last block that was cut while it was appended is left out.

    Raises:
      DedupError: the file is damaged, or no regular file.
    """
    with _opened(path, WITHOUT_CODES) as file:
        left = os.fstat(file.fileno()).st_size
        while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            left -= _LENGTH.size
            block = file.read(min(length, left))
            if length > left:
                if not _is_cut(block):
                    raise _damaged(path, WITHOUT_CODES)
                return
            left -= length
            yield block


def _is_cut(data: bytes) -> bool:
    """Returns whether data are the beginning of a block. If a whole block is there, its length is damaged."""
    if not data.startswith(_MESSAGE_START[: len(data)]):
        return False
    try:
        pa.ipc.read_message(data)
    except (pa.ArrowException, OSError, EOFError):
        return True
    return False


def _loaded(block: bytes, schema: pa.Schema, path: str, without: str) -> pa.Table:
    """Loads a block. path and without (what its loss means) are for the error message.

    Raises:
      DedupError: the block is damaged, or other data follow it.
    """
    try:
        message = pa.ipc.read_message(block)
        table = blocks.load([block], schema)
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _damaged(path, without) from error
    if len(block) != _MESSAGE_HEAD_BYTES + message.metadata.size + message.body.size:
        raise _damaged(path, without)
    return table


def _opened(path: str, without: str) -> BinaryIO:
    """Opens a file of the state directory for reading.

    Raises:
      DedupError: it cannot be read, or is no regular file.
    """
    try:
        return open_regular(path)
    except OSError as error:
        raise DedupError(
            f"{path} cannot be read: {error.strerror}; move it elsewhere and start again ({without})"
        ) from error


def _check_readable(path: str, without: str) -> None:
    if os.path.lexists(path):
        _opened(path, without).close()


def _damaged(path: str, without: str) -> DedupError:
    return DedupError(f"{path} is damaged; move it elsewhere and start again ({without})")


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
        with _opened(path, WITHOUT_UNDELIVERED) as file:
            block = file.read()
        _loaded(block, blocks.VERDICTS, path, WITHOUT_UNDELIVERED)
        yield name, block


def _files(folder: str, prefix: str, suffix: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    names = sorted(name for name in os.listdir(folder) if name.startswith(prefix) and name.endswith(suffix))
    return [os.path.join(folder, name) for name in names]
