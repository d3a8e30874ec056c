"""Defines the layout of the blocks in messages.

Blocks of fixed-size rows are numpy structured arrays as bytes: such blocks are joined by joining their bytes.
Blocks with names are Arrow record batches (`beam_dedup.core.blocks`). Images are identified by their numbers
(`image`).
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
from beam_dedup.core.codes import (
    BASE,
    DETAIL_WORDS,
    LONG_WORDS,
    NO_DISTANCE,
    PROFILE_BYTES,
    ByteArray,
    Codes,
    IntArray,
    code_bytes,
)
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream.protocol import (
    Block,
    Message,
    Step,
    StreamPlan,
    Topic,
    digest_shard_key,
    message_body,
)

Rows = npt.NDArray[np.void]
Columns = dict[str, npt.NDArray[Any]]

# Flags of a code.
KNOWN = 1  # its image is known or protected (kept in any case): nobody waits for an answer
POSSIBLE_ANCHOR = 2  # its image is known, or had no predecessor in this code shard: it may be an anchor
TRUNCATED = (
    4  # its image is truncated: it is compared with earlier images, but later ones are not compared with it
)

NO_IMAGE = -1  # as `other` in ANSWER_ROWS

# Topic PROFILES: codes of flat pictures.
PROFILE_ROWS = np.dtype(
    [
        ("image", "<i8"),
        ("pixels", "u1", (PROFILE_BYTES,)),
        ("view", "u1"),
        ("kind", "u1"),
        ("flags", "u1"),
    ]
)

# Topic ANSWERS: the answers of a code shard. There are two kinds of row:
# - summary (`other` is NO_IMAGE). count: codes of the image that arrived here. near: whether the image has
#   predecessors here. named: number of rows of the other kind for this image.
# - name (`other` is an image): a predecessor that may be an anchor. count: how many such rows were merged
#   into this one. view, distance, long_distance: of the nearest pair of codes.
ANSWER_ROWS = np.dtype(
    [
        ("image", "<i8"),
        ("other", "<i8"),
        ("count", "<u4"),
        ("named", "<u4"),
        ("near", "u1"),
        ("view", "u1"),
        ("distance", "<i2"),
        ("long_distance", "<i2"),  # NO_DISTANCE if a code has no long code
    ]
)

# Topic QUESTIONS: `image` asks whether `other` is an anchor.
QUESTION_ROWS = np.dtype(
    [("image", "<i8"), ("other", "<i8"), ("view", "u1"), ("distance", "<i2"), ("long_distance", "<i2")]
)

# Topic ARRIVALS: images before they are read.
ARRIVALS = pa.schema([("identity", pa.binary(16)), ("reference", pa.binary())])

_NAMES = [("uri", pa.binary()), ("digest", pa.binary(32))]
_CODES = [("codes", pa.binary()), ("profiles", pa.binary())]  # rows of all codes of the image, joined
_MATCH = [("distance", pa.int32()), ("long_distance", pa.int32()), ("view", pa.uint8())]

# Topic OPENED: a new image. expected: number of answers it waits for.
# Topic UNDECIDED: an image with predecessors. expected: number of replies it waits for.
OPENED = pa.schema([("image", pa.int64()), ("expected", pa.int64()), *_NAMES, *_CODES])
UNDECIDED = OPENED

# Topic ORPHANS: images with predecessors, none of which is an anchor.
ORPHANS = pa.schema([("image", pa.int64()), *_NAMES, *_CODES])

# Topic STATUSES: the URI and digest of an anchor; null for other images.
STATUSES = pa.schema([("image", pa.int64()), *_NAMES])

# Topic REPLIES: replies to questions; URI and digest of `other` if it is an anchor, otherwise null.
REPLIES = pa.schema([("image", pa.int64()), ("other", pa.int64()), *_MATCH, *_NAMES])

# Topic OUTCOMES: whether an image is kept, and the witness of its copies: itself if it is kept, otherwise its
# own witness.
OUTCOMES = pa.schema([("image", pa.int64()), ("kept", pa.bool_()), *_NAMES, *_MATCH])

# Fields of a verdict that describe the image itself.
OWN_FIELDS = (
    "uri", "name", "metadata", "digest", "fingerprint", "algorithm",
    "width", "height", "format", "size_bytes", "flags", "detail",
)  # fmt: skip

# Topic DETAILS. image: number of the first image with the same digest, whose outcome applies. copy: it is not
# that image.
DETAILS = pa.schema(
    [
        ("image", pa.int64()),
        ("copy", pa.bool_()),
        ("known", pa.bool_()),
        *(VERDICTS.field(name) for name in OWN_FIELDS),
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
    """Returns the row type of topic CODES, codes that are not flat, for a number of 64-bit words per code."""
    word_fields = [(f"word{number}", "<u8") for number in range(words)]
    return np.dtype([("image", "<i8"), *word_fields, ("view", "u1"), ("kind", "u1"), ("flags", "u1")])


def load_rows(parts: Iterable[Block], dtype: np.dtype[np.void]) -> Rows:
    """Returns all rows of some blocks, in one array."""
    return np.frombuffer(b"".join(parts), dtype)


def join_messages(messages: Iterable[Message]) -> list[Message]:
    """Returns the same messages, with those of one topic for one key joined into one block.

    A runner has a cost per element that it moves, so fewer and larger blocks are cheaper.
    """
    parts: dict[tuple[Step, bytes, int], list[bytes]] = {}
    for to, key, body in messages:
        parts.setdefault((to, key, body[-1]), []).append(body)
    return [Message(to, key, _joined(Topic(topic), bodies)) for (to, key, topic), bodies in parts.items()]


def _joined(topic: Topic, bodies: list[bytes]) -> bytes:
    if len(bodies) == 1:
        return bodies[0]
    schema = SCHEMAS.get(topic)
    parts = [memoryview(body)[:-1] for body in bodies]
    return message_body(topic, b"".join(parts) if schema is None else blocks.dump(blocks.load(parts, schema)))


def message_bodies(*contents: tuple[Topic, Rows | pa.Table]) -> list[bytes]:
    """Returns message bodies for rows or tables, without empty ones."""
    return [
        message_body(topic, content.tobytes() if isinstance(content, np.ndarray) else blocks.dump(content))
        for topic, content in contents
        if len(content)
    ]


def send(to: Step, key: bytes, topic: Topic, content: Rows | pa.Table) -> list[Message]:
    """Returns a list of one message, or an empty list if the content has no rows."""
    return [Message(to, key, body) for body in message_bodies((topic, content))]


def send_to_digest_shards(
    plan: StreamPlan, to: Step, topic: Topic, content: Rows | pa.Table, image: IntArray
) -> list[Message]:
    """Returns messages that send each row to the digest shard of its image.

    Args:
      plan: of the stream.
      to: the step that receives the messages.
      topic: of the content.
      content: the rows.
      image: number of the image, per row.
    """
    shard = image % plan.digest_shards
    sent = []
    for number in np.unique(shard).tolist():
        here = shard == number
        part = content[here] if isinstance(content, np.ndarray) else content.filter(pa.array(here))
        sent += send(to, digest_shard_key(number), topic, part)
    return sent


def pack_columns(rows: Rows) -> bytes:
    """Returns rows as columns, one after the other, in the same number of bytes."""
    return b"".join(np.ascontiguousarray(rows[name]).tobytes() for name in rows.dtype.names or ())


def unpack_columns(data: Block, dtype: np.dtype[np.void]) -> Columns:
    """Returns the columns that `pack_columns` packed, by name."""
    n, at, found = len(data) // dtype.itemsize, 0, {}
    for name, base, shape, items in _fields_of(dtype):
        found[name] = np.frombuffer(data, base, n * items, at).reshape(n, *shape)
        at += n * items * base.itemsize
    return found


@functools.cache
def _fields_of(dtype: np.dtype[np.void]) -> list[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Returns name, item type, shape and number of items of each field."""
    fields = [(name, dtype[name]) for name in dtype.names or ()]
    return [(name, field.base, field.shape, math.prod(field.shape)) for name, field in fields]


