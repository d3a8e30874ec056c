"""`FindLeaks` and `DropLeaked` against the definition, by brute force over all pairs of images."""

import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.leaks import Leakage
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef, Reason, Status
from beam_dedup.core.splits import Splits
from beam_dedup.core.thresholds import Thresholds
from tests.random_sets import random_set
from tests.transforms.batches import union
from tests.transforms.contents import contents, digest_of
from tests.transforms.pipelines import REPEATED, Ran, run
from transforms import BatchFingerprints, UnbatchVerdicts, metrics
from transforms.leaks import CountContents, DropLeaked, FindLeaks, Near
from transforms.split_pairs import PairSplits

SPLITS = Splits(("a", "a2", "b.zip", "c"), ("train", "train", "test", "val"))
SPLIT_OF = dict(zip(SPLITS.labels, SPLITS.names, strict=True))
KNOWN = "known"

Pairs = Collection[frozenset[bytes]]


class Case(NamedTuple):
    """Images, which of their contents are near, and how these are found."""

    images: list[Fingerprint]
    pairs: set[frozenset[bytes]]
    near: Near | None


PLANS = (PlanSettings(spread=False), PlanSettings(), PlanSettings(Plan(6, 2, 1, 3)))


def image(number: int, label: str, content: bytes, *codes: Code) -> Fingerprint:
    name = f"{label}/{number}.jpg"
    return Fingerprint(ImageRef(f"/in/{name}", name), content, 9, 0, "JPEG", 1, 1, "", codes)


