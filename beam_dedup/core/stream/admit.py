"""Before anything is read: what is delivered again is told from what is new.

Sources deliver at least once. What is delivered has an *identity*, a URI and the generation of what is there, which is
remembered from the moment it arrives. So a second delivery is recognised on either side of the verdict. A new generation
is a new image.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.arrivals import IDENTITY_BYTES
from beam_dedup.core.stream import state_tables
from beam_dedup.core.stream.messages import ARRIVALS, send, send_to_digest_shards
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import Cells

_SEEN = np.dtype([("key", f"S{IDENTITY_BYTES}")])


def arrivals(plan: StreamPlan, identities: Sequence[bytes], references: Sequence[bytes]) -> list[Message]:
    """What arrives, to where it is admitted. references: whatever is needed to read each."""
    table = pa.table(
        [pa.array(identities, pa.binary(16)), pa.array(references, pa.binary())], schema=ARRIVALS
    )
    head = blocks.fixed_bytes(table["identity"], IDENTITY_BYTES)[:, :4].copy().view(">u4")[:, 0]
    return send_to_digest_shards(plan, Step.ADMIT, Topic.ARRIVALS, table, head.astype(np.int64))


def admit(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Parts what is new from what was here before."""
    del plan
    table = blocks.load(by_topic(bodies)[Topic.ARRIVALS], ARRIVALS)
    rows = np.zeros(len(table), _SEEN)
    rows["key"] = blocks.fixed_bytes(table["identity"], IDENTITY_BYTES).view(_SEEN["key"])[:, 0]
    new = state_tables.first_of_each(rows["key"]) & ~state_tables.find_keys(cells, _SEEN, rows)[0]
    return Result(
        state_tables.add_keys(cells, rows[new]),
        [
            *send(Step.ADMITTED, key, Topic.ARRIVALS, table.filter(pa.array(new))),
            *send(Step.REDELIVERED, key, Topic.ARRIVALS, table.filter(pa.array(~new))),
        ],
    )
