"""Bands, keys, prefixes and shards of a plan, and the choice of a plan."""

import itertools
import math
import random

import numpy as np
import pytest

from beam_dedup.core.codes import WordArray
from beam_dedup.core.matching.plan import (
    ALL_BITS,
    Plan,
    band_masks,
    cheapest_subset,
    keys_of,
    plan_for,
    shard_of,
)
from beam_dedup.core.matching.planner import GATHERED_CODES, choose
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds

KS = range(MAX_BIT_DISTANCE + 1)
SIZES = (
    0,
    1,
    2,
    15,
    1000,
    50_000,
    GATHERED_CODES,
    GATHERED_CODES + 1,
    10**6,
    1_600_000,
    5 * 10**6,
    10**8,
    10**9,
)


@pytest.mark.parametrize("bands", range(1, 65))
def test_bands_partition_the_bits_evenly(bands: int) -> None:
    masks = band_masks(bands)
    assert len(masks) == bands
    assert sum(masks) == 2**64 - 1  # together with the next line: every bit is in one band
    assert sum(mask.bit_count() for mask in masks) == 64
    widths = [mask.bit_count() for mask in masks]
    assert max(widths) - min(widths) <= 1
    assert list(masks) == sorted(masks, reverse=True), "not in the order of the bits"


@pytest.mark.parametrize("subset", range(5))
@pytest.mark.parametrize("k", KS)
def test_keys_are_the_subsets_of_the_bands(k: int, subset: int) -> None:
    masks = [key.mask for key in keys_of(k, subset)]
    assert len(set(masks)) == len(masks) == math.comb(k + subset, subset) == Plan(k, subset).key_count
    bands = Plan(k, subset).bands
    assert len(bands) == k + subset
    for mask in masks:
        assert sum(mask & band == band for band in bands) == subset
        assert sum(mask & band != 0 for band in bands) == subset


@pytest.mark.parametrize(("subset", "prefix"), [(m, r) for m in range(5) for r in range(3) if r <= m])
@pytest.mark.parametrize("k", KS)
def test_each_key_belongs_to_one_prefix(k: int, subset: int, prefix: int) -> None:
    """A key contains the bands of its prefix."""
    plan = Plan(k, subset, prefix)
    keys = [key for bands in plan.prefixes for key in keys_of(k, subset, bands)]
    assert sorted(keys) == sorted(keys_of(k, subset))
    for bands in plan.prefixes:
        assert len(bands) == prefix
        of_prefix = sum(plan.bands[band] for band in bands)
        assert all(key.mask & of_prefix == of_prefix for key in keys_of(k, subset, bands))
    assert plan.copies == len(plan.prefixes) == math.comb(k + prefix, prefix)


@pytest.mark.parametrize(
    ("k", "subset", "prefix"), [(8, -1, 0), (8, 1, 2), (8, 3, -1), (8, 57, 0), (16, 49, 0), (8, 0, 1)]
)
def test_impossible_plans_are_refused(k: int, subset: int, prefix: int) -> None:
    with pytest.raises(ValueError, match=f"{subset} bands .* prefix of {prefix} at k = {k}"):
        Plan(k, subset, prefix)
    assert Plan(8, 56).key_count == math.comb(64, 56), "the maximum is one band per bit"


@pytest.mark.parametrize("codes", SIZES)
@pytest.mark.parametrize("k", KS)
def test_chosen_plan_is_valid(k: int, codes: int) -> None:
    estimate = choose(Thresholds(k), codes)
    plan = estimate.plan
    assert plan.k == k
    assert keys_of(k, plan.subset)
    assert f"{codes:,} codes within {k} bits" in estimate.describe()
    assert estimate.codes == codes
    assert estimate.candidates == plan.candidates(codes)
    assert estimate.seconds == plan.seconds(codes, estimate.candidates)
    if codes <= GATHERED_CODES:
        assert (plan.prefix, plan.shards) == (0, 1)
        return
    assert 1 <= plan.prefix <= 2
    assert 1 <= plan.shards <= codes
    # A shard that no value of the prefix leads to would be empty.
    values = min(2 ** sum(plan.bands[band].bit_count() for band in prefix) for prefix in plan.prefixes)
    assert plan.shards <= values


def test_few_codes_are_compared_all_with_all_and_many_by_keys() -> None:
    assert cheapest_subset(8, 100) == 0
    assert cheapest_subset(8, 1_000_000) >= 2
    # A larger k needs more keys, so the choice has to weigh keys against candidates.
    assert [cheapest_subset(k, 1_000_000) for k in (3, 8)] == sorted(
        cheapest_subset(k, 1_000_000) for k in (3, 8)
    )


def test_expected_candidates() -> None:
    """DESIGN section 4 counts each pair for both codes; for k = 4, m = 2 and one million codes, 5.7
    candidates per code.
    """
    assert Plan(4, 2).candidates(10**6) == pytest.approx(5.7 / 2, rel=0.02)
    assert Plan(6, 1).candidates(10**6) == pytest.approx(12_400 / 2, rel=0.01)
    assert Plan(8, 0).candidates(1000) == 500


def random_shorts(n: int) -> WordArray:
    rng = random.Random(1)
    return np.array([rng.getrandbits(64) for _ in range(n)], np.uint64)


PLANS = (
    Plan(3, 1, 1, 7),
    Plan(6, 2, 1, 16),
    Plan(6, 2, 1, 10),
    Plan(8, 3, 2, 50),
    Plan(16, 1, 1, 8),
    Plan(0, 2, 2, 3),
)


