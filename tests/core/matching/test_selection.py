"""`judge`, `keep` and `nearest_kept` against the definition, in one code shard.

For several code shards see test_rounds.py.
"""

import collections
import itertools
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from beam_dedup.core.matching import hamming_join, selection
from beam_dedup.core.model import CodeKind
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests import oracle
from tests.core import small_limits
from tests.oracle import DETAILED, FLAT, FULL, HASH, METADATA, TINY, WIDE, Code, Match
from tests.random_sets import SHAPES, RandomSet, arrays, random_set

SETS_EACH = 10  # x 17 values of k x 20 chunks = 3,400 sets
CHUNKS = 20
MAX_PAIRS = (0, 1, 5, 50, 1 << 23)


def witnesses(found: selection.Witnesses) -> dict[int, Match]:
    columns = (found.distance, found.kept, found.view, found.long_distance)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {image: Match(*row) for image, row in zip(found.image.tolist(), rows, strict=True)}


def thresholds_of(case: RandomSet) -> Thresholds:
    return Thresholds(case.k, case.verify, case.bits)


def judged(
    case: RandomSet, max_pairs: int = 1 << 23, known: Sequence[int] = (), threads: int = 1
) -> tuple[list[int], dict[int, Match]]:
    """Returns kept images and witnesses in the oracle's form; `judge` must agree with `keep` and
    `nearest_kept`.
    """
    codes, thresholds = arrays(case.codes), thresholds_of(case)
    mask = np.isin(np.arange(case.images), known)
    kept = selection.keep(codes, case.images, thresholds, max_pairs, mask, threads=threads)
    found = witnesses(selection.nearest_kept(codes, kept, thresholds, threads=threads, max_pairs=max_pairs))
    at_once, found_at_once = selection.judge(
        codes, case.images, thresholds, mask, threads=threads, max_pairs=max_pairs
    )
    assert at_once.tolist() == kept.tolist()
    assert witnesses(found_at_once) == found
    return np.flatnonzero(kept).tolist(), found


def truth_of(case: RandomSet, known: Sequence[int] = ()) -> tuple[list[int], dict[int, Match]]:
    return oracle.judge(case.codes, case.images, case.k, case.verify, known)


def check(seed: int, case: RandomSet, monkeypatch: pytest.MonkeyPatch, force_keys: bool) -> None:
    """Compares the core with the definition, for some sets with known images, threads, or too many pairs to
    hold.
    """
    rng = random.Random(seed)
    max_pairs = rng.choice(MAX_PAIRS)
    known = rng.sample(range(case.images), rng.randint(0, case.images)) if rng.random() < 0.2 else []
    threads = rng.choice([2, 3]) if seed % 12 == 0 else 1
    with monkeypatch.context() as patch:
        if force_keys:
            small_limits.force(patch, rng, thresholds_of(case).word_k)
        found = judged(case, max_pairs, known, threads)
    assert found == truth_of(case, known), f"{seed=} {max_pairs=} {known=} {threads=} verify={case.verify}"


