"""Estimates of comparisons against exact counts, and for skewed words with hot buckets."""

import itertools
import math

import numpy as np
import pytest

from beam_dedup.core.codes import WordArray
from beam_dedup.core.matching import hamming_join, skew
from beam_dedup.core.matching.plan import ALL_BITS, NS_PER_FOUND, Plan, pairs_of
from beam_dedup.core.matching.planner import MAX_CANDIDATES, choose
from beam_dedup.core.matching.skew import HOT_BUCKET, LONG_BUCKET, comparisons
from beam_dedup.core.thresholds import Thresholds


def random_words(n: int, bits: int = ALL_BITS) -> WordArray:
    return np.random.default_rng(n).integers(0, 1 << 64, n, dtype=np.uint64) & np.uint64(bits)


def pairs_at_keys(a: WordArray, b: WordArray, plan: Plan) -> int:
    """Counts the pairs that share a key, one by one."""
    pairs = itertools.combinations(a.tolist(), 2) if a is b else itertools.product(a.tolist(), b.tolist())
    return sum(not (x ^ y) & key.mask for x, y in pairs for key in plan.keys_in())


@pytest.mark.parametrize("bits", [ALL_BITS, 0xFFFF_0000_FF00_0000, 0b111, 0])
@pytest.mark.parametrize(("k", "subset"), [(1, 1), (2, 2), (4, 1), (4, 3)])
def test_estimate_is_exact_if_the_sample_is_all_words(
    k: int, subset: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(k, subset)
    a, b = random_words(60, bits), random_words(40, bits)
    monkeypatch.setattr(skew, "SAMPLED_KEYS", 10_000)
    assert comparisons(a, a, plan.keys_in(), k, 60 * 59 / 2) == pairs_at_keys(a, a, plan)
    assert comparisons(a, b, plan.keys_in(), k, 60 * 40) == pairs_at_keys(a, b, plan)
    assert comparisons(a, b, plan.keys_in(), k, 60 * 40 * 10) == 10 * pairs_at_keys(a, b, plan)


def test_estimate_of_an_empty_sample_is_zero() -> None:
    for n in (0, 1):
        words = random_words(n)
        assert comparisons(words, words, Plan(8, 3).keys_in(), 8, 10.0**12) == 0


def hot(n: int, bits: int) -> WordArray:
    """Returns n words of which every other one is 0 in the first `bits` bits."""
    words = random_words(n)
    words[::2] &= np.uint64(ALL_BITS >> bits)
    return words


def test_bucket_counts_at_the_first_key_on_which_it_agrees() -> None:
    """Half of 14,000 words agree in 40 bits. They are compared at one of the 35 keys only; others would
    repeat the comparisons.
    """
    sample, codes = hot(4000, 40), 14_000
    plan = Plan(4, 3)
    half = (codes / 2) ** 2 / 2
    expected = comparisons(sample, sample, plan.keys_in(), 4, pairs_of(codes, codes))
    assert half * 0.95 < expected < half * 1.2
    of_half = [key for key in plan.keys_in() if not key.mask & (ALL_BITS >> 40)]
    assert len(of_half) == 4, "keys on which that half agrees"


def test_estimate_assumes_that_hot_buckets_are_split() -> None:
    sample, codes = hot(4000, 40), 1_000_000
    plan = Plan(4, 3)
    expected = comparisons(sample, sample, plan.keys_in(), 4, pairs_of(codes, codes))
    assert expected < (codes / 2) ** 2 / 2 / 20
    # If the other bits do not discriminate between the words either, splitting does not help.
    alike = sample & np.uint64(ALL_BITS << 20 & ALL_BITS)
    expected = comparisons(alike, alike, plan.keys_in(), 4, pairs_of(codes, codes))
    assert expected > (codes / 2) ** 2 / 2 * 0.9


@pytest.mark.parametrize("k", [3, 4, 6, 8])
def test_estimate_for_skewed_words_is_near_the_actual_count(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the comparisons of the search itself, for 60,000 words of which half agree in 40 bits.

    The estimate is higher, since it also counts sorting by the keys of a split bucket as comparisons.
    """
    words = hot(60_000, 40)
    done = 0

    def counting(name: str) -> None:
        search = getattr(hamming_join, name)

        def counted(a: WordArray, *rest: object) -> object:
            nonlocal done
            if name == "compare_square":
                done += len(a) * (len(a) - 1) // 2
            elif name == "compare_chunk":
                done += int(np.maximum(rest[1], 0).sum())  # type: ignore[call-overload]
            return search(a, *rest)

        monkeypatch.setattr(hamming_join, name, counted)

    counting("compare_square")
    counting("compare_chunk")
    estimate = choose(Thresholds(k), len(words), sample=words[:8192])
    keys = hamming_join.worthwhile(words, words, estimate.plan.keys_in(), k)
    for key in keys:
        for _ in hamming_join.pairs_of_one(words, k, key):
            pass
    expected = estimate.candidates * len(words)
    assert expected / 3 < done < expected * 2, f"{done:,} {expected:,.0f} {estimate.plan}"
    assert (hamming_join.SIZES.hot_bucket, hamming_join.SIZES.long_bucket) == (HOT_BUCKET, LONG_BUCKET)


def test_choice_of_plan_depends_on_how_crowded_the_keys_are() -> None:
    crowded = random_words(4000, 0xFFFF_FFFF_FFFF_0000)
    plain, real = choose(Thresholds(8), 10**6), choose(Thresholds(8), 10**6, sample=crowded)
    assert real.candidates > plain.candidates
    assert real.seconds > plain.seconds
    uniform = choose(Thresholds(8), 10**6, sample=random_words(8000))
    assert uniform.plan == plain.plan
    assert uniform.candidates < 2 * plain.candidates


def test_skewed_codes_are_refused_only_if_the_work_is_quadratic() -> None:
    sample = hot(8000, 40)
    assert choose(Thresholds(4), 10**6, sample=sample).candidates < MAX_CANDIDATES / 10
    assert choose(Thresholds(16), 4 * 10**6, sample=sample).candidates > MAX_CANDIDATES


def test_estimate_for_pdq_names_the_distance_of_whole_codes() -> None:
    """Its words are searched within a quarter of that distance."""
    estimate = choose(Thresholds(31, bits=256), 10**6)
    assert "1,000,000 codes within 31 bits" in estimate.describe()


def test_estimate_includes_the_time_for_found_pairs() -> None:
    """Half of the words differ in 24 bits only, so 1 in 1,300 of their pairs is within 4 bits by chance."""
    hot_codes, uniform = choose(Thresholds(4), 10**6, sample=hot(8000, 40)), choose(Thresholds(4), 10**6)
    within_4 = sum(math.comb(24, bits) for bits in range(5)) / 2**24
    finding = (10**6 / 2) ** 2 / 2 * within_4 * NS_PER_FOUND / 1e9
    of_plan = hot_codes.plan.seconds(10**6, hot_codes.candidates)
    assert finding * 0.7 < hot_codes.seconds - of_plan < finding * 1.4
    assert uniform.seconds == uniform.plan.seconds(10**6, uniform.candidates)
