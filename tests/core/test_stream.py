"""The protocol of streams against the definition: however messages race, and where images come in order."""

import random

import numpy as np
import pytest

from beam_dedup.core import judging, pairing
from beam_dedup.core.model import Status
from beam_dedup.core.stream import cells
from beam_dedup.core.within import MAX_BIT_DISTANCE
from tests.core import sizes
from tests.core.stream_sets import (
    Stream,
    in_order,
    items_of,
    random_plan,
    random_sets_alike,
    together,
    within_of,
    words_of,
)
from tests.core.streams import Engine
from tests.random_sets import RandomSet, arrays

MANY = 25  # sets in one stream
OTHERS = [
    *(("phash", k) for k in (0, 4, 12)),
    *(("colorhash", k) for k in (0, 2)),
    *(("pdq", k) for k in (0, 3, 8, 15, 31)),
]
each_k = pytest.mark.parametrize(
    ("algorithm", "k"), [*(("dct", k) for k in (*range(9), 10, 12, 14, MAX_BIT_DISTANCE)), *OTHERS]
)


def cut_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random, many: bool) -> None:
    """Sizes that make a few codes walk all ways of remembering and of searching."""
    monkeypatch.setattr(cells, "_RECENT_BYTES", rng.choice([0, 300, 1 << 16]))
    monkeypatch.setattr(cells, "_RECENT_BLOCKS", rng.choice([1, 2, 32]))
    monkeypatch.setattr(cells, "_PIECE_BYTES", 3000 if many else rng.choice([1, 150, 1 << 22]))
    monkeypatch.setattr(pairing, "_WIDE_RECTANGLE", rng.choice([0, 4, 1 << 11]))
    if not many:
        sizes.cut_small(monkeypatch, rng)
    if rng.random() < 0.5:
        sizes.go_through_keys(monkeypatch)


def start(
    seed: str, k: int, algorithm: str, sets: int, mixed: float, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[RandomSet], Stream]:
    """So many random sets, to be judged in one stream."""
    rng = random.Random(f"{seed} {k} {algorithm}")
    cases = random_sets_alike(rng, seed, k, algorithm, sets)
    case = together(cases)
    plan = random_plan(rng, within_of(case), words_of(algorithm))
    cut_small(monkeypatch, rng, sets > 1)
    return cases, Stream(items_of(case, rng, copies), Engine(plan, rng, mixed))


@each_k
def test_however_messages_race(algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """1,265 sets: many in one stream, each in a race of its own, and some by themselves."""
    for seed in range(7):
        sets = MANY if seed < 2 else 1
        mixed = random.Random(f"{seed} {k}").choice([0.1, 0.4, 0.7, 0.9])
        cases, stream = start(f"race {seed}", k, algorithm, sets, mixed, True, monkeypatch)
        stream.at_random(times=stream.rng.choice([1, 1, 2, 5]))
        stream.check(cases[0].k, cases[0].verify)


@each_k
def test_one_by_one_is_the_definition(algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(2):
        (case,), stream = start(f"in order {seed}", k, algorithm, 1, 0.0, True, monkeypatch)
        stream.one_by_one()
        stream.check(case.k, case.verify)
        found = sorted(stream.engine.verdicts(), key=lambda verdict: int(verdict.ref.name))
        wanted = in_order(stream.items, case.k, case.verify)
        assert [v.status for v in found] == [v.status for v in wanted]
        if (
            stream.engine.plan.homes == 1
        ):  # else numbers are in another order, by which equally near ones are told
            assert found == wanted


@each_k
def test_in_order_the_batch_keeps_the_same(algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """575 sets, of each of which one image at a time arrives."""
    cases, stream = start("as batch", k, algorithm, MANY, 0.0, False, monkeypatch)
    stream.one_by_one_of_each([case.images for case in cases])
    case = together(cases)
    kept, _ = judging.judge(arrays(case.codes), case.images, within_of(case))
    found = {int(v.ref.name) for v in stream.engine.verdicts() if v.status == Status.KEPT}
    assert found == set(np.flatnonzero(kept).tolist())
    stream.check(case.k, case.verify)
