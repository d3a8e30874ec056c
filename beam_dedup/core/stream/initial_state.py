"""Builds the state that a stream starts with: known images, and images judged in earlier runs.

The steps themselves build it, from messages that need no answer. So each known image is in the state of its
keys before the first image arrives. The state is kept in a file, and each worker reads from it what its keys
need.
"""

import collections
import functools
from collections.abc import Iterable, Mapping

import pyarrow as pa

from beam_dedup.core.stream import messages
from beam_dedup.core.stream.admit import arrival_messages
from beam_dedup.core.stream.originals import fingerprint_messages
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan
from beam_dedup.core.stream.state_cells import Cells
from beam_dedup.core.stream.steps import STEPS

_ROWS = pa.schema(
    [("step", pa.string()), ("key", pa.binary()), ("cell", pa.string()), ("block", pa.binary())]
)
_CELLS = ("settled", "recent", "waiting")

States = Mapping[tuple[Step, bytes], Cells]


def build(
    plan: StreamPlan, identities: Iterable[bytes], known: pa.Table, rows_at_once: int = 20_000
) -> States:
    """Returns the state of all keys after some arrivals and some known images.

    Args:
      plan: of the stream.
      identities: of images that were judged before (`beam_dedup.core.arrivals.identity`).
      known: fingerprints of known images (`FINGERPRINTS`, with `known` set).
      rows_at_once: images per block.
    """
    states: dict[tuple[Step, bytes], Cells] = collections.defaultdict(Cells)
    every = list(identities)
    for start in range(0, len(every), rows_at_once):
        some = every[start : start + rows_at_once]
        _run(plan, states, arrival_messages(plan, some, [b""] * len(some)))
    for start in range(0, len(known), rows_at_once):
        _run(plan, states, fingerprint_messages(plan, known.slice(start, rows_at_once)))
    return states


def _run(plan: StreamPlan, states: dict[tuple[Step, bytes], Cells], sent: Iterable[Message]) -> None:
    sent = list(sent)
    for step, run_step in STEPS.items():  # in this order no message goes to an earlier step
        todo = messages.join_messages(message for message in sent if message.to == step)
        sent = [message for message in sent if message.to != step]
        for _, key, body in todo:
            result = run_step(plan, key, states[step, key], [body])
            states[step, key] = result.change.applied(states[step, key])
            sent += result.messages


def write(states: States, path: str) -> None:
    """Writes states to a local file (Arrow IPC), for `read`."""
    rows = [
        (step.value, key, name, bytes(block))
        for (step, key), cells in states.items()
        for name in _CELLS
        for block in getattr(cells, name)
    ]
    columns = zip(*rows, strict=True) if rows else ([] for _ in _ROWS)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _ROWS, strict=True)]
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, _ROWS) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=_ROWS))


@functools.lru_cache(maxsize=1)
def read(path: str) -> States:
    """Returns the states that `write` has written. The last file is cached."""
    with pa.memory_map(path) as file:
        table = pa.ipc.open_file(file).read_all()
    found: dict[tuple[Step, bytes], dict[str, list[bytes]]] = collections.defaultdict(
        lambda: {name: [] for name in _CELLS}
    )
    for row in table.to_pylist():
        found[Step(row["step"]), row["key"]][row["cell"]].append(row["block"])
    return {
        step_key: Cells(**{name: tuple(parts) for name, parts in cells.items()})
        for step_key, cells in found.items()
    }
