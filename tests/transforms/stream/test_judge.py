"""The steps of a stream as DoFns: blocks of any size, redeliveries, periods, and failing bundles."""

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.matching.plan import plan_for
from beam_dedup.core.model import Fingerprint, ImageRef, Status, Verdict
from beam_dedup.core.stream.protocol import StreamPlan, exact_plan
from beam_dedup.core.thresholds import Thresholds
from tests.core.stream import stream_sets
from tests.core.stream.stream_sets import (
    Item,
    check_verdicts,
    in_order,
    items_of,
    random_plan,
    thresholds_of,
    together,
    words_of,
)
from tests.core.stream.test_steps import image
from tests.random_sets import RandomSet
from tests.transforms.streams import Event, FailOnceFn, run, scripted
from transforms.batching import verdicts_in
from transforms.stream import judge
from transforms.stream.judge import AdmitArrivals, JudgeFingerprints, to_originals
from transforms.stream.steps import StreamSettings

DAY = 86400 * 10**6
PLAN = StreamPlan(Thresholds(4, 256), plan_for(Thresholds(4, 256), 1, 1, 2), 2)


def judged(streaming: StreamSettings, events: Sequence[Event], failing: bool = False) -> list[Verdict]:
    """Returns the verdicts on the fingerprints of some events, in the order in which they were issued."""
    packed = [(at, [blocks.dump(tables.fingerprints_table(some))]) for at, some in events if some]

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        read = pipeline | scripted(packed)
        if failing:
            read |= "Fail" >> beam.ParDo(FailOnceFn())
        sent = read | "Send" >> beam.FlatMap(to_originals, streaming.plan)
        return {"verdicts": sent | JudgeFingerprints(streaming)}

    return [verdict for block in run(build)["verdicts"] for verdict in verdicts_in(block)]


def case_of(seed: int, sets: int, copies: bool = True) -> tuple[RandomSet, list[Item], StreamPlan]:
    rng = random.Random(f"dofns {seed}")
    algorithm, k = stream_sets.OTHERS[seed % len(stream_sets.OTHERS)] if seed % 3 == 0 else ("dct", seed % 12)
    case = together(stream_sets.random_sets_alike(rng, f"{seed}", k, algorithm, sets))
    return case, items_of(case, rng, copies), random_plan(rng, thresholds_of(case), words_of(algorithm))


def in_parts(items: Sequence[Item], rng: random.Random, most: int) -> Iterator[Event]:
    at = 0
    while at < len(items):
        count = rng.randint(1, most)
        yield 1.0, [item.image for item in items[at : at + count] if item.image]
        at += count


@pytest.mark.parametrize("seed", range(10))
def test_verdicts_hold_for_blocks_of_any_size(seed: int) -> None:
    case, items, plan = case_of(seed, 3)
    rng = random.Random(seed)
    rng.shuffle(items)
    streaming = StreamSettings(plan, DAY, 0, cache_bytes=(0, 30_000, 1 << 30)[seed % 3])
    verdicts = judged(streaming, list(in_parts(items, rng, rng.choice([10, 30, 300]))), seed % 2 == 0)
    wanted = sorted(item.image.ref.name for item in items if item.image)
    assert sorted(verdict.ref.name for verdict in verdicts) == wanted
    check_verdicts(items, verdicts, case.k, case.verify)


@pytest.mark.parametrize("seed", range(4))
def test_images_one_by_one_get_the_verdicts_of_the_definition(seed: int) -> None:
    case, items, plan = case_of(seed, 1)
    events = [(1.0, [item.image] if item.image else []) for item in items]
    found = judged(StreamSettings(plan, DAY, 0), events)
    wanted = in_order(items, case.k, case.verify)
    assert [(v.ref.name, v.status) for v in found] == [(v.ref.name, v.status) for v in wanted]
    # With more digest shards, numbers have another order, which decides between equally near witnesses.
    if plan.digest_shards == 1:
        assert found == wanted


def test_exact_mode_compares_bytes_alone() -> None:
    images = [image(0, 7), image(1, 7), image(2, 9, same_bytes_as=0)]
    found = judged(StreamSettings(exact_plan(), DAY, 0), [(1.0, [one]) for one in images])
    assert [verdict.status for verdict in found] == [Status.KEPT, Status.KEPT, Status.DUPLICATE]


