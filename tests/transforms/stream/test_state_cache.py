"""The state cache returns the current state, also when bundles fail or keys move to other workers."""

import copy
import random
from collections.abc import Sequence
from typing import Any

import pytest
from apache_beam.utils.timestamp import Timestamp

from beam_dedup.core.stream import steps as core_steps
from beam_dedup.core.stream.protocol import Result, Step, StreamPlan, exact_plan
from beam_dedup.core.stream.retention import PeriodSlots
from beam_dedup.core.stream.state_cells import CellChange, Cells, Change
from transforms.stream.state_cache import UNKNOWN, CellCache, StateHeader, new_version
from transforms.stream.steps import StreamSettings, _StepFn

PERIOD_SECONDS = 86400
# A cache is used; `worker` sets its size.
STREAMING = StreamSettings(exact_plan(), PERIOD_SECONDS * 10**6, 0, cache_bytes=1)
KINDS = ("settled", "recent", "waiting")
KEYS = (b"a", b"b", b"c")


class Bag:
    """A bag state; counts how often it is read."""

    def __init__(self) -> None:
        self.blocks: list[bytes] = []
        self.read_count = 0

    def read(self) -> list[bytes]:
        self.read_count += 1
        return list(self.blocks)

    def add(self, block: bytes) -> None:
        self.blocks.append(block)

    def clear(self) -> None:
        self.blocks = []


class Value:
    def __init__(self) -> None:
        self.value: bytes | None = None

    def read(self) -> bytes | None:
        return self.value

    def write(self, value: bytes) -> None:
        self.value = value


def empty() -> dict[str, Any]:
    """Returns the empty state of a key."""
    bags = {f"{kind}_{slot}": Bag() for kind in KINDS for slot in ("even", "odd")}
    return {"header": Value(), **bags}


def contents(state: dict[str, Any], slot: str) -> Cells:
    return Cells(**{kind: tuple(state[f"{kind}_{slot}"].blocks) for kind in KINDS})


def worker(max_bytes: int) -> _StepFn:
    made = _StepFn(Step.SETTLE, STREAMING)
    made.cache = CellCache(max_bytes)
    return made


def process(fn: _StepFn, key: bytes, state: dict[str, Any], period: int) -> None:
    assert list(fn.process((key, b""), Timestamp(period * PERIOD_SECONDS + 1), **state)) == []


def random_change(rng: random.Random) -> Change:
    changes = {
        kind: CellChange(rng.random() < 0.2, [rng.randbytes(rng.randint(0, 9))] * rng.randint(0, 2))
        for kind in KINDS
        if rng.random() < 0.5
    }
    return Change(**changes)


@pytest.mark.parametrize("max_bytes", [0, 60, 1 << 20])
@pytest.mark.parametrize("seed", range(5))
def test_step_always_gets_the_current_state(
    seed: int, max_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any of three workers may process any key, bundles fail, and periods pass."""
    rng = random.Random(seed)
    workers = [worker(max_bytes) for _ in range(3)]
    states = {key: empty() for key in KEYS}
    given: list[tuple[Cells, Cells]] = []
    expected = Cells()

    def step(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
        given.append((cells, expected))
        return Result(random_change(rng), [])

    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, step)
    period = 0
    for _ in range(1000):
        period += rng.random() < 0.01
        fn, before = rng.choice(workers), copy.deepcopy(states)
        for _ in range(rng.randint(1, 4)):  # messages of a bundle
            key, at = rng.choice(KEYS), max(0, period - (rng.random() < 0.1))
            slots = StateHeader.unpacked(states[key]["header"].value).slots
            is_there = at in slots
            expected = contents(states[key], ("even", "odd")[at % 2]) if is_there else Cells()
            process(fn, key, states[key], at)
        if rng.random() < 0.2:
            states = before
    assert len(given) > 2000
    assert all(cells == wanted for cells, wanted in given)
    assert len({cells for cells, _ in given}) > 500, "the states differ enough to confuse them"


def test_cached_state_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Change(recent=CellChange(add=[b"more"]))
    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, lambda *_: Result(change, []))
    one, other, state = worker(1000), worker(1000), empty()
    for _ in range(5):
        process(one, b"a", state, 0)
    assert state["recent_even"].read_count == 1
    process(other, b"a", state, 0)
    assert state["recent_even"].read_count == 2, "it has no cached state"
    process(one, b"a", state, 0)
    assert state["recent_even"].read_count == 3, "its cached version is outdated"
    assert contents(state, "even").recent == (b"more",) * 7


def test_no_version_is_written_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A runner that keeps state in this process needs no cache."""
    change = Change(recent=CellChange(add=[b"more"]))
    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, lambda *_: Result(change, []))
    fn, state = _StepFn(Step.SETTLE, StreamSettings(exact_plan(), PERIOD_SECONDS * 10**6, 0)), empty()
    fn.setup()
    for _ in range(3):
        process(fn, b"a", state, 0)
    assert state["recent_even"].read_count == 3
    assert StateHeader.unpacked(state["header"].value) == StateHeader(PeriodSlots(even=0))


def test_worker_without_a_cache_leaves_no_outdated_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job with a cache may be continued without one, and then with one again."""
    change = Change(recent=CellChange(add=[b"more"]))
    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, lambda *_: Result(change, []))
    with_cache, state = worker(1000), empty()
    without = _StepFn(Step.SETTLE, StreamSettings(exact_plan(), PERIOD_SECONDS * 10**6, 0))
    without.setup()
    for fn in (with_cache, without, with_cache):
        process(fn, b"a", state, 0)
    assert state["recent_even"].read_count == 3


def test_cache_has_a_limit() -> None:
    cache = CellCache(100)
    versions = [new_version() for _ in range(50)]
    for version in versions:
        cache.put(version, Cells(settled=(bytes(10),)))
    found = [version for version in versions if cache.get(version)]
    assert len(found) == 10
    assert found != versions[-10:], "random entries are removed, not the oldest"
    too_large = new_version()
    cache.put(too_large, Cells(recent=(bytes(101),)))
    assert cache.get(too_large) is None


def test_new_version_replaces_the_older_one() -> None:
    cache, older, newer = CellCache(100), new_version(), new_version()
    cache.put(older, Cells(settled=(bytes(60),)))
    cache.put(newer, Cells(settled=(bytes(60),), recent=(bytes(40),)), instead_of=older)
    assert cache.get(older) is None
    assert cache.get(newer)
    cache.forget(newer)
    cache.put(older, Cells(settled=(bytes(100),)))
    assert cache.get(older)


def test_unknown_version_is_not_found() -> None:
    assert CellCache(100).get(UNKNOWN) is None
    assert StateHeader.unpacked(None) == StateHeader()
    header = StateHeader(PeriodSlots(4, 5)).with_version(1, new_version())
    assert StateHeader.unpacked(header.packed()) == header
    assert header.versions[0] == UNKNOWN
