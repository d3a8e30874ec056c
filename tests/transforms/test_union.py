"""What the record of a kept image says about its duplicates, against a definition in a few lines."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pytest

from beam_dedup.core import blocks, tables, union
from beam_dedup.core.model import ImageRef, Reason, Status, Verdict, Witness
from beam_dedup.core.union import MOST_CHARACTERS, MOST_IMAGES, facts
from transforms.union import keyed_kept, keyed_parts, united


def digest(number: int) -> bytes:
    return (number * 7919 % 65536).to_bytes(2) + bytes(30)


def random_verdicts(rng: random.Random) -> list[Verdict]:
    """Verdicts on images of few witnesses, most of them with metadata; one witness has no verdict, as a known image."""
    images = []
    labels: list[Any] = rng.choice([[None, 1, "1", "2", "é"], [None, 1, "1"], [None, None, None, "2"]])
    for number in range(rng.choice([1, 5, 400])):
        metadata: dict[str, Any] = {}
        if rng.random() < 0.7:
            metadata = {"url": f"http://x/{number}", "cls": rng.choice(labels)}
        uri = f"in/{rng.randrange(10**6)}-{number}\udcff.jpg"
        images.append(ImageRef(uri, uri, json.dumps(metadata) if metadata else ""))
    kept = [(image, digest(number)) for number, image in enumerate(images[: rng.randint(1, 6)])]
    verdicts = [Verdict(image, Status.KEPT, digest=its_digest) for image, its_digest in kept]
    kept.append((ImageRef("known.jpg", "known.jpg"), digest(99)))
    for number, image in enumerate(images[len(kept) - 1 :]):
        if rng.random() < 0.1:
            verdicts.append(Verdict(image, Status.REJECTED, Reason.EMPTY))
            continue
        witness, its_digest = kept[rng.choice([0, 0, 0, *range(len(kept))])]
        verdicts.append(
            Verdict(
                image,
                Status.DUPLICATE,
                Reason.NEAR,
                digest(number + 100),
                witness=Witness(witness.uri, its_digest, 1, None, "base"),
            )
        )
    return verdicts


def definition(verdicts: Iterable[Verdict]) -> dict[str, tuple[Any, Any]]:
    """The fields `also` and `label_conflict` of each record, by URI."""
    result: dict[str, tuple[Any, Any]] = {}
    for one in verdicts:
        its = [other for other in verdicts if other.witness and other.witness.uri == one.ref.uri]
        if one.status != Status.KEPT or not its:
            result[one.ref.uri] = (None, None)
            continue
        its.sort(key=lambda other: blocks.to_bytes(other.ref.uri))
        labels = [label for other in [one, *its] if (label := facts(other.ref.metadata)["label"])]
        images = [{"uri": other.ref.uri, **facts(other.ref.metadata)} for other in its[:MOST_IMAGES]]
        conflict = len(set(labels)) > 1 if len(labels) > 1 else None
        result[one.ref.uri] = ({"count": len(its), "images": images}, conflict)
    return result


def records_of(verdicts: list[Verdict], rng: random.Random) -> list[dict[str, Any]]:
    """Computes the records from blocks of verdicts, cut and ordered at random."""
    rng.shuffle(verdicts)
    parts: dict[bytes, dict[str, list[bytes]]] = {}
    written: list[Verdict] = []
    while verdicts:
        size = rng.randint(1, 200)
        block = blocks.dump(tables.verdicts_table(verdicts[:size]))
        verdicts = verdicts[size:]
        for name, items in (("kept", keyed_kept(block)), ("parts", keyed_parts(block))):
            for shard, item in items:
                parts.setdefault(shard, {"kept": [], "parts": []})[name].append(item)
        written += tables.verdicts_of(blocks.load([union.other_rows(block)], blocks.VERDICTS))
    for shard, found in parts.items():
        rng.shuffle(found["parts"])
        written += tables.verdicts_of(blocks.load(united((shard, dict(found))), blocks.VERDICTS))
    return [verdict.record() for verdict in written]


@pytest.mark.parametrize("seed", range(60))
def test_unions_are_those_of_the_definition_in_any_order(seed: int) -> None:
    rng = random.Random(f"union {seed}")
    verdicts = random_verdicts(rng)
    expected = definition(verdicts)
    plain = {verdict.ref.uri: verdict.record() for verdict in verdicts}
    records = {record["uri"]: record for record in records_of(verdicts[:], rng)}
    assert {uri: (one["also"], one["label_conflict"]) for uri, one in records.items()} == expected
    assert {uri: {**one, "also": None, "label_conflict": None} for uri, one in records.items()} == plain


def test_random_verdicts_have_all_cases() -> None:
    found = [definition(random_verdicts(random.Random(f"union {seed}"))) for seed in range(60)]
    fields = [one for verdicts in found for one in verdicts.values()]
    assert {conflict for _, conflict in fields} == {None, True, False}
    assert any(also and also["count"] > MOST_IMAGES for also, _ in fields)


def test_a_union_of_a_million_copies_is_small() -> None:
    witness = Witness("in/kept.jpg", digest(1), 0, None, "base")
    ref = ImageRef("x", "x", '{"cls": 1}')
    one = tables.verdicts_table([Verdict(ref, Status.DUPLICATE, Reason.EXACT, digest(1), witness=witness)])
    uris = pa.array([b"in/%06d.jpg" % number for number in range(1_000_000)], pa.binary())
    table = one.take(pa.array([0] * len(uris))).set_column(0, blocks.VERDICTS.field("uri"), uris)
    [(_, part)] = keyed_parts(blocks.dump(table))
    assert len(part) < 100_000
    merged = union.merged([union.load(part), union.load(part)])
    assert merged["in/kept.jpg"].fields()["also"]["count"] == 2_000_000
    assert len(merged["in/kept.jpg"].images) == MOST_IMAGES
    assert merged["in/kept.jpg"].label_conflict is False


def test_a_label_of_an_image_that_is_not_listed_counts() -> None:
    kept = Verdict(ImageRef("k", "k"), Status.KEPT, digest=digest(1))
    witness = Witness("k", digest(1), 0, None, "base")
    verdicts = [kept]
    for number in range(MOST_IMAGES + 2):
        label = {MOST_IMAGES: '{"label": "a"}', MOST_IMAGES + 1: '{"label": "b"}'}.get(number, "")
        ref = ImageRef(f"{number:04}", "x", label)
        verdicts.append(Verdict(ref, Status.DUPLICATE, Reason.EXACT, digest(1), witness=witness))
    [record] = [one for one in records_of(verdicts, random.Random(1)) if one["uri"] == "k"]
    assert record["label_conflict"] is True
    assert not any(image["label"] for image in record["also"]["images"])


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, {}),
        ({"TEXT": " a cat ", "url": ""}, {"caption": "a cat"}),
        ({"caption": "a", "txt": "b", "title": "c"}, {"caption": "a"}),
        ({"caption": None, "alt": "b"}, {"caption": "b"}),
        ({"cls": 0}, {"label": "0"}),
        ({"label": ["b", "a"]}, {"label": '["b", "a"]'}),
        ({"label": True, "url": []}, {}),
        ({"Date/Time Original": "2019:07:06", "date": "2020"}, {"date": "2019:07:06"}),
        ({"latitude": 48.1, "longitude": "-11"}, {"position": [48.1, -11.0]}),
        ({"latitude": 91, "longitude": 1, "lat": 1, "lng": 2}, {"position": [1.0, 2.0]}),
        ({"lat": "nan", "lon": "1"}, {}),
        ({"lat": True, "lon": [1]}, {}),
        ({"lat": 10**400, "lon": 1}, {}),
        ({"caption": "x" * 5000}, {"caption": "x" * MOST_CHARACTERS}),
    ],
)
def test_facts_of_metadata(metadata: dict[str, Any], expected: dict[str, Any]) -> None:
    nothing = dict.fromkeys(("url", "caption", "label", "date", "position"))
    assert facts(json.dumps(metadata)) == nothing | expected
    assert facts("") == nothing