@pytest.mark.parametrize("plan", PLANS, ids=str)
def test_codes_that_agree_on_a_prefix_meet_in_one_shard(plan: Plan) -> None:
    shorts = random_shorts(2000)
    noise = random_shorts(2000)[::-1]
    for prefix in plan.prefixes:
        shards = shard_of(shorts, plan, prefix)
        assert shards.max() < plan.shards
        rest = np.uint64(sum(band for i, band in enumerate(plan.bands) if i not in prefix))
        others = shorts ^ (noise & rest)
        assert (others != shorts).any() or not rest
        assert np.array_equal(shard_of(others, plan, prefix), shards)


@pytest.mark.parametrize(
    "plan",
    [*PLANS[1:4], choose(Thresholds(8), 4_500_000).plan, choose(Thresholds(31, bits=256), 5 * 10**6).plan],
    ids=str,
)
def test_no_shard_has_many_times_its_share(plan: Plan) -> None:
    """Otherwise one worker would do most of the work. (If a prefix has few values per shard, no hash
    spreads evenly.)
    """
    n = 20_000
    for prefix in plan.prefixes:
        sizes = np.bincount(shard_of(random_shorts(n), plan, prefix).astype(np.int64), minlength=plan.shards)
        assert sizes.max() <= 4 * n / plan.shards, f"{prefix=} {sorted(sizes.tolist(), reverse=True)[:5]}"


def test_plan_without_prefix_has_one_shard() -> None:
    plan = choose(Thresholds(8), 1000).plan
    assert plan.prefixes == [()]
    assert not shard_of(random_shorts(100), plan, ()).any()


def test_prefixes_are_band_numbers_in_order() -> None:
    assert Plan(2, 2, 1).prefixes == [(0,), (1,), (2,)]
    assert Plan(2, 3, 2).prefixes == list(itertools.combinations(range(4), 2))


THRESHOLDS = (
    *(Thresholds(k, bits=42) for k in range(5)),
    *(Thresholds(k, bits=256) for k in (0, 3, 31, 64)),
    Thresholds(3, bits=3),
    Thresholds(1, bits=1),
)


@pytest.mark.parametrize("thresholds", THRESHOLDS, ids=str)
def test_plans_for_codes_of_other_lengths_are_valid(thresholds: Thresholds) -> None:
    for codes in (0, 1, 1000, GATHERED_CODES, GATHERED_CODES + 1, 10**8):
        if thresholds.bits <= 3 and codes > GATHERED_CODES:
            continue  # too few bits to spread by
        plan = choose(thresholds, codes, codes // 2).plan
        assert (plan.k, plan.words, plan.bits) == (thresholds.word_k, thresholds.words, thresholds.word_bits)
        assert len(plan.all_keys) == plan.key_count
        assert (plan.prefix > 0) == (codes > GATHERED_CODES)
        assert all(
            not key.mask >> 64 * word & ~plan.free & ALL_BITS
            for word in range(plan.words)
            for key in plan.keys_in(word)
        )
        by_prefix = [
            key
            for word in range(plan.words)
            for prefix in plan.prefixes
            for key in plan.keys_in(word, prefix)
        ]
        assert sorted(by_prefix) == sorted(plan.all_keys)
        assert plan.copies == plan.words * math.comb(plan.k + plan.prefix, plan.prefix)


@pytest.mark.parametrize("bands", [1, 2, 5, 8])
@pytest.mark.parametrize("free", [0xFF, ALL_BITS ^ ALL_BITS >> 42, 0x8001_0010_0800_4111, 0b1111_1111 << 56])
def test_bands_partition_the_free_bits(bands: int, free: int) -> None:
    masks = band_masks(bands, free)
    assert len(masks) == bands
    assert sum(masks) == free
    assert sum(mask.bit_count() for mask in masks) == free.bit_count()
    widths = [mask.bit_count() for mask in masks]
    assert max(widths) - min(widths) <= 1


@pytest.mark.parametrize(
    "thresholds", [Thresholds(8), Thresholds(3), Thresholds(4, bits=42), Thresholds(31, bits=256)], ids=str
)
def test_every_pair_within_k_meets_at_a_key(thresholds: Thresholds) -> None:
    """It meets at one key at least, and at most at one key per word."""
    rng = random.Random(thresholds.k)
    for subset, prefix in itertools.product(range(1, 4), range(2)):
        plan = plan_for(thresholds, subset, prefix)
        for _ in range(50):
            one = rng.getrandbits(64 * plan.words)
            other = one
            for word in range(plan.words):  # spread as evenly as possible, which is the worst case
                flips = (thresholds.k + word) // plan.words
                for bit in rng.sample(range(64 - plan.bits, 64), flips):
                    other ^= 1 << 64 * word + bit
            assert (one ^ other).bit_count() == thresholds.k
            meets = [
                key
                for key in plan.all_keys
                if not (one ^ other) & key.mask and all((one ^ other) & band for band in key.earlier)
            ]
            assert meets
            assert len({(key.mask.bit_length() - 1) // 64 for key in meets}) == len(meets), (
                "meets twice in one word"
            )


def test_views_are_compared_with_bases_only() -> None:
    assert Plan(8, 0).candidates(100, 100) * 100 == 5000  # each pair once
    assert Plan(8, 0).candidates(300, 100) * 300 == 5000 + 200 * 100
    assert Plan(8, 0, words=4).candidates(100) == 4 * Plan(8, 0).candidates(100)
    assert Plan(8, 0).candidates(0, 0) == 0
