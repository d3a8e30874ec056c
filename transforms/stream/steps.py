"""The steps of `beam_dedup.core.stream` as stateful DoFns: they read state, call the step, write state, and know no more."""

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
from transforms.stream.state_cache import UNKNOWN, Stamped, Version, new_version, shared

_LOGGER = logging.getLogger(__name__)

Keyed = tuple[bytes, bytes]  # the key of a step, and the body of a message

_NOTHING = Change()
_PACKED_BYTES = 1 << 24  # of messages that wait for a bundle's end


@dataclasses.dataclass(frozen=True)
class StreamSettings:
    """What all steps of one stream share.

    remember_micros: how long a generation lasts. origin_micros: when the first began. beginning: a file of
    `beam_dedup.core.stream.initial_state`, the state of the first generation; "" begins with nothing. cache_bytes: of state that a
    process of an engine which keeps it elsewhere has at hand.
    """

    plan: StreamPlan
    remember_micros: int
    origin_micros: int
    beginning: str = ""
    cache_bytes: int = 0

    def generation(self, time: Timestamp) -> int:
        return retention.period_of(time.micros, self.origin_micros, self.remember_micros)


@dataclasses.dataclass
class RunStep(beam.PTransform[PCollection[Keyed], Mapping[Step, PCollection[Keyed]]]):
    """One step: takes messages and has some for other steps.

    In: messages by key, of one or several PCollections. Out: those for each of `to`.
    """

    step: Step
    to: Sequence[Step]
    streaming: StreamSettings

    @no_annotations  # Beam has no types for several outputs
    def expand(self, sent: PCollection[Keyed] | tuple[PCollection[Keyed], ...]) -> dict[Step, Any]:
        if isinstance(sent, tuple):
            sent = sent | "All" >> beam.Flatten()
        outputs = [step.value for step in self.to]
        taking = beam.ParDo(_StepFn(self.step, self.streaming)).with_output_types(Keyed)
        done = (
            sent
            | "Pack" >> beam.ParDo(PackMessagesFn(self.step, self.streaming)).with_output_types(Keyed)
            | "Take" >> taking.with_outputs(*outputs)
        )
        return {step: done[step.value] for step in self.to}


class PackMessagesFn(beam.DoFn):
    """Joins the messages of a bundle that are for one key: an engine is paid by the piece.

    What is joined is of one generation, and gets its earliest time.
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
        generation = self.streaming.generation(timestamp)
        self._waiting[generation].append(Message(self.step, key, body))
        self._earliest[generation] = min(timestamp, self._earliest.get(generation, timestamp))
        self._bytes += len(body)
        if self._bytes > _PACKED_BYTES:
            yield from self.finish_bundle()
            self.start_bundle()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for generation, waiting in self._waiting.items():
            for _, key, body in messages.joined(waiting):
                yield WindowedValue((key, body), self._earliest[generation], (GlobalWindow(),))


def _bag(name: str) -> BagStateSpec:
    return BagStateSpec(name, BytesCoder())


class _Slot:
    """The bags of one generation of one key."""

    def __init__(self, step: Step, settled: Any, recent: Any, waiting: Any) -> None:
        every = {"settled": settled, "recent": recent, "waiting": waiting}
        self._bags = {name: every[name] for name in CELLS[step]}

    def read(self) -> Cells:
        return Cells(**{name: tuple(bag.read()) for name, bag in self._bags.items()})

    def own(self, cells: Cells) -> Cells:
        """What would be read after these were written."""
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
    """Keyed messages -> messages for other steps, each on the output that is named after its step.

    The state of a key is in two slots of three bags (`generations`, `cells`); what a step never uses is not touched.
    """

    HELD = ReadModifyWriteStateSpec("held", BytesCoder())
    SETTLED_EVEN, SETTLED_ODD = _bag("settled_even"), _bag("settled_odd")
    RECENT_EVEN, RECENT_ODD = _bag("recent_even"), _bag("recent_odd")
    WAITING_EVEN, WAITING_ODD = _bag("waiting_even"), _bag("waiting_odd")

    def __init__(self, step: Step, streaming: StreamSettings) -> None:
        self.step = step
        self.streaming = streaming
        self.expired = Metrics.counter(metrics.NAMESPACE, metrics.EXPIRED)

    def setup(self) -> None:
        self.cache = shared(self.streaming.cache_bytes)

    def process(
        self,
        element: Keyed,
        timestamp: Any = beam.DoFn.TimestampParam,
        held: Any = beam.DoFn.StateParam(HELD),
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
        generation = self.streaming.generation(timestamp)
        stamped = self._turn(key, generation, held, slots)
        if not stamped:
            self.expired.inc()
            _LOGGER.error("a message of step %s was on its way for too long: an image is lost", self.step)
            return
        number = generation % SLOTS
        slot, version = slots[number], stamped.versions[number]
        cells = self._cells(slot, version)
        result = STEPS[self.step](self.streaming.plan, key, cells, [body])
        if result.change != _NOTHING:
            slot.apply(result.change)
            if self.streaming.cache_bytes or version != UNKNOWN:
                changed = new_version()
                held.write(stamped.with_version(number, changed).packed())
                self.cache.put(changed, slot.own(result.change.applied(cells)), instead_of=version)
        for to, to_key, to_body in result.messages:
            yield TaggedOutput(to.value, WindowedValue((to_key, to_body), timestamp, (GlobalWindow(),)))

    def _cells(self, slot: _Slot, version: Version) -> Cells:
        found = self.cache.get(version)
        if found is None:
            found = slot.read()
            if version != UNKNOWN:
                self.cache.put(version, found)
        return found

    def _turn(self, key: bytes, generation: int, held: Any, slots: Sequence[_Slot]) -> Stamped | None:
        """Makes room for a message. Returns None if its generation is over."""
        before = Stamped.unpacked(held.read())
        if before.held.is_empty and self.streaming.beginning:
            before = self._begin(key, held, slots)
        turn = retention.turn(before.held, generation)
        if turn is None:
            return None
        after = before._replace(held=turn.held)
        for number in turn.cleared:
            slots[number].clear()
            self.cache.forget(before.versions[number])
            after = after.with_version(number, UNKNOWN)
        if after != before:
            held.write(after.packed())
        return after

    def _begin(self, key: bytes, held: Any, slots: Sequence[_Slot]) -> Stamped:
        """Writes what is known beforehand into the state of a key, once."""
        begun = Stamped(PeriodSlots(even=0))
        cells = initial_state.read(self.streaming.beginning).get((self.step, key))
        if cells:
            slots[0].add(cells)
        held.write(begun.packed())
        return begun


def _add(bag: Any, blocks: Iterable[bytes]) -> None:
    for block in blocks:
        bag.add(bytes(block))