@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("k", range(MAX_BIT_DISTANCE + 1))
def test_verdicts_agree_with_the_definition(k: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(chunk * SETS_EACH, (chunk + 1) * SETS_EACH):
        case = random_set(f"judging {seed}", k, views=random.Random(seed).choice([0, 0, 1, 3]))
        check(seed, case, monkeypatch, force_keys=seed % 3 == 0)


@pytest.mark.parametrize("k", range(MAX_BIT_DISTANCE + 1))
def test_verdicts_agree_if_images_have_many_views(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(8):
        case = random_set(f"many views {seed}", k, views=random.Random(seed).choice([8, 20]))
        check(seed, case, monkeypatch, force_keys=seed % 2 == 0)


@pytest.mark.parametrize(
    ("algorithm", "k"),
    [
        *(("phash", k) for k in range(13)),
        *(("colorhash", k) for k in range(5)),
        *(("pdq", k) for k in (0, 1, 2, 3, 4, 7, 8, 15, 16, 23, 31, 32, 40, 63, 64)),
    ],
)
def test_verdicts_agree_on_codes_of_other_algorithms(
    algorithm: str, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12 if algorithm == "pdq" else 30):
        views = random.Random(seed).choice([0, 0, 0, 1, 8])
        case = random_set(f"hashes {seed}", k, views=views, algorithm=algorithm)
        check(seed, case, monkeypatch, force_keys=seed % 2 == 0)


@pytest.mark.parametrize("k", range(MAX_BIT_DISTANCE + 1))
def test_known_images_are_always_kept(k: int) -> None:
    """Whatever their rank, and even if they are near each other."""
    near_each_other = decided_by_them = 0
    for seed in range(40):
        rng = random.Random(seed)
        case = random_set(f"known {seed}", k, views=rng.choice([0, 0, 2]))
        known = sorted(rng.sample(range(case.images), rng.randint(0, case.images)))
        truth_kept, truth = truth_of(case, known)
        assert judged(case, rng.choice(MAX_PAIRS), known) == (truth_kept, truth), f"{seed=}"
        without = truth_of(case)[0]
        near_each_other += not set(known) <= set(without)
        decided_by_them += bool(set(without) - set(truth_kept))
    assert near_each_other > 5
    assert decided_by_them > 5


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_verdicts_agree_on_sets_of_one_shape(shape: str) -> None:
    for k in range(MAX_BIT_DISTANCE + 1):
        for algorithm, bits in (("dct", k), ("phash", k), ("pdq", 4 * k)):
            case = random_set("one shape", bits, shapes=[shape], algorithm=algorithm)
            assert judged(case) == truth_of(case), f"{k=} {algorithm}"


def test_verdicts_agree_if_codes_fill_several_tiles() -> None:
    """With the sizes of production, and more codes than one tile holds."""
    rng = random.Random(7)
    centres = [rng.getrandbits(256) for _ in range(40)]
    values = []
    for _ in range(hamming_join.SIZES.tile + 500):
        bits = rng.sample(range(192, 256), rng.randint(0, 3)) + rng.sample(range(192), rng.randint(0, 9))
        values.append(rng.choice(centres) ^ sum(1 << bit for bit in bits))
    codes = [Code(image, 0, FULL, value) for image, value in enumerate(values)]
    case = RandomSet(k=4, verify=15, images=len(codes), codes=codes)
    kept, found = judged(case, max_pairs=10_000)
    truth_kept, truth = oracle.judge(codes, len(codes), case.k, case.verify)
    assert kept == truth_kept
    assert found == truth


def test_random_sets_reach_the_edges() -> None:
    """The random sets must contain the edge cases of the rules, so this test counts them."""
    seen: collections.Counter[str] = collections.Counter()
    for seed, k in itertools.product(range(40), range(MAX_BIT_DISTANCE + 1)):
        case = random_set(f"judging {seed}", k, views=seed % 3)
        kept, truth = oracle.judge(case.codes, case.images, k, case.verify)
        seen["image without a code"] += case.images - len({code.image for code in case.codes})
        for a, b in itertools.combinations(case.codes, 2):
            seen.update(edges_of_pair(a, b, k, case.verify))
        codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
        for image, other in itertools.combinations(range(case.images), 2):
            near = oracle.matches(codes_of[other], codes_of[image], k, case.verify)
            seen["kept beside a duplicate"] += bool(near) and image not in kept and other in kept
            seen["duplicate of a duplicate too"] += bool(near) and image not in kept and other not in kept
        for image, match in truth.items():
            of_kept = [
                m for other in kept for m in oracle.matches(codes_of[image], codes_of[other], k, case.verify)
            ]
            nearest = [m for m in of_kept if m.distance == match.distance]
            seen["nearest is not the best-ranked"] += match.kept != min(m.kept for m in of_kept)
            seen["nearest has a worse rank"] += match.kept > image
            seen["tie by rank"] += len({m.kept for m in nearest}) > 1
            seen["tie by view"] += len({m.view for m in nearest if m.kept == match.kept}) > 1
    for edge in (
        "image without a code",
        "short = k",
        "short = k + 1",
        "long = verify",
        "long = verify + 1",
        "tiny = limit",
        "tiny = limit + 1",
        "tiny verified by nothing",
        "metadata = limit",
        "metadata = limit + 1",
        "levels = limit",
        "levels = limit + 1",
        "two plain colours",
        "view against view",
        "kept beside a duplicate",
        "duplicate of a duplicate too",
        "nearest is not the best-ranked",
        "nearest has a worse rank",
        "tie by rank",
        "tie by view",
    ):
        assert seen[edge] >= 20, f"{edge}: {seen[edge]}"


def edges_of_pair(a: Code, b: Code, k: int, verify: int) -> list[str]:
    if a.image == b.image:
        return []
    as_bases = oracle.within(a._replace(view=0), b._replace(view=0), k, verify)
    if a.view and b.view:
        return ["view against view"] if as_bases else []
    if {a.kind, b.kind} == {FLAT}:
        levels = max(abs(x - y) for x, y in zip(a.cells, b.cells, strict=True))
        if levels <= min(k, 8) and not as_bases:
            return ["two plain colours"]
        return (
            [f"levels = limit{'' if levels == min(k, 8) else ' + 1'}"] if levels - min(k, 8) in (0, 1) else []
        )
    if FLAT in (a.kind, b.kind):
        return []
    if METADATA in (a.kind, b.kind):
        beyond = (a.value ^ b.value).bit_count() - min(k, 3) if a.kind == b.kind else -1
        return [f"metadata = limit{'' if beyond == 0 else ' + 1'}"] if beyond in (0, 1) else []
    short = ((a.value >> 192 * (a.kind == FULL)) ^ (b.value >> 192 * (b.kind == FULL))).bit_count()
    if TINY in (a.kind, b.kind):
        beyond = short - min(k, 4)
        unlike = a.kind != b.kind and beyond <= 0
        return (
            ["tiny verified by nothing"] * unlike
            + ["tiny = limit"] * (beyond == 0)
            + ["tiny = limit + 1"] * (beyond == 1)
        )
    long = (a.value ^ b.value).bit_count()
    edges = [f"short = k{'' if short == k else ' + 1'}"] if long <= verify and short - k in (0, 1) else []
    return edges + (
        [f"long = verify{'' if long == verify else ' + 1'}"] if short <= k and long - verify in (0, 1) else []
    )


def full(short: int, rest: int = 0) -> tuple[int, int]:
    return FULL, short << 192 | rest


def tiny(short: int) -> tuple[int, int]:
    return TINY, short


def verdicts(*images: tuple[int, int], k: int = 8, verify: int = 48) -> tuple[list[int], dict[int, Match]]:
    codes = [Code(image, 0, kind, value) for image, (kind, value) in enumerate(images)]
    return judged(RandomSet(k, verify, len(images), codes))


class TestSmallCases:
    """One small case for each rule, so that a failure of the tests above can be understood."""

    def test_chain_is_not_one_group(self) -> None:
        a, b, c = full(0), full(0xFF), full(0xFFFF)
        assert verdicts(a, b, c) == ([0, 2], {1: Match(8, 0, 0, 8)})

    def test_image_near_a_duplicate_only_is_kept(self) -> None:
        middle, end, other_end = full(0xFF), full(0), full(0xFFFF)
        assert verdicts(end, middle, other_end)[0] == [0, 2]
        assert verdicts(middle, end, other_end)[0] == [0]

    def test_witness_is_the_nearest_kept_image_even_with_a_worse_rank(self) -> None:
        assert verdicts(full(0), full(0b11111), full(0b1111111111), k=5)[1] == {1: Match(5, 0, 0, 5)}
        assert verdicts(full(0), full(0b11111), full(0b1111111), k=6) == (
            [0, 2],
            {1: Match(2, 2, 0, 2)},
        )

    def test_witness_among_equally_near_images_is_the_best_ranked(self) -> None:
        assert verdicts(full(0xF), full(0xF0), full(0), k=4)[1] == {2: Match(4, 0, 0, 4)}

    @pytest.mark.parametrize(("bits", "kept"), [(8, [0]), (9, [0, 1])])
    def test_k_is_the_maximum_distance(self, bits: int, kept: list[int]) -> None:
        assert verdicts(full(0), full((1 << bits) - 1))[0] == kept

    @pytest.mark.parametrize(("bits", "verify", "kept"), [(48, 48, [0]), (49, 48, [0, 1]), (192, 256, [0])])
    def test_verify_is_the_maximum_long_distance(self, bits: int, verify: int, kept: list[int]) -> None:
        assert verdicts(full(0), full(0, (1 << bits) - 1), verify=verify)[0] == kept

    @pytest.mark.parametrize("code_of", [full, tiny])
    @pytest.mark.parametrize(
        ("bits", "k", "kept"), [(4, 8, [0]), (5, 8, [0, 1]), (3, 3, [0]), (4, 3, [0, 1])]
    )
    def test_maximum_distance_of_tiny_codes_is_4_bits(
        self, code_of: Callable[[int], tuple[int, int]], bits: int, k: int, kept: list[int]
    ) -> None:
        assert verdicts(code_of(0), tiny((1 << bits) - 1), k=k, verify=0)[0] == kept

    def test_image_without_a_code_is_kept(self) -> None:
        codes = [Code(0, 0, FULL, 5), Code(3, 0, FULL, 5)]
        assert judged(RandomSet(8, 48, 5, codes)) == ([0, 1, 2, 4], {3: Match(0, 0, 0, 0)})

    def test_empty_set(self) -> None:
        assert judged(RandomSet(8, 48, 0, [])) == ([], {})

    def test_view_matches_a_base_but_never_a_view(self) -> None:
        mine, other = 0x0F0F0F << 192, 0xF0F0F0 << 192
        far = [Code(0, 0, FULL, 0), Code(1, 0, FULL, (1 << 256) - 1)]
        both_views = [*far, Code(0, 1, FULL, mine), Code(1, 2, FULL, mine)]
        assert judged(RandomSet(8, 48, 2, both_views))[0] == [0, 1]
        through = [Code(0, 0, FULL, mine), Code(1, 0, FULL, other), Code(1, 2, FULL, mine)]
        assert judged(RandomSet(8, 48, 2, through)) == ([0], {1: Match(0, 0, 2, 0)})

    def test_witness_does_not_depend_on_the_order_of_rows(self) -> None:
        """Base to view 1 and view 1 to base are equally near by the short code; the result must always be
        the same one.
        """
        codes = [
            Code(0, 0, FULL, 0),
            Code(0, 1, FULL, 0xFF << 192 | 0xF),
            Code(1, 0, FULL, 0x1FF << 192),
            Code(1, 1, FULL, 1 << 192),
        ]
        found = [judged(RandomSet(8, 256, 2, list(rows)))[1] for rows in itertools.permutations(codes)]
        assert found == [{1: Match(1, 0, 1, 1)}] * len(found)

    def test_blank_pages_are_duplicates_and_two_plain_colours_are_not(self) -> None:
        cells = [b"\xff" * 96] * 1000 + [b"\xff\xff\xfe" * 32, b"\xff" * 95 + b"\xf8"]
        codes = [Code(image, 0, FLAT, cells=of_image) for image, of_image in enumerate(cells)]
        kept, found = judged(RandomSet(8, 48, len(codes), codes))
        # The last one has one different cell, so it is not a plain colour, and it is within 8 levels of
        # both colours.
        assert kept == [0, 1000]
        assert found == {i: Match(0, 0, 0, -1) for i in range(1, 1000)} | {1001: Match(6, 1000, 0, -1)}


def test_kinds_equal_those_of_the_oracle() -> None:
    assert tuple(CodeKind) == (FULL, TINY, FLAT, HASH, WIDE, METADATA, DETAILED)
    names = ["FULL", "TINY", "FLAT", "HASH", "WIDE", "METADATA", "DETAILED"]
    assert [kind.name for kind in CodeKind] == names
