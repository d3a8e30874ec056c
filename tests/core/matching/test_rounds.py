"""Rounds over the code shards of a plan give the verdicts of the definition."""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest

from beam_dedup.core.codes import BoolArray, Codes
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.plan import Key, Plan, plan_for, shard_of
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests import oracle
from tests.core import small_limits
from tests.core.matching.test_selection import MAX_PAIRS, thresholds_of, truth_of, witnesses
from tests.oracle import Match
from tests.random_sets import RandomSet, arrays, random_set

SEEDS = 6
PREFIXES = (0, 1, 2)


def random_plan(rng: random.Random, thresholds: Thresholds, prefix: int) -> Plan:
    most = max(prefix, 3 if thresholds.word_k <= 6 and thresholds.words == 1 else 2)
    return plan_for(thresholds, rng.randint(prefix, most), prefix, rng.randint(1, 4) if prefix else 1)


def code_shards(codes: Codes, plan: Plan) -> Iterator[tuple[Codes, tuple[Key, ...] | None]]:
    """Yields the codes and keys of each code shard. Flat pictures have a shard of their own."""
    hashed = codes.take(codes.hashed)
    for word, prefix in itertools.product(range(plan.words), plan.prefixes):
        words = hashed.short if plan.words == 1 else hashed.long[:, word]
        shards = shard_of(words, plan, prefix)
        for shard in np.unique(shards):
            yield hashed.take(np.flatnonzero(shards == shard)), plan.keys_in(word, prefix)
    yield codes.take(codes.flat), None


def flags(
    codes: Codes, images: int, thresholds: Thresholds, plan: Plan, max_pairs: int
) -> tuple[BoolArray, BoolArray]:
    """Returns which images have a better, and which a worse neighbour in any code shard."""
    has_better, has_worse = np.zeros((2, images), bool)
    for members, keys in code_shards(codes, plan):
        better, worse = selection.neighbour_flags(members, images, thresholds, keys, max_pairs)
        has_better |= better
        has_worse |= worse
    return has_better, has_worse


def kept_by_rounds(case: RandomSet, plan: Plan, rounds: int, max_pairs: int) -> BoolArray:
    codes, thresholds = arrays(case.codes), thresholds_of(case)
    kept = np.zeros(case.images, bool)
    waiting = np.ones(case.images, bool)
    for _ in range(rounds):
        left = codes.of(waiting)
        has_better, _ = flags(left, case.images, thresholds, plan, max_pairs)
        anchors = waiting & ~has_better
        near = np.zeros(case.images, bool)
        for members, keys in code_shards(left, plan):
            near |= selection.near_marked(members, anchors, thresholds, keys)
        assert not (near & anchors).any(), "an anchor near an anchor"
        kept |= anchors
        waiting &= ~anchors & ~near
    return kept | (waiting & selection.keep(codes.of(waiting), case.images, thresholds, max_pairs))


def witnesses_by_shards(case: RandomSet, kept: BoolArray, plan: Plan, max_pairs: int) -> dict[int, Match]:
    best: dict[int, Match] = {}
    for members, keys in code_shards(arrays(case.codes), plan):
        found = selection.nearest_kept(members, kept, thresholds_of(case), keys, max_pairs=max_pairs)
        for image, match in witnesses(found).items():
            best[image] = min(match, best.get(image, match))
    return best


def force(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    # Comparing all with all finds more pairs than the keys of the shard do, so half of the sets use the
    # keys only.
    small_limits.cut_small(monkeypatch, rng)
    if rng.random() < 0.5:
        small_limits.go_through_keys(monkeypatch)


def check_rounds(case: RandomSet, prefix: int, rng: random.Random) -> None:
    plan, rounds, max_pairs = (
        random_plan(rng, thresholds_of(case), prefix),
        rng.randint(1, 3),
        rng.choice(MAX_PAIRS),
    )
    truth_kept, truth = truth_of(case)
    kept = kept_by_rounds(case, plan, rounds, max_pairs)
    assert np.flatnonzero(kept).tolist() == truth_kept, f"{plan} {rounds=} {max_pairs=}"
    assert witnesses_by_shards(case, kept, plan, max_pairs) == truth, f"{plan}"


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("k", range(MAX_BIT_DISTANCE + 1))
def test_rounds_agree_with_the_definition(k: int, prefix: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(SEEDS if k <= 8 and prefix < 2 else SEEDS // 3):
        rng = random.Random(seed)
        force(monkeypatch, rng)
        case = random_set(f"rounds {prefix} {seed}", k, views=rng.choice([0, 0, 2, 12]))
        check_rounds(case, prefix, rng)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("algorithm", "k"),
    [
        *(("phash", k) for k in (0, 4, 12)),
        *(("colorhash", k) for k in range(5)),
        *(("pdq", k) for k in (0, 3, 4, 8, 15)),
    ],
)
def test_rounds_agree_on_codes_of_other_algorithms(
    algorithm: str, k: int, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SEEDS // 3):
        rng = random.Random(seed)
        force(monkeypatch, rng)
        case = random_set(f"rounds {seed}", k, views=rng.choice([0, 2]), algorithm=algorithm)
        check_rounds(case, prefix, rng)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("algorithm", "k"), [*(("dct", k) for k in (0, 1, 3, 8, 12)), ("phash", 4), ("colorhash", 2), ("pdq", 15)]
)
def test_flags_of_better_and_worse_neighbours(
    algorithm: str, k: int, prefix: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(SEEDS if prefix < 2 and algorithm == "dct" else SEEDS // 3):
        rng = random.Random(seed)
        case = random_set(f"flags {seed}", k, views=seed % 3, algorithm=algorithm)
        force(monkeypatch, rng)
        codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
        near = [
            [bool(oracle.matches(one, other, case.k, case.verify)) for other in codes_of] for one in codes_of
        ]
        thresholds, max_pairs = thresholds_of(case), rng.choice(MAX_PAIRS)
        plan = random_plan(rng, thresholds, prefix)
        has_better, has_worse = flags(arrays(case.codes), case.images, thresholds, plan, max_pairs)
        assert has_better.tolist() == [any(near[i][:i]) for i in range(case.images)], f"{seed=} {plan}"
        # `has_worse` may be True for images without a worse neighbour, but is never False for one that has
        # one.
        for image in range(case.images):
            assert has_worse[image] or not any(near[image][image + 1 :]), f"{seed=} {plan} {image=}"
            assert not has_worse[image] or any(near[image]), f"{seed=} {plan} {image=}"


def test_each_round_decides_one_link_of_a_chain() -> None:
    """0~1~2~...: 0 is an anchor and 1 its duplicate, then 2 is an anchor, and so on; after one round four
    images remain.
    """
    codes = [oracle.Code(image, 0, oracle.FULL, ((1 << 4 * image) - 1) << 192) for image in range(6)]
    case, plan = RandomSet(4, 256, 6, codes), Plan(4, 1, 1, 3)
    arrays_of = arrays(codes)
    better, worse = flags(arrays_of, 6, Thresholds(4, 256), plan, 100)
    assert better.tolist() == [False, True, True, True, True, True]
    assert worse[:5].all()
    anchors = ~better
    near = selection.near_marked(arrays_of, anchors, Thresholds(4, 256))
    assert near.tolist() == [False, True, False, False, False, False]
    for rounds in (0, 1, 2, 3, 4):
        assert kept_by_rounds(case, plan, rounds, 100).tolist() == [True, False] * 3