def rows_from_codes(codes: Codes, flags: npt.NDArray[np.uint8], words: int) -> tuple[Rows, Rows]:
    """Converts codes to rows: those that are not flat (`code_rows`), and those that are (`PROFILE_ROWS`).

    Args:
      codes: to convert.
      flags: KNOWN, or 0, per code.
      words: 64-bit words per code in the plan of the stream.

    Raises:
      ValueError: a code has more words than the plan.
    """
    hashed, flat = codes.hashed, codes.flat
    most = int(code_bytes(codes.kind[hashed]).max(initial=0)) // 8
    if most > words:
        raise ValueError(
            f"the plan of the stream has codes of {words} word{'s' * (words > 1)}; got a code of {most} words"
        )
    rows = np.zeros(len(hashed), code_rows(words))
    rows["word0"] = codes.short[hashed]
    for number in range(1, min(words, LONG_WORDS)):
        rows[f"word{number}"] = codes.long[hashed, number]
    if len(codes.detail):
        for number in range(LONG_WORDS, words):
            rows[f"word{number}"] = codes.detail[hashed, number - LONG_WORDS]
    profiles = np.zeros(len(flat), PROFILE_ROWS)
    profiles["pixels"] = codes.pixels
    for part, chosen in ((rows, hashed), (profiles, flat)):
        part["image"], part["flags"] = codes.image[chosen], flags[chosen]
        part["view"], part["kind"] = codes.view[chosen], codes.kind[chosen]
    return rows, profiles


