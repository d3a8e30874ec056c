"""The protocol of streams against the definition: under random interleavings, and where images come one by one."""

import random

import numpy as np
import pytest

from beam_dedup.core import judging
from beam_dedup.core.model import Status
from beam_dedup.core.stream import cells
from beam_dedup.core.within import MAX_BIT_DISTANCE
from tests import oracle
from tests.core import sizes
from tests.core.stream_sets import in_order, random_stream, within_of
from tests.random_sets import arrays

SEEDS = 12
OTHERS = [
    *(("phash", k) for k in (0, 4, 12)),
    *(("colorhash", k) for k in (0, 2)),
    *(("pdq", k) for k in (0, 3, 8, 15, 31)),
]


def cut_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    """Sizes that make a few codes walk all ways of remembering and of searching."""
    monkeypatch.setattr(cells, "_RECENT_BYTES", rng.choice([0, 0, 100, 300, 1 << 16]))
    monkeypatch.setattr(cells, "_RECENT_BLOCKS", rng.choice([1, 2, 32]))
    monkeypatch.setattr(cells, "_PIECE_BYTES", rng.choice([1, 150, 1 << 22]))
    sizes.cut_small(monkeypatch, rng)
    if rng.random() < 0.5:
        sizes.go_through_keys(monkeypatch)


@pytest.mark.parametrize(("algorithm", "k"), [*(("dct", k) for k in range(MAX_BIT_DISTANCE + 1)), *OTHERS])
def test_however_messages_race(algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(SEEDS):
        case, stream = random_stream(f"race {seed}", k, algorithm)
        cut_small(monkeypatch, stream.rng)
        stream.at_random(times=stream.rng.choice([1, 1, 2, 5]))
        stream.check(case.k, case.verify)


@pytest.mark.parametrize(("algorithm", "k"), [*(("dct", k) for k in range(MAX_BIT_DISTANCE + 1)), *OTHERS])
def test_one_by_one_is_the_definition(algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(SEEDS // 2):
        case, stream = random_stream(f"in order {seed}", k, algorithm, mixed=0.0)
        cut_small(monkeypatch, stream.rng)
        stream.one_by_one()
        stream.check(case.k, case.verify)
        found = sorted(stream.engine.verdicts(), key=lambda verdict: int(verdict.ref.name))
        wanted = in_order(stream.items, case.k, case.verify)
        assert [v.status for v in found] == [v.status for v in wanted]
        if (
            stream.engine.plan.homes == 1
        ):  # else numbers are in another order, by which equally near ones are told
            assert found == wanted
