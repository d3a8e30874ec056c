"""`hamming_join` against brute force in every branch, and the functions of `buckets` against naive versions."""

import itertools
import random
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core.codes import Found, WordArray
from beam_dedup.core.matching import buckets, hamming_join
from beam_dedup.core.matching.plan import ALL_BITS, ALL_WITH_ALL, Key, band_masks, keys_of
from beam_dedup.core.matching.skew import HOT_BUCKET, LONG_BUCKET
from tests.core import small_limits

WORDS = st.lists(st.integers(0, ALL_BITS), max_size=50).map(lambda words: np.array(words, np.uint64))
SETTINGS = settings(derandomize=True, deadline=None, max_examples=300)
WIDTHS = (1, 7, 8, 9, 15, 16, 17, 20, 23, 24, 25, 31, 32, 33, 40, 63, 64)


def naive_key(word: int, mask: int) -> int:
    """Returns the bits of a mask, most significant first, 32 at most."""
    bits = [str(word >> bit & 1) for bit in reversed(range(64)) if mask >> bit & 1]
    return int("".join(bits[:32]), 2)


@st.composite
def masks(draw: st.DrawFn) -> int:
    """Masks of each width, contiguous or scattered."""
    width = draw(st.sampled_from(WIDTHS))
    if draw(st.booleans()):
        return ((1 << width) - 1) << draw(st.integers(0, 64 - width))
    bits = draw(st.permutations(range(64)))[:width]
    return sum(1 << bit for bit in bits)


@SETTINGS
@given(WORDS, masks())
def test_compact_agrees_with_naive_version(words: WordArray, mask: int) -> None:
    key, bits = buckets.compact(words, mask)
    assert bits == min(mask.bit_count(), 32)
    assert key.tolist() == [naive_key(word, mask) for word in words.tolist()]


@pytest.mark.parametrize("bits", WIDTHS)
def test_order_of_is_a_stable_sort(bits: int) -> None:
    rng = np.random.default_rng(bits)
    mask = (1 << bits) - 1
    for size, distinct in ((0, 1), (1, 1), (2, 1), (5000, 3), (5000, 1 << 62)):
        values = rng.integers(0, 1 << 64, min(distinct, 5000), dtype=np.uint64)
        key, narrowed = buckets.compact(rng.choice(values, size), mask)
        order = buckets.order_of(key, narrowed)
        assert order.tolist() == sorted(range(size), key=key.tolist().__getitem__)


def crowd(rng: random.Random, n: int, bits: int, k: int) -> WordArray:
    """Returns words of which some are equal and some are about k bits apart; all differ in the first `bits`
    bits only.
    """
    words = [rng.getrandbits(bits) << (64 - bits)]
    while len(words) < n:
        word = rng.choice(words)
        for bit in rng.sample(range(64 - bits, 64), min(bits, rng.choice([0, 1, k, k, k + 1]))):
            word ^= 1 << bit
        words.append(rng.choice([word, word, rng.getrandbits(bits) << (64 - bits)]))
    return np.array(words, np.uint64)


def pairs_in(found: Iterable[Found]) -> dict[tuple[int, int], int]:
    return {
        (i, j): distance
        for part in itertools.chain.from_iterable(found)
        for i, j, distance in zip(*(column.tolist() for column in part), strict=True)
    }


def true_pairs(a: WordArray, b: WordArray, k: int) -> dict[tuple[int, int], int]:
    distances = {
        (i, j): (x ^ y).bit_count() for i, x in enumerate(a.tolist()) for j, y in enumerate(b.tolist())
    }
    return {pair: distance for pair, distance in distances.items() if distance <= k}


PLANS = [
    (k, subset, bits)
    for k, subset, bits in itertools.product([*range(9), 12, 16], range(5), [64, 42, 9])
    if k + subset <= bits  # there are no more bands than bits
]


