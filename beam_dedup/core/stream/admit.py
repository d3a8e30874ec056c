"""Recognises redelivered images before anything is read.

Sources deliver at least once. An arrival has an *identity*: its URI and the generation (version) of the
object. The step stores the identity when the image first arrives, so it recognises a redelivery before and
after the verdict. A new generation of the same URI is a new image.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.arrivals import IDENTITY_BYTES
from beam_dedup.core.stream import state_tables
from beam_dedup.core.stream.messages import ARRIVALS, send, send_to_digest_shards
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import Cells

# Rows in the state: identities.
_KEY_ROWS = np.dtype([("key", f"S{IDENTITY_BYTES}")])


def arrival_messages(
    plan: StreamPlan, identities: Sequence[bytes], references: Sequence[bytes]
) -> list[Message]:
    """Returns the messages to `admit` for some arrivals.

    Args:
      plan: of the stream.
      identities: 16 bytes per arrival (`beam_dedup.core.arrivals.identity`).
      references: per arrival, whatever the reader needs to find the image. The steps pass it on unread.
    """
    table = pa.table(
        [pa.array(identities, pa.binary(16)), pa.array(references, pa.binary())], schema=ARRIVALS
    )
    head = blocks.fixed_bytes(table["identity"], IDENTITY_BYTES)[:, :4].copy().view(">u4")[:, 0]
    return send_to_digest_shards(plan, Step.ADMIT, Topic.ARRIVALS, table, head.astype(np.int64))


def admit(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Sends new arrivals to `admitted`, redelivered ones to `redelivered`, and stores the new identities."""
    del plan
    table = blocks.load(blocks_by_topic(bodies)[Topic.ARRIVALS], ARRIVALS)
    rows = np.zeros(len(table), _KEY_ROWS)
    rows["key"] = blocks.fixed_bytes(table["identity"], IDENTITY_BYTES).view(_KEY_ROWS["key"])[:, 0]
    new = state_tables.first_of_each(rows["key"]) & ~state_tables.find_keys(cells, _KEY_ROWS, rows)[0]
    return Result(
        state_tables.add_keys(cells, rows[new]),
        [
            *send(Step.ADMITTED, key, Topic.ARRIVALS, table.filter(pa.array(new))),
            *send(Step.REDELIVERED, key, Topic.ARRIVALS, table.filter(pa.array(~new))),
        ],
    )
