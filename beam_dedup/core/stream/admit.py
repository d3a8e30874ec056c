"""Before anything is read: what is delivered again is told from what is new.

Sources deliver at least once. What is delivered has an *identity*, a URI and the generation of what is there, which is
remembered from the moment it arrives. So a second delivery is recognised on either side of the verdict. A new generation
is a new image.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.stream import seen
from beam_dedup.core.stream.cells import Cells
from beam_dedup.core.stream.messages import ARRIVALS, send, send_home
from beam_dedup.core.stream.protocol import Message, Result, Step, StreamPlan, Topic, by_topic

IDENTITY_BYTES = 16
_SEEN = np.dtype([("key", f"S{IDENTITY_BYTES}")])


def identity(uri: str, generation: str) -> bytes:
    """16 bytes; two things that differ in either have different ones.

    >>> (
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "1"),
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "2"),
    ... )
    (True, False)
    """
    text = b"%d %s%s" % (len(blocks.to_bytes(uri)), blocks.to_bytes(uri), blocks.to_bytes(generation))
    return hashlib.blake2b(text, digest_size=IDENTITY_BYTES).digest()


def arrivals(plan: StreamPlan, identities: Sequence[bytes], references: Sequence[bytes]) -> list[Message]:
    """What arrives, to where it is admitted. references: whatever is needed to read each."""
    table = pa.table(
        [pa.array(identities, pa.binary(16)), pa.array(references, pa.binary())], schema=ARRIVALS
    )
    head = blocks.fixed_bytes(table["identity"], IDENTITY_BYTES)[:, :4].copy().view(">u4")[:, 0]
    return send_home(plan, Step.ADMIT, Topic.ARRIVALS, table, head.astype(np.int64))


def admit(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
    """Parts what is new from what was here before."""
    del plan
    table = blocks.load(by_topic(bodies)[Topic.ARRIVALS], ARRIVALS)
    rows = np.zeros(len(table), _SEEN)
    rows["key"] = blocks.fixed_bytes(table["identity"], IDENTITY_BYTES).view(_SEEN["key"])[:, 0]
    new = seen.firsts(rows["key"]) & ~seen.find(cells, _SEEN, rows)[0]
    return Result(
        seen.add(cells, rows[new]),
        [
            *send(Step.ADMITTED, key, Topic.ARRIVALS, table.filter(pa.array(new))),
            *send(Step.REDELIVERED, key, Topic.ARRIVALS, table.filter(pa.array(~new))),
        ],
    )
