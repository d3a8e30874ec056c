"""Holds back what others will see until it is certain that the engine will not make something else of it.

An engine that goes back to a checkpoint does again what it had done since, and need not do it in the same way: a file of
records written in between could get other contents under its old name. So such a file is made of what is in a checkpoint
already. Beam's way to wait for one, stable input, is not there in Python; bundle finalization is: the engine calls back when
what a bundle has left in state is committed. It may forget to (a worker that ends), so it is asked again and again. Flink calls
when a checkpoint is complete. Not for engines that commit a bundle at once (Dataflow), or never call for timers (Prism).
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

LOOK_SECONDS = 1.0
_STAMP_BYTES = 16
_ASKED, _CERTAIN = "asked", "certain"

# Stamps of this process's bundles that are committed, till what bears them has gone on. `_AskFn` runs in the process of the
# `_HoldFn` before it, since engines fuse the two.
_committed: set[bytes] = set()


@dataclasses.dataclass
class HoldUntilCommitted(beam.PTransform[PCollection[tuple[bytes, bytes]], PCollection[bytes]]):
    """Passes values on once they are in a checkpoint: one later than they came, at least.

    In: keys and values, in the global window. Out: the values. What goes on and is rolled back goes on again, unchanged. When
    the input ends all that is held goes on.
    """

    def expand(self, keyed: PCollection[tuple[bytes, bytes]]) -> PCollection[bytes]:
        held = keyed | "Hold" >> beam.ParDo(_HoldFn()).with_outputs(_ASKED, main=_CERTAIN)
        asked, certain = held[_ASKED], held[_CERTAIN]
        asked.element_type = certain.element_type = bytes
        asked | "Ask" >> beam.ParDo(_AskFn()).with_output_types(bytes)
        value: PCollection[bytes] = certain
        return value


class _HoldFn(beam.DoFn):
    """(key, value) -> values that are committed, and the stamps of those that are not yet."""

    HELD = BagStateSpec("held", BytesCoder())  # stamps, each followed by its value
    WAITS = ReadModifyWriteStateSpec("waits", BytesCoder())  # whether a look is due
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
            look.set(Timestamp.now() + LOOK_SECONDS)
            end.set(GlobalWindow().max_timestamp())
        yield TaggedOutput(_ASKED, stamp)

    @on_timer(LOOK)
    def pass_on_what_is_certain(
        self,
        held: Any = beam.DoFn.StateParam(HELD),
        waits: Any = beam.DoFn.StateParam(WAITS),
        look: Any = beam.DoFn.TimerParam(LOOK),
    ) -> Iterator[Any]:
        entries = list(held.read())
        uncertain = [entry for entry in entries if entry[:_STAMP_BYTES] not in _committed]
        if len(uncertain) < len(entries):
            held.clear()
            for entry in uncertain:
                held.add(entry)
        if uncertain:
            look.set(Timestamp.now() + LOOK_SECONDS)
        else:
            waits.clear()
        for entry in entries:
            stamp = entry[:_STAMP_BYTES]
            if stamp in _committed:
                _committed.discard(stamp)
                yield entry[_STAMP_BYTES:]
            else:
                yield TaggedOutput(_ASKED, stamp)

    @on_timer(END)
    def pass_all_on(
        self,
        held: Any = beam.DoFn.StateParam(HELD),
        waits: Any = beam.DoFn.StateParam(WAITS),
        look: Any = beam.DoFn.TimerParam(LOOK),
    ) -> Iterator[Any]:
        look.clear()
        for entry in held.read():
            _committed.discard(entry[:_STAMP_BYTES])
            yield entry[_STAMP_BYTES:]
        held.clear()
        waits.clear()


class _AskFn(beam.DoFn):
    """Has the engine call back when the bundle of a stamp is committed."""

    def process(self, stamp: bytes, finalizer: Any = beam.DoFn.BundleFinalizerParam) -> Iterator[bytes]:
        finalizer.register(_Committed(stamp))
        yield from ()


class _Committed:
    """What the engine calls."""

    def __init__(self, stamp: bytes) -> None:
        self._stamp = stamp

    def __call__(self) -> None:
        _committed.add(self._stamp)
