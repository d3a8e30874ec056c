"""Images of one input are no duplicates of each other: verdicts compared with the definition, image by image."""

import dataclasses
import itertools
import random
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.codes import VIEWS, Found, WordArray, from_codes
from beam_dedup.core.decisions import Decisions, pair_of
from beam_dedup.core.matching import hamming_join, selection, shard_verdicts
from beam_dedup.core.matching.near_pairs import near_pairs
from beam_dedup.core.matching.plan import plan_for
from beam_dedup.core.matching.shard_verdicts import DigestShard
from beam_dedup.core.model import (
    Code,
    CodeKind,
    Fingerprint,
    Flag,
    ImageRef,
    Reason,
    Status,
    Verdict,
    Witness,
)
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.tables import fingerprints_table, ranked, verdicts_of
from beam_dedup.core.thresholds import Thresholds
from tests import oracle
from tests.core import small_limits
from tests.core.matching.test_selection import thresholds_of
from tests.core.matching.test_shard_verdicts import (
    NOTHING_DECIDED,
    SAFE,
    Decided,
    images_of,
    is_protected,
    marks_at_once,
    marks_by_rounds,
    oracle_codes,
    random_decisions,
    random_preference,
)
from tests.core.test_rank import expected_kept_by, expected_order
from tests.random_sets import RandomSet, random_set
from tests.verdicts import verdict_on

LABELS = ("old", "new", "ålt/"[:3], "x#2")
KNOWN = "known"


class Match(NamedTuple):
    """A kept image that an image duplicates. The smallest is the witness: equal bytes come first."""

    is_near: bool
    match: oracle.Match


def in_inputs(images: Sequence[Fingerprint], labels: Sequence[str], rng: random.Random) -> list[Fingerprint]:
    """Returns images with names in random inputs. Their URIs, by which they rank, have nothing to do with these."""
    weights = [rng.choice([1, 1, 5]) for _ in labels]
    return [
        dataclasses.replace(image, ref=dataclasses.replace(image.ref, name=f"{label}/{image.ref.name}"))
        for image, label in zip(images, rng.choices(labels, weights, k=len(images)), strict=True)
    ]


def input_of(image: Fingerprint) -> str:
    return KNOWN if image.ref.known else image.ref.name.partition("/")[0]


def by_definition(
    images: Sequence[Fingerprint],
    case: RandomSet,
    keep: KeepPolicy | Preference,
    decided: Decided = NOTHING_DECIDED,
    near: bool = True,
) -> list[Verdict]:
    """Returns the verdicts: images in order of rank are duplicates of kept ones of other inputs."""
    images = [
        dataclasses.replace(image, flags=(*image.flags, Flag.PROTECTED))
        if image.ref.uri.startswith(SAFE) and not image.ref.known
        else image
        for image in images
    ]
    images = sorted(images, key=lambda image: expected_order(image, keep))
    first: dict[bytes, Fingerprint] = {}
    for image in images:
        first.setdefault(image.digest, image)

    def is_fixed(image: Fingerprint) -> bool:
        is_first = input_of(image) == input_of(first[image.digest])
        is_decided = near and image.digest in decided.keep and is_first
        return image.ref.known or Flag.PROTECTED in image.flags or is_decided

    def codes_of(number: int) -> list[oracle.Code]:
        image = images[number]
        is_hidden = Flag.TRUNCATED in image.flags and is_fixed(image) and is_protected(image, decided)
        return [] if is_hidden or not near else oracle_codes(number, image)

    def matches(number: int, other: int) -> list[Match]:
        image, kept = images[number], images[other]
        if input_of(image) == input_of(kept):
            return []
        if image.digest == kept.digest:
            return [Match(False, oracle.Match(0, other, 0, oracle.NONE))]
        pair = pair_of(image.digest, kept.digest)
        one, two = codes_of(number), codes_of(other)
        if near and pair in decided.same:
            found = oracle.as_declared_same(one, two, other)
        elif not near or pair in decided.different:
            found = []
        else:
            found = oracle.matches(one, two, case.k, case.verify)
        return [Match(True, match._replace(kept=other)) for match in found]

    kept = [number for number, image in enumerate(images) if is_fixed(image)]
    fixed = set(kept)
    for number in range(len(images)):
        if number not in fixed and not any(matches(number, other) for other in kept):
            kept.append(number)
    verdicts = []
    for number, image in enumerate(images):
        if image.ref.known:
            continue
        if number in kept:
            verdicts.append(verdict_on(image, None, None))
            continue
        best = min(found for other in kept for found in matches(number, other))
        other, match = images[best.match.kept], best.match
        distance = None if match.distance == oracle.UNMEASURED else match.distance
        long = None if match.long_distance == oracle.NONE else match.long_distance
        witness = Witness(other.ref.uri, other.digest, distance, long, VIEWS[match.view])
        why = expected_kept_by(image, other, keep)
        if why == "nearest" and other.digest in decided.keep:
            why = "decided"
        verdicts.append(verdict_on(image, Reason.NEAR if best.is_near else Reason.EXACT, witness, why))
    return sorted(verdicts, key=lambda verdict: verdict.ref.uri)


