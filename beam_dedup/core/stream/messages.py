"""How the blocks of messages are packed.

What has a fixed size is packed as rows, one after the other: such blocks are joined by joining their bytes. What has
names in it is an Arrow record batch (`beam_dedup.core.blocks`). Images are told apart by their numbers (`image`).
"""

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VERDICTS
from beam_dedup.core.codes import BASE, NO_DISTANCE, PROFILE_BYTES, ByteArray, Codes, IntArray
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream.protocol import Block, Message, Step, StreamPlan, Topic, body_of, digest_shard_key

Rows = npt.NDArray[np.void]
Columns = dict[str, npt.NDArray[Any]]

# Flags of a code.
KNOWN = 1  # of an image that is kept beforehand: nobody waits for an answer
FIRST = 2  # its image had no predecessor where the code is remembered, or is known: it may be an anchor

NOBODY = -1

# PROFILES: codes of flat pictures.
PROFILE_ROWS = np.dtype(
    [
        ("image", "<i8"),
        ("pixels", "u1", (PROFILE_BYTES,)),
        ("view", "u1"),
        ("kind", "u1"),
        ("flags", "u1"),
    ]
)

# ANSWERS of a key. A row that names nobody says how many codes of the image have come (`count`), whether it has
# predecessors (`near`), and in how many more rows some of these are named: those that may be anchors. In such a row,
# `count` says how many have been made one.
ANSWER_ROWS = np.dtype(
    [
        ("image", "<i8"),
        ("other", "<i8"),
        ("count", "<u4"),
        ("named", "<u4"),
        ("near", "u1"),
        ("view", "u1"),
        ("distance", "<i2"),
        ("long_distance", "<i2"),  # NO_DISTANCE where there is none
    ]
)

# QUESTIONS: is `other` an anchor? `image` wants to know.
QUESTION_ROWS = np.dtype(
    [("image", "<i8"), ("other", "<i8"), ("view", "u1"), ("distance", "<i2"), ("long_distance", "<i2")]
)

# What arrives, before it is read.
ARRIVALS = pa.schema([("identity", pa.binary(16)), ("reference", pa.binary())])

_NAMES = [("uri", pa.binary()), ("digest", pa.binary(32))]
_CODES = [("codes", pa.binary()), ("profiles", pa.binary())]  # rows of all codes of the image
_HOW = [("distance", pa.int32()), ("long_distance", pa.int32()), ("view", pa.uint8())]

# A new image, and how many of its codes are to be answered. UNDECIDED: how many questions.
OPENED = pa.schema([("image", pa.int64()), ("expected", pa.int64()), *_NAMES, *_CODES])
UNDECIDED = OPENED
ORPHANS = pa.schema([("image", pa.int64()), *_NAMES, *_CODES])

# Of an anchor its names; null for other images.
STATUSES = pa.schema([("image", pa.int64()), *_NAMES])

# The answer to a question; names of the other, if it is an anchor.
REPLIES = pa.schema([("image", pa.int64()), ("other", pa.int64()), *_HOW, *_NAMES])

# Whether an image is kept, and the witness of the copies of its bytes: itself, or its own witness.
OUTCOMES = pa.schema([("image", pa.int64()), ("kept", pa.bool_()), *_NAMES, *_HOW])

# What a verdict says of an image itself. image: the number of the one whose fate it shares. copy: it is not that one.
OWN = (
    "uri", "name", "metadata", "digest", "fingerprint", "algorithm",
    "width", "height", "format", "size_bytes", "flags", "detail",
)  # fmt: skip
DETAILS = pa.schema(
    [
        ("image", pa.int64()),
        ("copy", pa.bool_()),
        ("known", pa.bool_()),
        *(VERDICTS.field(name) for name in OWN),
    ]
)

SCHEMAS = {
    Topic.ARRIVALS: ARRIVALS,
    Topic.FINGERPRINTS: blocks.FINGERPRINTS,
    Topic.OPENED: OPENED,
    Topic.STATUSES: STATUSES,
    Topic.REPLIES: REPLIES,
    Topic.UNDECIDED: UNDECIDED,
    Topic.ORPHANS: ORPHANS,
    Topic.DETAILS: DETAILS,
    Topic.OUTCOMES: OUTCOMES,
    Topic.VERDICTS: VERDICTS,
}


@functools.cache
def code_rows(words: int) -> np.dtype[np.void]:
    """CODES: rows of codes that are not flat, of so many words."""
    word_fields = [(f"word{number}", "<u8") for number in range(words)]
    return np.dtype([("image", "<i8"), *word_fields, ("view", "u1"), ("kind", "u1"), ("flags", "u1")])


def rows_of(parts: Iterable[Block], dtype: np.dtype[np.void]) -> Rows:
    """All rows of some blocks."""
    return np.frombuffer(b"".join(parts), dtype)


def joined(messages: Iterable[Message]) -> list[Message]:
    """The same messages, those of one topic for one key in one block: what an engine moves is paid by the piece."""
    parts: dict[tuple[Step, bytes, int], list[bytes]] = {}
    for to, key, body in messages:
        parts.setdefault((to, key, body[-1]), []).append(body)
    return [Message(to, key, _joined(Topic(topic), bodies)) for (to, key, topic), bodies in parts.items()]


def _joined(topic: Topic, bodies: list[bytes]) -> bytes:
    if len(bodies) == 1:
        return bodies[0]
    schema = SCHEMAS.get(topic)
    parts = [memoryview(body)[:-1] for body in bodies]
    return body_of(topic, b"".join(parts) if schema is None else blocks.dump(blocks.load(parts, schema)))