class TestPeriods:
    """Periods of a day each."""

    def kept(self, *events: tuple[float, Fingerprint]) -> list[str]:
        """Judges images at times in days. Returns the names of the kept ones."""
        verdicts = judged(
            StreamSettings(PLAN, DAY, 0, cache_bytes=1 << 20), [(day * 86400.0, [one]) for day, one in events]
        )
        assert len(verdicts) == len(events)
        return sorted(verdict.ref.name for verdict in verdicts if verdict.status == Status.KEPT)

    def test_images_of_one_period_are_compared(self) -> None:
        assert self.kept((0.1, image(0, 5)), (0.9, image(1, 5))) == ["0"]

    def test_images_of_two_periods_are_not_compared(self) -> None:
        assert self.kept((0.9, image(0, 5)), (1.1, image(1, 5)), (1.2, image(2, 5))) == ["0", "1"]

    def test_previous_period_is_still_in_the_state(self) -> None:
        assert self.kept((0.9, image(0, 5)), (1.1, image(1, 6)), (0.95, image(2, 5))) == ["0", "1"]

    def test_state_is_cleared_after_a_long_pause(self) -> None:
        assert self.kept((0.1, image(0, 5)), (77.0, image(1, 5)), (76.5, image(2, 5))) == ["0", "1", "2"]


class TestDelivery:
    def admitted(self, events: Sequence[Event]) -> list[ImageRef]:
        packed = [(at, [arrival.packed() for arrival in arrivals]) for at, arrivals in events]

        def build(pipeline: beam.Pipeline) -> dict[str, Any]:
            return {"new": pipeline | scripted(packed) | AdmitArrivals(StreamSettings(PLAN, DAY, 0))}

        return [reference for batch in run(build)["new"] for reference in batch]

    @pytest.mark.parametrize("seed", range(4))
    def test_each_arrival_is_admitted_once(self, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judge, "now_micros", lambda: 2 * 10**6)
        rng = random.Random(seed)
        arrivals = [Arrival(f"gs://b/{number // 2}", f"{number % 2}", 1000) for number in range(100)]
        delivered = [arrival for arrival in arrivals for _ in range(rng.randint(1, 5))]
        rng.shuffle(delivered)
        events = [(1.0, delivered[at : at + 17]) for at in range(0, len(delivered), 17)]
        found = self.admitted(events)
        assert sorted(found, key=lambda ref: (ref.uri, ref.generation)) == sorted(
            (arrival.reference() for arrival in arrivals), key=lambda ref: (ref.uri, ref.generation)
        )

    def test_late_arrival_enters_the_current_period(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """More than half a period after its event, an arrival belongs to the current period."""
        monkeypatch.setattr(judge, "now_micros", lambda: 10 * DAY)
        delivered = [(at * 86400.0, [Arrival("gs://b/a", "1")]) for at in (3, 9.4, 9.6, 10.0, 0.0)]
        # It is admitted once in period 10 and once in period 9; the other three are redeliveries.
        assert len(self.admitted(delivered)) == 2

    def test_time_of_an_arrival_is_recorded_if_its_event_is_far_away(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The message itself may be new, or also be delivered late. Records of other images do not change."""
        monkeypatch.setattr(judge, "now_micros", lambda: 10 * DAY)
        day_ms = DAY // 1000
        delivered = [
            (
                published * 86400.0,
                [Arrival(f"gs://b/{event}", "1", None if event is None else int(event * day_ms))],
            )
            for published, event in ((10, 10), (10, 9.6), (10, None), (10, 3), (3, 3), (9.9, 2), (10, 9000))
        ]
        delivered[4] = (delivered[4][0], [delivered[4][1][0]._replace(uri="gs://b/late")])
        found = {
            reference.uri.removeprefix("gs://b/"): json.loads(reference.metadata).get("arrival_time")
            for reference in self.admitted(delivered)
        }
        assert found == {
            "10": None,
            "9.6": None,
            "None": None,
            "3": "1970-01-11T00:00:00.000Z",
            "late": "1970-01-11T00:00:00.000Z",
            "2": "1970-01-10T21:36:00.000Z",
            "9000": "1970-01-11T00:00:00.000Z",
        }

    def test_redelivery_is_recognised_in_the_next_period(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judge, "now_micros", lambda: 87000 * 10**6)
        old, new = Arrival("gs://b/a", "1"), Arrival("gs://b/b", "1")
        found = self.admitted([(86000.0, [old]), (87000.0, [new]), (86000.0, [old]), (87000.0, [new])])
        assert [reference.uri for reference in found] == ["gs://b/a", "gs://b/b"]


def test_a_bad_notification_is_refused() -> None:
    reference = Arrival("projects/p/subscriptions/s/1", refused="no JSON").reference()
    assert reference.refused == ("bad_notification", "no JSON")
