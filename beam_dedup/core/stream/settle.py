"""Where fates and details come together: the verdict on each image, its own or as a copy of another's bytes.

Fates are remembered, since copies may come as long as there is state. Details are held until there is a fate, and leave.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VERDICTS
from beam_dedup.core.model import Reason, Status
from beam_dedup.core.stream import state_tables
from beam_dedup.core.stream.messages import DETAILS, OUTCOMES, OWN, bodies_of, numbers, send
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import CellChange, Cells


def settle(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Gives the verdicts on images whose fate is known; none on images that are known beforehand."""
    del plan
    received = by_topic([*cells.waiting, *bodies])
    told = blocks.load(received[Topic.OUTCOMES], OUTCOMES)
    details = blocks.load(received[Topic.DETAILS], DETAILS)
    found, fate = state_tables.find_images(cells, told, numbers(details))
    waiting = CellChange(bool(cells.waiting), bodies_of((Topic.DETAILS, details.filter(pa.array(~found)))))
    judged = _verdicts(details.filter(pa.array(found)), fate)
    return Result(
        dataclasses.replace(state_tables.add_images(cells, told), waiting=waiting),
        send(Step.VERDICTS, key, Topic.VERDICTS, judged),
    )


def _verdicts(details: pa.Table, fate: pa.Table) -> pa.Table:
    """Verdicts (`VERDICTS`) on images, given the fates of those that stand for them, row by row."""
    is_duplicate = np.asarray(pc.or_(details["copy"], pc.invert(fate["kept"])).combine_chunks())
    digest = fate["digest"].combine_chunks().cast(pa.binary())
    same_bytes = np.asarray(pc.equal(details["digest"].combine_chunks(), digest))
    witness = pa.array(np.where(is_duplicate, np.arange(len(details)), 0), mask=~is_duplicate)
    columns = {
        **{name: details[name] for name in OWN},
        "status": pa.array(
            np.where(is_duplicate, Status.DUPLICATE.encode(), Status.KEPT.encode()), pa.binary()
        ),
        "reason": pa.array(
            np.where(same_bytes, Reason.EXACT.encode(), Reason.NEAR.encode()), pa.binary(), mask=~is_duplicate
        ),
        "kept_uri": fate["uri"].take(witness),
        "kept_digest": digest.take(witness),
        **{name: fate[name].take(witness) for name in ("distance", "long_distance", "view")},
    }
    table = pa.Table.from_arrays([columns[name] for name in VERDICTS.names], schema=VERDICTS)
    return table.filter(pc.invert(details["known"]))
