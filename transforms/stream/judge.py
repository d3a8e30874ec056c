"""Judges new images in an unbounded stream.

The steps are those of `beam_dedup.core.stream.protocol`, wired as in its diagram.
"""

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

from beam_dedup.core import blocks, tables
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.blocks import FingerprintBlock, VerdictBlock
from beam_dedup.core.model import ImageRef
from beam_dedup.core.preference import Preference
from beam_dedup.core.stream import retention
from beam_dedup.core.stream.admit import arrival_messages
from beam_dedup.core.stream.messages import ARRIVALS
from beam_dedup.core.stream.originals import fingerprint_messages
from beam_dedup.core.stream.protocol import Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.retention import SLOTS
from transforms import metrics
from transforms.fingerprint import FingerprintImages
from transforms.lineage import reporting
from transforms.read import DECODED_AT_ONCE, batched
from transforms.read_settings import ReadSettings
from transforms.stream.clock import now_micros
from transforms.stream.local_state import SaveCodesFn
from transforms.stream.skip_judged import without_judged
from transforms.stream.steps import Keyed, RunStep, StreamSettings
from transforms.tally import Tally


@dataclasses.dataclass
class AdmitArrivals(beam.PTransform[PCollection[bytes], PCollection[list[ImageRef]]]):
    """Passes on references to new images; counts redelivered ones, and drops them.

    In: packed arrivals (`beam_dedup.core.arrivals`), each at the time of its event; unbounded. Out: lists of
    references. Both are in the global window.
    """

    streaming: StreamSettings
    tally: Tally | None = None

    def expand(self, arrivals: PCollection[bytes]) -> PCollection[list[ImageRef]]:
        arrived = arrivals | "Arrive" >> beam.ParDo(_ArriveFn(self.streaming)).with_output_types(Keyed)
        parted = arrived | "Admit" >> RunStep(Step.ADMIT, (Step.ADMITTED, Step.REDELIVERED), self.streaming)
        parted[Step.REDELIVERED] | "Redelivered" >> beam.Map(count_redelivered, self.tally)
        return parted[Step.ADMITTED] | "References" >> beam.FlatMap(references)


@dataclasses.dataclass
class JudgeArrivals(beam.PTransform[PCollection[list[ImageRef]], PCollection[VerdictBlock]]):
    """Reads and fingerprints new images, and judges each against all that arrived before it.

    In: lists of references, from `AdmitArrivals`; unbounded. Out: blocks of `blocks.VERDICTS`, one verdict
    per image, as soon as it is final. Both are in the global window.

    Attributes:
      streaming: settings of the steps.
      state: for a runner without state of its own (the local one): the directory of
        `transforms.stream.local_state`, and the name of the run. ("", "") for others.
      skipped: file with the identities of images that were judged before (`SkipJudgedFn`); "" if there are
        none.
      settings: how images are read; without a recipe only bytes are compared.
      preference: which images are protected. A protected image is kept whatever arrived before it. The policy has no
        effect: the image that arrives first is preferred.
    """

    streaming: StreamSettings
    settings: ReadSettings = dataclasses.field(default=ReadSettings(), kw_only=True)
    state: tuple[str, str] = ("", "")
    skipped: str = ""
    preference: Preference = dataclasses.field(default=Preference(), kw_only=True)

    def expand(self, images: PCollection[list[ImageRef]]) -> PCollection[VerdictBlock]:
        read = images | "Fingerprint" >> FingerprintImages(settings=self.settings)
        fingerprints, rejections, _ = without_judged(read, self.skipped, self.settings.tally)
        if self.state[0]:
            fingerprints = fingerprints | "Remember" >> beam.ParDo(
                SaveCodesFn(*self.state)
            ).with_output_types(FingerprintBlock)
        sent = fingerprints | "Send" >> beam.FlatMap(to_originals, self.streaming.plan, self.preference)
        judged = sent | "Judge" >> JudgeFingerprints(self.streaming)
        return (judged, rejections) | "All" >> beam.Flatten()


