"""From fingerprints to verdicts without Beam: digest shards, code shards, rounds, known images and policies."""

import collections
import dataclasses
import functools
import hashlib
import itertools
import random
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import pyarrow as pa
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.codes import VIEWS
from beam_dedup.core.decisions import NO_DECISIONS, Decisions, Pair, pair_of
from beam_dedup.core.matching import rounds, shard_verdicts
from beam_dedup.core.matching.plan import Key, Plan, plan_for
from beam_dedup.core.matching.rounds import CodeShard
from beam_dedup.core.matching.selection import MAX_PAIRS
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
from beam_dedup.core.preference import KeepPolicy, Preference, parse_rules
from beam_dedup.core.tables import fingerprints_table, ranked, verdicts_of
from beam_dedup.core.thresholds import Thresholds
from tests import oracle, random_sets
from tests.core import small_limits
from tests.core.matching.test_selection import thresholds_of
from tests.core.test_rank import RULES, expected_kept_by, expected_order
from tests.random_sets import RandomSet, random_set
from tests.verdicts import verdict_on

SAFE = "safe"  # the directory of protected images

Step = Callable[[CodeShard, Thresholds, tuple[Key, ...] | None], Iterator[tuple[bytes, pa.Table]]]


class Decided(NamedTuple):
    """Decisions about digests."""

    different: Collection[Pair] = ()
    same: Collection[Pair] = ()
    keep: Collection[bytes] = ()


NOTHING_DECIDED = Decided()


def random_decisions(images: list[Fingerprint], case: RandomSet, rng: random.Random) -> Decided:
    """Returns decisions about some pairs, most often near ones, and about some digests. Some digests belong to no image."""
    first = {image.digest: image for image in images}
    near: list[Pair] = []
    far = [pair_of(rng.randbytes(32), rng.choice([*first, bytes(32)]))]
    for one, other in itertools.combinations(sorted(first), 2):
        (near if are_near(first[one], first[other], case) else far).append((one, other))
    share = rng.choice([0.1, 0.5, 1.0])
    different = {pair for pair in near if rng.random() < share} | set(rng.sample(far, min(2, len(far))))
    same = {pair for pair in far if rng.random() < rng.choice([0, 0.03, 0.1])}
    same |= {pair for pair in near if rng.random() < 0.1}
    keep = [digest for digest in first if rng.random() < rng.choice([0, 0.05, 0.2])]
    return Decided(different - same, same, keep)


def are_near(one: Fingerprint, other: Fingerprint, case: RandomSet) -> bool:
    """Returns whether two images are within k by their codes."""
    return bool(oracle.matches(oracle_codes(0, one), oracle_codes(1, other), case.k, case.verify))


def oracle_codes(image: int, fingerprint: Fingerprint) -> list[oracle.Code]:
    return [
        random_sets.code_of(image, VIEWS.index(code.view), code.kind, code.data) for code in fingerprint.codes
    ]


def pinned_by_definition(images: list[Fingerprint], case: RandomSet, decided: Decided) -> int:
    """Returns how many pairs declared different are within k by their codes, without pairs of images kept beforehand."""
    known = {image.digest for image in images if image.ref.known}
    protected = {image.digest for image in images if image.ref.uri.startswith(SAFE)} - known | set(
        decided.keep
    )
    kept = known | protected
    first = {
        image.digest: image
        for image in images
        if not (Flag.TRUNCATED in image.flags and image.digest in protected - known)
    }
    return sum(
        {one, other} <= first.keys() and not {one, other} <= kept and are_near(first[one], first[other], case)
        for one, other in decided.different
    )


