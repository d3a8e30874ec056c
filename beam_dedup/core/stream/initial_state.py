"""The state that a stream begins with: what is known beforehand, and what was judged before it was stopped.

Made by the steps themselves, from messages that nobody has to answer: so what is known is where it belongs before the
first image arrives. Kept in a file, of which each worker takes what its keys need.
"""

import collections
import functools
from collections.abc import Iterable, Mapping

import pyarrow as pa

from beam_dedup.core.stream import messages
from beam_dedup.core.stream.admit import arrivals
from beam_dedup.core.stream.originals import fingerprinted
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan
from beam_dedup.core.stream.state_cells import Cells
from beam_dedup.core.stream.steps import STEPS

_AT_ONCE = 20_000
_ROWS = pa.schema(
    [("step", pa.string()), ("key", pa.binary()), ("cell", pa.string()), ("block", pa.binary())]
)
_CELLS = ("settled", "recent", "waiting")

States = Mapping[tuple[Step, bytes], Cells]


def initial_state(plan: StreamPlan, identities: Iterable[bytes], known: pa.Table) -> States:
    """All state after some arrivals, and the fingerprints of known images (`FINGERPRINTS`, marked as `known`)."""
    states: dict[tuple[Step, bytes], Cells] = collections.defaultdict(Cells)
    every = list(identities)
    for start in range(0, len(every), _AT_ONCE):
        some = every[start : start + _AT_ONCE]
        _run(plan, states, arrivals(plan, some, [b""] * len(some)))
    for start in range(0, len(known), _AT_ONCE):
        _run(plan, states, fingerprinted(plan, known.slice(start, _AT_ONCE)))
    return states


def _run(plan: StreamPlan, states: dict[tuple[Step, bytes], Cells], sent: Iterable[Message]) -> None:
    sent = list(sent)
    for step, take in STEPS.items():  # no message goes backwards
        todo = messages.joined(message for message in sent if message.to == step)
        sent = [message for message in sent if message.to != step]
        for _, key, body in todo:
            result = take(plan, key, states[step, key], [body])
            states[step, key] = result.change.applied(states[step, key])
            sent += result.messages


def write(states: States, path: str) -> None:
    """Writes a local file."""
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
    """What `write` has written."""
    with pa.memory_map(path) as file:
        table = pa.ipc.open_file(file).read_all()
    found: dict[tuple[Step, bytes], dict[str, list[bytes]]] = collections.defaultdict(
        lambda: {name: [] for name in _CELLS}
    )
    for row in table.to_pylist():
        found[Step(row["step"]), row["key"]][row["cell"]].append(row["block"])
    return {
        place: Cells(**{name: tuple(parts) for name, parts in cells.items()})
        for place, cells in found.items()
    }
