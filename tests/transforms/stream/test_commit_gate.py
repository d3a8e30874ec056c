"""The commit gate releases each value once a checkpoint contains it, whatever fails."""

import collections
import copy
import random
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput

from transforms.stream import commit_gate
from transforms.stream.commit_gate import _AskFn, _HoldFn

_STAMP = 16


class _Bag:
    def __init__(self, values: list[bytes]) -> None:
        self.values = values

    def read(self) -> list[bytes]:
        return list(self.values)

    def add(self, value: bytes) -> None:
        self.values.append(value)

    def clear(self) -> None:
        self.values.clear()


class _Cell:
    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def read(self) -> bytes | None:
        return self.state["waits"]

    def write(self, value: bytes) -> None:
        self.state["waits"] = value

    def clear(self) -> None:
        self.state["waits"] = None


class _Timer:
    def __init__(self, state: dict[str, Any], name: str) -> None:
        self.state, self.name = state, name

    def set(self, at: Any) -> None:  # noqa: ARG002
        self.state[self.name] = True

    def clear(self) -> None:
        self.state[self.name] = False


class _Finalizer:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def register(self, call: Any) -> None:
        self.calls.append(call)


class _Runner:
    """A runner for one key.

    Bundles change its state at once. A checkpoint saves state, position in the input, and output; the
    callbacks of the bundles in it are made some time later, or never.
    """

    def __init__(self, count: int) -> None:
        self.state: dict[str, Any] = {"held": [], "waits": None, "look": False, "end": False}
        self.count = count
        self.next = 0  # position in the input
        self.calls: list[Any] = []
        self.attempted: list[bytes] = []  # all output, also of attempts that were rolled back
        self.kept: list[bytes] = []  # output that was not rolled back
        self.attempt = 0
        self.checkpoint()

    def process(self) -> None:
        # A repeated attempt may turn the same element into another value.
        value = b"%d of attempt %d" % (self.next, self.attempt)
        self.next += 1
        self._bundle(_HoldFn().process((b"key", value), **self._parts("held", "waits", "look", "end")))

    def check(self) -> None:
        self.state["look"] = False
        self._bundle(_HoldFn().release_committed(**self._parts("held", "waits", "look")))

    def end(self) -> None:
        self._bundle(_HoldFn().release_all(**self._parts("held", "waits", "look")))

    def checkpoint(self) -> None:
        self.saved = copy.deepcopy((self.state, self.next, self.kept))
        self.certain, self.calls = self.calls, []

    def call_back(self) -> None:
        for call in self.certain:
            call()
        self.certain = []

    def fail(self, with_worker: bool) -> None:
        self.state, self.next, self.kept = copy.deepcopy(self.saved)
        self.calls = []
        self.attempt += 1
        if with_worker:
            self.certain = []
            commit_gate.committed_stamps.clear()

    def _parts(self, *names: str) -> dict[str, Any]:
        parts = {
            "held": _Bag(self.state["held"]),
            "waits": _Cell(self.state),
            "look": _Timer(self.state, "look"),
            "end": _Timer(self.state, "end"),
        }
        return {name: parts[name] for name in names}

    def _bundle(self, outputs: Any) -> None:
        for output in outputs:
            if isinstance(output, TaggedOutput):
                finalizer = _Finalizer()
                assert not list(_AskFn().process(output.value, finalizer))
                self.calls += finalizer.calls
            else:
                self.attempted.append(output)
                self.kept.append(output)


@pytest.mark.parametrize("seed", range(300))
def test_each_value_is_released_once_and_unchanged_whatever_fails(seed: int) -> None:
    """Values released before a failure are released again after it, unchanged."""
    rng = random.Random(seed)
    commit_gate.committed_stamps.clear()
    runner = _Runner(rng.randrange(1, 12))
    for _ in range(rng.randrange(5, 80)):
        _step(runner, rng)
    for _ in range(3 * runner.count + 9):
        if runner.next < runner.count:
            runner.process()
        if runner.state["look"]:
            runner.check()
        runner.checkpoint()
        runner.call_back()
    assert not runner.state["held"], "still buffered"
    assert not runner.state["look"]
    assert sorted(int(value.split()[0]) for value in runner.kept) == list(range(runner.count)), "each once"
    assert set(runner.attempted) == set(runner.kept), "a value was released that the runner rolled back"


def _step(runner: _Runner, rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.3 and runner.next < runner.count:
        runner.process()
    elif choice < 0.6 and runner.state["look"]:
        runner.check()
    elif choice < 0.75:
        runner.checkpoint()
    elif choice < 0.9:
        runner.call_back()
    else:
        runner.fail(with_worker=rng.random() < 0.5)


def test_nothing_is_released_before_a_checkpoint() -> None:
    commit_gate.committed_stamps.clear()
    runner = _Runner(3)
    for _ in range(3):
        runner.process()
        runner.check()
    assert runner.kept == []
    runner.checkpoint()
    runner.check()
    assert runner.kept == [], "the runner has not called back yet"
    runner.call_back()
    runner.check()
    assert len(runner.kept) == 3


def test_everything_is_released_at_the_end_of_the_input() -> None:
    commit_gate.committed_stamps.clear()
    runner = _Runner(2)
    runner.process()
    runner.process()
    runner.end()
    counted = collections.Counter(runner.kept)
    assert len(counted) == 2
    assert not runner.state["held"]
    assert not runner.state["look"]
