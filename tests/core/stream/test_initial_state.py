"""A stream that resumes judges new images as if it had never stopped, and no image twice."""

import dataclasses
import random
from pathlib import Path

import pytest

from beam_dedup.core.model import Fingerprint, Status, Verdict
from beam_dedup.core.stream import initial_state
from beam_dedup.core.stream.protocol import DETAILED_WORDS
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
from tests.core.stream.toy_engine import ToyRunner


def known_of(items: list[Item], verdicts: list[Verdict]) -> list[Fingerprint]:
    kept = {verdict.ref.name for verdict in verdicts if verdict.status == Status.KEPT}
    images = [item.image for item in items if item.image and item.image.ref.name in kept]
    return [dataclasses.replace(image, ref=dataclasses.replace(image.ref, known=True)) for image in images]


@pytest.mark.parametrize("seed", range(30))
def test_resumed_stream_judges_only_new_images(seed: int, tmp_path: Path) -> None:
    rng = random.Random(f"beginning {seed}")
    rows_at_once = rng.choice([1, 7, 20_000])
    case = together(random_sets_alike(rng, f"{seed}", seed % 11, "dct", 4))
    items = [item for item in items_of(case, rng) if item.image]
    rng.shuffle(items)
    plan = random_plan(rng, thresholds_of(case), DETAILED_WORDS)
    cut = rng.randint(0, len(items))
    before = Stream(items[:cut], ToyRunner(plan, rng, 0.5))
    before.at_random(times=2)
    old = before.runner.verdicts()
    states = initial_state.build(
        plan,
        [item.identity for item in items[:cut]],
        fingerprints_table(known_of(items[:cut], old)),
        rows_at_once,
    )
    path = str(tmp_path / "beginning")
    initial_state.write(states, path)
    initial_state.read.cache_clear()
    assert initial_state.read(path) == {key: state for key, state in states.items() if state.size}
    after = Stream(items, ToyRunner(plan, rng, 0.5))
    after.runner.state.update(initial_state.read(path))
    for number in range(len(items)):  # all are delivered again
        after.deliver([number])
    after.runner.run()
    admitted = after.runner.admitted()
    assert sorted(admitted) == list(range(cut, len(items)))
    after.read(admitted)
    after.runner.run()
    new = after.runner.verdicts()
    assert sorted(verdict.ref.name for verdict in new) == sorted(
        item.image.ref.name for item in items[cut:] if item.image
    )
    # The initial state does not contain duplicates, so later copies of their bytes are judged by themselves.
    kept = [verdict for verdict in [*old, *new] if verdict.status == Status.KEPT]
    check_verdicts(items, kept, case.k, case.verify)
    for verdict in new:
        if verdict.witness:
            assert verdict.witness.digest in {one.digest for one in kept}


def test_initial_state_may_be_empty(tmp_path: Path) -> None:
    rng = random.Random(0)
    plan = random_plan(rng, thresholds_of(together(random_sets_alike(rng, "0", 4, "dct", 1))), DETAILED_WORDS)
    path = str(tmp_path / "beginning")
    initial_state.write(initial_state.build(plan, [], fingerprints_table([])), path)
    initial_state.read.cache_clear()
    assert initial_state.read(path) == {}
