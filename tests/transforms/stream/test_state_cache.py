"""What a worker takes for the state of a key is its state: whatever fails, moves to another worker, or is thrown out."""

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
from transforms.stream.state_cache import UNKNOWN, CellCache, Stamped, new_version
from transforms.stream.steps import StreamSettings, _StepFn

DAY_SECONDS = 86400
STREAMING = StreamSettings(
    exact_plan(), DAY_SECONDS * 10**6, 0, cache_bytes=1
)  # workers below have caches of other sizes
KINDS = ("settled", "recent", "waiting")
KEYS = (b"a", b"b", b"c")


class Bag:
    """As an engine keeps it; counts how often it is read."""

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
    """The state of a key."""
    bags = {f"{kind}_{slot}": Bag() for kind in KINDS for slot in ("even", "odd")}
    return {"held": Value(), **bags}


def contents(state: dict[str, Any], slot: str) -> Cells:
    return Cells(**{kind: tuple(state[f"{kind}_{slot}"].blocks) for kind in KINDS})


def worker(most_bytes: int) -> _StepFn:
    made = _StepFn(Step.SETTLE, STREAMING)
    made.cache = CellCache(most_bytes)
    return made


def take(fn: _StepFn, key: bytes, state: dict[str, Any], day: int) -> None:
    assert list(fn.process((key, b""), Timestamp(day * DAY_SECONDS + 1), **state)) == []


def random_change(rng: random.Random) -> Change:
    changes = {
        kind: CellChange(rng.random() < 0.2, [rng.randbytes(rng.randint(0, 9))] * rng.randint(0, 2))
        for kind in KINDS
        if rng.random() < 0.5
    }
    return Change(**changes)


@pytest.mark.parametrize("most_bytes", [0, 60, 1 << 20])
@pytest.mark.parametrize("seed", range(5))
def test_what_a_step_is_given_is_the_state(
    seed: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three workers each may have any key, bundles fail, and days come and go."""
    rng = random.Random(seed)
    workers = [worker(most_bytes) for _ in range(3)]
    states = {key: empty() for key in KEYS}
    given: list[tuple[Cells, Cells]] = []
    expected = Cells()

    def step(plan: StreamPlan, key: bytes, cells: Cells, bodies: Sequence[bytes]) -> Result:
        given.append((cells, expected))
        return Result(random_change(rng), [])

    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, step)
    day = 0
    for _ in range(1000):
        day += rng.random() < 0.01
        fn, before = rng.choice(workers), copy.deepcopy(states)
        for _ in range(rng.randint(1, 4)):  # messages of a bundle
            key, at = rng.choice(KEYS), max(0, day - (rng.random() < 0.1))
            held = Stamped.unpacked(states[key]["held"].value).held
            is_there = at in held
            expected = contents(states[key], ("even", "odd")[at % 2]) if is_there else Cells()
            take(fn, key, states[key], at)
        if rng.random() < 0.2:
            states = before
    assert len(given) > 2000
    assert all(cells == wanted for cells, wanted in given)
    assert len({cells for cells, _ in given}) > 500, "there was something to confuse"


def test_what_is_at_hand_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    change = Change(recent=CellChange(add=[b"more"]))
    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, lambda *_: Result(change, []))
    one, other, state = worker(1000), worker(1000), empty()
    for _ in range(5):
        take(one, b"a", state, 0)
    assert state["recent_even"].read_count == 1
    take(other, b"a", state, 0)
    assert state["recent_even"].read_count == 2, "it can't know"
    take(one, b"a", state, 0)
    assert state["recent_even"].read_count == 3, "it has another version"
    assert contents(state, "even").recent == (b"more",) * 7


def test_nothing_is_written_where_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine of this process has its state at hand."""
    change = Change(recent=CellChange(add=[b"more"]))
    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, lambda *_: Result(change, []))
    fn, state = _StepFn(Step.SETTLE, StreamSettings(exact_plan(), DAY_SECONDS * 10**6, 0)), empty()
    fn.setup()
    for _ in range(3):
        take(fn, b"a", state, 0)
    assert state["recent_even"].read_count == 3
    assert Stamped.unpacked(state["held"].value) == Stamped(PeriodSlots(even=0))


def test_who_keeps_nothing_leaves_no_version_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job may be gone on with by one that has no cache, and that by one that has."""
    change = Change(recent=CellChange(add=[b"more"]))
    monkeypatch.setitem(core_steps.STEPS, Step.SETTLE, lambda *_: Result(change, []))
    with_cache, state = worker(1000), empty()
    without = _StepFn(Step.SETTLE, StreamSettings(exact_plan(), DAY_SECONDS * 10**6, 0))
    without.setup()
    for fn in (with_cache, without, with_cache):
        take(fn, b"a", state, 0)
    assert state["recent_even"].read_count == 3


def test_it_has_a_limit() -> None:
    cache = CellCache(100)
    versions = [new_version() for _ in range(50)]
    for version in versions:
        cache.put(version, Cells(settled=(bytes(10),)))
    found = [version for version in versions if cache.get(version)]
    assert len(found) == 10
    assert found != versions[-10:], "not the newest: any"
    too_large = new_version()
    cache.put(too_large, Cells(recent=(bytes(101),)))
    assert cache.get(too_large) is None


def test_an_older_version_makes_room() -> None:
    cache, older, newer = CellCache(100), new_version(), new_version()
    cache.put(older, Cells(settled=(bytes(60),)))
    cache.put(newer, Cells(settled=(bytes(60),), recent=(bytes(40),)), instead_of=older)
    assert cache.get(older) is None
    assert cache.get(newer)
    cache.forget(newer)
    cache.put(older, Cells(settled=(bytes(100),)))
    assert cache.get(older)


def test_what_nobody_knows_is_not_found() -> None:
    assert CellCache(100).get(UNKNOWN) is None
    assert Stamped.unpacked(None) == Stamped()
    stamped = Stamped(PeriodSlots(4, 5)).with_version(1, new_version())
    assert Stamped.unpacked(stamped.packed()) == stamped
    assert stamped.versions[0] == UNKNOWN