def images_of(case: RandomSet, rng: random.Random) -> list[Fingerprint]:
    """Returns an image for each image of the set, and copies of bytes and of pictures; some are known, some in the
    directory of protected images, some truncated. Names are in random order.
    """
    protected_share = rng.choice([0, 0.1, 0.4])
    found = []
    codes_of: dict[int, list[oracle.Code]] = collections.defaultdict(list)
    for code in sorted(case.codes, key=lambda code: code.view):
        codes_of[code.image].append(code)
    for image in range(case.images):
        codes = tuple(
            Code(CodeKind(code.kind), random_sets.data(code), VIEWS[code.view]) for code in codes_of[image]
        )
        if codes and codes[0].view != VIEWS[0]:
            codes = ()  # an image with views always has a base code
        digest = hashlib.sha256(f"{image} {rng.random()}".encode()).digest()
        first = Fingerprint(
            ImageRef("", "", known=rng.random() < 0.15), digest, rng.randint(1, 3), rng.randint(0, 3),
            rng.choice(["PNG", "JPEG", "TIFF"]),
            rng.randint(1, 2), rng.randint(1, 2), "dct/2" if codes else "", codes,
            (Flag.TRUNCATED,) if rng.random() < 0.1 else (), taken=rng.choice([0, 20190102030405, 20200102030405]),
            metadata_kinds=rng.randint(0, 2),
        )  # fmt: skip
        found.append(first)
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            same_bytes = rng.random() < 0.5
            found.append(
                dataclasses.replace(
                    first,
                    digest=digest if same_bytes else hashlib.sha256(rng.randbytes(8)).digest(),
                    ref=dataclasses.replace(first.ref, known=rng.random() < 0.15),
                    modified_ms=rng.randint(0, 3),
                    format=first.format if same_bytes else rng.choice(["PNG", "JPEG", "TIFF"]),
                    size_bytes=first.size_bytes if same_bytes else rng.randint(1, 3),
                )
            )
    rng.shuffle(found)
    names = [
        f"{SAFE + '/' if rng.random() < protected_share else rng.choice(['', 'a/', 'x/'])}{number} "
        + rng.choice(["a", "å", chr(0xDCFF), "b"])
        for number in range(len(found))
    ]
    return [
        dataclasses.replace(image, ref=dataclasses.replace(image.ref, uri=name, name=name))
        for image, name in zip(found, names, strict=True)
    ]


def random_preference(rng: random.Random) -> Preference:
    return Preference(parse_rules(rng.sample(RULES, rng.randint(1, 4))), (SAFE,), "/in")


def by_definition(
    images: list[Fingerprint],
    case: RandomSet,
    keep: KeepPolicy | Preference,
    decided: Decided = NOTHING_DECIDED,
) -> list[Verdict]:
    """Returns the verdicts by DESIGN sections 2 and 3, from the oracle."""
    images = [
        dataclasses.replace(image, flags=(*image.flags, Flag.PROTECTED))
        if image.ref.uri.startswith(SAFE) and not image.ref.known
        else image
        for image in images
    ]
    protected = {image.ref.uri for image in images if Flag.PROTECTED in image.flags}
    images = sorted(images, key=lambda image: expected_order(image, keep))
    first: dict[bytes, int] = {}
    for number, image in enumerate(images):
        first.setdefault(image.digest, number)
    judged = sorted({*first.values(), *(n for n, image in enumerate(images) if image.ref.uri in protected)})
    codes = [
        code
        for position, number in enumerate(judged)
        for code in oracle_codes(position, images[number])
        if not (Flag.TRUNCATED in images[number].flags and is_protected(images[number], decided))
    ]
    digests = [images[number].digest for number in judged]
    known = [
        position
        for position, number in enumerate(judged)
        if images[number].ref.known or is_protected(images[number], decided)
    ]
    different, same = (
        [
            frozenset(pair)
            for pair in itertools.combinations(range(len(judged)), 2)
            if pair_of(*(digests[one] for one in pair)) in pairs
        ]
        for pairs in (decided.different, decided.same)
    )
    _, duplicates = oracle.judge(codes, len(judged), case.k, case.verify, known, different, same)
    verdicts = []
    for number, image in enumerate(images):
        if image.ref.known:
            continue
        representative = number if image.ref.uri in protected else first[image.digest]
        match = duplicates.get(judged.index(representative))
        witness, other = None, images[representative]
        if match:
            other = images[judged[match.kept]]
            distance = None if match.distance == oracle.UNMEASURED else match.distance
            long = None if match.long_distance == oracle.NONE else match.long_distance
            witness = Witness(other.ref.uri, other.digest, distance, long, VIEWS[match.view])
        elif representative != number:
            witness = Witness(other.ref.uri, image.digest, 0, None, VIEWS[0])
        same_bytes = witness is not None and witness.digest == image.digest
        reason = None if witness is None else Reason.EXACT if same_bytes else Reason.NEAR
        why = expected_kept_by(image, other, keep) if witness else ""
        if why == "nearest" and other.digest in decided.keep:
            why = "decided"
        verdicts.append(verdict_on(image, reason, witness, why))
    return sorted(verdicts, key=lambda verdict: verdict.ref.uri)


