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

from beam_dedup.core.stream import beginnings, generations, messages
from beam_dedup.core.stream.cells import CellChange, Cells
from beam_dedup.core.stream.generations import SLOTS, Held
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan
from beam_dedup.core.stream.steps import CELLS, STEPS
from transforms import metrics

_LOGGER = logging.getLogger(__name__)

Keyed = tuple[bytes, bytes]  # the key of a step, and the body of a message

_PACKED_BYTES = 1 << 24  # of messages that wait for a bundle's end


@dataclasses.dataclass(frozen=True)
class Streaming:
    """What all steps of one stream share.

    remember_micros: how long a generation lasts. origin_micros: when the first began. beginning: a file of
    `beam_dedup.core.stream.beginnings`, the state of the first generation; "" begins with nothing.
    """

    plan: StreamPlan
    remember_micros: int
    origin_micros: int
    beginning: str = ""

    def generation(self, time: Timestamp) -> int:
        return generations.generation_of(time.micros, self.origin_micros, self.remember_micros)


@dataclasses.dataclass
class Take(beam.PTransform[PCollection[Keyed], Mapping[Step, PCollection[Keyed]]]):
    """One step: takes messages and has some for other steps.

    In: messages by key, of one or several PCollections. Out: those for each of `to`.
    """

    step: Step
    to: Sequence[Step]
    streaming: Streaming

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

    def __init__(self, step: Step, streaming: Streaming) -> None:
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


class _StepFn(beam.DoFn):
    """Keyed messages -> messages for other steps, each on the output that is named after its step.

    The state of a key is in two slots of three bags (`generations`, `cells`); what a step never uses is not touched.
    """

    HELD = ReadModifyWriteStateSpec("held", BytesCoder())
    SETTLED_EVEN, SETTLED_ODD = _bag("settled_even"), _bag("settled_odd")
    RECENT_EVEN, RECENT_ODD = _bag("recent_even"), _bag("recent_odd")
    WAITING_EVEN, WAITING_ODD = _bag("waiting_even"), _bag("waiting_odd")

    def __init__(self, step: Step, streaming: Streaming) -> None:
        self.step = step
        self.streaming = streaming
        self.expired = Metrics.counter(metrics.NAMESPACE, metrics.EXPIRED)

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
        if not self._turn(key, generation, held, slots):
            self.expired.inc()
            _LOGGER.error("a message of step %s was on its way for too long: an image is lost", self.step)
            return
        slot = slots[generation % SLOTS]
        result = STEPS[self.step](self.streaming.plan, key, slot.read(), [body])
        slot.apply(result.change)
        for to, to_key, to_body in result.messages:
            yield TaggedOutput(to.value, WindowedValue((to_key, to_body), timestamp, (GlobalWindow(),)))

    def _turn(self, key: bytes, generation: int, held: Any, slots: Sequence["_Slot"]) -> bool:
        """Makes room for a message. Returns False if its generation is over."""
        before = Held.unpacked(held.read())
        if before.is_empty and self.streaming.beginning:
            before = self._begin(key, held, slots)
        turn = generations.turn(before, generation)
        if turn is None:
            return False
        for number in turn.cleared:
            slots[number].clear()
        if turn.held != before:
            held.write(turn.held.packed())
        return True

    def _begin(self, key: bytes, held: Any, slots: Sequence["_Slot"]) -> Held:
        """Writes what is known beforehand into the state of a key, once."""
        begun = Held(even=0)
        cells = beginnings.read(self.streaming.beginning).get((self.step, key))
        if cells:
            slots[0].add(cells)
        held.write(begun.packed())
        return begun


class _Slot:
    """The bags of one generation of one key."""

    def __init__(self, step: Step, settled: Any, recent: Any, waiting: Any) -> None:
        every = {"settled": settled, "recent": recent, "waiting": waiting}
        self._bags = {name: every[name] for name in CELLS[step]}

    def read(self) -> Cells:
        return Cells(**{name: tuple(bag.read()) for name, bag in self._bags.items()})

    def apply(self, change: Any) -> None:
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


def _add(bag: Any, blocks: Iterable[bytes]) -> None:
    for block in blocks:
        bag.add(bytes(block))
