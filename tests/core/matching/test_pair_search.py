"""All pairs of a code shard, however little of the search is held at a time, and the limit on their number."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.errors import PlanError
from beam_dedup.core.matching import pair_search, rounds, selection
from beam_dedup.core.matching.near_pairs import Pairs, near_pairs
from beam_dedup.core.matching.pair_search import components_in_shard, expanded, pairs_in_shard
from beam_dedup.core.matching.rounds import CodeShard
from beam_dedup.core.thresholds import Thresholds
from tests import oracle
from tests.core import small_limits
from tests.core.matching.test_connected import lowest_of_each
from tests.oracle import FULL
from tests.random_sets import RandomSet, data, random_set

WAITING = (0, 5, 1 << 22)


def digest(image: int) -> bytes:
    return image.to_bytes(32, "big")


def shard_of(case: RandomSet, known: set[int]) -> CodeShard:
    """Returns all codes of a set; the digests are in the order of the images."""
    rows = [
        (0, digest(code.image), digest(code.image), code.view, code.kind, data(code), code.image in known, 0)
        for code in case.codes
    ]
    columns = zip(*rows, strict=True) if rows else [[]] * len(blocks.CODES)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, blocks.CODES.types, strict=True)]
    return rounds.gather(pa.Table.from_arrays(arrays, schema=blocks.CODES))


def pairs_of(case: RandomSet, known: set[int]) -> dict[tuple[int, int], tuple[int, int, int]]:
    codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
    found = {}
    for b in range(case.images):
        for a in range(b):
            matches = oracle.matches(codes_of[a], codes_of[b], case.k, case.verify)
            if matches and not {a, b} <= known:
                found[a, b] = min((match.distance, match.view, match.long_distance) for match in matches)
    return found


@pytest.mark.parametrize("k", [0, 2, 5, 8, 12])
def test_pairs_and_components_of_a_shard(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(12):
        rng = random.Random(seed)
        case = random_set(f"pairs {seed}", k, views=rng.choice([0, 0, 3]))
        known = {image for image in range(case.images) if rng.random() < rng.choice([0, 0, 0.5])}
        small_limits.force(monkeypatch, rng, k)
        truth, shard, thresholds = pairs_of(case, known), shard_of(case, known), Thresholds(k, case.verify)
        whole, waiting = rng.random() < 0.5, rng.choice(WAITING)
        pairs, twins = pairs_in_shard(shard, thresholds, None, whole=whole, waiting_pairs=waiting)
        found = {
            tuple(int.from_bytes(row[side], "big") for side in "ab"): (
                row["distance"],
                row["view"],
                oracle.NONE if row["long_distance"] is None else row["long_distance"],
            )
            for part in expanded(pairs, twins)
            for row in part.to_pylist()
        }
        assert found == truth, seed
        components = components_in_shard(
            shard, thresholds, None, 1, whole, waiting, patience=rng.choice([1, 2, 10, 1 << 26])
        )
        edges = [
            tuple(int.from_bytes(value, "big") for value in row.values()) for row in components.to_pylist()
        ]
        assert len(edges) < max(case.images, 1)
        assert lowest_of_each(case.images, [(a, b) for a, b in edges]) == lowest_of_each(
            case.images, list(truth)
        )


def similar(count: int) -> CodeShard:
    """Returns images of which all are within 8 bits of each other, with different codes."""
    rng = random.Random("similar")
    bits = [sum(1 << 192 + bit for bit in rng.sample(range(64), 4)) + number for number in range(count)]
    return shard_of(
        RandomSet(8, 256, count, [oracle.Code(i, 0, FULL, code) for i, code in enumerate(bits)]), set()
    )


def test_search_ends_early_with_an_estimate() -> None:
    """It has found all pairs of a part of the images only when it gives up."""
    shard, thresholds = similar(600), Thresholds(8, 256)
    with pytest.raises(
        PlanError, match=r"about 1\d\d,\d\d\d pairs are within .* allows 1,000: use a smaller -k"
    ) as raised:
        pairs_in_shard(shard, thresholds, None, max_pairs=1000, waiting_pairs=500)
    assert abs(int(str(raised.value).split()[1].replace(",", "")) - 600 * 599 / 2) < 600 * 599 / 40
    pairs, _ = pairs_in_shard(shard, thresholds, None, max_pairs=600 * 599 // 2, waiting_pairs=500)
    assert len(pairs) == 600 * 599 // 2


def test_search_for_components_leaves_out_most_pairs_of_similar_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = 0

    def counted(*arguments: Any, **options: Any) -> Iterator[Pairs]:
        nonlocal found
        for pairs in near_pairs(*arguments, **options):
            found += len(pairs)
            yield pairs

    monkeypatch.setattr(selection, "near_pairs", counted)
    monkeypatch.setattr(pair_search, "near_pairs", counted)
    small_limits.set_join_sizes(monkeypatch, tile=16, area=16)  # so that a search yields few pairs at a time
    shard, thresholds = similar(600), Thresholds(8, 256)
    components = components_in_shard(shard, thresholds, None, waiting_pairs=1000, patience=2000)
    assert set(components["component"].to_pylist()) == {digest(0)}
    assert len(components) == 599
    assert found < 600 * 599 / 2 / 4


def test_pairs_of_several_shards_are_held_once() -> None:
    pairs, twins = pairs_in_shard(similar(40), Thresholds(8, 256), None)
    assert len(pairs) == 40 * 39 // 2
    parts = [pairs.slice(at, 50) for at in range(0, len(pairs), 50)] * 6
    random.Random("parts").shuffle(parts)
    held = pair_search.gathered(parts, max_pairs=len(pairs), waiting_pairs=0)
    assert len(held) <= 2 * len(pairs)
    assert pa.concat_tables(list(expanded(held, twins))).equals(
        pa.concat_tables(list(expanded(pairs, twins)))
    )
    with pytest.raises(PlanError, match=r"^at least [0-9]{3} pairs are within"):
        pair_search.gathered(parts, max_pairs=300, waiting_pairs=0)


def test_twins_are_counted_before_they_are_paired(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million contents with equal codes have 499,999,500,000 pairs; none is made."""
    count = 1_000_000
    digests = np.zeros((count, 32), np.uint8)
    digests[:, 28:] = np.arange(count, dtype=">u4").view(np.uint8).reshape(-1, 4)
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(32), count, [None, pa.py_buffer(digests.tobytes())]
    )
    first = column[:1].take(pa.array(np.zeros(count - 1, np.int64)))
    has_long = pa.array(np.ones(count - 1, bool))
    twins = pa.Table.from_arrays([column[1:], first, has_long], schema=blocks.TWINS)
    monkeypatch.setattr(pair_search, "_products", None)
    with pytest.raises(
        PlanError, match=r"^499,999,500,000 pairs are within the thresholds, and --max_pairs allows 10,0"
    ):
        list(expanded(blocks.PAIRS.empty_table(), twins))
