"""Blocks: many images in one element, packed as Arrow record batches.

An engine pays per element and per state access, microseconds to a millisecond; arrays cost nanoseconds a row. So
between the steps no single image travels but blocks, as bytes of the schemas below. Bytes, because every runner has
the same coder for them.

Text is stored as bytes (`surrogateescape`), so that names which are not UTF-8 survive. Images are told apart by their
rank (`beam_dedup.core.rank`), whose bytes sort in the order of preference and end with the URI.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.codes import BoolArray, IntArray

_CODE = pa.struct([("view", pa.uint8()), ("kind", pa.uint8()), ("data", pa.binary())])

_LEARNT = [  # all that a Fingerprint says beyond which image it is of
    ("name", pa.binary()),
    ("metadata", pa.binary()),
    ("digest", pa.binary(32)),
    ("size_bytes", pa.int64()),
    ("modified_ms", pa.int64()),
    ("format", pa.binary()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("algorithm", pa.binary()),
    ("flags", pa.binary()),
    ("detail", pa.binary()),
    ("codes", pa.list_(_CODE)),
]

# Images as they were read.
FINGERPRINTS = pa.schema([("uri", pa.binary()), ("known", pa.bool_()), *_LEARNT])

# The same as they are judged: the rank tells the URI and whether the image is known. Large: all ranks of millions of
# images in one table may be more than 2 GiB.
IMAGES = pa.schema([("rank", pa.large_binary()), *_LEARNT])

# All of a Verdict.
VERDICTS = pa.schema(
    [
        ("uri", pa.binary()),
        ("name", pa.binary()),
        ("metadata", pa.binary()),
        ("status", pa.binary()),
        ("reason", pa.binary()),  # null if kept
        ("digest", pa.binary()),
        ("fingerprint", pa.binary()),
        ("algorithm", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("format", pa.binary()),
        ("size_bytes", pa.int64()),
        ("flags", pa.binary()),
        ("detail", pa.binary()),
        ("kept_uri", pa.binary()),  # of the witness; null without one, as all that follows
        ("kept_digest", pa.binary()),
        ("distance", pa.int32()),
        ("long_distance", pa.int32()),
        ("view", pa.uint8()),
    ]
)

# What near matching needs; one row per code. `home` is the number of the image's home, which gets the answer.
CODES = pa.schema(
    [
        ("digest_shard", pa.int32()),
        ("rank", pa.large_binary()),
        ("digest", pa.binary(32)),
        ("view", pa.uint8()),
        ("kind", pa.uint8()),
        ("data", pa.binary()),
        ("kept", pa.bool_()),  # known, or found to be; False also for "not decided yet"
    ]
)

# What places say of images: they have a better neighbour, or perhaps a worse one; they lie near an anchor.
FLAGS = pa.schema([("rank", pa.large_binary()), ("better", pa.bool_()), ("worse", pa.bool_())])

# Duplicates and their witnesses.
MARKS = pa.schema(
    [
        ("rank", pa.large_binary()),
        ("kept_rank", pa.large_binary()),
        ("kept_digest", pa.binary(32)),
        ("distance", pa.int32()),
        ("long_distance", pa.int32()),
        ("view", pa.uint8()),
    ]
)

# A block of each schema, as the steps pass it on. Plain aliases: Beam 2.77 infers Any for a NewType.
FingerprintBlock = bytes  # rows of FINGERPRINTS
ImageBlock = bytes  # rows of IMAGES
VerdictBlock = bytes  # rows of VERDICTS
CodeBlock = bytes  # rows of CODES
FlagBlock = bytes  # rows of FLAGS
MarkBlock = bytes  # rows of MARKS


def dump(table: pa.Table) -> bytes:
    """A block as bytes. The schema is not among them: the reader knows which it is."""
    batches = table.combine_chunks().to_batches()
    rows = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    return bytes(rows.serialize())


def load(blocks: Iterable[bytes | memoryview], schema: pa.Schema) -> pa.Table:
    """All rows of some blocks, in one table."""
    batches = [batch(block, schema) for block in blocks]
    return pa.Table.from_batches(batches, schema=schema).combine_chunks()


def batch(block: bytes | memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """The rows of one block, as they lie in it."""
    return pa.ipc.read_record_batch(pa.py_buffer(block), schema)


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def split(table: pa.Table, part: npt.NDArray[Any]) -> Iterator[tuple[int, pa.Table]]:
    """The rows of each part, as (part, rows), for the part number of each row."""
    order = np.argsort(part, kind="stable")
    numbers, starts = np.unique(part[order], return_index=True)
    rows = table.take(pa.array(order))
    ends = np.append(starts, len(order))[1:]
    for number, start, end in zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True):
        yield number, rows.slice(start, end - start)


def begins(column: pa.ChunkedArray) -> BoolArray:
    """Where a value of a sorted column differs from the one before it: the first row of each value."""
    values = column.combine_chunks()
    first = np.ones(len(values), dtype=bool)
    if len(values) > 1:
        first[1:] = np.asarray(pc.not_equal(values[1:], values[:-1]))
    return first


def digest_shards(table: pa.Table, count: int) -> IntArray:
    """Where each image's block is: its digest modulo `count`. Images of one digest share a home."""
    head = fixed_bytes(table["digest"], 32)[:, :4].copy().view(">u4")[:, 0]
    return (head % np.uint32(count)).astype(np.int64)


def fixed_bytes(column: pa.ChunkedArray, size: int) -> npt.NDArray[np.uint8]:
    """A column of fixed width as an array of (rows, size) bytes."""
    array = column.combine_chunks()
    raw = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.zeros(0, np.uint8)
    return raw[array.offset * size : (array.offset + len(array)) * size].reshape(-1, size)


def joined(column: pa.ChunkedArray) -> bytes:
    """All bytes of a column of binaries, one after the other."""
    array = column.combine_chunks()
    if not len(array):
        return b""
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return bytes(array.buffers()[2][int(offsets[0]) : int(offsets[-1])])