@dataclasses.dataclass
class JudgeFingerprints(beam.PTransform[PCollection[Keyed], PCollection[VerdictBlock]]):
    """Runs the protocol from the step `originals` on.

    In: messages to `originals`, by key; unbounded. Out: blocks of `blocks.VERDICTS`. Both are in the global
    window.
    """

    streaming: StreamSettings

    def expand(self, fingerprints: PCollection[Keyed]) -> PCollection[VerdictBlock]:
        run_step = functools.partial(RunStep, streaming=self.streaming)
        if self.streaming.plan.exact:
            original = fingerprints | "Originals" >> run_step(Step.ORIGINALS, (Step.SETTLE,))
            to_settle = (original[Step.SETTLE],)
        else:
            original = fingerprints | "Originals" >> run_step(
                Step.ORIGINALS, (Step.BAND, Step.GATHER, Step.SETTLE)
            )
            band = original[Step.BAND] | "Band" >> run_step(Step.BAND, (Step.GATHER,))
            gather = (original[Step.GATHER], band[Step.GATHER]) | "Gather" >> run_step(
                Step.GATHER, (Step.CONFIRM, Step.DECIDE, Step.SETTLE)
            )
            confirm = gather[Step.CONFIRM] | "Confirm" >> run_step(Step.CONFIRM, (Step.DECIDE,))
            decide = (gather[Step.DECIDE], confirm[Step.DECIDE]) | "Decide" >> run_step(
                Step.DECIDE, (Step.FINISH, Step.SETTLE)
            )
            finish = decide[Step.FINISH] | "Finish" >> run_step(Step.FINISH, (Step.SETTLE,))
            to_settle = tuple(done[Step.SETTLE] for done in (original, gather, decide, finish))
        settle = to_settle | "Settle" >> run_step(Step.SETTLE, (Step.VERDICTS,))
        return settle[Step.VERDICTS] | "Verdicts" >> beam.Map(verdict_block)


class _ArriveFn(beam.DoFn):
    """Packed arrivals -> messages to `admit`; the arrivals of a bundle share messages."""

    def __init__(self, streaming: StreamSettings) -> None:
        self.streaming = streaming
        self.late = Metrics.counter(metrics.NAMESPACE, metrics.LATE)

    def start_bundle(self) -> None:
        self._waiting: dict[int, list[Arrival]] = defaultdict(list)
        self._earliest: dict[int, Timestamp] = {}

    def process(self, element: bytes, timestamp: Any = beam.DoFn.TimestampParam) -> None:
        entry = retention.entry_time(timestamp.micros, now_micros(), self.streaming.remember_micros)
        if entry != timestamp.micros:
            self.late.inc()
            timestamp = Timestamp(micros=entry)
        period = self.streaming.period(timestamp)
        arrival = with_arrival_time(Arrival.unpacked(element), entry, self.streaming.remember_micros)
        self._waiting[period].append(arrival)
        self._earliest[period] = min(timestamp, self._earliest.get(period, timestamp))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for period, waiting in self._waiting.items():
            identities = [arrival.identity for arrival in waiting]
            packed = [arrival.packed() for arrival in waiting]
            for _, key, body in arrival_messages(self.streaming.plan, identities, packed):
                yield WindowedValue((key, body), self._earliest[period], (GlobalWindow(),))


def with_arrival_time(arrival: Arrival, entry_micros: int, remember_micros: int) -> Arrival:
    """Returns an arrival with the time of its entry, if that is more than half a period away from its event.

    A restart reads the time from the record: so it forgets the image when the stream would have.
    """
    entry_ms = entry_micros // 1000
    if arrival.event_ms is None or abs(entry_ms - arrival.event_ms) * 1000 <= remember_micros // SLOTS:
        return arrival
    return arrival._replace(arrival_ms=entry_ms)


def references(message: Keyed) -> Iterator[list[ImageRef]]:
    """Yields the references in a message from `admit`, in lists of a size that one decoder call takes."""
    packed = blocks.load(blocks_by_topic([message[1]])[Topic.ARRIVALS], ARRIVALS)["reference"].to_pylist()
    Metrics.counter(metrics.NAMESPACE, metrics.ADMITTED).inc(len(packed))
    arrivals = [Arrival.unpacked(one) for one in packed]
    events = [arrival.event_ms for arrival in arrivals if arrival.event_ms is not None]
    if events:
        metrics.set_gauge(metrics.LAG, max(0, now_micros() // 1000 - min(events)))
    yield from reporting(batched((arrival.reference() for arrival in arrivals), DECODED_AT_ONCE))


def count_redelivered(message: Keyed, tally: Tally | None) -> None:
    """Counts the arrivals in a message to `redelivered`."""
    redelivered = len(blocks.load(blocks_by_topic([message[1]])[Topic.ARRIVALS], ARRIVALS))
    Metrics.counter(metrics.NAMESPACE, metrics.REDELIVERED).inc(redelivered)
    if tally:
        tally.add(metrics.REDELIVERED, redelivered)


def to_originals(
    block: FingerprintBlock,
    plan: StreamPlan,
    preference: Preference = Preference(),  # noqa: B008  frozen
) -> Iterator[Keyed]:
    """Yields a block of `blocks.FINGERPRINTS` as messages to `originals`, with protected images flagged."""
    images = tables.with_protected_flags(blocks.load([block], blocks.FINGERPRINTS), preference)
    for _, key, body in fingerprint_messages(plan, images):
        yield key, body


def verdict_block(message: Keyed) -> VerdictBlock:
    """Returns the block of a message to `verdicts`."""
    return message[1][:-1]