def is_protected(image: Fingerprint, decided: Decided) -> bool:
    return not image.ref.known and (Flag.PROTECTED in image.flags or image.digest in decided.keep)


def digest_shards_of(
    images: list[Fingerprint],
    keep: KeepPolicy | Preference,
    count: int,
    decisions: Decisions = NO_DECISIONS,
) -> list[DigestShard]:
    preference = dataclasses.replace(Preference.of(keep), protect=(SAFE,), directory="/in")
    table = ranked(fingerprints_table(images), preference)
    parts = dict(blocks.split(table, blocks.digest_shards(table, count)))
    return [
        shard_verdicts.group_images(parts.get(number, table.slice(0, 0)), decisions=decisions)
        for number in range(count)
    ]


def in_code_shards(
    step: Step,
    codes: pa.Table,
    plan: Plan,
    thresholds: Thresholds,
    schema: pa.Schema,
    decisions: Decisions = NO_DECISIONS,
) -> pa.Table:
    shards = collections.defaultdict(list)
    half = len(codes) // 2
    for part in (codes.slice(0, half), codes.slice(half)):
        for name, rows in rounds.code_shards(part, plan, thresholds, decisions):
            shards[name].append(rows)
    answers = [
        table
        for name, parts in shards.items()
        for _, table in step(
            rounds.gather(pa.concat_tables(parts), decisions), thresholds, rounds.keys_of(name, plan)
        )
    ]
    return pa.concat_tables([schema.empty_table(), *answers])


def marks_by_rounds(
    codes: pa.Table,
    plan: Plan,
    thresholds: Thresholds,
    count: int,
    max_pairs: int = MAX_PAIRS,
    decisions: Decisions = NO_DECISIONS,
) -> pa.Table:
    known, rest = rounds.split_known(codes)
    duplicates, rest = rounds.split_near(
        rest, in_code_shards(rounds.flag_near_kept, codes, plan, thresholds, blocks.FLAGS, decisions)
    )
    kept, decided = [known], [duplicates]
    for number in range(count):
        all_undecided = number == 0 and not len(duplicates)
        flags = in_code_shards(rounds.flag_neighbours, rest, plan, thresholds, blocks.FLAGS, decisions)
        anchors, rest = rounds.split_anchors(rest, flags, all_undecided)
        near = in_code_shards(
            rounds.flag_near_kept,
            pa.concat_tables([anchors, rest]),
            plan,
            thresholds,
            blocks.FLAGS,
            decisions,
        )
        new_duplicates, rest = rounds.split_near(rest, near)
        kept.append(anchors)
        decided.append(new_duplicates)
    last_kept, last_duplicates = rounds.split_kept(
        rounds.keep_in_shard(rounds.gather(rest, decisions), thresholds)
    )
    everything = pa.concat_tables([*kept, last_kept, *decided, last_duplicates])
    find_witnesses = functools.partial(rounds.find_witnesses, max_pairs=max_pairs)
    return in_code_shards(find_witnesses, everything, plan, thresholds, blocks.MARKS, decisions)


def marks_at_once(
    codes: pa.Table,
    plan: Plan,
    thresholds: Thresholds,
    threads: int,
    max_pairs: int = MAX_PAIRS,
    decisions: Decisions = NO_DECISIONS,
) -> pa.Table:
    found = rounds.judge_shard(rounds.gather(codes, decisions), thresholds, plan, threads, max_pairs)
    return pa.concat_tables([blocks.MARKS.empty_table(), *(table for _, table in found)])


