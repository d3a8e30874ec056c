"""Buffers output until the runner has committed the bundle that produced it.

When a runner goes back to a checkpoint, it repeats everything after that checkpoint, and not necessarily in
the same way: a file of records written in between could get other contents under its old name. So a file is
only written from data that a checkpoint already contains. Beam's feature for this, stable input, does not
exist in the Python SDK, but bundle finalization does: the runner calls back when the state that a bundle has
written is committed. A callback may be lost (with its worker), so a timer requests a new one every second
until it comes. Flink calls back when a checkpoint is complete.

Not for runners that commit each bundle at once (Dataflow), nor for runners that never call back for timers
(Prism).
"""

import dataclasses
import secrets
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

CHECK_SECONDS = 1.0  # between two checks whether bundles are committed
_STAMP_BYTES = 16
_ASKED, _CERTAIN = "asked", "certain"  # outputs: stamps that await a callback; values that are committed

# Stamps from committed bundles of this process; each is removed when its value is released. `_AskFn` and
# `_HoldFn` share this set, since runners fuse the two steps into one process.
committed_stamps: set[bytes] = set()


@dataclasses.dataclass
class HoldUntilCommitted(beam.PTransform[PCollection[tuple[bytes, bytes]], PCollection[bytes]]):
    """Buffers values in state, and releases each once a checkpoint contains it.

    In: pairs of key and value, in the global window; unbounded. Out: the values, in the global window, at the
    earliest after the next checkpoint. If the runner goes back to a checkpoint, it releases the same values
    again, unchanged. When the input ends, all buffered values are released.
    """

    def expand(self, keyed: PCollection[tuple[bytes, bytes]]) -> PCollection[bytes]:
        outputs = keyed | "Hold" >> beam.ParDo(_HoldFn()).with_outputs(_ASKED, main=_CERTAIN)
        asked, certain = outputs[_ASKED], outputs[_CERTAIN]
        asked.element_type = certain.element_type = bytes
        asked | "Ask" >> beam.ParDo(_AskFn()).with_output_types(bytes)
        values: PCollection[bytes] = certain
        return values


class _HoldFn(beam.DoFn):
    """(key, value) -> committed values; on the output `asked`, the stamps of values not committed yet.

    The name of this class is part of the label of its step, by which a running job finds its state.
    """

    HELD = BagStateSpec("held", BytesCoder())  # buffered entries: a stamp, followed by its value
    WAITS = ReadModifyWriteStateSpec("waits", BytesCoder())  # set while the timer LOOK is
    LOOK = TimerSpec("look", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[bytes, bytes],
        held: Any = beam.DoFn.StateParam(HELD),
        waits: Any = beam.DoFn.StateParam(WAITS),
        look: Any = beam.DoFn.TimerParam(LOOK),
        end: Any = beam.DoFn.TimerParam(END),
    ) -> Iterator[Any]:
        stamp = secrets.token_bytes(_STAMP_BYTES)
        held.add(stamp + element[1])
        if not waits.read():
            waits.write(b"1")
            look.set(Timestamp.now() + CHECK_SECONDS)
            end.set(GlobalWindow().max_timestamp())
        yield TaggedOutput(_ASKED, stamp)

    @on_timer(LOOK)
    def release_committed(
        self,
        held: Any = beam.DoFn.StateParam(HELD),
        waits: Any = beam.DoFn.StateParam(WAITS),
        look: Any = beam.DoFn.TimerParam(LOOK),
    ) -> Iterator[Any]:
        entries = list(held.read())
        uncommitted = [entry for entry in entries if entry[:_STAMP_BYTES] not in committed_stamps]
        if len(uncommitted) < len(entries):
            held.clear()
            for entry in uncommitted:
                held.add(entry)
        if uncommitted:
            look.set(Timestamp.now() + CHECK_SECONDS)
        else:
            waits.clear()
        for entry in entries:
            stamp = entry[:_STAMP_BYTES]
            if stamp in committed_stamps:
                committed_stamps.discard(stamp)
                yield entry[_STAMP_BYTES:]
            else:
                yield TaggedOutput(_ASKED, stamp)

    @on_timer(END)
    def release_all(
        self,
        held: Any = beam.DoFn.StateParam(HELD),
        waits: Any = beam.DoFn.StateParam(WAITS),
        look: Any = beam.DoFn.TimerParam(LOOK),
    ) -> Iterator[Any]:
        look.clear()
        for entry in held.read():
            committed_stamps.discard(entry[:_STAMP_BYTES])
            yield entry[_STAMP_BYTES:]
        held.clear()
        waits.clear()


class _AskFn(beam.DoFn):
    """Asks the runner for a callback when the bundle that produced a stamp is committed."""

    def process(self, stamp: bytes, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> Iterator[bytes]:
        finalizer.register(_MarkCommitted(stamp))
        yield from ()


class _MarkCommitted:
    """The callback of bundle finalization: notes that a stamp is committed."""

    def __init__(self, stamp: bytes) -> None:
        self._stamp = stamp

    def __call__(self) -> None:
        committed_stamps.add(self._stamp)
