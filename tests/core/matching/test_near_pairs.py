"""`near_pairs` finds exactly the pairs of brute force, for every k and m (DESIGN section 4)."""

import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest

from beam_dedup.core.codes import Codes
from beam_dedup.core.matching import hamming_join
from beam_dedup.core.matching.near_pairs import near_pairs
from beam_dedup.core.matching.plan import Key, Plan, band_masks, keys_of, plan_for
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests import oracle
from tests.core import small_limits
from tests.oracle import FULL, HASH, METADATA, TINY, WIDE, Code
from tests.random_sets import arrays, random_set

KS = range(MAX_BIT_DISTANCE + 1)
SUBSETS = range(5)
SEEDS = range(4)


def found_pairs(
    codes: Codes, thresholds: Thresholds, keys: Sequence[Key] | None = None, roles: list[bool] | None = None
) -> dict[tuple[int, int], int]:
    """Returns the distance of each pair that is found; the smaller row comes first."""
    found: dict[tuple[int, int], int] = {}
    for pairs in near_pairs(codes, thresholds, keys, None if roles is None else np.array(roles, bool)):
        assert len(pairs) == len(pairs.a) == len(pairs.b) == len(pairs.distance) > 0
        for a, b, distance in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.distance.tolist(), strict=True):
            assert a != b
            assert found.setdefault((min(a, b), max(a, b)), distance) == distance
    return found


def true_pairs(codes: list[Code], k: int, verify: int) -> dict[tuple[int, int], int]:
    pairs = itertools.combinations(range(len(codes)), 2)
    distances = {(i, j): oracle.within(codes[i], codes[j], k, verify) for i, j in pairs}
    return {pair: distance[0] for pair, distance in distances.items() if distance}


def full_codes(shorts: list[int]) -> Codes:
    return arrays([Code(image, 0, FULL, short << 192) for image, short in enumerate(shorts)])


