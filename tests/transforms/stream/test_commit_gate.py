"""What is held goes on when it is in a checkpoint, and always goes on: under an engine that fails as it pleases."""

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


class _Engine:
    """One key. Bundles change its state at once; a checkpoint keeps state, input and what has gone on; callbacks of what it holds are
    made some time after it, or never."""

    def __init__(self, count: int) -> None:
        self.state: dict[str, Any] = {"held": [], "waits": None, "look": False, "end": False}
        self.count = count
        self.next = 0  # of the input
        self.calls: list[Any] = []
        self.seen: list[bytes] = []  # all that went on, in attempts that were rolled back, too
        self.kept: list[bytes] = []  # that went on, as the engine has it
        self.attempt = 0
        self.checkpoint()

    def take(self) -> None:
        # What an element becomes may be another in each attempt.
        value = b"%d of attempt %d" % (self.next, self.attempt)
        self.next += 1
        self._bundle(_HoldFn().process((b"key", value), **self._parts("held", "waits", "look", "end")))

    def look(self) -> None:
        self.state["look"] = False
        self._bundle(_HoldFn().pass_on_what_is_certain(**self._parts("held", "waits", "look")))

    def end(self) -> None:
        self._bundle(_HoldFn().pass_all_on(**self._parts("held", "waits", "look")))

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
            commit_gate._committed.clear()

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
                self.seen.append(output)
                self.kept.append(output)


@pytest.mark.parametrize("seed", range(300))
def test_whatever_fails_all_goes_on_once_and_nothing_else_was_seen(seed: int) -> None:
    """What went on before a failure is what goes on after it."""
    rng = random.Random(seed)
    commit_gate._committed.clear()
    engine = _Engine(rng.randrange(1, 12))
    for _ in range(rng.randrange(5, 80)):
        _step(engine, rng)
    for _ in range(3 * engine.count + 9):
        if engine.next < engine.count:
            engine.take()
        if engine.state["look"]:
            engine.look()
        engine.checkpoint()
        engine.call_back()
    assert not engine.state["held"], "still held"
    assert not engine.state["look"]
    assert sorted(int(value.split()[0]) for value in engine.kept) == list(range(engine.count)), "each once"
    assert set(engine.seen) == set(engine.kept), "something was seen that the engine took back"


def _step(engine: _Engine, rng: random.Random) -> None:
    choice = rng.random()
    if choice < 0.3 and engine.next < engine.count:
        engine.take()
    elif choice < 0.6 and engine.state["look"]:
        engine.look()
    elif choice < 0.75:
        engine.checkpoint()
    elif choice < 0.9:
        engine.call_back()
    else:
        engine.fail(with_worker=rng.random() < 0.5)


def test_nothing_goes_on_before_a_checkpoint() -> None:
    commit_gate._committed.clear()
    engine = _Engine(3)
    for _ in range(3):
        engine.take()
        engine.look()
    assert engine.kept == []
    engine.checkpoint()
    engine.look()
    assert engine.kept == [], "the engine has not called yet"
    engine.call_back()
    engine.look()
    assert len(engine.kept) == 3


def test_at_the_end_of_the_input_all_goes_on() -> None:
    commit_gate._committed.clear()
    engine = _Engine(2)
    engine.take()
    engine.take()
    engine.end()
    counted = collections.Counter(engine.kept)
    assert len(counted) == 2
    assert not engine.state["held"]
    assert not engine.state["look"]
