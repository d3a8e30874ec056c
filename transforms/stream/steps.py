"""Runs the steps of `beam_dedup.core.stream` as stateful DoFns: read state, call the step, write state."""

import dataclasses
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.coders import BytesCoder
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_dedup.core.stream import initial_state, messages, retention
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan
from beam_dedup.core.stream.retention import SLOTS, PeriodSlots
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change
from beam_dedup.core.stream.steps import CELLS, STEPS
from transforms import metrics
from transforms.stream.state_cache import UNKNOWN, StateHeader, Version, new_version, process_cache

_LOGGER = logging.getLogger(__name__)

Keyed = tuple[bytes, bytes]  # the key of a step, and the body of a message

_NOTHING = Change()
_PACKED_BYTES = 1 << 24  # of messages that wait for the end of a bundle; with more they are sent before it


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """Settings that all steps of a stream share.

    Attributes:
      plan: how images are compared.
      remember_micros: length of a period, in microseconds.
      origin_micros: start of period 0, in microseconds since the epoch.
      initial_state: file of `beam_dedup.core.stream.initial_state` with the state of period 0; "" starts with
        empty state.
      cache_bytes: size of the state cache of a worker process, for runners that keep state outside the
        worker; 0: no cache.
    """

    plan: StreamPlan
    remember_micros: int
    origin_micros: int
    initial_state: str = ""
    cache_bytes: int = 0

    def period(self, time: Timestamp) -> int:
        """Returns the number of the period that contains a time."""
        return retention.period_of(time.micros, self.origin_micros, self.remember_micros)


@dataclasses.dataclass
class RunStep(beam.PTransform[PCollection[Keyed], Mapping[Step, PCollection[Keyed]]]):
    """Runs one step of the protocol.

    In: messages to the step, by key, in one or several PCollections; unbounded, in the global window. Out: by
    receiving step, the messages to it, in the global window, at the time of the message that caused them.

    Attributes:
      step: to run.
      to: steps that receive its messages.
      streaming: settings of the steps.
    """

    step: Step
    to: Sequence[Step]
    streaming: StreamSettings

    @no_annotations  # Beam has no type for a dict of outputs
    def expand(self, sent: PCollection[Keyed] | tuple[PCollection[Keyed], ...]) -> dict[Step, Any]:
        if isinstance(sent, tuple):
            sent = sent | "All" >> beam.Flatten()
        outputs = [step.value for step in self.to]
        stateful = beam.ParDo(_StepFn(self.step, self.streaming)).with_output_types(Keyed)
        done = (
            sent
            | "Pack" >> beam.ParDo(PackMessagesFn(self.step, self.streaming)).with_output_types(Keyed)
            | "Take" >> stateful.with_outputs(*outputs)
        )
        return {step: done[step.value] for step in self.to}


