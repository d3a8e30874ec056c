"""Pairs that a person decided, against the definition: within k and not different, or the same."""

import dataclasses
import itertools
import random
from collections.abc import Collection, Sequence

import numpy as np
import pytest

from beam_dedup.core.codes import NO_CODE, Codes, DecidedPairs, IntArray, from_columns
from beam_dedup.core.matching import selection
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE
from tests import oracle, random_sets
from tests.core import small_limits
from tests.core.matching import test_selection
from tests.core.matching.test_selection import MAX_PAIRS, thresholds_of, witnesses
from tests.oracle import FLAT, FULL, HASH, Code, Match
from tests.random_sets import RandomSet, random_set

Pair = frozenset[int]
SETS = 40  # of each k and algorithm: more than 1,000 in all


def random_pairs(case: RandomSet, rng: random.Random) -> tuple[set[Pair], set[Pair]]:
    """Returns some pairs of images that are declared different, and some that are declared the same."""
    codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
    near: list[Pair] = []
    far: list[Pair] = []
    for one, other in itertools.combinations(range(case.images), 2):
        is_near = oracle.matches(codes_of[one], codes_of[other], case.k, case.verify)
        (near if is_near else far).append(frozenset((one, other)))
    share = rng.choice([0.0, 0.2, 0.7, 1.0])
    different = {pair for pair in near if rng.random() < share} | set(rng.sample(far, min(len(far), 2)))
    same = {pair for pair in far if rng.random() < rng.choice([0, 0, 0.05, 0.2])}
    same |= {pair for pair in near if rng.random() < 0.1}
    return different - same, same


def decided_codes(case: RandomSet, different: Collection[Pair], same: Collection[Pair]) -> Codes:
    """Returns the codes of a set with its decided pairs. Images without codes that are in a pair have a row too."""
    have = {code.image for code in case.codes}
    without = sorted({image for pair in same for image in pair} - have)
    codes = from_columns(
        np.array([code.image for code in case.codes] + without, np.int64),
        np.array([code.view for code in case.codes] + [0] * len(without), np.uint8),
        np.array([code.kind for code in case.codes] + [NO_CODE] * len(without), np.uint8),
        b"".join(random_sets.data(code) for code in case.codes),
    )
    return dataclasses.replace(
        codes, decided=DecidedPairs.of(as_array(different), as_array(same), max(case.images, 1))
    )


def as_array(pairs: Collection[Pair]) -> IntArray:
    """Returns pairs in the core's form, each in any order."""
    rng = random.Random(len(pairs))
    return np.array([rng.sample(sorted(pair), 2) for pair in pairs], np.int64).reshape(-1, 2)


def judged(
    case: RandomSet,
    different: Collection[Pair] = (),
    same: Collection[Pair] = (),
    known: Sequence[int] = (),
    max_pairs: int = 1 << 23,
) -> tuple[list[int], dict[int, Match]]:
    """Returns kept images and witnesses in the oracle's form; `judge` must agree with `keep` and `nearest_kept`."""
    codes, thresholds = decided_codes(case, different, same), thresholds_of(case)
    mask = np.isin(np.arange(case.images), known)
    kept = selection.keep(codes, case.images, thresholds, max_pairs, mask)
    found = witnesses(selection.nearest_kept(codes, kept, thresholds, max_pairs=max_pairs))
    at_once, found_at_once = selection.judge(codes, case.images, thresholds, mask, max_pairs=max_pairs)
    assert at_once.tolist() == kept.tolist()
    assert witnesses(found_at_once) == found
    return np.flatnonzero(kept).tolist(), found