@pytest.mark.parametrize("by_keys", [True, False])
@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("k", KS)
def test_all_pairs_within_k_and_no_others(
    k: int, subset: int, by_keys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits.go_through_keys(monkeypatch, by_keys)
    keys = keys_of(k, subset)
    for seed in SEEDS if len(keys) < 500 else SEEDS[:1]:
        small_limits.cut_small(monkeypatch, random.Random(seed))
        case = random_set(f"pairs {seed}", k, views=seed % 2)
        found = found_pairs(arrays(case.codes), Thresholds(k, case.verify), keys)
        assert found == true_pairs(case.codes, k, case.verify), f"{seed=}"


@pytest.mark.parametrize("subset", SUBSETS)
@pytest.mark.parametrize("k", KS)
def test_roles_limit_the_search_to_pairs_of_different_roles(
    k: int, subset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_of(k, subset)
    for seed in SEEDS if len(keys) < 500 else SEEDS[:1]:
        rng = random.Random(seed)
        case = random_set(f"roles {seed}", k, views=seed % 2)
        codes = list(case.codes)
        roles = [rng.random() < 0.5 for _ in range(case.images)]
        if seed > 0 and len(keys) <= 200:  # with fewer codes than keys, all would be compared with all
            strangers = range(case.images, case.images + 2 * len(keys) + 2)
            codes += [Code(image, 0, FULL, rng.getrandbits(256)) for image in strangers]
            roles += [image % 2 == 0 for image in strangers]
            small_limits.set_join_sizes(monkeypatch, tile=1)
            small_limits.force_crowded(monkeypatch, False)
            if subset and seed == 2:  # this set has no views, of which there would be too few
                small_limits.set_join_sizes(monkeypatch, wide_bucket=1 << 20)
                monkeypatch.setattr(hamming_join, "compare_rectangle", fail_all_with_all)
        else:
            small_limits.cut_small(monkeypatch, rng)
        found = found_pairs(arrays(codes), Thresholds(k, case.verify), keys, roles)
        monkeypatch.undo()
        across = {
            (i, j): distance
            for (i, j), distance in true_pairs(case.codes, k, case.verify).items()
            if roles[case.codes[i].image] != roles[case.codes[j].image]
        }
        assert {pair: found[pair] for pair in found if max(pair) < len(case.codes)} == across, f"{seed=}"


def fail_all_with_all(*_: object) -> None:
    raise AssertionError("compared all with all instead of using the keys")


def pairs_that_share_one_key(k: int, subset: int, rng: random.Random) -> list[tuple[int, int, int]]:
    """Returns (key, one, other) for every key: two codes that differ by one bit in every band outside the
    key.
    """
    bands = band_masks(k + subset)
    pairs = []
    for key in itertools.combinations(bands, subset):
        one = other = rng.getrandbits(64)
        for band in set(bands) - set(key):
            other ^= 1 << rng.choice([bit for bit in range(64) if band >> bit & 1])
        pairs.append((sum(key), one, other))
    return pairs


@pytest.mark.parametrize("subset", range(1, 5))
@pytest.mark.parametrize("k", KS)
def test_pair_that_agrees_on_one_key_only_is_found(
    k: int, subset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If k bits differ in k bands, the pair agrees on one key only. There are too many codes to compare all
    with all.
    """
    rng = random.Random(k * 10 + subset)
    worst = pairs_that_share_one_key(k, subset, rng)
    assert sorted(mask for mask, _, _ in worst) == sorted(key.mask for key in keys_of(k, subset))
    pairs = rng.sample(worst, min(len(worst), 150))
    asked = {mask for mask, _, _ in pairs}
    keys = [key for key in keys_of(k, subset) if key.mask in asked]
    for mask, one, other in pairs:
        assert (one ^ other).bit_count() == k
        assert [key.mask for key in keys if not (one ^ other) & key.mask] == [mask]
    shorts = [short for _, *both in pairs for short in both]
    codes = full_codes(shorts + [rng.getrandbits(64) for _ in range(10)])
    odd = [bool(image % 2) for image in range(len(codes))]
    wanted = {(2 * i, 2 * i + 1) for i in range(len(pairs))}
    small_limits.set_join_sizes(monkeypatch, tile=1)
    monkeypatch.setattr(hamming_join, "compare_rectangle", fail_all_with_all)
    small_limits.force_crowded(monkeypatch, False)
    for roles in (None, odd):
        found = found_pairs(codes, Thresholds(k, 256), keys, roles)
        assert wanted <= found.keys()
        assert {found[pair] for pair in wanted} == {k}


def meets(differs: int, key: Key) -> bool:
    return not differs & key.mask and all(differs & band for band in key.earlier)


@pytest.mark.parametrize("subset", range(1, 5))
@pytest.mark.parametrize("k", [0, 1, 5, 8])
def test_keys_of_a_prefix_find_the_pairs_that_share_them(
    k: int, subset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits.go_through_keys(monkeypatch)
    plan = Plan(k, subset, prefix=1)
    case = random_set("prefix", k, views=1, shapes=["chain", "star", "clique"])
    truth = true_pairs(case.codes, k, case.verify)
    codes = arrays(case.codes)
    together: set[tuple[int, int]] = set()
    for prefix in plan.prefixes:
        keys = keys_of(k, subset, prefix)
        found = found_pairs(codes, Thresholds(k, case.verify), keys)
        shorts = codes.short.tolist()
        meeting = {
            pair for pair in truth if any(meets(shorts[pair[0]] ^ shorts[pair[1]], key) for key in keys)
        }
        assert meeting <= found.keys() <= truth.keys()
        assert not meeting & together, "a pair meets at two keys"
        together |= meeting
    assert together == truth.keys() != set()


@pytest.mark.parametrize("k", [0, 4, 8, 16])
def test_chosen_keys_find_every_pair(k: int) -> None:
    """Without given keys, 3,000 pairs at distance k are found among 6,000 codes, which are more than a tile."""
    rng = random.Random(k)
    shorts = []
    for _ in range(3000):
        one = rng.getrandbits(64)
        shorts += [one, one ^ sum(1 << bit for bit in rng.sample(range(64), k))]
    found = found_pairs(full_codes(shorts), Thresholds(k, 256))
    assert {pair: found.get(pair) for pair in ((2 * i, 2 * i + 1) for i in range(3000))} == {
        (2 * i, 2 * i + 1): k for i in range(3000)
    }
    for (i, j), distance in found.items():
        assert (shorts[i] ^ shorts[j]).bit_count() == distance <= k


def fail_keys(*_: object) -> None:
    raise AssertionError("used the keys instead of comparing all with all")


@pytest.mark.parametrize("roles", [False, True])
def test_codes_crowded_at_the_keys_are_compared_all_with_all(
    roles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In codes of small pictures and screenshots most bits never differ, so going through the keys would
    repeat most work.
    """
    rng = random.Random(3)
    shorts = [sum(1 << bit for bit in rng.sample(range(20), 6)) for _ in range(120)]
    codes = full_codes(shorts)
    sides = [bool(image % 2) for image in range(len(shorts))] if roles else None
    small_limits.set_join_sizes(monkeypatch, tile=7)
    monkeypatch.setattr(hamming_join, "compact", fail_keys)
    keys = keys_of(8, 2)
    found = found_pairs(codes, Thresholds(8, 256), keys, sides)
    wanted = {
        (i, j): (shorts[i] ^ shorts[j]).bit_count()
        for i, j in itertools.combinations(range(len(shorts)), 2)
        if (shorts[i] ^ shorts[j]).bit_count() <= 8 and (sides is None or sides[i] != sides[j])
    }
    assert found == wanted


@pytest.mark.parametrize("codes", [hamming_join.SIZES.tile + 1, 3000])
def test_keys_of_one_word_search_that_word_only(codes: int) -> None:
    """A code shard for codes of 256 bits has keys over one of the four words."""
    rng = random.Random(codes)
    wide = [Code(image, 0, WIDE, rng.getrandbits(256)) for image in range(codes - 1)]
    wide.append(Code(codes - 1, 0, WIDE, wide[0].value ^ 0b111))
    thresholds = Thresholds(31, bits=256)
    plan = plan_for(thresholds, 2, prefix=1)
    for roles in (None, [image < 10 for image in range(codes)]):
        for word in range(4):
            found = found_pairs(arrays(wide), thresholds, plan.keys_in(word), roles)
            assert found == {(0, codes - 1): 3}, f"{word=}"


@pytest.mark.parametrize("varied", [0, 1, 3])
def test_hot_bucket_whose_codes_differ_in_few_bits(varied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of codes have almost equal short codes, so too few bits discriminate between them to split
    the bucket.
    """
    small_limits.set_join_sizes(monkeypatch, hot_bucket=1500)
    n = 1600
    shorts = np.random.default_rng(1).integers(0, 1 << varied, n, dtype=np.uint64)
    marked = [image == 7 for image in range(n)]
    codes = full_codes([0xFFFF_0000_FFFF << 3 | short for short in shorts.tolist()])
    keys = plan_for(Thresholds(8), 2).all_keys
    small_limits.force_crowded(monkeypatch, False)
    assert len(found_pairs(codes, Thresholds(8, 256), keys, marked)) == n - 1
    total = sum(len(i) for i, _, _ in hamming_join.pairs_of_one(codes.short, 8, keys[0]))
    assert total == n * (n - 1) // 2


@pytest.mark.parametrize("roles", [None, [True, False, False, False]])
def test_codes_of_different_kinds_are_never_within_k(roles: list[bool] | None) -> None:
    same = [Code(0, 0, HASH, 5), Code(1, 0, FULL, 5 << 192), Code(2, 0, TINY, 5), Code(3, 0, METADATA, 5)]
    found = found_pairs(arrays(same), Thresholds(8, 256), roles=roles)
    assert found == ({(1, 2): 0} if roles is None else {})
