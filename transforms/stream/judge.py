"""Arrivals in, verdicts out, without an end: the steps of `beam_dedup.core.stream.protocol`, wired as drawn there."""

import dataclasses
import functools
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from beam_dedup.core import blocks
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.model import ImageRef
from beam_dedup.core.stream import retention
from beam_dedup.core.stream.admit import arrivals as as_messages
from beam_dedup.core.stream.messages import ARRIVALS
from beam_dedup.core.stream.originals import fingerprinted
from beam_dedup.core.stream.protocol import Step, StreamPlan, Topic, by_topic
from transforms import metrics
from transforms.fingerprint import FingerprintImages
from transforms.read import DECODED_AT_ONCE, batched
from transforms.read_settings import ReadSettings
from transforms.stream.clock import now_micros
from transforms.stream.local_state import RememberCodesFn
from transforms.stream.skip_judged import without_judged
from transforms.stream.steps import Keyed, RunStep, StreamSettings
from transforms.tally import Tally


@dataclasses.dataclass
class AdmitArrivals(beam.PTransform[PCollection[bytes], PCollection[list[ImageRef]]]):
    """References to what is new; what was delivered before is counted, and goes no further.

    In: arrivals, packed, each at the time of its event.
    """

    streaming: StreamSettings
    tally: Tally | None = None

    def expand(self, arrivals: PCollection[bytes]) -> PCollection[list[ImageRef]]:
        arrived = arrivals | "Arrive" >> beam.ParDo(_ArriveFn(self.streaming)).with_output_types(Keyed)
        parted = arrived | "Admit" >> RunStep(Step.ADMIT, (Step.ADMITTED, Step.REDELIVERED), self.streaming)
        parted[Step.REDELIVERED] | "Redelivered" >> beam.Map(count_redelivered, self.tally)
        return parted[Step.ADMITTED] | "References" >> beam.FlatMap(references)


@dataclasses.dataclass
class JudgeArrivals(beam.PTransform[PCollection[list[ImageRef]], PCollection[bytes]]):
    """Reads and fingerprints images as they arrive, and judges each against all that came before.

    In: references that were admitted. Out: blocks of `blocks.VERDICTS`, one verdict on each image, as soon as it is final.

    settings: how images are read; without a recipe only equal bytes count. state: folder and run of an engine that remembers nothing; "" for others. skipped:
    a file with the identities of images that were judged before.
    """

    streaming: StreamSettings
    settings: ReadSettings = dataclasses.field(default=ReadSettings(), kw_only=True)
    state: tuple[str, str] = ("", "")
    skipped: str = ""

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[bytes]:
        read = images | "Fingerprint" >> FingerprintImages(settings=self.settings)
        fingerprints, rejections, _ = without_judged(read, self.skipped)
        if self.state[0]:
            fingerprints = fingerprints | "Remember" >> beam.ParDo(
                RememberCodesFn(*self.state)
            ).with_output_types(bytes)
        sent = fingerprints | "Send" >> beam.FlatMap(to_originals, self.streaming.plan)
        judged = sent | "Judge" >> JudgeFingerprints(self.streaming)
        return (judged, rejections) | "All" >> beam.Flatten()


@dataclasses.dataclass
class JudgeFingerprints(beam.PTransform[PCollection[Keyed], PCollection[bytes]]):
    """The protocol from the first step that knows bytes. In: messages to `originals`. Out: blocks of `blocks.VERDICTS`."""

    streaming: StreamSettings

    def expand(self, fingerprints: PCollection[Keyed]) -> PCollection[bytes]:
        take = functools.partial(RunStep, streaming=self.streaming)
        if self.streaming.plan.exact:
            original = fingerprints | "Originals" >> take(Step.ORIGINALS, (Step.SETTLE,))
            to_settle = (original[Step.SETTLE],)
        else:
            original = fingerprints | "Originals" >> take(
                Step.ORIGINALS, (Step.BAND, Step.GATHER, Step.SETTLE)
            )
            band = original[Step.BAND] | "Band" >> take(Step.BAND, (Step.GATHER,))
            gather = (original[Step.GATHER], band[Step.GATHER]) | "Gather" >> take(
                Step.GATHER, (Step.CONFIRM, Step.DECIDE, Step.SETTLE)
            )
            confirm = gather[Step.CONFIRM] | "Confirm" >> take(Step.CONFIRM, (Step.DECIDE,))
            decide = (gather[Step.DECIDE], confirm[Step.DECIDE]) | "Decide" >> take(
                Step.DECIDE, (Step.FINISH, Step.SETTLE)
            )
            finish = decide[Step.FINISH] | "Finish" >> take(Step.FINISH, (Step.SETTLE,))
            to_settle = tuple(done[Step.SETTLE] for done in (original, gather, decide, finish))
        settle = to_settle | "Settle" >> take(Step.SETTLE, (Step.VERDICTS,))
        return settle[Step.VERDICTS] | "Verdicts" >> beam.Map(block_of)


class _ArriveFn(beam.DoFn):
    """Packed arrivals -> messages to `admit`, those of a bundle together."""

    def __init__(self, streaming: StreamSettings) -> None:
        self.streaming = streaming
        self.late = Metrics.counter(metrics.NAMESPACE, metrics.LATE)

    def start_bundle(self) -> None:
        self._waiting: dict[int, list[bytes]] = defaultdict(list)
        self._earliest: dict[int, Timestamp] = {}

    def process(self, element: bytes, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        entered = retention.entered(timestamp.micros, now_micros(), self.streaming.remember_micros)
        if entered != timestamp.micros:
            self.late.inc()
            timestamp = Timestamp(micros=entered)
        generation = self.streaming.generation(timestamp)
        self._waiting[generation].append(element)
        self._earliest[generation] = min(timestamp, self._earliest.get(generation, timestamp))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for generation, waiting in self._waiting.items():
            identities = [Arrival.unpacked(packed).identity for packed in waiting]
            for _, key, body in as_messages(self.streaming.plan, identities, waiting):
                yield WindowedValue((key, body), self._earliest[generation], (GlobalWindow(),))


def references(message: Keyed) -> Iterator[list[ImageRef]]:
    """What is to be read of a message of `admit`, some at a time."""
    packed = blocks.load(by_topic([message[1]])[Topic.ARRIVALS], ARRIVALS)["reference"].to_pylist()
    Metrics.counter(metrics.NAMESPACE, metrics.ADMITTED).inc(len(packed))
    yield from batched((Arrival.unpacked(one).reference() for one in packed), DECODED_AT_ONCE)


def count_redelivered(message: Keyed, tally: Tally | None) -> None:
    redelivered = len(blocks.load(by_topic([message[1]])[Topic.ARRIVALS], ARRIVALS))
    Metrics.counter(metrics.NAMESPACE, metrics.REDELIVERED).inc(redelivered)
    if tally:
        tally.add(metrics.REDELIVERED, redelivered)


def to_originals(block: bytes, plan: StreamPlan) -> Iterator[Keyed]:
    """A block of `blocks.FINGERPRINTS` as messages."""
    for _, key, body in fingerprinted(plan, blocks.load([block], blocks.FINGERPRINTS)):
        yield key, body


def block_of(message: Keyed) -> bytes:
    return message[1][:-1]
