"""`FindPairs` and the components of its pairs, against the definition: on one worker, in code shards, in any order."""

import collections
import itertools
import random
from collections.abc import Sequence
from typing import Any, cast

import apache_beam as beam
import pytest
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_dedup.core import blocks
from beam_dedup.core.decisions import Decisions
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import Fingerprint
from beam_dedup.core.thresholds import Thresholds
from tests import oracle
from tests.oracle import FULL
from tests.random_sets import RandomSet, random_set
from tests.transforms.batches import union
from tests.transforms.contents import Contents, Match, Pair, components, contents, digest_of, random_contents
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import BatchFingerprints
from transforms.pairs import ConnectComponents, FindComponents, FindPairs

SECONDS = 60  # a window


def find(
    sets: Sequence[Contents], found: FindPairs, *flags: str, block_size: int = 13
) -> list[
    tuple[list[tuple[Pair, Match]], dict[bytes, bytes], dict[bytes, bytes], dict[bytes, tuple[str, bool]]]
]:
    """Returns the pairs of each set, its components found in two ways, and the names of its contents."""
    timed = [
        (number * SECONDS + SECONDS // 2, image)
        for number, made in enumerate(sets)
        for image in made.fingerprints
    ]
    random.Random(1).shuffle(timed)
    settings = (found.thresholds, found.planning, found.digest_shards, found.keep, found.decisions)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        images = pipeline | beam.Create(timed) | beam.Map(stamp) | beam.WindowInto(FixedWindows(SECONDS))
        fingerprints = images | BatchFingerprints(block_size)
        pairs = fingerprints | "Pairs" >> found
        return {
            "pairs": pairs.pairs,
            "names": pairs.names | beam.Values(),
            "of pairs": pairs.pairs | ConnectComponents(),
            "without pairs": fingerprints | "Components" >> FindComponents(*settings),
        }

    ran = run(build, *flags)
    schemas = (blocks.PAIRS, blocks.COMPONENTS, blocks.COMPONENTS, blocks.NAMES)
    rows: dict[tuple[str, int | None], list[list[Any]]] = collections.defaultdict(list)
    for name, schema in zip(("pairs", "of pairs", "without pairs", "names"), schemas, strict=True):
        for window, block in zip(ran.windows[name], ran.values[name], strict=True):
            rows[name, window] += [list(row.values()) for row in blocks.load([block], schema).to_pylist()]
    return [
        (
            [((a, b), (distance, long, view)) for a, b, distance, long, view in rows["pairs", start]],
            once(rows["of pairs", start]),
            once(rows["without pairs", start]),
            {digest: (uri.decode(), known) for digest, uri, known in rows["names", start]},
        )
        for start in range(0, len(sets) * SECONDS, SECONDS)
    ]


def once(rows: list[list[Any]]) -> dict[Any, Any]:
    """Returns rows (key, value) as a dict, in which no key occurs twice."""
    assert len(dict(rows)) == len(rows)
    return dict(rows)


def stamp(pair: tuple[int, Fingerprint]) -> Fingerprint:
    return cast(Fingerprint, TimestampedValue(pair[1], pair[0]))


def check(sets: Sequence[Contents], found: FindPairs, *flags: str) -> None:
    for made, (pairs, connected, without_pairs, names) in zip(sets, find(sets, found, *flags), strict=True):
        assert once([[*pair] for pair in pairs]) == made.pairs
        assert connected == without_pairs == components(made.pairs)
        assert names == made.names


ONE_WORKER = pytest.param(PlanSettings(spread=False), id="one worker")
CODE_SHARDS = pytest.param("rounds", id="code shards")
PLANS = [ONE_WORKER, pytest.param(PlanSettings(), id="one code shard"), CODE_SHARDS]


def planning(settings: PlanSettings | str, k: int, bits: int = 64, words: int = 1) -> PlanSettings:
    if isinstance(settings, PlanSettings):
        return settings
    return PlanSettings(Plan(k // words, 2, 1 + k % 2, 3, bits, words))


@pytest.mark.parametrize("settings", [ONE_WORKER, CODE_SHARDS])
@pytest.mark.parametrize(("k", "verify", "views"), [(0, 48, 2), (3, 256, 0), (8, 100, 3)])
def test_pairs_are_those_of_the_definition(
    k: int, verify: int, views: int, settings: PlanSettings | str
) -> None:
    sets = [
        random_contents(f"{k} {number}", k, verify, views, known_share=number % 2 * 0.4)
        for number in range(6)
    ]
    assert sum(len(made.pairs) for made in sets) > 100
    check(sets, FindPairs(Thresholds(k, verify), planning(settings, k), digest_shards=3))


@pytest.mark.parametrize("settings", [CODE_SHARDS])
@pytest.mark.parametrize(
    ("algorithm", "k", "bits"), [("phash", 4, 64), ("colorhash", 2, 42), ("pdq", 15, 256)]
)
def test_pairs_of_other_algorithms(algorithm: str, k: int, bits: int, settings: PlanSettings | str) -> None:
    sets = [
        random_contents(f"{algorithm} {number}", k, 256, known_share=number * 0.3, algorithm=algorithm)
        for number in range(2)
    ]
    thresholds = Thresholds(k, 256, bits)
    plan = planning(settings, k, thresholds.word_bits, thresholds.words)
    check(sets, FindPairs(thresholds, plan, digest_shards=2))


@pytest.mark.parametrize("settings", [ONE_WORKER, CODE_SHARDS])
def test_decisions_change_the_pairs(settings: PlanSettings | str) -> None:
    rng = random.Random(7)
    case = union([random_set(f"decided {number}", 6) for number in range(6)], rng)._replace(verify=48)
    images = [[code for code in case.codes if code.image == image] for image in range(case.images)]
    both = itertools.combinations(range(case.images), 2)
    near = [frozenset(pair) for pair in both if oracle.matches(images[pair[0]], images[pair[1]], 6, 48)]
    different = set(rng.sample(near, len(near) // 2))
    same = {frozenset(rng.sample(range(case.images), 2)) for _ in range(6)} - different
    made = contents(case, "decided", 0.2, different, same)
    digests = [
        [(digest_of("decided", a), digest_of("decided", b)) for a, b in map(sorted, pairs)]
        for pairs in (different, same)
    ]
    check(
        [made],
        FindPairs(
            Thresholds(6, 48), planning(settings, 6), 3, decisions=Decisions.of(digests[0], digests[1])
        ),
    )


@pytest.mark.parametrize("flags", [THREADS, REPEATED])
def test_runners_agree(flags: tuple[str, ...]) -> None:
    made = random_contents("runner", 8, 48, 2, sets=10, known_share=0.2)
    check([made], FindPairs(Thresholds(8, 48), PlanSettings(Plan(8, 2, 1, 3)), 5), *flags)


def equal(count: int) -> Contents:
    return contents(
        RandomSet(4, 48, count, [oracle.Code(i, 0, FULL, 7 << 200) for i in range(count)]), "equal"
    )


@pytest.mark.parametrize("settings", PLANS)
def test_equal_pictures_are_pairs_at_distance_0(settings: PlanSettings | str) -> None:
    [(pairs, connected, without_pairs, _)] = find(
        [equal(30)], FindPairs(Thresholds(4, 48), planning(settings, 4), 4)
    )
    assert len(pairs) == 30 * 29 // 2
    assert {match for _, match in pairs} == {(0, 0, 0)}
    lowest = min(digest_of("equal", content) for content in range(30))
    assert connected == without_pairs == {digest_of("equal", content): lowest for content in range(30)}


@pytest.mark.parametrize("settings", PLANS)
def test_more_pairs_than_the_limit_are_refused_with_their_number(settings: PlanSettings | str) -> None:
    found = FindPairs(Thresholds(4, 48), planning(settings, 4), 4, max_pairs=434)
    with pytest.raises(
        Exception, match="435 pairs are within the thresholds, and --max_pairs allows 434: use a"
    ):
        find([equal(30)], found)