@pytest.mark.parametrize("keep", [*KeepPolicy, "rules"])
@pytest.mark.parametrize(
    ("algorithm", "k"),
    [*(("dct", k) for k in (0, 1, 3, 4, 8, 12)), ("phash", 4), ("colorhash", 2), ("pdq", 11)],
)
def test_verdicts_are_those_of_the_definition(
    algorithm: str, k: int, keep: KeepPolicy | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(7):
        rng = random.Random(f"{seed} {keep}")
        case = random_set(f"grouping {seed} {keep}", k, views=rng.choice([0, 0, 2, 10]), algorithm=algorithm)
        images = images_of(case, rng)
        policy = keep if isinstance(keep, KeepPolicy) else random_preference(rng)
        check(case, images, policy, rng, monkeypatch)


@pytest.mark.parametrize("keep", [KeepPolicy.FIRST, KeepPolicy.NEWEST, "rules"])
@pytest.mark.parametrize(("algorithm", "k"), [("dct", 0), ("dct", 8), ("phash", 4), ("pdq", 11)])
def test_verdicts_with_decisions_are_those_of_the_definition(
    algorithm: str, k: int, keep: KeepPolicy | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(6):
        rng = random.Random(f"{seed} {keep}")
        case = random_set(f"decided {seed} {keep}", k, views=rng.choice([0, 0, 2, 10]), algorithm=algorithm)
        images = images_of(case, rng)
        policy = keep if isinstance(keep, KeepPolicy) else random_preference(rng)
        check(case, images, policy, rng, monkeypatch, random_decisions(images, case, rng))


def check(
    case: RandomSet,
    images: list[Fingerprint],
    keep: KeepPolicy | Preference,
    rng: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    decided: Decided = NOTHING_DECIDED,
) -> None:
    """Judges images with a random plan, and compares the verdicts with the definition."""
    thresholds = thresholds_of(case)
    decisions = Decisions.of(decided.different, decided.same, decided.keep)
    digest_shards = digest_shards_of(images, keep, rng.randint(1, 4), decisions)
    codes = pa.concat_tables(
        [
            shard_verdicts.compared_codes(shard, number, decisions)
            for number, shard in enumerate(digest_shards)
        ]
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
    found = [
        verdict
        for shard in digest_shards
        for verdict in verdicts_of(shard_verdicts.verdicts(shard, marks, Preference.of(keep), decisions))
    ]
    found.sort(key=lambda verdict: verdict.ref.uri)
    for verdict, wanted in zip(found, by_definition(images, case, keep, decided), strict=True):
        assert verdict == wanted, f"{case} {plan} {decided}"
    assert rounds.count_pinned(
        rounds.in_different_pairs(codes, decisions), thresholds, decisions
    ) == pinned_by_definition(images, case, decided)


def test_sets_of_no_image_one_image_and_known_images() -> None:
    thresholds = Thresholds()
    code = Code(CodeKind.FULL, bytes(32))
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 0, "PNG", 1, 1, "dct/2", (code,))
    known = dataclasses.replace(image, ref=ImageRef("a", "a", known=True))
    other = dataclasses.replace(known, ref=ImageRef("b", "b", known=True), digest=b"\1" * 32)
    svg = dataclasses.replace(image, codes=(), algorithm="")
    for images, kept in (([], 0), ([image], 1), ([known], 0), ([known, other], 0), ([svg], 1)):
        for plan in (Plan(8, 2), Plan(8, 2, 1, 3)):
            digest_shards = digest_shards_of(images, KeepPolicy.FIRST, 2)
            codes = pa.concat_tables(
                [shard_verdicts.compared_codes(shard, number) for number, shard in enumerate(digest_shards)]
            )
            marks = (
                marks_by_rounds(codes, plan, thresholds, 1)
                if plan.prefix
                else marks_at_once(codes, plan, thresholds, 1)
            )
            found = [
                verdict
                for shard in digest_shards
                for verdict in verdicts_of(shard_verdicts.verdicts(shard, marks, Preference()))
            ]
            assert [verdict.status for verdict in found] == [Status.KEPT] * kept


def test_two_images_with_one_uri_are_refused() -> None:
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 0, "PNG", 1, 1, "", ())
    with pytest.raises(ValueError, match="two images have the URI 'a'"):
        digest_shards_of([image, dataclasses.replace(image, size_bytes=2)], KeepPolicy.FIRST, 1)


def test_equal_codes_in_other_views_are_not_the_same_picture() -> None:
    """The record of a duplicate names the view through which it matched."""
    base, other = (Code(CodeKind.FULL, bytes([byte] * 32)) for byte in (0, 255))
    images = [
        Fingerprint(
            ImageRef(uri, uri), uri.encode() * 32, 1, 0, "PNG", 1, 1, "dct/2", (base, dataclasses.replace(other, view=view))
        )
        for uri, view in (("a", "trim"), ("b", "mirror"), ("c", "trim"))
    ]  # fmt: skip
    (shard,) = digest_shards_of(images, KeepPolicy.FIRST, 1)
    assert shard.representative.tolist() == [0, 1, 0]
