"""Gauges of a stream are numbers about the last minute, as monitoring systems need them."""

import itertools
import json
import time

import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.arrivals import EVENT_TIME, Arrival, rfc3339
from beam_dedup.core.model import ImageRef, Status, Verdict
from beam_dedup.core.stream.admit import arrival_messages
from beam_dedup.core.stream.protocol import exact_plan
from transforms import metrics
from transforms.stream import judge, record
from transforms.stream.recent_times import RecentTimes


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_quantiles_are_those_of_the_times() -> None:
    times = RecentTimes()
    assert times.quantiles(0.5, 0.95) == []
    times.add(range(1, 101))
    assert times.quantiles(0.5, 0.95, 1.0) == [50, 95, 100]
    single = RecentTimes()
    single.add([7])
    assert single.quantiles(0.01, 0.5, 0.95) == [7, 7, 7]


def test_old_times_do_not_count() -> None:
    clock = Clock()
    times = RecentTimes(seconds=60, clock=clock)
    times.add([1000])
    clock.now += 40
    times.add([10, 20])
    assert times.quantiles(1.0) == [1000]
    clock.now += 40
    assert times.quantiles(1.0) == [20]
    clock.now += 40
    assert times.quantiles(1.0) == []


def test_number_of_times_is_bounded() -> None:
    times = RecentTimes(most=3)
    times.add([9, 1, 2, 3])
    assert times.quantiles(1.0) == [3]


def verdicts(*ages_ms: int) -> blocks.VerdictBlock:
    """A block of verdicts on images whose events were so long ago."""
    now_ms = time.time_ns() // 10**6
    made = []
    for number, age in enumerate(ages_ms):
        metadata = json.dumps({EVENT_TIME: rfc3339(now_ms - age)})
        ref = ImageRef(f"gs://b/{number}.png", f"{number}.png", metadata=metadata)
        made.append(Verdict(ref, Status.KEPT, digest=b"%032d" % number))
    return blocks.dump(tables.verdicts_table(made))


def test_recording_verdicts_sets_the_gauges_of_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, int] = {}
    monkeypatch.setattr(metrics, "set_gauge", shown.__setitem__)
    monkeypatch.setattr(record, "verdict_times", RecentTimes())
    record.count_verdicts(verdicts())
    assert shown == {}
    record.count_verdicts(verdicts(*[2_000] * 90, *[600_000] * 10))
    assert shown.keys() == {metrics.LATENCY_P50, metrics.LATENCY_P95}
    assert 2_000 <= shown[metrics.LATENCY_P50] < 300_000
    assert 600_000 <= shown[metrics.LATENCY_P95] < 900_000


def test_admission_sets_the_gauge_of_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the oldest image; images without a time do not count."""
    shown: dict[str, int] = {}
    monkeypatch.setattr(metrics, "set_gauge", shown.__setitem__)
    now_ms = time.time_ns() // 10**6
    arrivals = [Arrival(f"gs://b/{age}.png", event_ms=now_ms - age) for age in (1_000, 600_000)]
    arrivals.append(Arrival("gs://b/untimed.png"))
    [(_, key, body)] = arrival_messages(
        exact_plan(1), [one.identity for one in arrivals], [one.packed() for one in arrivals]
    )
    assert len(list(itertools.chain(*judge.references((key, body))))) == 3
    assert 600_000 <= shown[metrics.LAG] < 900_000