@pytest.mark.parametrize(
    ("algorithm", "k"),
    [
        *(("dct", k) for k in range(MAX_BIT_DISTANCE + 1)),
        *(("phash", k) for k in (0, 4, 12)),
        *(("colorhash", k) for k in (0, 2)),
        *(("pdq", k) for k in (0, 4, 31)),
    ],
)
def test_verdicts_agree_with_the_definition(algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(SETS):
        rng = random.Random(seed)
        case = random_set(f"decided {seed}", k, views=rng.choice([0, 0, 1, 3]), algorithm=algorithm)
        different, same = random_pairs(case, rng)
        known = rng.sample(range(case.images), rng.randint(0, case.images)) if rng.random() < 0.3 else []
        max_pairs = rng.choice(MAX_PAIRS)
        with monkeypatch.context() as patch:
            if seed % 3 == 0:
                small_limits.force(patch, rng, thresholds_of(case).word_k)
            found = judged(case, different, same, known, max_pairs)
        truth = oracle.judge(case.codes, case.images, case.k, case.verify, known, different, same)
        assert found == truth, f"{seed=} {different=} {same=} {known=} {max_pairs=}"


def test_no_decided_pair_changes_nothing() -> None:
    for seed in range(30):
        case = random_set(f"undecided {seed}", 8, views=seed % 3)
        assert judged(case) == test_selection.judged(case)


def test_pair_declared_different_is_kept_though_its_codes_are_equal() -> None:
    codes = [Code(image, 0, FULL, 5) for image in range(3)]
    case = RandomSet(8, 48, 3, codes)
    assert judged(case, different=[frozenset((0, 1))]) == ([0, 1], {2: Match(0, 0, 0, 0)})


def test_new_image_like_a_pair_declared_different_is_a_duplicate() -> None:
    values = (0, 0b1, 0b11)
    case = RandomSet(8, 256, 3, [Code(image, 0, FULL, value << 192) for image, value in enumerate(values)])
    assert judged(case, different=[frozenset((0, 1))]) == ([0, 1], {2: Match(1, 1, 0, 1)})


def test_pair_declared_the_same_has_the_measured_distance() -> None:
    case = RandomSet(8, 48, 2, [Code(0, 0, FULL, 0), Code(1, 0, FULL, (1 << 256) - 1)])
    assert judged(case, same=[frozenset((0, 1))]) == ([0], {1: Match(64, 0, 0, 256)})


def test_pair_declared_the_same_without_common_codes_has_no_distance() -> None:
    """Of no code and a full one, and of a full code and a flat one."""
    case = RandomSet(8, 48, 3, [Code(1, 0, FULL, 0), Code(2, 0, FLAT, cells=bytes(96))])
    pairs = [frozenset((0, 1)), frozenset((1, 2))]
    assert judged(case, same=pairs[:1]) == ([0, 2], {1: Match(oracle.UNMEASURED, 0, 0, -1)})
    assert judged(case, same=pairs[1:]) == ([0, 1], {2: Match(oracle.UNMEASURED, 1, 0, -1)})


def test_measured_witness_is_nearer_than_one_without_a_distance() -> None:
    case = RandomSet(8, 48, 3, [Code(1, 0, FULL, 0), Code(2, 0, FULL, 0xFF << 192)])
    assert judged(case, same=[frozenset((0, 2))]) == ([0, 1], {2: Match(8, 1, 0, 8)})


def test_sameness_is_not_passed_on() -> None:
    """1 is a duplicate of 0, so 2, the same as 1, has no kept image within k."""
    case = RandomSet(0, 0, 3, [Code(image, 0, HASH, image * 0xFFFF) for image in range(3)])
    pairs = [frozenset((0, 1)), frozenset((1, 2))]
    assert judged(case, same=pairs)[0] == [0, 2]


def test_many_rows_of_pairs_declared_the_same_are_expanded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beam_dedup.core.matching.near_pairs._SAME_ROWS", 3)
    for seed in range(20):
        rng = random.Random(seed)
        case = random_set(f"parts {seed}", 6, views=4)
        different, same = random_pairs(case, rng)
        truth = oracle.judge(case.codes, case.images, case.k, case.verify, (), different, same)
        assert judged(case, different, same) == truth
