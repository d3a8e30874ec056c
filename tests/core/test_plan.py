"""Bands, keys, shards, and the choice between them."""

import itertools
import math
import random

import numpy as np
import pytest

from beam_dedup.core.codes import WordArray
from beam_dedup.core.plan import (
    GATHERED_CODES,
    Plan,
    band_masks,
    cheapest_subset,
    choose,
    key_masks,
    shard_of,
)
from beam_dedup.core.within import MAX_BIT_DISTANCE

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
    assert sum(masks) == 2**64 - 1  # with what follows: every bit once
    assert sum(mask.bit_count() for mask in masks) == 64
    widths = [mask.bit_count() for mask in masks]
    assert max(widths) - min(widths) <= 1
    assert list(masks) == sorted(masks, reverse=True), "the first bits first"


@pytest.mark.parametrize("subset", range(5))
@pytest.mark.parametrize("k", KS)
def test_keys_are_the_subsets_of_the_bands(k: int, subset: int) -> None:
    masks = key_masks(k, subset)
    assert len(set(masks)) == len(masks) == math.comb(k + subset, subset) == Plan(k, subset).keys
    bands = Plan(k, subset).bands
    assert len(bands) == k + subset
    for mask in masks:
        assert sum(mask & band == band for band in bands) == subset
        assert sum(mask & band != 0 for band in bands) == subset


@pytest.mark.parametrize(("subset", "prefix"), [(m, r) for m in range(5) for r in range(3) if r <= m])
@pytest.mark.parametrize("k", KS)
def test_prefixes_share_out_the_keys(k: int, subset: int, prefix: int) -> None:
    """Each key belongs to one prefix, whose bands it has."""
    plan = Plan(k, subset, prefix)
    keys = [mask for bands in plan.prefixes for mask in key_masks(k, subset, bands)]
    assert sorted(keys) == sorted(key_masks(k, subset))
    for bands in plan.prefixes:
        assert len(bands) == prefix
        of_prefix = sum(plan.bands[band] for band in bands)
        assert all(mask & of_prefix == of_prefix for mask in key_masks(k, subset, bands))
    assert plan.copies == len(plan.prefixes) == math.comb(k + prefix, prefix)


@pytest.mark.parametrize(
    ("k", "subset", "prefix"), [(8, -1, 0), (8, 1, 2), (8, 3, -1), (8, 57, 0), (16, 49, 0), (8, 0, 1)]
)
def test_impossible_plans_are_refused(k: int, subset: int, prefix: int) -> None:
    with pytest.raises(ValueError, match=f"{subset} bands .* prefix of {prefix} at k = {k}"):
        Plan(k, subset, prefix)
    assert Plan(8, 56).keys == math.comb(64, 56), "as many bands as bits is the last that goes"


@pytest.mark.parametrize("codes", SIZES)
@pytest.mark.parametrize("k", KS)
def test_the_chosen_plan_can_be_run(k: int, codes: int) -> None:
    plan = choose(k, codes)
    assert plan.k == k
    assert key_masks(k, plan.subset)
    assert f"{codes:,} codes within {k} bits" in plan.describe(codes)
    if codes <= GATHERED_CODES:
        assert (plan.prefix, plan.shards) == (0, 1)
        return
    assert 1 <= plan.prefix <= 2
    assert 1 <= plan.shards <= codes
    # A shard is of no use without a value of the prefix that leads there.
    values = min(2 ** sum(plan.bands[band].bit_count() for band in prefix) for prefix in plan.prefixes)
    assert plan.shards <= values


def test_few_codes_are_compared_all_with_all_and_many_by_keys() -> None:
    assert cheapest_subset(8, 100) == 0
    assert cheapest_subset(8, 1_000_000) >= 2
    # A larger k costs more keys: the choice has to weigh both.
    assert [cheapest_subset(k, 1_000_000) for k in (3, 8)] == sorted(
        cheapest_subset(k, 1_000_000) for k in (3, 8)
    )


def test_candidates_are_the_expected_number() -> None:
    """DESIGN section 4: k = 4, m = 2, one million codes: each finds another 5.7 times, so a pair is seen 2.9 times."""
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


@pytest.mark.parametrize("plan", [*PLANS[1:4], choose(8, 1_600_000), choose(8, 5 * 10**6)], ids=str)
def test_no_shard_has_many_times_its_share(plan: Plan) -> None:
    """Else one worker does the work of all. (Where a prefix has few values for a shard, no hash spreads evenly.)"""
    n = 20_000
    for prefix in plan.prefixes:
        sizes = np.bincount(shard_of(random_shorts(n), plan, prefix).astype(np.int64), minlength=plan.shards)
        assert sizes.max() <= 4 * n / plan.shards, f"{prefix=} {sorted(sizes.tolist(), reverse=True)[:5]}"


def test_one_place_is_one_shard() -> None:
    plan = choose(8, 1000)
    assert plan.prefixes == [()]
    assert not shard_of(random_shorts(100), plan, ()).any()


def test_prefixes_are_band_numbers_in_order() -> None:
    assert Plan(2, 2, 1).prefixes == [(0,), (1,), (2,)]
    assert Plan(2, 3, 2).prefixes == list(itertools.combinations(range(4), 2))