def digest_shards_of(
    images: Sequence[Fingerprint],
    keep: KeepPolicy | Preference,
    count: int,
    labels: Sequence[str],
    decisions: Decisions,
    pictures: bool = True,
) -> list[DigestShard]:
    preference = dataclasses.replace(
        Preference.of(keep), protect=(SAFE,), directory="/in", has_labels=len(labels) > 1
    )
    table = ranked(fingerprints_table(images), preference)
    parts = dict(blocks.split(table, blocks.digest_shards(table, count)))
    return [
        shard_verdicts.group_images(parts.get(number, table.slice(0, 0)), pictures, decisions, labels)
        for number in range(count)
    ]


def judged(
    images: Sequence[Fingerprint],
    case: RandomSet,
    keep: KeepPolicy | Preference,
    labels: Sequence[str],
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    decided: Decided = NOTHING_DECIDED,
) -> list[Verdict]:
    """Returns the verdicts by a random plan, with random numbers of shards, from images in random order."""
    thresholds = thresholds_of(case)
    decisions = Decisions.of(decided.different, decided.same, decided.keep)
    shuffled = rng.sample(images, len(images))
    shards = digest_shards_of(shuffled, keep, rng.randint(1, 4), labels, decisions)
    codes = pa.concat_tables(
        [shard_verdicts.compared_codes(shard, number, decisions) for number, shard in enumerate(shards)]
    )
    prefix = rng.choice([0, 1, 1, 2])
    plan = plan_for(thresholds, rng.randint(prefix, 2), prefix, rng.randint(1, 4) if prefix else 1)
    max_pairs = rng.choice(small_limits.MAX_PAIRS)
    with monkeypatch.context() as patch:
        small_limits.cut_small(patch, rng)
        if rng.random() < 0.5:
            small_limits.go_through_keys(patch)
        marks = (
            marks_by_rounds(codes, plan, thresholds, rng.randint(0, 3), max_pairs, decisions)
            if prefix
            else marks_at_once(codes, plan, thresholds, rng.choice([1, 1, 2]), max_pairs, decisions)
        )
    return verdicts_in(shards, marks, keep, decisions)


def verdicts_in(
    shards: Sequence[DigestShard], marks: pa.Table, keep: KeepPolicy | Preference, decisions: Decisions
) -> list[Verdict]:
    tables = [shard_verdicts.verdicts(shard, marks, Preference.of(keep), decisions) for shard in shards]
    found = itertools.chain.from_iterable(map(verdicts_of, tables))
    return sorted(found, key=lambda verdict: verdict.ref.uri)


def check_laws(images: Sequence[Fingerprint], verdicts: Sequence[Verdict]) -> None:
    """Asserts what must hold whatever the definition: every new image has a verdict, every duplicate a kept witness in
    another input, and images of one input with the same bytes have one outcome.
    """
    by_uri = {image.ref.uri: image for image in images}
    assert [verdict.ref.uri for verdict in verdicts] == sorted(i.ref.uri for i in images if not i.ref.known)
    kept = {verdict.ref.uri for verdict in verdicts if verdict.status == Status.KEPT}
    outcomes: dict[tuple[str, bytes], set[str]] = {}
    for verdict in verdicts:
        image = by_uri[verdict.ref.uri]
        if verdict.status == Status.DUPLICATE:
            assert verdict.witness is not None
            witness = by_uri[verdict.witness.uri]
            assert witness.ref.known or witness.ref.uri in kept
            assert input_of(witness) != input_of(image)
        if Flag.PROTECTED not in verdict.flags:
            outcome = verdict.witness.uri if verdict.witness else ""
            outcomes.setdefault((input_of(image), image.digest), set()).add(outcome)
    assert all(len(found) == 1 for found in outcomes.values())


