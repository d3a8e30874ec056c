"""A stream that goes on from what was kept: judged as if it had never stopped, and nothing twice."""

import dataclasses
import random
from pathlib import Path

import pytest

from beam_dedup.core.model import Fingerprint, Status, Verdict
from beam_dedup.core.stream import initial_state
from beam_dedup.core.tables import fingerprints_table
from tests.core.stream.stream_sets import (
    Item,
    Stream,
    check_verdicts,
    items_of,
    random_plan,
    random_sets_alike,
    thresholds_of,
    together,
)
from tests.core.stream.toy_engine import Engine


def known_of(items: list[Item], verdicts: list[Verdict]) -> list[Fingerprint]:
    kept = {verdict.ref.name for verdict in verdicts if verdict.status == Status.KEPT}
    images = [item.image for item in items if item.image and item.image.ref.name in kept]
    return [dataclasses.replace(image, ref=dataclasses.replace(image.ref, known=True)) for image in images]


@pytest.mark.parametrize("seed", range(30))
def test_it_goes_on_where_it_was(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(f"beginning {seed}")
    monkeypatch.setattr(initial_state, "_AT_ONCE", rng.choice([1, 7, 20_000]))
    case = together(random_sets_alike(rng, f"{seed}", seed % 11, "dct", 4))
    items = [item for item in items_of(case, rng) if item.image]
    rng.shuffle(items)
    plan = random_plan(rng, thresholds_of(case), 4)
    cut = rng.randint(0, len(items))
    before = Stream(items[:cut], Engine(plan, rng, 0.5))
    before.at_random(times=2)
    old = before.engine.verdicts()
    states = initial_state.initial_state(
        plan, [item.identity for item in items[:cut]], fingerprints_table(known_of(items[:cut], old))
    )
    path = str(tmp_path / "beginning")
    initial_state.write(states, path)
    initial_state.read.cache_clear()
    assert initial_state.read(path) == {place: state for place, state in states.items() if state.size}
    after = Stream(items, Engine(plan, rng, 0.5))
    after.engine.state.update(initial_state.read(path))
    for number in range(len(items)):  # all of them again
        after.deliver([number])
    after.engine.run()
    admitted = after.engine.admitted()
    assert sorted(admitted) == list(range(cut, len(items)))
    after.read(admitted)
    after.engine.run()
    new = after.engine.verdicts()
    assert sorted(verdict.ref.name for verdict in new) == sorted(
        item.image.ref.name for item in items[cut:] if item.image
    )
    # Copies of the bytes of what was a duplicate are judged by themselves: that was forgotten.
    kept = [verdict for verdict in [*old, *new] if verdict.status == Status.KEPT]
    check_verdicts(items, kept, case.k, case.verify)
    for verdict in new:
        if verdict.witness:
            assert verdict.witness.digest in {one.digest for one in kept}


def test_a_beginning_of_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)
    plan = random_plan(rng, thresholds_of(together(random_sets_alike(rng, "0", 4, "dct", 1))), 4)
    path = str(tmp_path / "beginning")
    initial_state.write(initial_state.initial_state(plan, [], fingerprints_table([])), path)
    initial_state.read.cache_clear()
    assert initial_state.read(path) == {}