def bodies_of(*contents: tuple[Topic, Rows | pa.Table]) -> list[bytes]:
    """Rows or tables, as far as there is something in them, as the bodies of messages."""
    return [
        body_of(topic, content.tobytes() if isinstance(content, np.ndarray) else blocks.dump(content))
        for topic, content in contents
        if len(content)
    ]


def send(to: Step, key: bytes, topic: Topic, content: Rows | pa.Table) -> list[Message]:
    """One message, or none if there is nothing to say."""
    return [Message(to, key, body) for body in bodies_of((topic, content))]


def send_to_digest_shards(
    plan: StreamPlan, to: Step, topic: Topic, content: Rows | pa.Table, image: IntArray
) -> list[Message]:
    """Rows or a table, to the homes of the images that each row is for."""
    shard = image % plan.digest_shards
    sent = []
    for number in np.unique(shard).tolist():
        here = shard == number
        part = content[here] if isinstance(content, np.ndarray) else content.filter(pa.array(here))
        sent += send(to, digest_shard_key(number), topic, part)
    return sent


def columnar(rows: Rows) -> bytes:
    """Rows as columns, one after the other, which takes as many bytes."""
    return b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in rows.dtype.names or ())


def columns_of(data: Block, dtype: np.dtype[np.void]) -> Columns:
    """What `columnar` packed."""
    n, at, found = len(data) // dtype.itemsize, 0, {}
    for name, base, shape, items in _fields_of(dtype):
        found[name] = np.frombuffer(data, base, n * items, at).reshape(n, *shape)
        at += n * items * base.itemsize
    return found


@functools.cache
def _fields_of(dtype: np.dtype[np.void]) -> list[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Name, type, shape and number of items of each field."""
    fields = [(name, dtype[name]) for name in dtype.names or ()]
    return [(name, field.base, field.shape, math.prod(field.shape)) for name, field in fields]


def rows_from_codes(codes: Codes, flags: npt.NDArray[np.uint8], words: int) -> tuple[Rows, Rows]:
    """CODES of the rows that are not flat, and PROFILES of those that are.

    Raises:
      ValueError: a code has more words.
    """
    hashed, flat = codes.hashed, codes.flat
    if words == 1 and np.isin(codes.kind[hashed], (CodeKind.FULL, CodeKind.WIDE)).any():
        raise ValueError("a code has 4 words, but the plan of the stream says 1")
    rows = np.zeros(len(hashed), code_rows(words))
    rows["word0"] = codes.short[hashed]
    for number in range(1, words):
        rows[f"word{number}"] = codes.long[hashed, number]
    profiles = np.zeros(len(flat), PROFILE_ROWS)
    profiles["pixels"] = codes.pixels
    for part, chosen in ((rows, hashed), (profiles, flat)):
        part["image"], part["flags"] = codes.image[chosen], flags[chosen]
        part["view"], part["kind"] = codes.view[chosen], codes.kind[chosen]
    return rows, profiles


def codes_from_rows(rows: Rows) -> Codes:
    """Codes of rows of either sort."""
    n = len(rows)
    long = np.zeros((n, 4), np.uint64)
    short = np.zeros(n, np.uint64)
    pixels = np.zeros((0, PROFILE_BYTES), np.uint8)
    if "pixels" in (rows.dtype.names or ()):
        pixels = np.ascontiguousarray(rows["pixels"])
    else:
        short[:] = rows["word0"]
        if "word3" in (rows.dtype.names or ()):
            for number in range(4):
                long[:, number] = rows[f"word{number}"]
    image, view, kind = (np.ascontiguousarray(rows[name]) for name in ("image", "view", "kind"))
    return Codes(image, view, kind, short, long, pixels)


def packed_by_image(rows: Rows, images: IntArray) -> pa.Array:
    """The rows of each image as binaries; rows and images in the same order of images."""
    offsets = np.concatenate([[0], np.cumsum(occurrences(rows["image"], images))]) * rows.dtype.itemsize
    return pa.Array.from_buffers(
        pa.binary(),
        len(images),
        [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), pa.py_buffer(rows.tobytes())],
    )


def numbers(table: pa.Table, name: str = "image") -> IntArray:
    return np.asarray(table[name].combine_chunks())


def occurrences(ordered: IntArray, wanted: IntArray) -> IntArray:
    """How often each wanted number is among ordered ones.

    >>> occurrences(np.array([1, 3, 3]), np.array([3, 2, 1])).tolist()
    [2, 0, 1]
    """
    return np.searchsorted(ordered, wanted, side="right") - np.searchsorted(ordered, wanted)


def kept_outcomes(image: IntArray, names: pa.Table) -> pa.Table:
    """Of images that are kept, given their own names: a copy is a duplicate of the image itself."""
    zeros = np.zeros(len(image), np.int64)
    return _outcomes(image, True, names, zeros, zeros + NO_DISTANCE, np.full(len(image), BASE, np.uint8))


def duplicate_outcomes(
    image: IntArray, names: pa.Table, distance: IntArray, long_distance: IntArray, view: ByteArray
) -> pa.Table:
    """Of duplicates, given the names of their witnesses: a copy has the same witness."""
    return _outcomes(image, False, names, distance, long_distance, view)


def _outcomes(
    image: IntArray,
    is_kept: bool,
    names: pa.Table,
    distance: IntArray,
    long_distance: IntArray,
    view: ByteArray,
) -> pa.Table:
    columns = [
        pa.array(image, pa.int64()),
        pa.array(np.full(len(image), is_kept)),
        names["uri"],
        names["digest"],
        pa.array(distance, pa.int32()),
        pa.array(long_distance, pa.int32(), mask=long_distance == NO_DISTANCE),
        pa.array(view, pa.uint8()),
    ]
    return pa.Table.from_arrays(columns, schema=OUTCOMES)
