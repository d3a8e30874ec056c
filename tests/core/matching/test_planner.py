"""The statistics of codes do not depend on how the codes are divided, and a plan is chosen from them."""

import random
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.algorithms import ALGORITHMS, DCT, Recipe, Views
from beam_dedup.core.codes import TURNS, VIEWS
from beam_dedup.core.errors import PlanError
from beam_dedup.core.imaging.views import most_codes
from beam_dedup.core.matching import planner
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import MAX_CANDIDATES, CodeStats, Estimate, PlanSettings, choose
from beam_dedup.core.thresholds import Thresholds
from tests import random_sets
from tests.oracle import FLAT, FULL, PICTURES, WIDE, Code
from tests.random_sets import random_set


def table(codes: list[Code]) -> pa.Table:
    rows = [
        {
            "digest_shard": 0,
            "rank": str(code.image).encode(),
            "digest": bytes(32),
            "view": code.view,
            "kind": code.kind,
            "data": random_sets.data(code),
            "kept": False,
        }
        for code in codes
    ]
    return pa.Table.from_pylist(rows, schema=blocks.CODES)


def same(one: CodeStats, other: CodeStats) -> bool:
    return (one.codes, one.bases, one.sample.tolist()) == (other.codes, other.bases, other.sample.tolist())


@pytest.mark.parametrize("algorithm", random_sets.ALGORITHM_BITS)
@pytest.mark.parametrize("most", [0, 3, 8192])
def test_statistics_do_not_depend_on_how_codes_are_divided(algorithm: str, most: int) -> None:
    for seed in range(8):
        rng = random.Random(seed)
        codes = random_set(f"census {seed}", 8, views=seed % 3, algorithm=algorithm).codes
        whole = planner.code_stats(table(codes), most)
        assert (whole.codes, whole.bases) == (len(codes), sum(code.view == 0 for code in codes))
        shorts = {
            code.value >> (192 if code.kind in (*PICTURES, WIDE) else 0)
            for code in codes
            if not code.view and code.kind != FLAT
        }
        assert set(whole.sample.tolist()) <= shorts
        assert len(whole.sample) == min(len(shorts), most)
        rng.shuffle(codes)
        cuts = sorted(rng.randint(0, len(codes)) for _ in range(4))
        parts = [planner.code_stats(table(codes[a:b]), most) for a, b in pairwise([0, *cuts, len(codes)])]
        assert same(planner.merge_stats(parts, most), whole)
        halves = [planner.merge_stats(some, most) for some in (parts[:2], parts[2:])]
        assert same(planner.merge_stats(halves, most), whole)
        assert same(planner.load_stats(planner.dump_stats(whole)), whole)


def test_sample_is_spread_over_all_codes() -> None:
    """It does not hold the smallest codes, which would all agree on their first bits."""
    codes = [Code(image, 0, FULL, image << 243) for image in range(8192)]
    sample = planner.code_stats(table(codes), 400).sample
    assert len(sample) == 400
    assert 140 < int((sample >> np.uint64(63)).sum()) < 260


def test_statistics_of_no_codes() -> None:
    nothing = planner.code_stats(table([]))
    assert same(nothing, CodeStats(0, 0, np.zeros(0, np.uint64)))
    assert same(planner.merge_stats([]), nothing)
    assert same(planner.load_stats(planner.dump_stats(nothing)), nothing)
    for thresholds in (Thresholds(), Thresholds(4, bits=42), Thresholds(31, bits=256)):
        assert PlanSettings().choose(thresholds, nothing).plan.copies == thresholds.words


def random_words(n: int) -> "np.ndarray[tuple[int], np.dtype[np.uint64]]":
    return np.random.default_rng(n).integers(0, 1 << 64, n, dtype=np.uint64)


def test_plan_settings() -> None:
    counted = CodeStats(10_000_000, 9_000_000, random_words(1000))
    thresholds = Thresholds(8)
    chosen = PlanSettings().choose(thresholds, counted)
    assert chosen == choose(thresholds, counted.codes, counted.bases, counted.sample)
    assert chosen.plan.prefix > 0
    assert PlanSettings(gathered=counted.codes).choose(thresholds, counted).plan.prefix == 0
    assert PlanSettings(spread=False).choose(thresholds, counted).plan.prefix == 0
    given = Plan(8, 2, 1, 7)
    estimate = PlanSettings(given).choose(thresholds, counted)
    assert (estimate.plan, estimate.codes) == (given, counted.codes)
    assert estimate.candidates == given.candidates(counted.codes, counted.bases)
    assert estimate.seconds == given.seconds(counted.codes, estimate.candidates)


def test_quadratic_plan_is_refused_with_numbers() -> None:
    # The codes differ in 20 bits only.
    sample = random_words(8000) & np.uint64(0xFFFFF)
    estimate = choose(Thresholds(16), 3_000_000, sample=sample)
    assert estimate.candidates > MAX_CANDIDATES
    with pytest.raises(PlanError) as refused:
        estimate.check()
    sentence = str(refused.value)
    for part in (
        "comparing 3,000,000 codes within 16 bits",
        f"{estimate.candidates:,.0f} comparisons per code",
        f"{estimate.seconds / 3600:,.1f} hours",
        "smaller -k",
        "--force_plan",
    ):
        assert part in sentence
    choose(Thresholds(16), 10_000, sample=sample).check()
    choose(Thresholds(8), 10**7).check()
    at_the_limit = Estimate(Plan(8, 2), 8, 1, MAX_CANDIDATES, 1.0)
    at_the_limit.check()


@pytest.mark.parametrize("views", list(Views))
@pytest.mark.parametrize("turns", [False, True])
def test_maximum_number_of_codes_per_image(views: Views, turns: bool) -> None:
    most = most_codes(Recipe(DCT, views, turns))
    of_views = {
        Views.NONE: 1,
        Views.TRIM: 2,
        Views.CENTRE: 2 + sum(view.startswith("centre") for view in VIEWS),
    }
    wanted = of_views.get(views, len(VIEWS) - len(TURNS)) + len(TURNS) * turns
    assert most == wanted
    assert most_codes(Recipe("phash", "none")) == 1
    assert all(most_codes(Recipe(name, "none")) == 1 for name in ALGORITHMS)
