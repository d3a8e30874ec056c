"""`FindLeaks` and `DropLeaked` against the definition, by brute force over all pairs of images."""

import itertools
import random
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_dedup.core import blocks, leaks, tables
from beam_dedup.core.leaks import Leakage
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Status
from beam_dedup.core.splits import Splits
from tests.transforms.pipelines import REPEATED, run
from transforms import BatchFingerprints, UnbatchVerdicts, metrics
from transforms.leaks import DropLeaked, FindLeaks

SPLITS = Splits(("a", "a2", "b.zip", "c"), ("train", "train", "test", "val"))
SPLIT_OF = dict(zip(SPLITS.labels, SPLITS.names, strict=True))
KNOWN = "known"

Pairs = Collection[frozenset[bytes]]


class Case(NamedTuple):
    """Images, and which of their contents are near."""

    images: list[Fingerprint]
    near: set[frozenset[bytes]]


def image(number: int, label: str, content: bytes, *, known: bool = False) -> Fingerprint:
    name = f"{label}/{number}.jpg"
    return Fingerprint(ImageRef(f"/in/{name}", name, known=known), content, 9, 0, "JPEG", 1, 1, "", ())


def random_case(rng: random.Random) -> Case:
    contents = [rng.randbytes(32) for _ in range(rng.randint(1, 25))]
    images = []
    for number in range(rng.randint(0, 40)):
        known = rng.random() < 0.1
        label = KNOWN if known else rng.choice(SPLITS.labels)
        images.append(image(number, label, rng.choice(contents), known=known))
    all_pairs = [frozenset(pair) for pair in itertools.combinations(contents, 2)]
    used = {one.digest for one in images}
    near = {pair for pair in all_pairs if pair <= used and rng.random() < rng.choice([0.02, 0.2])}
    return Case(images, near)


def split_of(one: Fingerprint) -> str:
    return SPLIT_OF.get(one.ref.name.partition("/")[0], "")


def leaks_of(one: Fingerprint, case: Case, pairs: Pairs) -> tuple[set[str], set[str]]:
    """Returns the splits to which an image leaks exactly, and those to which it leaks nearly only."""
    others = [(split_of(other), other.digest) for other in case.images if split_of(other)]
    exact = {split for split, digest in others if digest == one.digest} - {split_of(one)}
    near = {split for split, digest in others if frozenset((one.digest, digest)) in pairs} - {split_of(one)}
    return exact, near - exact


def leakage_by_definition(case: Case, pairs: Pairs) -> dict[str, Any]:
    images: Counter[str] = Counter()
    leaking: Counter[str] = Counter()
    cells: Counter[tuple[str, str, str]] = Counter()
    for one in case.images:
        if split := split_of(one):
            images[split] += 1
            exact, near = leaks_of(one, case, pairs)
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


def find(case: Case, rng: random.Random, shards: int, *, near: bool, drop_from: str, flags: Any = ()) -> Any:
    shuffled = rng.sample(case.images, len(case.images))

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        fingerprints = pipeline | beam.Create(shuffled) | BatchFingerprints(rng.choice([1, 5, 100]))
        pairs = None
        if near:
            pairs = pipeline | "Pairs" >> beam.Create(pair_blocks(case.near, rng)).with_output_types(bytes)
        found = fingerprints | FindLeaks(SPLITS, pairs, shards)
        rest = fingerprints | DropLeaked(SPLITS, drop_from, found.leaks, shards)
        return {
            "leakage": found.leakage,
            "rest": rest.fingerprints,
            "verdicts": rest.verdicts | UnbatchVerdicts(),
            **({"pairs": found.pairs} if found.pairs is not None else {}),
        }

    return run(build, *flags)


CASES = 12


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("number", range(CASES))
def test_leaks_are_those_of_the_definition(number: int, near: bool) -> None:
    rng = random.Random(f"leaks {number}")
    case = random_case(rng) if number else Case([], set())
    pairs: Pairs = case.near if near else ()
    drop_from = rng.choice(SPLITS.all)
    ran = find(
        case,
        rng,
        rng.choice([1, 5, 64]),
        near=near,
        drop_from=drop_from,
        flags=REPEATED if number % 3 == 1 else (),
    )
    [leakage] = ran.values["leakage"]
    expected = leakage_by_definition(case, pairs)
    assert leakage.as_fields() == expected
    assert ran.counters.get(metrics.LEAKING, 0) == sum(split["leaking"] for split in expected.values())
    leaked = {
        one.ref.uri
        for one in case.images
        if split_of(one) == drop_from and any(leaks_of(one, case, pairs)) and not one.ref.known
    }
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
    remaining = Case(rest, case.near)
    assert not any(any(leaks_of(one, remaining, pairs)) for one in rest if split_of(one) == drop_from)


def test_random_cases_have_leaks_of_all_kinds() -> None:
    kinds: Counter[str] = Counter()
    for number in range(1, CASES):
        rng = random.Random(f"leaks {number}")
        case = random_case(rng)
        for one in case.images:
            if split_of(one):
                exact, near = leaks_of(one, case, case.near)
                kinds[f"{len(exact)} {len(near)}"] += 1
    assert {"0 0", "1 0", "0 1", "2 0", "0 2", "1 1"} <= kinds.keys(), kinds


def test_pairs_have_the_splits_of_both_contents() -> None:
    rng = random.Random("pairs")
    case = random_case(rng)
    assert len(case.near) > 5
    ran = find(case, rng, 5, near=True, drop_from="val")
    table = blocks.load(ran.values["pairs"], leaks.PAIRS_IN_SPLITS)

    def splits_of(content: bytes) -> int:
        numbers = {
            SPLITS.all.index(split_of(one)) for one in case.images if one.digest == content and split_of(one)
        }
        return sum(1 << number for number in numbers)

    rows = {(row["a"], row["b"], row["splits_a"], row["splits_b"]) for row in table.to_pylist()}
    pairs = [tuple(sorted(pair)) for pair in case.near]
    assert rows == {(a, b, splits_of(a), splits_of(b)) for a, b in pairs}
    assert len(table) == len(pairs)


def test_verdict_says_where_the_image_leaks_to() -> None:
    one, other, third = bytes(32), b"1" * 32, b"2" * 32
    images = [image(1, "a", one), image(2, "b.zip", one), image(3, "c", other), image(4, "a", third)]
    ran = find(Case(images, {frozenset((one, other))}), random.Random(1), 2, near=True, drop_from="train")
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
