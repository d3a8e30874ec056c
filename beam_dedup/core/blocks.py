"""Defines blocks: Arrow record batches with many images, serialised to bytes, one block per element.

A runner's cost is per element and per state access, from microseconds to a millisecond each; the cost of a
row of an array is nanoseconds. So the steps exchange blocks instead of single images. A block is `bytes`
because every runner encodes bytes in the same way, and has one of the schemas below.

Text columns hold bytes (`surrogateescape`), so that names which are not UTF-8 survive. An image is
identified by its rank (`beam_dedup.core.rank`), whose bytes sort in the order of preference and end with
the URI.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.codes import BoolArray, IntArray

_CODE = pa.struct([("view", pa.uint8()), ("kind", pa.uint8()), ("data", pa.binary())])

_PROPERTIES = [  # the fields of a Fingerprint, except those that identify the image
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
    ("identity", pa.binary()),
    ("companions", pa.binary()),  # as `beam_dedup.core.companions.to_column` returns them
    ("codes", pa.list_(_CODE)),
]

# Images after reading: the rows are Fingerprints.
FINGERPRINTS = pa.schema(
    [
        ("uri", pa.binary()),
        ("known", pa.bool_()),
        ("taken", pa.int64()),
        ("metadata_kinds", pa.uint8()),
        *_PROPERTIES,
    ]
)
RANKED = ("uri", "known", "taken", "metadata_kinds")  # the columns that the rank replaces

# Images while they are judged. The rank contains the URI and whether the image is known. It is a
# large_binary because the ranks of millions of images in one table may take more than 2 GiB.
IMAGES = pa.schema([("rank", pa.large_binary()), *_PROPERTIES])

# The rows are Verdicts.
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
        ("kept_uri", pa.binary()),  # of the witness; this and the next four columns are null without one
        ("kept_digest", pa.binary()),
        ("distance", pa.int32()),
        ("long_distance", pa.int32()),
        ("view", pa.uint8()),
        ("kept_by", pa.binary()),
        ("companions", pa.binary()),
        (
            "union",
            pa.binary(),
        ),  # fields of the record as JSON (`beam_dedup.core.union`); null if there are none
        ("component", pa.binary()),  # lowest digest of its component; null if it was not asked for
        ("split", pa.binary()),  # null if the image is in none
        ("assigned", pa.binary()),  # the split that the image was assigned to; null if none was
    ]
)

# The last columns of VERDICTS: later steps fill them, if at all.
ADDED_LATER = ("union", "component", "split", "assigned")

# The columns that near matching needs, one row per code. `digest_shard` is the number of the image's digest
# shard, which gets the answer.
CODES = pa.schema(
    [
        ("digest_shard", pa.int32()),
        ("rank", pa.large_binary()),
        ("digest", pa.binary(32)),
        ("view", pa.uint8()),
        ("kind", pa.uint8()),
        ("data", pa.binary()),
        # True for known and protected images and those already judged as kept; False also while undecided
        ("kept", pa.bool_()),
        # The number of the input, if images of one input are no duplicates of each other; else 0
        # (`beam_dedup.core.matching.across`)
        ("input", pa.int32()),
    ]
)

# Answers of code shards about images. `better`: the image has a better-ranked neighbour (or lies near an
# anchor); `worse`: it may have a worse-ranked one.
FLAGS = pa.schema([("rank", pa.large_binary()), ("better", pa.bool_()), ("worse", pa.bool_())])

# Duplicates and their witnesses, one row per duplicate and code shard.
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

# Pairs of different contents within k, each once: the digests a < b, the least distance at which they match, and the
# view of one of them that matched the base of the other.
PAIRS = pa.schema(
    [
        ("a", pa.binary(32)),
        ("b", pa.binary(32)),
        ("distance", pa.int32()),  # null if a person declared two contents the same that can't be compared
        ("long_distance", pa.int32()),  # null if one of the two has no long code
        ("view", pa.uint8()),
    ]
)

# Contents whose codes equal those of another one, which is compared in their place.
TWINS = pa.schema(
    [("digest", pa.binary(32)), ("representative", pa.binary(32)), ("has_long_code", pa.bool_())]
)

# Contents and the components that they belong to. A component is named by the lowest digest in it.
COMPONENTS = pa.schema([("digest", pa.binary(32)), ("component", pa.binary(32))])

# The first image of each content, by rank.
NAMES = pa.schema([("digest", pa.binary(32)), ("uri", pa.binary()), ("known", pa.bool_())])

# Pairs and names of the contents of single splits, given by the number of the split; -1 for no split. `a` and `b` may be
# equal if the splits differ.
PAIRS_OF_SPLITS = pa.schema([*PAIRS, ("split_a", pa.int64()), ("split_b", pa.int64())])
NAMES_OF_SPLITS = pa.schema([*NAMES, ("split", pa.int64())])

# The types of the blocks that steps exchange. They are plain aliases, since Beam 2.77 infers Any for a
# NewType.
FingerprintBlock = bytes  # rows of FINGERPRINTS
ImageBlock = bytes  # rows of IMAGES
VerdictBlock = bytes  # rows of VERDICTS
CodeBlock = bytes  # rows of CODES
FlagBlock = bytes  # rows of FLAGS
MarkBlock = bytes  # rows of MARKS
PairBlock = bytes  # rows of PAIRS
TwinBlock = bytes  # rows of TWINS
ComponentBlock = bytes  # rows of COMPONENTS
NameBlock = bytes  # rows of NAMES


def dump(table: pa.Table) -> bytes:
    """Returns a table as one block, without its schema: whoever loads the block has to know the schema."""
    batches = table.combine_chunks().to_batches()
    rows = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    return bytes(rows.serialize())


def load(blocks: Iterable[bytes | memoryview], schema: pa.Schema) -> pa.Table:
    """Returns the rows of several blocks of one schema as one table."""
    batches = [batch(block, schema) for block in blocks]
    return pa.Table.from_batches(batches, schema=schema).combine_chunks()


def batch(block: bytes | memoryview, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the rows of one block without copying them."""
    return pa.ipc.read_record_batch(pa.py_buffer(block), schema)


