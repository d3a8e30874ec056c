"""Joins outcomes with the details of images, and issues the verdicts, also those on copies.

Outcomes are stored for good, since copies may arrive as long as there is state. Details wait in the state
until their outcome is known, then leave it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VERDICTS
from beam_dedup.core.codes import BoolArray
from beam_dedup.core.model import Flag, Reason, Status
from beam_dedup.core.stream import state_tables
from beam_dedup.core.stream.messages import DETAILS, OUTCOMES, OWN_FIELDS, int_column, message_bodies, send
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells

ARRIVAL = b"arrival"  # why the witness is preferred
_OF_BATCHES = ("union", "component", "split", "assigned")  # columns that are null in streams


def settle(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Sends the verdicts on images whose outcome has arrived; the details of all others wait in the state.

    Known images (kept beforehand) get no verdict.
    """
    del plan
    received = blocks_by_topic([*cells.waiting, *bodies])
    outcomes = blocks.load(received[Topic.OUTCOMES], OUTCOMES)
    details = blocks.load(received[Topic.DETAILS], DETAILS)
    found, outcome = state_tables.find_images(cells, outcomes, int_column(details))
    waiting = CellChange(
        bool(cells.waiting), message_bodies((Topic.DETAILS, details.filter(pa.array(~found))))
    )
    judged = _verdicts(details.filter(pa.array(found)), outcome)
    return Result(
        dataclasses.replace(state_tables.add_images(cells, outcomes), waiting=waiting),
        send(Step.VERDICTS, key, Topic.VERDICTS, judged),
    )


def _verdicts(details: pa.Table, outcome: pa.Table) -> pa.Table:
    """Returns the verdicts (`VERDICTS`) on some images, without known images.

    A duplicate of an earlier generation of itself, with other bytes, is kept all the same: the earlier one is gone, since
    its file was overwritten. It gets the flag `replaces`. It is no witness: images near it are near the earlier one, or
    are judged as if it were a duplicate. A protected image is kept in any case.

    Args:
      details: the images (`DETAILS`).
      outcome: row by row, the outcome (`OUTCOMES`) of the first image with the same bytes.
    """
    is_duplicate = np.asarray(pc.or_(details["copy"], pc.invert(outcome["kept"])).combine_chunks())
    is_duplicate &= ~np.asarray(pc.match_substring(details["flags"], Flag.PROTECTED.value).combine_chunks())
    digest = outcome["digest"].combine_chunks().cast(pa.binary())
    same_bytes = np.asarray(pc.equal(details["digest"].combine_chunks(), digest))
    same_uri = np.asarray(pc.equal(details["uri"], outcome["uri"]).combine_chunks())
    replaces = is_duplicate & same_uri & ~same_bytes
    is_duplicate &= ~replaces
    witness = pa.array(np.where(is_duplicate, np.arange(len(details)), 0), mask=~is_duplicate)
    columns = {
        **{name: details[name] for name in OWN_FIELDS},
        "flags": _with_flag(details["flags"], Flag.REPLACES, replaces),
        "status": pa.array(
            np.where(is_duplicate, Status.DUPLICATE.encode(), Status.KEPT.encode()), pa.binary()
        ),
        "reason": pa.array(
            np.where(same_bytes, Reason.EXACT.encode(), Reason.NEAR.encode()), pa.binary(), mask=~is_duplicate
        ),
        "kept_uri": outcome["uri"].take(witness),
        "kept_digest": digest.take(witness),
        **{name: outcome[name].take(witness) for name in ("distance", "long_distance", "view")},
        "kept_by": pa.array([ARRIVAL], pa.binary()).take(
            pa.array(np.zeros(len(details), np.int64), mask=~is_duplicate)
        ),
        "companions": pa.repeat(b"", len(details)),
        **{name: pa.nulls(len(details), pa.binary()) for name in _OF_BATCHES},
    }
    table = pa.Table.from_arrays([columns[name] for name in VERDICTS.names], schema=VERDICTS)
    return table.filter(pc.invert(details["known"]))


def _with_flag(flags: pa.ChunkedArray, flag: Flag, chosen: BoolArray) -> pa.ChunkedArray:
    """Returns a column of flags, as words, with a flag added to some rows."""
    word = flag.encode()
    added = pc.binary_join_element_wise(flags, pa.scalar(word), pa.scalar(b" "))
    added = pc.if_else(pc.equal(flags, pa.scalar(b"")), pa.scalar(word), added)
    return pc.if_else(pa.array(chosen), added, flags)