def codes_from_rows(rows: Rows) -> Codes:
    """Converts rows back to codes; takes either type of row."""
    n = len(rows)
    long = np.zeros((n, LONG_WORDS), np.uint64)
    short = np.zeros(n, np.uint64)
    pixels = np.zeros((0, PROFILE_BYTES), np.uint8)
    detail = np.zeros((0, DETAIL_WORDS), np.uint64)
    image, view, kind = (np.ascontiguousarray(rows[name]) for name in ("image", "view", "kind"))
    names = rows.dtype.names or ()
    if "pixels" in names:
        pixels = np.ascontiguousarray(rows["pixels"])
    else:
        short[:] = rows["word0"]
        if f"word{LONG_WORDS - 1}" in names:
            for number in range(LONG_WORDS):
                long[:, number] = rows[f"word{number}"]
        if (kind == CodeKind.DETAILED).any():
            detail = np.zeros((n, DETAIL_WORDS), np.uint64)
            for number in range(DETAIL_WORDS):
                detail[:, number] = rows[f"word{LONG_WORDS + number}"]
    return Codes(image, view, kind, short, long, pixels, detail)


def packed_by_image(rows: Rows, images: IntArray) -> pa.Array:
    """Returns the rows of each image as one binary value. Rows must be in the order of `images`."""
    offsets = np.concatenate([[0], np.cumsum(occurrences(rows["image"], images))]) * rows.dtype.itemsize
    return pa.Array.from_buffers(
        pa.binary(),
        len(images),
        [None, pa.py_buffer(offsets.astype(np.int32).tobytes()), pa.py_buffer(rows.tobytes())],
    )


def int_column(table: pa.Table, name: str = "image") -> IntArray:
    """Returns an integer column as an array; by default the image numbers."""
    return np.asarray(table[name].combine_chunks())


def occurrences(ordered: IntArray, wanted: IntArray) -> IntArray:
    """Returns how often each wanted number occurs in a sorted array.

    >>> occurrences(np.array([1, 3, 3]), np.array([3, 2, 1])).tolist()
    [2, 0, 1]
    """
    return np.searchsorted(ordered, wanted, side="right") - np.searchsorted(ordered, wanted)


def kept_outcomes(image: IntArray, names: pa.Table) -> pa.Table:
    """Returns the outcomes (`OUTCOMES`) of kept images.

    Args:
      image: their numbers.
      names: their URIs and digests, row by row: a copy of a kept image is a duplicate of that image.
    """
    zeros = np.zeros(len(image), np.int64)
    return _outcomes(image, True, names, zeros, zeros + NO_DISTANCE, np.full(len(image), BASE, np.uint8))


def duplicate_outcomes(
    image: IntArray, names: pa.Table, distance: IntArray, long_distance: IntArray, view: ByteArray
) -> pa.Table:
    """Returns the outcomes (`OUTCOMES`) of duplicates.

    Args:
      image: their numbers.
      names: URIs and digests of their witnesses, row by row; copies of a duplicate have the same witness.
      distance, long_distance, view: of each duplicate and its witness.
    """
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