def to_bytes(text: str) -> bytes:
    """Returns text as the text columns of blocks hold it."""
    return text.encode("utf-8", "surrogateescape")


def to_text(data: bytes) -> str:
    """Returns the text that `to_bytes` encoded."""
    return data.decode("utf-8", "surrogateescape")


def split(table: pa.Table, part: npt.NDArray[Any]) -> Iterator[tuple[int, pa.Table]]:
    """Yields (number, rows) for each number in `part`, in ascending order.

    Args:
      part: (rows,) the number of the part to which each row belongs.
    """
    order = np.argsort(part, kind="stable")
    numbers, starts = np.unique(part[order], return_index=True)
    rows = table.take(pa.array(order))
    ends = np.append(starts, len(order))[1:]
    for number, start, end in zip(numbers.tolist(), starts.tolist(), ends.tolist(), strict=True):
        yield number, rows.slice(start, end - start)


def first_rows(column: pa.ChunkedArray) -> BoolArray:
    """Returns a mask of the first row of each value in a sorted column."""
    values = column.combine_chunks()
    first = np.ones(len(values), dtype=bool)
    if len(values) > 1:
        first[1:] = np.asarray(pc.not_equal(values[1:], values[:-1]))
    return first


def digest_shards(table: pa.Table, count: int) -> IntArray:
    """Returns the digest shard of each image: its digest modulo `count`.

    Images with equal digests share a digest shard.
    """
    head = fixed_bytes(table["digest"], 32)[:, :4].copy().view(">u4")[:, 0]
    return (head % np.uint32(count)).astype(np.int64)


def fixed_bytes(column: pa.ChunkedArray, size: int) -> npt.NDArray[np.uint8]:
    """Returns a column of fixed-size binaries as an array of shape (rows, size)."""
    array = column.combine_chunks()
    raw = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.zeros(0, np.uint8)
    return raw[array.offset * size : (array.offset + len(array)) * size].reshape(-1, size)


def joined(column: pa.ChunkedArray) -> bytes:
    """Returns the values of a binary column, concatenated."""
    array = column.combine_chunks()
    if not len(array):
        return b""
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    return bytes(array.buffers()[2][int(offsets[0]) : int(offsets[-1])])