class PackMessagesFn(beam.DoFn):
    """Joins the messages of a bundle that go to the same key, since a runner has a cost per element.

    Only messages of the same period are joined. The result has the earliest of their times.
    """

    def __init__(self, step: Step, streaming: StreamSettings) -> None:
        self.step = step
        self.streaming = streaming

    def start_bundle(self) -> None:
        self._waiting: dict[int, list[Message]] = defaultdict(list)
        self._earliest: dict[int, Timestamp] = {}
        self._bytes = 0

    def process(self, element: Keyed, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[WindowedValue]:
        key, body = element
        period = self.streaming.period(timestamp)
        self._waiting[period].append(Message(self.step, key, body))
        self._earliest[period] = min(timestamp, self._earliest.get(period, timestamp))
        self._bytes += len(body)
        if self._bytes > _PACKED_BYTES:
            yield from self.finish_bundle()
            self.start_bundle()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for period, waiting in self._waiting.items():
            for _, key, body in messages.join_messages(waiting):
                yield WindowedValue((key, body), self._earliest[period], (GlobalWindow(),))


def _bag(name: str) -> BagStateSpec:
    return BagStateSpec(name, BytesCoder())


class _Slot:
    """The bags of one slot of one key: the state of one period."""

    def __init__(self, step: Step, settled: Any, recent: Any, waiting: Any) -> None:
        every = {"settled": settled, "recent": recent, "waiting": waiting}
        self._bags = {name: every[name] for name in CELLS[step]}

    def read(self) -> Cells:
        return Cells(**{name: tuple(bag.read()) for name, bag in self._bags.items()})

    def own(self, cells: Cells) -> Cells:
        """Returns what `read` would return after these cells were written."""
        return Cells(**{name: tuple(map(bytes, getattr(cells, name))) for name in self._bags})

    def apply(self, change: Change) -> None:
        for name, bag in self._bags.items():
            of_bag: CellChange = getattr(change, name)
            if of_bag.clear:
                bag.clear()
            _add(bag, of_bag.add)

    def add(self, cells: Cells) -> None:
        for name, bag in self._bags.items():
            _add(bag, getattr(cells, name))

    def clear(self) -> None:
        for bag in self._bags.values():
            bag.clear()


class _StepFn(beam.DoFn):
    """Messages by key -> messages to other steps, each on the output with the name of its step.

    The state of a key has two slots (`beam_dedup.core.stream.retention`) of three bags (`state_cells`), and a
    header. Bags that a step does not use are never touched. The name of this class is part of the label of
    its step, by which a running job finds its state.
    """

    HEADER = ReadModifyWriteStateSpec("held", BytesCoder())
    SETTLED_EVEN, SETTLED_ODD = _bag("settled_even"), _bag("settled_odd")
    RECENT_EVEN, RECENT_ODD = _bag("recent_even"), _bag("recent_odd")
    WAITING_EVEN, WAITING_ODD = _bag("waiting_even"), _bag("waiting_odd")

    def __init__(self, step: Step, streaming: StreamSettings) -> None:
        self.step = step
        self.streaming = streaming
        self.expired = Metrics.counter(metrics.NAMESPACE, metrics.EXPIRED)

    def setup(self) -> None:
        self.cache = process_cache(self.streaming.cache_bytes)

    def process(
        self,
        element: Keyed,
        timestamp: Any = beam.DoFn.TimestampParam,
        header: Any = beam.DoFn.StateParam(HEADER),
        settled_even: Any = beam.DoFn.StateParam(SETTLED_EVEN),
        settled_odd: Any = beam.DoFn.StateParam(SETTLED_ODD),
        recent_even: Any = beam.DoFn.StateParam(RECENT_EVEN),
        recent_odd: Any = beam.DoFn.StateParam(RECENT_ODD),
        waiting_even: Any = beam.DoFn.StateParam(WAITING_EVEN),
        waiting_odd: Any = beam.DoFn.StateParam(WAITING_ODD),
    ) -> Iterator[Any]:
        key, body = element
        slots = (
            _Slot(self.step, settled_even, recent_even, waiting_even),
            _Slot(self.step, settled_odd, recent_odd, waiting_odd),
        )
        period = self.streaming.period(timestamp)
        current = self._advance(key, period, header, slots)
        if not current:
            self.expired.inc()
            _LOGGER.error(
                "an image is lost: a message to step %s arrived after its period was cleared", self.step
            )
            return
        number = period % SLOTS
        slot, version = slots[number], current.versions[number]
        cells = self._cells(slot, version)
        result = STEPS[self.step](self.streaming.plan, key, cells, [body])
        if result.change != _NOTHING:
            slot.apply(result.change)
            if self.streaming.cache_bytes or version != UNKNOWN:
                changed = new_version()
                header.write(current.with_version(number, changed).packed())
                self.cache.put(changed, slot.own(result.change.applied(cells)), instead_of=version)
        for to, to_key, to_body in result.messages:
            yield TaggedOutput(to.value, WindowedValue((to_key, to_body), timestamp, (GlobalWindow(),)))

    def finish_bundle(self) -> None:
        if self.streaming.cache_bytes:
            metrics.set_gauge(metrics.CACHED_STATE, self.cache.bytes)

    def _cells(self, slot: _Slot, version: Version) -> Cells:
        cells = self.cache.get(version)
        if cells is None:
            cells = slot.read()
            if version != UNKNOWN:
                self.cache.put(version, cells)
        return cells

    def _advance(self, key: bytes, period: int, header: Any, slots: Sequence[_Slot]) -> StateHeader | None:
        """Clears the slots of periods that are over.

        Returns the header, or None if `period` is over itself.
        """
        before = StateHeader.unpacked(header.read())
        if before.slots.is_empty and self.streaming.initial_state:
            before = self._write_initial_state(key, header, slots)
        update = retention.advance(before.slots, period)
        if update is None:
            return None
        after = before._replace(slots=update.slots)
        for number in update.cleared:
            slots[number].clear()
            self.cache.forget(before.versions[number])
            after = after.with_version(number, UNKNOWN)
        if after != before:
            header.write(after.packed())
        return after

    def _write_initial_state(self, key: bytes, header: Any, slots: Sequence[_Slot]) -> StateHeader:
        """Writes the initial state of a key, once, to the slot of period 0. Returns the header."""
        first = StateHeader(PeriodSlots(even=0))
        cells = initial_state.read(self.streaming.initial_state).get((self.step, key))
        if cells:
            slots[0].add(cells)
        header.write(first.packed())
        return first


def _add(bag: Any, blocks: Iterable[bytes]) -> None:
    for block in blocks:
        bag.add(bytes(block))