def in_splits(images: list[Fingerprint], rng: random.Random) -> list[Fingerprint]:
    """Returns images with names that say to which split they belong, and as many more images of the same contents."""
    found = []
    for number, one in enumerate([*images, *rng.choices(images, k=len(images) // 4)]):
        name = f"{KNOWN if one.ref.known else rng.choice(SPLITS.labels)}/{number}.jpg"
        ref = dataclasses.replace(one.ref, uri=f"/in/{name}", name=name)
        found.append(dataclasses.replace(one, ref=ref))
    return found


def random_case(number: int, *, near: bool) -> Case:
    """Returns images with random codes; with odd numbers some are known, and with every third a person decided about some."""
    rng = random.Random(f"leaks {number}")
    seed, known_share = f"leaks {number}", number % 2 * 0.3
    sets = [random_set(f"{seed} {part}", 6, number % 3) for part in range(4)]
    case = union(sets, rng)._replace(verify=48)
    made = contents(case, seed, known_share)
    decisions = NO_DECISIONS
    if number % 3 == 2:
        different = {
            frozenset(pair)
            for pair in itertools.combinations(range(case.images), 2)
            if tuple(sorted(digest_of(seed, one) for one in pair)) in made.pairs and rng.random() < 0.5
        }
        same = {frozenset(rng.sample(range(case.images), 2)) for _ in range(3)} - different
        made = contents(case, seed, known_share, different, same)
        decided = [
            [(digest_of(seed, one), digest_of(seed, other)) for one, other in map(sorted, pairs)]
            for pairs in (different, same)
        ]
        decisions = Decisions.of(decided[0], decided[1])
    if not near:
        return Case(in_splits(made.fingerprints, rng), set(), None)
    found = Near(Thresholds(6, 48), PLANS[number // 3 % 3], decisions=decisions)
    return Case(in_splits(made.fingerprints, rng), {frozenset(pair) for pair in made.pairs}, found)


def split_of(one: Fingerprint) -> str:
    return SPLIT_OF.get(one.ref.name.partition("/")[0], "")


def leaks_of(one: Fingerprint, case: Case) -> tuple[set[str], set[str]]:
    """Returns the splits to which an image leaks exactly, and those to which it leaks nearly only."""
    others = [(split_of(other), other.digest) for other in case.images if split_of(other)]
    exact = {split for split, digest in others if digest == one.digest} - {split_of(one)}
    near = {split for split, digest in others if frozenset((one.digest, digest)) in case.pairs} - {
        split_of(one)
    }
    return exact, near - exact


def leakage_by_definition(case: Case) -> dict[str, Any]:
    images: Counter[str] = Counter()
    leaking: Counter[str] = Counter()
    cells: Counter[tuple[str, str, str]] = Counter()
    for one in case.images:
        if split := split_of(one):
            images[split] += 1
            exact, near = leaks_of(one, case)
            leaking[split] += bool(exact | near)
            cells.update((split, other, "exact") for other in exact)
            cells.update((split, other, "near") for other in near)
    return {
        split: {
            "images": images[split],
            "leaking": leaking[split],
            "to": {
                other: {kind: cells[split, other, kind] for kind in ("exact", "near")}
                for other in SPLITS.all
                if other != split
            },
        }
        for split in SPLITS.all
    }


def pair_blocks(pairs: Pairs, rng: random.Random) -> list[bytes]:
    rows = [(*sorted(pair), 3, None, 0) for pair in pairs]
    rng.shuffle(rows)
    found = []
    for start in range(0, len(rows), 7):
        columns = zip(*rows[start : start + 7], strict=True)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, blocks.PAIRS, strict=True)]
        found.append(blocks.dump(pa.Table.from_arrays(arrays, schema=blocks.PAIRS)))
    return found


def find(case: Case, rng: random.Random, shards: int, drop_from: str, *flags: str) -> Ran:
    shuffled = rng.sample(case.images, len(case.images))

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        fingerprints = pipeline | beam.Create(shuffled) | BatchFingerprints(rng.choice([1, 5, 100]))
        found = fingerprints | FindLeaks(SPLITS, case.near, shards)
        rest = fingerprints | DropLeaked(SPLITS, drop_from, found.leaks, shards)
        return {
            "leakage": found.leakage,
            "rest": rest.fingerprints,
            "verdicts": rest.verdicts | UnbatchVerdicts(),
        }

    return run(build, *flags)


CASES = 9


@pytest.mark.parametrize(
    ("number", "near"),
    [
        *(pytest.param(number, True, marks=[pytest.mark.slow] * (number > 4)) for number in range(CASES)),
        (1, False),
    ],
)
def test_leaks_are_those_of_the_definition(number: int, near: bool) -> None:
    rng = random.Random(f"order {number}")
    case = random_case(number, near=near)
    drop_from = rng.choice(SPLITS.all)
    ran = find(case, rng, rng.choice([1, 5, 64]), drop_from, *(REPEATED if number % 3 == 1 else ()))
    [leakage] = ran.values["leakage"]
    expected = leakage_by_definition(case)
    assert leakage.as_fields() == expected
    if number % 3 != 1:
        assert ran.counters[metrics.LEAKING] == sum(split["leaking"] for split in expected.values())
    leaked = {one.ref.uri for one in case.images if split_of(one) == drop_from and any(leaks_of(one, case))}
    verdicts = ran.values["verdicts"]
    assert {(verdict.ref.uri, verdict.status, verdict.reason) for verdict in verdicts} == {
        (uri, Status.REJECTED, Reason.LEAKED) for uri in leaked
    }
    assert len(verdicts) == len(leaked)
    rest = [
        one
        for block in ran.values["rest"]
        for one in tables.fingerprints_of(blocks.load([block], blocks.FINGERPRINTS))
    ]
    assert sorted(one.ref.uri for one in rest) == sorted(
        one.ref.uri for one in case.images if one.ref.uri not in leaked
    )
    remaining = case._replace(images=rest)
    assert not any(any(leaks_of(one, remaining)) for one in rest if split_of(one) == drop_from)


def test_random_cases_have_leaks_of_all_kinds() -> None:
    kinds: Counter[str] = Counter()
    for number in range(CASES):
        case = random_case(number, near=True)
        for one in case.images:
            if split_of(one):
                exact, near = leaks_of(one, case)
                kinds[f"{len(exact)} {len(near)}"] += 1
    assert {"0 0", "1 0", "0 1", "2 0", "0 2", "1 1"} <= kinds.keys(), kinds


def test_run_without_images_has_no_leaks() -> None:
    for near in (None, Near(), Near(planning=PlanSettings(spread=False))):
        ran = find(Case([], set(), near), random.Random(1), 5, "val")
        assert ran.values["leakage"] == [
            Leakage(SPLITS.all, (0,) * 3, (0,) * 3, ((0,) * 3,) * 3, ((0,) * 3,) * 3)
        ]
        assert not ran.values["rest"]


def test_many_equal_pictures_need_no_list_of_pairs() -> None:
    """Of 2,000 contents with equal codes, 2 million pairs are within k."""
    code = bytes(32)
    images = [
        image(number, "a" if number % 2 else "c", number.to_bytes(32), Code(CodeKind.FULL, code))
        for number in range(2000)
    ]
    images += [
        image(number, "b.zip", number.to_bytes(32), Code(CodeKind.FULL, bytes([1 << number % 8]) + code[1:]))
        for number in range(2000, 2016)
    ]
    near = Near(Thresholds(6, 48), PlanSettings(spread=False))
    ran = find(Case(images, set(), near), random.Random(1), 5, "train")
    [leakage] = ran.values["leakage"]
    assert leakage.leaking == (1000, 16, 1000)
    assert len(ran.values["verdicts"]) == 1000


def pairs_by_definition(case: Case) -> Counter[tuple[bytes, bytes, str, str]]:
    """Returns the pairs that are listed: contents and splits of both; "" for a content of known images alone."""
    splits: dict[bytes, set[str]] = {}
    for one in case.images:
        splits.setdefault(one.digest, set()).update(filter(None, [split_of(one)]))
    near = (
        (a, b, split, other)
        for a, b in map(sorted, case.pairs)
        for split, other in itertools.product(splits[a] or [""], splits[b] or [""])
    )
    equal = (
        (content, content, split, other)
        for content, some in splits.items()
        for split, other in itertools.combinations([name for name in SPLITS.all if name in some], 2)
    )
    return Counter([*near, *equal])


@pytest.mark.parametrize("shards", [1, 5])
def test_all_pairs_of_contents_and_splits_are_listed(shards: int) -> None:
    case = random_case(3, near=True)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        fingerprints = pipeline | beam.Create(case.images) | BatchFingerprints(7)
        rows = pair_blocks(case.pairs, random.Random(2))
        pairs = pipeline | "Pairs" >> beam.Create(rows).with_output_types(bytes)
        contents = fingerprints | CountContents(SPLITS, shards)
        found = pairs | PairSplits(contents, len(SPLITS.all), shards)
        return {"pairs": found.pairs, "names": found.names | beam.Values()}

    def name_of(number: int) -> str:
        return "" if number < 0 else SPLITS.all[number]

    ran = run(build)
    rows = blocks.load(ran.values["pairs"], blocks.PAIRS_OF_SPLITS).to_pylist()
    expected = pairs_by_definition(case)
    found = [(row["a"], row["b"], name_of(row["split_a"]), name_of(row["split_b"])) for row in rows]
    assert Counter(found) == expected
    assert {row["distance"] for row in rows if row["a"] == row["b"]} == {0}
    assert {row["distance"] for row in rows if row["a"] != row["b"]} == {3}
    assert {"", *SPLITS.all} <= {split for *_, split in expected}
    names = blocks.load(ran.values["names"], blocks.NAMES_OF_SPLITS).to_pylist()
    firsts: dict[tuple[bytes, str], bytes] = {}
    for one in sorted(case.images, key=lambda image: image.ref.uri.encode(), reverse=True):
        firsts[one.digest, split_of(one)] = one.ref.uri.encode()
    assert {(row["digest"], name_of(row["split"])): row["uri"] for row in names} == firsts
    assert all(row["known"] == (row["split"] < 0) for row in names)
    assert len(names) == len(firsts)


def test_verdict_says_where_the_image_leaks_to() -> None:
    one, other, third = bytes(32), b"1" * 32, b"2" * 32
    code = Code(CodeKind.FULL, bytes(32))
    images = [
        image(1, "a", one, code),
        image(2, "b.zip", one, code),
        image(3, "c", other, code),
        image(4, "a", third),
    ]
    ran = find(Case(images, set(), Near()), random.Random(1), 2, "train")
    [verdict] = ran.values["verdicts"]
    assert verdict.ref == ImageRef("/in/a/1.jpg", "a/1.jpg")
    assert verdict.detail == "the same bytes as an image of test; near an image of val"
    assert (verdict.digest, verdict.format, verdict.size_bytes) == (one, "JPEG", 9)


def test_numbers_of_two_splits() -> None:
    found = Leakage(("x", "y"), (3, 4), (1, 2), ((0, 1), (2, 0)), ((0, 0), (0, 0)))
    assert found.as_fields() == {
        "x": {"images": 3, "leaking": 1, "to": {"y": {"exact": 1, "near": 0}}},
        "y": {"images": 4, "leaking": 2, "to": {"x": {"exact": 2, "near": 0}}},
    }