def check(
    seed: str,
    k: int,
    algorithm: str,
    keep: KeepPolicy | str,
    monkeypatch: pytest.MonkeyPatch,
    has_decisions: bool,
) -> None:
    rng = random.Random(f"{seed} {keep}")
    case = random_set(f"across {seed} {keep}", k, views=rng.choice([0, 0, 2, 10]), algorithm=algorithm)
    labels = LABELS[: rng.choice([2, 2, 3, 4])]
    images = in_inputs(images_of(case, rng), labels, rng)
    decided = random_decisions(images, case, rng) if has_decisions else NOTHING_DECIDED
    policy = (
        keep if isinstance(keep, KeepPolicy) else dataclasses.replace(random_preference(rng), has_labels=True)
    )
    wanted = by_definition(images, case, policy, decided)
    check_laws(images, wanted)
    for _ in range(2):
        found = judged(images, case, policy, labels, rng, monkeypatch, decided)
        for verdict, other in zip(found, wanted, strict=True):
            assert verdict == other, f"{case} {decided}"


@pytest.mark.parametrize("keep", [KeepPolicy.FIRST, KeepPolicy.LARGEST, "rules"])
@pytest.mark.parametrize(
    ("algorithm", "k"), [*(("dct", k) for k in (0, 3, 8)), ("phash", 4), ("colorhash", 2), ("pdq", 11)]
)
def test_verdicts_are_those_of_the_definition(
    algorithm: str, k: int, keep: KeepPolicy | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(2):
        check(f"{seed}", k, algorithm, keep, monkeypatch, has_decisions=False)


@pytest.mark.parametrize("keep", [KeepPolicy.FIRST, "rules"])
@pytest.mark.parametrize(("algorithm", "k"), [("dct", 0), ("dct", 8), ("pdq", 11)])
def test_verdicts_with_decisions_are_those_of_the_definition(
    algorithm: str, k: int, keep: KeepPolicy | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(3):
        check(f"decided {seed}", k, algorithm, keep, monkeypatch, has_decisions=True)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [*KeepPolicy, "rules"])
@pytest.mark.parametrize("has_decisions", [False, True])
def test_many_sets_agree_with_the_definition(
    keep: KeepPolicy | str, has_decisions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(60):
        algorithm, k = [("dct", 0), ("dct", 1), ("dct", 6), ("dct", 12), ("phash", 4), ("pdq", 11)][seed % 6]
        check(f"many {seed}", k, algorithm, keep, monkeypatch, has_decisions)


@pytest.mark.parametrize("keep", [*KeepPolicy, "rules"])
def test_exact_verdicts_are_those_of_the_definition(keep: KeepPolicy | str) -> None:
    for seed in range(12):
        rng = random.Random(f"{seed} {keep}")
        case = random_set(f"across exact {seed} {keep}", 3)
        labels = LABELS[: rng.choice([2, 2, 3, 4])]
        images = in_inputs(images_of(case, rng), labels, rng)
        policy = (
            keep
            if isinstance(keep, KeepPolicy)
            else dataclasses.replace(random_preference(rng), has_labels=True)
        )
        wanted = by_definition(images, case, policy, near=False)
        check_laws(images, wanted)
        shuffled = rng.sample(images, len(images))
        shards = digest_shards_of(shuffled, policy, rng.randint(1, 4), labels, Decisions(), pictures=False)
        assert verdicts_in(shards, blocks.MARKS.empty_table(), policy, Decisions()) == wanted


def test_copies_in_the_input_of_a_protected_image_are_kept_beside_it() -> None:
    """A protected image is no witness of its own input, but of all others."""
    images = [named("old/safe/a"), named("old/b"), named("new/c")]
    assert outcomes(images, ("old", "new")) == {"old/safe/a": "", "old/b": "", "new/c": "old/safe/a"}


def test_a_single_input_is_compared_with_known_images_only() -> None:
    images = [named("a"), named("b"), named("c", b"c"), named("ref/d", is_known=True)]
    assert outcomes(images, ("",)) == {"a": "ref/d", "b": "ref/d", "c": ""}


def test_a_name_without_a_label_is_refused() -> None:
    with pytest.raises(
        ValueError, match="the name 'elsewhere/a' must begin with the label of an input: old, new"
    ):
        outcomes([named("old/a"), named("elsewhere/a")], ("old", "new"))


def test_equal_bytes_that_were_decoded_differently_are_duplicates(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has too little memory for a picture finds no codes. The best-ranked copy decides for all."""
    code = Code(CodeKind.FULL, bytes(32))
    for with_codes in itertools.product([False, True], repeat=3):
        images = [
            dataclasses.replace(named(name), codes=(code,) if has_codes else ())
            for name, has_codes in zip(("old/a", "new/b", "x#2/c"), with_codes, strict=True)
        ]
        images.append(dataclasses.replace(named("new/z", b"z"), codes=(Code(CodeKind.FULL, b"z" * 32),)))
        case = RandomSet(8, 48, 0, [])
        found = judged(images, case, KeepPolicy.FIRST, LABELS, random.Random(1), monkeypatch)
        by_uri = {verdict.ref.uri: verdict.witness and verdict.witness.uri for verdict in found}
        assert by_uri["new/b"] is None
        assert (by_uri["old/a"], by_uri["x#2/c"]) == ("new/b", "new/b")
        check_laws(images, found)


def test_undecodable_copies_that_were_declared_the_same_as_others_are_duplicates(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They have no codes, but meet in code shards for the decision: there equal bytes must count too."""
    images = [named("new/a"), named("old/b"), named("old/c", b"c"), named("x#2/d", b"d")]
    decided = Decided(same=[pair_of(b"a" * 32, b"c" * 32)])
    for seed in range(4):
        rng = random.Random(seed)
        found = judged(images, RandomSet(8, 48, 0, []), KeepPolicy.FIRST, LABELS, rng, monkeypatch, decided)
        witnesses = {verdict.ref.uri: verdict.witness and verdict.witness.uri for verdict in found}
        assert witnesses == {"new/a": None, "old/b": "new/a", "old/c": "new/a", "x#2/d": None}


def test_equal_pictures_are_compared_once_per_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million copies of one picture in each of two inputs are one pair, not 10**12."""
    compared = 0
    compare = hamming_join.compare_rectangle

    def counting(a: WordArray, b: WordArray, k: int) -> Found:
        nonlocal compared
        compared += len(a) * len(b)
        return compare(a, b, k)

    monkeypatch.setattr(hamming_join, "compare_rectangle", counting)
    count = 3000
    for kind, size in ((CodeKind.FULL, 32), (CodeKind.FLAT, 96)):
        codes = from_codes([[Code(kind, bytes(size))] for _ in range(count)])
        codes = dataclasses.replace(codes, inputs=1 + np.arange(count) % 2)
        kept, witnesses = selection.judge(codes, count, Thresholds())
        assert kept.tolist() == [True, False] * (count // 2)
        assert (witnesses.kept == 0).all()
        assert len(witnesses.image) == count // 2
    assert compared <= 4


def test_similar_pictures_of_one_input_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of one video in one input cost nothing: pairs of one input are not looked at."""
    frames = [[Code(CodeKind.FULL, number.to_bytes(2, "big") + bytes(30))] for number in range(4096)]
    codes = dataclasses.replace(from_codes(frames), inputs=np.array([1] * 4095 + [2]))
    found = list(near_pairs(codes, Thresholds()))
    assert sum(map(len, found)) == sum(number.bit_count() <= 8 for number in (n ^ 4095 for n in range(4095)))
    kept, witnesses = selection.judge(codes, 4096, Thresholds(), max_pairs=100)
    assert kept.tolist() == [True] * 4095 + [False]
    assert (witnesses.image.tolist(), witnesses.kept.tolist()) == ([4095], [2047])


def named(uri: str, digest: bytes = b"a", is_known: bool = False) -> Fingerprint:
    """Returns an image without codes."""
    name = uri.replace(SAFE + "/", "")
    return Fingerprint(ImageRef(uri, name, known=is_known), digest * 32, 1, 0, "SVG", 1, 1, "", ())


def outcomes(images: Sequence[Fingerprint], labels: Sequence[str]) -> dict[str, str]:
    """Returns the witness of each image, or "", by equal bytes alone."""
    shards = digest_shards_of(images, KeepPolicy.FIRST, 1, labels, Decisions(), pictures=False)
    found = verdicts_in(shards, blocks.MARKS.empty_table(), KeepPolicy.FIRST, Decisions())
    return {verdict.ref.uri: verdict.witness.uri if verdict.witness else "" for verdict in found}
