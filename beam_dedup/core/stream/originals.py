"""Numbers the first image of each digest, which represents all copies of the same bytes.

The copies wait in `settle` for its outcome. In exact mode this is the whole decision: the first image is
kept.

A protected image is kept whatever arrived before it, and images that arrive later are compared with it. So it gets a
number of its own if its digest has one already, under a key that is derived from the digest; `band` and `gather` treat
it like a known image.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import FINGERPRINTS
from beam_dedup.core.codes import BoolArray, Codes, IntArray, from_columns
from beam_dedup.core.links import orders_of
from beam_dedup.core.model import Flag
from beam_dedup.core.stream import messages, state_tables
from beam_dedup.core.stream.code_shards import expected_answers, to_code_shards
from beam_dedup.core.stream.messages import (
    DETAILS,
    KNOWN,
    OPENED,
    OWN_FIELDS,
    TRUNCATED,
    send,
    send_to_digest_shards,
)
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import Cells

_DIGEST_BYTES = 32
# Rows in the state: digests and numbers.
_KEY_ROWS = np.dtype([("key", f"S{_DIGEST_BYTES}"), ("image", "<i8")])


def fingerprint_messages(plan: StreamPlan, fingerprints: pa.Table) -> list[Message]:
    """Returns the messages to `originals` for images that were read (`FINGERPRINTS`), by digest shard."""
    shard = blocks.digest_shards(fingerprints, plan.digest_shards)
    return send_to_digest_shards(plan, Step.ORIGINALS, Topic.FINGERPRINTS, fingerprints, shard)


def originals(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Numbers each image with a new digest, and sends its codes to `band`.

    Sends the details of all images to `settle`. In a block, known images come before new ones, protected ones before
    others, and links after all others. A known image whose digest has arrived before changes nothing: it is a copy, and known images
    get no verdict.
    """
    table = blocks.load(blocks_by_topic(bodies)[Topic.FINGERPRINTS], FINGERPRINTS)
    known = np.asarray(table["known"].combine_chunks())
    order = orders_of(table["identity"].combine_chunks())
    table = table.take(pa.array(np.lexsort((order, ~_are_protected(table), ~known))))
    rows = np.zeros(len(table), _KEY_ROWS)
    rows["key"] = blocks.fixed_bytes(table["digest"], _DIGEST_BYTES).view(_KEY_ROWS["key"])[:, 0]
    is_stored, _ = state_tables.find_keys(cells, _KEY_ROWS, rows)
    is_copy = is_stored | ~state_tables.first_of_each(rows["key"])
    for row in np.flatnonzero(is_copy & _are_protected(table)).tolist():
        rows["key"][row] = _own_key(rows["key"][row])
    is_stored, stored = state_tables.find_keys(cells, _KEY_ROWS, rows)
    new = state_tables.first_of_each(rows["key"]) & ~is_stored
    # The count of all images that this digest shard has numbered: no number is given twice.
    rows["image"][new] = (
        state_tables.count_keys(cells, _KEY_ROWS) + np.arange(new.sum())
    ) * plan.digest_shards + int(key)
    image = np.where(is_stored, stored["image"], _numbers_of_first(rows, new))
    sent = send(Step.SETTLE, key, Topic.DETAILS, _details(table, image, ~new))
    if new.any():
        names = table.filter(pa.array(new))
        if plan.exact:
            sent += send(Step.SETTLE, key, Topic.OUTCOMES, messages.kept_outcomes(image[new], names))
        else:
            sent += _opened(plan, key, names, image[new])
    return Result(state_tables.add_keys(cells, rows[new]), sent)


def _are_protected(table: pa.Table) -> BoolArray:
    """Returns which images of a table (`FINGERPRINTS`) are protected and not known."""
    flagged = np.asarray(pc.match_substring(table["flags"], Flag.PROTECTED.value).combine_chunks())
    protected: BoolArray = flagged & ~np.asarray(table["known"].combine_chunks())
    return protected


def _own_key(digest: bytes) -> bytes:
    """Returns the key of protected images whose digest has the number of an earlier image."""
    return hashlib.sha256(b"protected %s" % digest).digest()


def _numbers_of_first(rows: messages.Rows, new: BoolArray) -> IntArray:
    """Returns for each row the number of the new row with the same key; any number if there is none."""
    firsts = rows[new]
    firsts = firsts[np.argsort(firsts["key"])]
    at = np.searchsorted(firsts["key"], rows["key"])
    return firsts["image"][np.minimum(at, len(firsts) - 1)] if len(firsts) else np.zeros(len(rows), np.int64)


def _details(table: pa.Table, image: IntArray, copy: BoolArray) -> pa.Table:
    """Returns the details (`DETAILS`) of images for `settle`.

    Args:
      table: the images (`FINGERPRINTS`).
      image: number of the first image with the same digest, per row.
      copy: whether the row is not that first image, per row.
    """
    base = _base_codes(table)
    digest = table["digest"].combine_chunks().cast(pa.binary())
    own = {
        **{name: table[name] for name in OWN_FIELDS if name in table.column_names},
        "fingerprint": base,
        "digest": digest,
    }
    return pa.Table.from_arrays(
        [pa.array(image), pa.array(copy), table["known"], *(own[name] for name in OWN_FIELDS)], schema=DETAILS
    )


def _base_codes(table: pa.Table) -> pa.Array:
    """Returns the code of each image's first view, which is the base; empty for an image without codes."""
    codes = table["codes"].combine_chunks()
    counts = np.asarray(pc.list_value_length(codes)).astype(np.int64)
    first = pa.array(np.cumsum(counts) - counts, mask=counts == 0)
    return pc.fill_null(codes.flatten().field("data").take(first), b"")


def _opened(plan: StreamPlan, key: bytes, table: pa.Table, image: IntArray) -> list[Message]:
    """Returns the messages of near mode: new images to `gather`, their codes to `band`."""
    codes = _codes(table, image)
    known = image[np.asarray(table["known"].combine_chunks()) | _are_protected(table)]
    truncated = image[np.asarray(pc.match_substring(table["flags"], Flag.TRUNCATED.value).combine_chunks())]
    flags = np.where(np.isin(codes.image, known), KNOWN, 0) | np.where(
        np.isin(codes.image, truncated), TRUNCATED, 0
    )
    rows, profiles = messages.rows_from_codes(codes, flags.astype(np.uint8), plan.words)
    expected = expected_answers(plan, rows, profiles, image)
    expected[np.isin(image, known)] = 0
    opened = pa.Table.from_arrays(
        [
            pa.array(image),
            pa.array(expected),
            table["uri"],
            table["digest"],
            messages.packed_by_image(rows, image),
            messages.packed_by_image(profiles, image),
        ],
        schema=OPENED,
    )
    return [*send(Step.GATHER, key, Topic.OPENED, opened), *to_code_shards(plan, rows, profiles)]


def _codes(table: pa.Table, image: IntArray) -> Codes:
    """Returns all codes of the images of a table (`FINGERPRINTS`), with the given image numbers per row."""
    codes = table["codes"].combine_chunks()
    image_of_code = image[np.asarray(pc.list_parent_indices(codes))]
    code = codes.flatten()
    view, kind = (np.asarray(code.field(name)) for name in ("view", "kind"))
    return from_columns(image_of_code, view, kind, blocks.joined(pa.chunked_array([code.field("data")])))
