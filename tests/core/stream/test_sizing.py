"""The estimated cost of a stream."""

import random

import numpy as np
import pytest

from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef
from beam_dedup.core.stream.sizing import Sizing, choose
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests.core.stream.toy_engine import ToyRunner


@pytest.mark.parametrize("spread", [True, False])
@pytest.mark.parametrize("k", range(MAX_BIT_DISTANCE + 1))
def test_chosen_plans_are_possible(k: int, spread: bool) -> None:
    for images in (100, 100_000, 10_000_000):
        pairs = choose(Thresholds(k), images, 1.3, spread=spread).plan.pairs
        assert (pairs.prefix > 0) == spread
        assert pairs.prefix in (0, pairs.subset)  # one key per code shard, or one code shard


def test_smaller_k_and_fewer_images_cost_less() -> None:
    sizing = choose(Thresholds(8), 1_000_000)
    nearer, shorter = sizing.alternatives()
    assert (nearer.plan.thresholds.k, shorter.images) == (4, 100_000)
    for other in (nearer, shorter):
        assert other.candidates < sizing.candidates / 5
        assert other.microseconds < sizing.microseconds
    assert nearer.state_bytes < sizing.state_bytes
    assert sizing.describe() == (
        "1,000,000 images remembered, within 8 bits: 9 keys in 9 x 1 code shards, about 65,101 comparisons and "
        "161 us of one core per image, 684 bytes of state each, 0.68 GB in all"
    )
    assert "5 keys in one code shard" in choose(Thresholds(4), 1000, spread=False).describe()


@pytest.mark.parametrize("spread", [True, False])
def test_estimated_comparisons_are_those_of_random_codes(spread: bool) -> None:
    """Counts the codes that share a key with a new one; views are compared with base views only."""
    rng = np.random.default_rng(3)
    images, codes = 4000, 3
    words = rng.integers(0, 1 << 64, (images, codes), dtype=np.uint64)
    arriving = rng.integers(0, 1 << 64, (300, codes), dtype=np.uint64)
    sizing = choose(Thresholds(8), images, codes, spread=spread)
    met = 0
    for key in sizing.plan.pairs.all_keys:
        new, old = arriving & np.uint64(key.mask), words & np.uint64(key.mask)
        met += (new[:, :1, None] == old.reshape(1, 1, -1)).sum()
        met += (new[:, 1:, None] == old[None, None, :, 0]).sum()
    assert met / len(arriving) == pytest.approx(sizing.candidates, rel=0.1)


@pytest.mark.parametrize("spread", [True, False])
def test_estimated_bytes_are_those_of_the_state(spread: bool) -> None:
    rng = random.Random(0)
    sizing = choose(Thresholds(8), 3000, digest_shards=1, spread=spread)
    run = ToyRunner(sizing.plan, rng)
    for start in range(0, 3000, 500):
        numbers = range(start, start + 500)
        run.deliver([b"%016d" % number for number in numbers], numbers)
        run.run()
        run.read([image(rng, number) for number in run.admitted()])
        run.run()
    found = sum(cells.size for cells in run.state.values())
    assert found / 3000 == pytest.approx(sizing.state_bytes, rel=0.1)


def image(rng: random.Random, number: int) -> Fingerprint:
    uri = f"gs://bucket/crawl/2026/{number:012d}.jpg"
    code = Code(CodeKind.FULL, rng.randbytes(32))
    return Fingerprint(ImageRef(uri, uri), rng.randbytes(32), 1, 0, "JPEG", 1, 1, "dct/2", (code,))


def test_estimated_time_covers_the_comparisons() -> None:
    sizing = Sizing(choose(Thresholds(16), 10**6).plan, 10**6)
    assert sizing.microseconds > sizing.candidates / 1000
