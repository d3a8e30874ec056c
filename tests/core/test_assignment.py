"""Assignment of components to splits: a function of component, seed and shares alone, in proportion to the shares."""

import hashlib
import random

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core.assignment import Assignment
from beam_dedup.core.splits import NO_SPLIT

SHARES = Assignment(("train", "val", "test"), (80, 10, 10))
DIGESTS = [hashlib.sha256(b"%d" % number).digest() for number in range(20_000)]


def numbers(assignment: Assignment, components: list[bytes | None]) -> list[int]:
    return [int(number) for number in assignment.numbers_of(pa.array(components, pa.binary()))]


def test_assignment_is_the_same_in_every_version() -> None:
    expected = "1001200021100000101201021000222121022200"
    assert "".join(map(str, numbers(Assignment(("a", "b", "c"), (2, 1, 1)), list(DIGESTS[:40])))) == expected
    halves = Assignment(("a", "b", "c"), (0.5, 0.25, 0.25))
    assert "".join(map(str, numbers(halves, list(DIGESTS[:40])))) == expected


def test_component_has_the_same_split_among_any_others() -> None:
    rng = random.Random(1)
    alone = {component: numbers(SHARES, [component])[0] for component in DIGESTS[:300]}
    for _ in range(20):
        some = rng.choices(DIGESTS[:300], k=50)
        assert numbers(SHARES, list(some)) == [alone[one] for one in some]


@pytest.mark.parametrize("seed", [0, 1, 2**63 - 1])
@pytest.mark.parametrize("shares", [(80, 10, 10), (1, 1, 2), (0.5, 0.25, 0.25), (1_000_000, 1, 1)])
def test_shares_are_met_on_average(shares: tuple[float, ...], seed: int) -> None:
    found = np.bincount(numbers(Assignment(SHARES.names, shares, seed), list(DIGESTS)), minlength=3)
    expected = np.array(shares) / sum(shares) * len(DIGESTS)
    assert (abs(found - expected) <= 4 * np.sqrt(expected) + 1).all()


def test_seeds_give_independent_assignments() -> None:
    one, other = (numbers(Assignment(("a", "b"), (1, 1), seed), list(DIGESTS)) for seed in (0, 1))
    assert abs(np.mean(np.array(one) == np.array(other)) - 0.5) < 0.02


def test_larger_share_of_the_first_split_only_adds_to_it() -> None:
    small, large = (
        numbers(Assignment(("test", "train"), (share, 100 - share)), list(DIGESTS)) for share in (10, 20)
    )
    assert all(after == 0 for before, after in zip(small, large, strict=True) if before == 0)


def test_image_without_component_has_no_split() -> None:
    first = numbers(SHARES, [DIGESTS[0]])[0]
    assert numbers(SHARES, [None, DIGESTS[0], None]) == [NO_SPLIT, first, NO_SPLIT]
    assert numbers(SHARES, []) == []
