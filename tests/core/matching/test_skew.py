"""What keys are expected to cost: against counting, and where buckets are hot."""

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
    """How many pairs share a key, counted one by one."""
    pairs = itertools.combinations(a.tolist(), 2) if a is b else itertools.product(a.tolist(), b.tolist())
    return sum(not (x ^ y) & key.mask for x, y in pairs for key in plan.keys_in())


@pytest.mark.parametrize("bits", [ALL_BITS, 0xFFFF_0000_FF00_0000, 0b111, 0])
@pytest.mark.parametrize(("k", "subset"), [(1, 1), (2, 2), (4, 1), (4, 3)])
def test_all_words_as_sample_are_counted_exactly(
    k: int, subset: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(k, subset)
    a, b = random_words(60, bits), random_words(40, bits)
    monkeypatch.setattr(skew, "_SHOWN_KEYS", 10_000)
    assert comparisons(a, a, plan.keys_in(), k, 60 * 59 / 2) == pairs_at_keys(a, a, plan)
    assert comparisons(a, b, plan.keys_in(), k, 60 * 40) == pairs_at_keys(a, b, plan)
    assert comparisons(a, b, plan.keys_in(), k, 60 * 40 * 10) == 10 * pairs_at_keys(a, b, plan)


def test_too_few_to_tell() -> None:
    for n in (0, 1):
        words = random_words(n)
        assert comparisons(words, words, Plan(8, 3).keys_in(), 8, 10.0**12) == 0


def hot(n: int, bits: int) -> WordArray:
    """Words of which every other agrees in the first bits with the others."""
    words = random_words(n)
    words[::2] &= np.uint64(ALL_BITS >> bits)
    return words


def test_a_bucket_counts_at_the_first_key_on_which_it_agrees() -> None:
    """Half of 14,000 words agree in 40 bits: at one of the 35 keys they are compared, the others would repeat it."""
    sample, codes = hot(4000, 40), 14_000
    plan = Plan(4, 3)
    half = (codes / 2) ** 2 / 2
    expected = comparisons(sample, sample, plan.keys_in(), 4, pairs_of(codes, codes))
    assert half * 0.95 < expected < half * 1.2
    of_half = [key for key in plan.keys_in() if not key.mask & (ALL_BITS >> 40)]
    assert len(of_half) == 4, "keys on which that half agrees"


def test_a_hot_bucket_is_expected_to_be_split() -> None:
    sample, codes = hot(4000, 40), 1_000_000
    plan = Plan(4, 3)
    expected = comparisons(sample, sample, plan.keys_in(), 4, pairs_of(codes, codes))
    assert expected < (codes / 2) ** 2 / 2 / 20
    # Where the rest of the bits does not tell the words apart either, nothing helps.
    alike = sample & np.uint64(ALL_BITS << 20 & ALL_BITS)
    expected = comparisons(alike, alike, plan.keys_in(), 4, pairs_of(codes, codes))
    assert expected > (codes / 2) ** 2 / 2 * 0.9


@pytest.mark.parametrize("k", [3, 4, 6, 8])
def test_what_is_expected_of_hot_words_is_what_is_done(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparisons counted in the search itself, of 60,000 words of which half agree in 40 bits.

    What is expected says more: sorting by the keys of a split bucket counts as comparisons, too.
    """
    words = hot(60_000, 40)
    done = 0

    def counting(name: str) -> None:
        search = getattr(hamming_join, name)

        def counted(a: WordArray, *rest: object) -> object:
            nonlocal done
            if name == "_square":
                done += len(a) * (len(a) - 1) // 2
            elif name == "_stretch":
                done += int(np.maximum(rest[1], 0).sum())  # type: ignore[call-overload]
            return search(a, *rest)

        monkeypatch.setattr(hamming_join, name, counted)

    counting("_square")
    counting("_stretch")
    estimate = choose(Thresholds(k), len(words), sample=words[:8192])
    keys = hamming_join.worthwhile(words, words, estimate.plan.keys_in(), k)
    for key in keys:
        for _ in hamming_join.pairs_of_one(words, k, key):
            pass
    expected = estimate.candidates * len(words)
    assert expected / 3 < done < expected * 2, f"{done:,} {expected:,.0f} {estimate.plan}"
    assert (HOT_BUCKET, LONG_BUCKET) == (hamming_join.HOT_BUCKET, hamming_join.LONG_BUCKET)


def test_the_choice_weighs_how_crowded_the_keys_are() -> None:
    crowded = random_words(4000, 0xFFFF_FFFF_FFFF_0000)
    plain, real = choose(Thresholds(8), 10**6), choose(Thresholds(8), 10**6, sample=crowded)
    assert real.candidates > plain.candidates
    assert real.seconds > plain.seconds
    uniform = choose(Thresholds(8), 10**6, sample=random_words(8000))
    assert uniform.plan == plain.plan
    assert uniform.candidates < 2 * plain.candidates


def test_a_million_hot_codes_are_refused_only_where_it_is_hopeless() -> None:
    sample = hot(8000, 40)
    assert choose(Thresholds(4), 10**6, sample=sample).candidates < MAX_CANDIDATES / 10
    assert choose(Thresholds(16), 4 * 10**6, sample=sample).candidates > MAX_CANDIDATES


def test_pdq_names_its_own_distance() -> None:
    """It is searched by words within a quarter of it."""
    estimate = choose(Thresholds(31, bits=256), 10**6)
    assert "1,000,000 codes, threshold 31 bits" in estimate.describe()


def test_pairs_that_will_be_found_cost_time_whatever_the_plan() -> None:
    """Half of the words differ in 24 bits only: 1 in 1,300 of their pairs is within 4 bits by chance."""
    hot_codes, uniform = choose(Thresholds(4), 10**6, sample=hot(8000, 40)), choose(Thresholds(4), 10**6)
    within_4 = sum(math.comb(24, bits) for bits in range(5)) / 2**24
    finding = (10**6 / 2) ** 2 / 2 * within_4 * NS_PER_FOUND / 1e9
    of_plan = hot_codes.plan.seconds(10**6, hot_codes.candidates)
    assert finding * 0.7 < hot_codes.seconds - of_plan < finding * 1.4
    assert uniform.seconds == uniform.plan.seconds(10**6, uniform.candidates)