@pytest.mark.parametrize(("k", "subset", "bits"), PLANS)
def test_all_keys_together_find_every_pair(
    k: int, subset: int, bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_of(k, subset, free=ALL_BITS ^ ALL_BITS >> bits)
    rng = random.Random(f"{k} {subset} {bits}")
    for _ in range(8 if len(keys) <= 500 else 1):
        small_limits.cut_small(monkeypatch, rng)
        if rng.random() < 0.7:  # also when a hot bucket is split
            small_limits.go_through_keys(monkeypatch)
        else:
            small_limits.force_crowded(monkeypatch, rng.random() < 0.5)
        words = crowd(rng, rng.choice([0, 1, 2, 3, 40]), bits, k)
        truth = {
            pair: distance for pair, distance in true_pairs(words, words, k).items() if pair[0] < pair[1]
        }
        found = pairs_in(hamming_join.pairs_of_one(words, k, key) for key in keys)
        assert all(i != j for i, j in found)
        assert {(min(pair), max(pair)): distance for pair, distance in found.items()} == truth
        others = crowd(rng, rng.choice([0, 1, 2, 30]), bits, k)
        others = np.concatenate([others, words[: len(words) // 2] ^ np.uint64(1 << 63)])
        found = pairs_in(hamming_join.pairs_of_two(words, others, k, key) for key in keys)
        assert found == true_pairs(words, others, k)
        monkeypatch.undo()


@pytest.mark.parametrize("bits", [64, 42, 32, 20, 12, 6])
def test_key_finds_all_pairs_that_agree_on_it(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """For keys of any width; those of more than 32 bits are shortened."""
    rng = random.Random(bits)
    for number in range(60):
        k = rng.randint(0, 8)
        small_limits.cut_small(monkeypatch, rng)
        mask = sum(1 << bit for bit in rng.sample(range(64), bits))
        words = crowd(rng, 30, 64, k)
        # Some words differ outside the key only.
        outside = np.array([rng.getrandbits(64) & ~mask & rng.getrandbits(64) for _ in words], np.uint64)
        words = np.concatenate([words, words ^ outside])
        truth = {
            pair: distance
            for pair, distance in true_pairs(words, words, k).items()
            if pair[0] < pair[1] and not int(words[pair[0]] ^ words[pair[1]]) & mask
        }
        found = {
            tuple(sorted(pair)): d
            for pair, d in pairs_in([hamming_join.pairs_of_one(words, k, Key(mask))]).items()
        }
        assert truth.items() <= found.items() <= true_pairs(words, words, k).items(), f"{number=}"
        across = pairs_in([hamming_join.pairs_of_two(words[::2], words[1::2], k, Key(mask))])
        wanted = {(i // 2, j // 2) for i, j in truth if i % 2 == 0 and j % 2 == 1}
        wanted |= {(j // 2, i // 2) for i, j in truth if i % 2 == 1 and j % 2 == 0}
        in_order = sorted_pairs(words[::2], words[1::2], k, Key(mask))
        for some in (across, in_order):
            assert wanted <= some.keys()
            assert some.items() <= true_pairs(words[::2], words[1::2], k).items()
        monkeypatch.undo()


@pytest.mark.parametrize(("k", "subset"), [(3, 1), (8, 2)])
def test_buckets_of_all_sizes_with_the_sizes_of_production(k: int, subset: int) -> None:
    """One array has buckets of one word, of some, of more than LONG_BUCKET and of more than HOT_BUCKET words."""
    rng = np.random.default_rng(k * 10 + subset)
    first_band = band_masks(k + subset)[0]
    sizes_of = [1] * 3000 + [20] * 50 + [100] * 10 + [LONG_BUCKET + 50, HOT_BUCKET + 50]
    heads = rng.integers(0, 1 << 64, len(sizes_of), dtype=np.uint64) & np.uint64(first_band)
    words = np.repeat(heads, sizes_of)
    words |= rng.integers(0, 1 << 64, len(words), dtype=np.uint64) & np.uint64(ALL_BITS ^ first_band)
    # Every third word has a neighbour k bits away, somewhere in the array.
    chosen = rng.permutation(len(words))[: len(words) // 3]
    flips = np.array([sum(1 << int(bit) for bit in rng.permutation(64)[:k]) for _ in chosen], np.uint64)
    near = words[chosen] ^ flips
    everything = np.concatenate([words, near])
    wanted = {(int(i), len(words) + j) for j, i in enumerate(chosen)}
    keys = keys_of(k, subset)
    found = {
        (min(pair), max(pair)): distance
        for pair, distance in pairs_in(hamming_join.pairs_of_one(everything, k, key) for key in keys).items()
    }
    assert wanted <= found.keys()
    assert all(int(everything[i] ^ everything[j]).bit_count() == d <= k for (i, j), d in found.items())
    across = pairs_in(hamming_join.pairs_of_two(words, near, k, key) for key in keys)
    assert {(i, j - len(words)) for i, j in wanted} <= across.keys()
    assert all(int(words[i] ^ near[j]).bit_count() == d <= k for (i, j), d in across.items())
    in_order: dict[tuple[int, int], int] = {}
    for key in keys:
        in_order |= sorted_pairs(words, near, k, key)
    assert in_order == across


def sorted_pairs(a: WordArray, b: WordArray, k: int, key: Key) -> dict[tuple[int, int], int]:
    """Returns the pairs found by `pairs_of_sorted`, for which the second array is sorted beforehand."""
    met, bits = buckets.compact(b, key.mask)
    order = buckets.order_of(met, bits)
    found = pairs_in([hamming_join.pairs_of_sorted(a, b[order], met[order], k, key)])
    return {(i, int(order[j])): distance for (i, j), distance in found.items()}


def test_worthwhile_keys() -> None:
    keys = keys_of(4, 2)
    rng = np.random.default_rng(1)
    none, few, many = (
        rng.integers(0, 1 << 64, n, dtype=np.uint64) for n in (0, 15, hamming_join.SIZES.tile + 1)
    )
    for a, b in ((none, none), (none, many), (many, none)):
        assert hamming_join.worthwhile(a, b, keys, 4) == ()
    assert hamming_join.worthwhile(many, many, (), 4) == ()
    assert hamming_join.worthwhile(many, many[: len(keys)], keys, 4) == (ALL_WITH_ALL,)
    assert hamming_join.worthwhile(many[:-1], many[:-1], keys, 4) == (ALL_WITH_ALL,)
    assert hamming_join.worthwhile(many, many, (ALL_WITH_ALL,), 4) == (ALL_WITH_ALL,)
    assert hamming_join.worthwhile(many, many, keys, 4) == keys
    assert hamming_join.worthwhile(many, many[: len(keys) + 1], keys, 4) == keys
    crowded = many & np.uint64(0b111)
    assert hamming_join.worthwhile(crowded, crowded, keys, 4) == (ALL_WITH_ALL,)
    # If only one of the two arrays is crowded, few words meet.
    assert hamming_join.worthwhile(many, crowded, keys, 4) == keys
    assert few.size == len(keys)


def test_crowding_is_estimated_from_the_work_at_all_keys() -> None:
    """Five bands have few values each. The first key costs a share of all pairs; each other key costs the
    pairs that do not agree on the first.
    """
    keys = keys_of(4, 1)
    rng = np.random.default_rng(2)

    def of_values(count: int) -> WordArray:
        values = rng.integers(0, 1 << 64, count, dtype=np.uint64)
        return np.bitwise_or.reduce(
            [rng.choice(values & np.uint64(band), 12000) for band in band_masks(5)], axis=0
        )

    words = of_values(2)
    assert hamming_join.is_crowded(words, words, keys, 4)  # 1 / 2 + 4 x 1 / 4
    words = of_values(6)
    assert not hamming_join.is_crowded(words, words, keys, 4)  # 1 / 6 x (1 + 4 x 5 / 6)
    half = words[:6000].copy(), words[6000:].copy()
    assert not hamming_join.is_crowded(*half, keys, 4)


def test_hot_bucket_is_split_by_discriminating_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits of its key, and others that all its words share, would not split it, and all would be compared
    with all.
    """
    small_limits.set_join_sizes(monkeypatch, hot_bucket=2000)
    square = hamming_join.compare_square

    def small(words: WordArray, k: int) -> Found:
        assert len(words) <= 2000
        yield from square(words, k)

    monkeypatch.setattr(hamming_join, "compare_square", small)
    mask = band_masks(4)[0]
    shared = mask | 0xFFFF_FFFF  # half of the bits outside the key are equal too
    words = random_part(6000, ALL_BITS & ~shared)
    words[1] = words[0]
    assert (0, 1) in pairs_in([hamming_join.pairs_of_one(words, 2, Key(mask))])


def random_part(n: int, bits: int) -> WordArray:
    return np.random.default_rng(n).integers(0, 1 << 64, n, dtype=np.uint64) & np.uint64(bits)
