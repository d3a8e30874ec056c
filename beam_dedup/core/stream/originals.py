"""Equal bytes go one way: the first image of a digest stands for all, and is numbered; the others will share its fate.

In exact mode that is all there is to know: the first is kept.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import FINGERPRINTS
from beam_dedup.core.codes import BoolArray, Codes, IntArray, from_columns
from beam_dedup.core.stream import messages, state_tables
from beam_dedup.core.stream.code_shards import answers_of, to_code_shards
from beam_dedup.core.stream.messages import DETAILS, KNOWN, OPENED, OWN, send, send_to_digest_shards
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import Cells

_DIGEST_BYTES = 32
_SEEN = np.dtype([("key", f"S{_DIGEST_BYTES}"), ("image", "<i8")])


def fingerprinted(plan: StreamPlan, fingerprints: pa.Table) -> list[Message]:
    """Images that were read (`FINGERPRINTS`), to the homes of their digests."""
    shard = blocks.digest_shards(fingerprints, plan.digest_shards)
    return send_to_digest_shards(plan, Step.ORIGINALS, Topic.FINGERPRINTS, fingerprints, shard)


def originals(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Numbers what has new bytes, and sends its codes on their way. The details of all of them wait for a fate.

    Known images come before the others of their block. One whose bytes were here before changes nothing: it is a copy,
    on which there is no verdict.
    """
    table = blocks.load(by_topic(bodies)[Topic.FINGERPRINTS], FINGERPRINTS)
    known = np.asarray(table["known"].combine_chunks())
    table = table.take(pa.array(np.argsort(~known, kind="stable")))
    rows = np.zeros(len(table), _SEEN)
    rows["key"] = blocks.fixed_bytes(table["digest"], _DIGEST_BYTES).view(_SEEN["key"])[:, 0]
    was_there, found = state_tables.find_keys(cells, _SEEN, rows)
    new = state_tables.first_of_each(rows["key"]) & ~was_there
    # Counted over all that this home has ever numbered, so that no number is given twice.
    rows["image"][new] = (
        state_tables.count_keys(cells, _SEEN) + np.arange(new.sum())
    ) * plan.digest_shards + int(key)
    image = np.where(was_there, found["image"], _of_firsts(rows, new))
    sent = send(Step.SETTLE, key, Topic.DETAILS, _details(table, image, ~new))
    if new.any():
        names = table.filter(pa.array(new))
        if plan.exact:
            sent += send(Step.SETTLE, key, Topic.OUTCOMES, messages.kept_outcomes(image[new], names))
        else:
            sent += _opened(plan, key, names, image[new])
    return Result(state_tables.add_keys(cells, rows[new]), sent)


def _of_firsts(rows: messages.Rows, new: BoolArray) -> IntArray:
    """The numbers of the new rows, and for the others that of the new one with the same key, if there is one."""
    firsts = rows[new]
    firsts = firsts[np.argsort(firsts["key"])]
    at = np.searchsorted(firsts["key"], rows["key"])
    return firsts["image"][np.minimum(at, len(firsts) - 1)] if len(firsts) else np.zeros(len(rows), np.int64)


def _details(table: pa.Table, image: IntArray, copy: BoolArray) -> pa.Table:
    base = _base_codes(table)
    digest = table["digest"].combine_chunks().cast(pa.binary())
    own = {
        **{name: table[name] for name in OWN if name in table.column_names},
        "fingerprint": base,
        "digest": digest,
    }
    return pa.Table.from_arrays(
        [pa.array(image), pa.array(copy), table["known"], *(own[name] for name in OWN)], schema=DETAILS
    )


def _base_codes(table: pa.Table) -> pa.Array:
    """The code of each image's first view, which is the base; empty without one."""
    codes = table["codes"].combine_chunks()
    counts = np.asarray(pc.list_value_length(codes)).astype(np.int64)
    first = pa.array(np.cumsum(counts) - counts, mask=counts == 0)
    return pc.fill_null(codes.flatten().field("data").take(first), b"")


def _opened(plan: StreamPlan, key: bytes, table: pa.Table, image: IntArray) -> list[Message]:
    """In near mode: codes to the places where they may meet others, and how many answers are to be expected."""
    codes = _codes(table, image)
    known = image[np.asarray(table["known"].combine_chunks())]
    flags = np.where(np.isin(codes.image, known), KNOWN, 0).astype(np.uint8)
    rows, profiles = messages.rows_from_codes(codes, flags, plan.words)
    expected = answers_of(plan, rows, profiles, image)
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
    codes = table["codes"].combine_chunks()
    of = image[np.asarray(pc.list_parent_indices(codes))]
    code = codes.flatten()
    view, kind = (np.asarray(code.field(name)) for name in ("view", "kind"))
    return from_columns(of, view, kind, blocks.joined(pa.chunked_array([code.field("data")])))
