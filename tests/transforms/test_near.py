"""Compares `MarkNearDuplicates` with the definition: on one worker, in rounds, in windows, in any order."""

import collections
import dataclasses
import itertools
import random
import re
from collections.abc import Sequence
from typing import Any, cast

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows, TimestampedValue

from beam_dedup.core.matching import planner
from beam_dedup.core.matching import rounds as matching_rounds
from beam_dedup.core.matching.plan import Plan
from beam_dedup.core.matching.planner import Estimate, PlanSettings
from beam_dedup.core.matching.rounds import CodeShard
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef, Reason, Status, Verdict
from beam_dedup.core.preference import Preference
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests import oracle, random_sets
from tests.oracle import FULL
from tests.random_sets import VERIFY, RandomSet
from tests.transforms.batches import SAFE, Batch, batch, in_order, random_batch
from tests.transforms.pipelines import PROCESSES, REPEATED, THREADS, run
from transforms import BatchFingerprints, MarkNearDuplicates, UnbatchVerdicts, exact, near_rounds
from transforms.batching import FINGERPRINTS_PER_BLOCK

SECONDS = 60  # a window


def judge(
    batches: Sequence[Batch],
    mark: MarkNearDuplicates,
    *flags: str,
    seed: int = 0,
    block_size: int = FINGERPRINTS_PER_BLOCK,
) -> list[tuple[list[Verdict], Estimate | None]]:
    """Returns the verdicts and the plan of each batch. Each batch has its own window; the input is shuffled."""
    timed = [
        (number * SECONDS + SECONDS // 2, fingerprint)
        for number, made in enumerate(batches)
        for fingerprint in made.fingerprints
    ]
    random.Random(seed).shuffle(timed)

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        fingerprints = (
            pipeline | beam.Create(timed) | beam.Map(stamp) | beam.WindowInto(FixedWindows(SECONDS))
        )
        marked = fingerprints | BatchFingerprints(block_size) | "Mark" >> mark
        return {"verdicts": marked.verdicts | UnbatchVerdicts(), "plan": marked.plan}

    ran = run(build, *flags)
    verdicts: dict[int | None, list[Verdict]] = collections.defaultdict(list)
    for window, verdict in zip(ran.windows["verdicts"], ran.values["verdicts"], strict=True):
        verdicts[window].append(verdict)
    plans = dict(zip(ran.windows["plan"], ran.values["plan"], strict=True))
    assert set(verdicts) <= {number * SECONDS for number in range(len(batches))}
    assert len(plans) == len(ran.values["plan"])
    return [
        (in_order(verdicts[number * SECONDS]), plans.get(number * SECONDS)) for number in range(len(batches))
    ]


def stamp(pair: tuple[int, Fingerprint]) -> Fingerprint:
    # By Beam's convention the declared type is that of the value inside.
    return cast(Fingerprint, TimestampedValue(pair[1], pair[0]))


def first_difference(found: Sequence[Verdict], expected: Sequence[Verdict]) -> str:
    """Returns the first difference, for a readable message, or ""."""
    for one, other in itertools.zip_longest(found, expected):
        if one != other:
            return f"\nfound    {one}\nexpected {other}"
    return ""


def check(batches: Sequence[Batch], mark: MarkNearDuplicates, *flags: str) -> None:
    judged = judge(batches, mark, *flags)
    for number, (made, (verdicts, plan)) in enumerate(zip(batches, judged, strict=True)):
        assert not (wrong := first_difference(verdicts, made.verdicts)), f"batch {number}, {plan}: {wrong}"
        check_invariants(made, verdicts, mark.thresholds)


def check_invariants(made: Batch, verdicts: list[Verdict], thresholds: Thresholds) -> None:
    """Asserts the guarantees of DESIGN section 2, independently of the exact verdicts of the definition."""
    assert sorted(verdict.ref.uri for verdict in verdicts) == sorted(f.ref.uri for f in made.fingerprints)
    images = {fingerprint.ref.uri: fingerprint for fingerprint in made.fingerprints}
    kept = {verdict.ref.uri for verdict in verdicts if verdict.status == Status.KEPT}
    for one, other in itertools.combinations(sorted(kept), 2):
        assert images[one].digest != images[other].digest
        are_protected = one.startswith(f"/in/{SAFE}/") and other.startswith(f"/in/{SAFE}/")
        assert are_protected or not near_by_definition(images[one], images[other], thresholds), (
            f"kept, but near: {one}, {other}"
        )
    for verdict in verdicts:
        if verdict.ref.uri not in kept:
            assert verdict.status == Status.DUPLICATE
            assert verdict.witness is not None
            assert verdict.witness.uri in kept
            witness, image = images[verdict.witness.uri], images[verdict.ref.uri]
            assert verdict.witness.digest == witness.digest
            assert (verdict.reason == Reason.EXACT) == (witness.digest == image.digest)
            assert verdict.reason == Reason.EXACT or near_by_definition(image, witness, thresholds)


def near_by_definition(one: Fingerprint, other: Fingerprint, thresholds: Thresholds) -> bool:
    return bool(oracle.matches(oracle_codes(0, one), oracle_codes(1, other), thresholds.k, thresholds.verify))


def oracle_codes(image: int, fingerprint: Fingerprint) -> list[oracle.Code]:
    return [random_sets.code_of(image, 0, code.kind, code.data) for code in fingerprint.codes]


ONE_WORKER_K = range(0, MAX_BIT_DISTANCE + 1, 2)
ROUNDS = [  # k, verify, plan, digest shards, rounds
    (0, 256, Plan(0, 2, 2, 3), 5, 2),
    (1, 0, Plan(1, 1, 1, 7), 64, 0),
    (3, 48, Plan(3, 2, 2, 3), 3, 1),
    (5, 8, Plan(5, 3, 1, 30), 1, 2),
    (7, 255, Plan(7, 1, 1, 1), 4, 1),
    (8, 48, Plan(8, 2, 2, 2), 2, 2),
    (9, 256, Plan(9, 2, 1, 4), 3, 2),
    (11, 100, Plan(11, 1, 1, 4), 3, 2),
    (13, 48, Plan(13, 4, 1, 3), 2, 0),
    (15, 256, Plan(15, 1, 1, 3), 3, 2),
]


def test_every_k_is_tested() -> None:
    assert {*ONE_WORKER_K, *(k for k, *_ in ROUNDS)} == set(range(MAX_BIT_DISTANCE + 1))


@pytest.mark.parametrize("k", ONE_WORKER_K)
def test_one_worker_agrees_with_the_definition(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """9 values of k with 25 random sets each, one set per window."""
    monkeypatch.setattr(
        near_rounds, "ROUNDS", 0
    )  # so few codes skip the rounds anyway, and building them takes half of the time
    thresholds = Thresholds(k, VERIFY[k // 2 % len(VERIFY)])
    batches = [random_batch(f"one place {number}", thresholds.k, thresholds.verify) for number in range(25)]
    check(batches, MarkNearDuplicates(thresholds, digest_shards=(64, 1, 3)[k % 3]))


@pytest.mark.parametrize(("k", "verify", "plan", "digest_shards", "rounds"), ROUNDS)
def test_rounds_agree_with_the_definition(
    k: int, verify: int, plan: Plan, digest_shards: int, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 plans with 16 random sets each. Many code shards and few rounds: each round decides some images, and some remain."""
    monkeypatch.setattr(near_rounds, "ROUNDS", rounds)
    batches = [random_batch(f"rounds {number}", k, verify, sets=8) for number in range(2)]
    check(batches, MarkNearDuplicates(Thresholds(k, verify), PlanSettings(plan), digest_shards))


@pytest.mark.parametrize(
    ("k", "plan", "digest_shards"),
    [
        (4, None, 3),
        (8, None, 64),
        (3, Plan(3, 2, 2, 3), 3),
        (8, Plan(8, 2, 2, 2), 2),
        (9, Plan(9, 2, 1, 4), 3),
    ],
)
def test_protected_images_are_kept_and_all_others_judged_by_the_definition(
    k: int, plan: Plan | None, digest_shards: int
) -> None:
    """On one worker, and in rounds; a batch without protected images is judged as well."""
    batches = [
        random_batch(f"protected {number}", k, 48, sets=4, protected_share=share)
        for number, share in enumerate([0, 0.1, 0.5])
    ]
    keep = Preference(protect=(f"/in/{SAFE}/",))
    check(batches, MarkNearDuplicates(Thresholds(k, 48), PlanSettings(plan), digest_shards, keep=keep))


def camera_pan(frames: int, step: int) -> RandomSet:
    """Returns frames in order of rank, `step` bits from the frame before and twice as far from the one before that."""
    values = [0]
    for frame in range(1, frames):
        start = frame * step % 64
        values.append(values[-1] ^ sum(1 << 192 + (start + bit) % 64 for bit in range(step)))
    return RandomSet(8, 256, frames, [oracle.Code(i, 0, FULL, value) for i, value in enumerate(values)])


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Returns a list that gets the number of images that the rounds left undecided, each time there are some."""
    left: list[int] = []
    keep_in_shard = matching_rounds.keep_in_shard

    def counted(shard: CodeShard, thresholds: Thresholds) -> CodeShard:
        left.append(len(shard.images))
        return keep_in_shard(shard, thresholds)

    monkeypatch.setattr(matching_rounds, "keep_in_shard", counted)
    return left


@pytest.mark.parametrize("rounds", [0, 2])
def test_images_that_no_round_decides_are_decided_by_one_worker(
    rounds: int, finished: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain in order of rank is the worst case of rounds: each decides one anchor and its neighbours."""
    monkeypatch.setattr(near_rounds, "ROUNDS", rounds)
    frames = batch(camera_pan(60, 5), "pan")
    check([frames], MarkNearDuplicates(Thresholds(8, 256), PlanSettings(Plan(8, 1, 1, 3)), digest_shards=4))
    [left] = finished
    assert left == 60 if not rounds else 0 < left < 60


def test_rounds_decide_nearly_everything(finished: list[int]) -> None:
    """One worker must have room for the rest, so the rest must be small."""
    check([MIXED], MIXED_MARK)
    assert sum(finished) < len(MIXED.fingerprints) / 20


def test_the_nearest_kept_image_may_come_from_a_later_round() -> None:
    """In the second round `late` has no neighbour left, yet `mine` is nearer to it than to its anchor."""
    anchor, only_then, late, mine = (
        sum(1 << 192 + bit for bit in bits) for bits in ((), range(8), range(12), range(4, 12))
    )
    codes = [
        oracle.Code(image, 0, FULL, value) for image, value in enumerate((anchor, only_then, late, mine))
    ]
    made = batch(RandomSet(8, 256, 4, codes), "late")
    of_mine = next(verdict for verdict in made.verdicts if verdict.ref.uri.startswith("/in/000030"))
    assert of_mine.witness is not None
    assert (of_mine.witness.uri[:10], of_mine.witness.distance) == ("/in/000020", 4)
    check([made], MarkNearDuplicates(Thresholds(8, 256), PlanSettings(Plan(8, 1, 1, 1)), digest_shards=2))


MIXED = random_batch("mixed", 6, 48, sets=25)
MIXED_MARK = MarkNearDuplicates(Thresholds(6, 48), PlanSettings(Plan(6, 2, 1, 3)), digest_shards=5)


@pytest.mark.parametrize(("seed", "block_size"), [(1, 1), (2, 7)])
def test_verdicts_do_not_depend_on_order_or_block_size(
    seed: int, block_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "BATCH_BYTES", 1 if block_size == 1 else exact.BATCH_BYTES)
    [(verdicts, _)] = judge([MIXED], MIXED_MARK, seed=seed, block_size=block_size)
    assert not first_difference(verdicts, MIXED.verdicts)


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(REPEATED, id="bundles_repeated"),
        pytest.param(THREADS, id="multi_threading"),
        pytest.param(PROCESSES, id="multi_processing", marks=pytest.mark.processes),
    ],
)
def test_verdicts_do_not_depend_on_the_runner(flags: tuple[str, ...]) -> None:
    """All other tests of this module run in memory."""
    [(verdicts, _)] = judge([MIXED], MIXED_MARK, *flags)
    assert not first_difference(verdicts, MIXED.verdicts)


@pytest.mark.parametrize("plan", [None, Plan(6, 3, 2, 5)], ids=["chosen", "code shards"])
def test_verdicts_do_not_depend_on_the_plan(plan: Plan | None) -> None:
    [(verdicts, chosen)] = judge(
        [MIXED], MarkNearDuplicates(Thresholds(6, 48), PlanSettings(plan), digest_shards=2)
    )
    assert not first_difference(verdicts, MIXED.verdicts)
    assert chosen is not None
    assert plan in (None, chosen.plan)


def test_verdicts_are_the_same_without_spreading() -> None:
    """`spread=False` promises that one worker has room; also for several windows, one with nothing to compare."""
    batches = [MIXED, batch(RandomSet(6, 48, 5, []), "no codes"), random_batch("second", 6, 48, sets=3)]
    check(
        batches,
        MarkNearDuplicates(Thresholds(6, 48), PlanSettings(spread=False, gathered=1), digest_shards=5),
    )


def test_more_codes_than_one_worker_has_room_for_are_judged_in_rounds(finished: list[int]) -> None:
    mark = MarkNearDuplicates(Thresholds(6, 48), PlanSettings(gathered=50), digest_shards=5)
    [(verdicts, chosen)] = judge([MIXED], mark)
    assert not first_difference(verdicts, MIXED.verdicts)
    assert chosen is not None
    assert chosen.codes > 50
    assert chosen.plan.prefix
    assert sum(finished) < len(MIXED.fingerprints) / 20
    [(_, gathered)] = judge([MIXED], dataclasses.replace(mark, planning=PlanSettings(gathered=chosen.codes)))
    assert gathered is not None
    assert not gathered.plan.prefix


@pytest.mark.parametrize("spread", [True, False])
def test_a_quadratic_plan_is_refused_unless_forced(spread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "MAX_CANDIDATES", 2)
    with pytest.raises(Exception, match=r"comparisons per code .*: use a smaller -k.*--force_plan"):
        judge([MIXED], MarkNearDuplicates(Thresholds(6, 48), PlanSettings(spread=spread)))
    [(verdicts, chosen)] = judge(
        [MIXED], MarkNearDuplicates(Thresholds(6, 48), PlanSettings(spread=spread, force=True))
    )
    assert not first_difference(verdicts, MIXED.verdicts)
    assert chosen is not None
    assert chosen.candidates > 2


def test_the_plan_counts_the_codes_that_are_compared() -> None:
    """Exact copies are not compared, nor are equal pictures within one digest shard; the plan counts the others."""
    cases = [oracle.Code(image, 0, FULL, image // 2 << 192) for image in range(10)]
    made = batch(RandomSet(0, 48, 12, cases), "plan")  # the last two have no code
    [(_, plan)] = judge([made], MarkNearDuplicates(Thresholds(0, 48), digest_shards=1))
    assert plan is not None
    assert (plan.plan, plan.codes, plan.candidates) == (Plan(0, 0), 5, 2.5)


def test_equal_pictures_are_near_for_every_threshold() -> None:
    """Also for k = 0: those of one digest shard are not compared, but share the witness found in other shards."""
    codes = [oracle.Code(image, 0, FULL, 77 << 192 | 5) for image in range(40)]
    made = batch(RandomSet(0, 0, 40, codes), "equal")
    check([made], MarkNearDuplicates(Thresholds(0, 0), digest_shards=64))
    assert sum(verdict.status == Status.KEPT for verdict in made.verdicts) == 1


@pytest.mark.parametrize("plan", [None, Plan(8, 1, 1, 2)])
def test_each_window_is_judged_by_itself(plan: Plan | None) -> None:
    """The same images with the same URIs in two windows, and a window with nothing to compare."""
    same = random_batch("windows", 8, 48, sets=4)
    undecodable = batch(RandomSet(8, 48, 5, []), "no codes")
    assert [verdict.status for verdict in undecodable.verdicts].count(Status.KEPT) == 5
    check(
        [same, undecodable, same], MarkNearDuplicates(Thresholds(8, 48), PlanSettings(plan), digest_shards=3)
    )


def test_no_images_give_no_verdicts_and_no_plan() -> None:
    assert judge([Batch([], [])], MarkNearDuplicates()) == [([], None)]


def test_a_repeated_uri_is_an_error_that_names_it() -> None:
    fingerprints = random_batch("repeated", 8, 48).fingerprints
    repeated = fingerprints[0].ref.uri
    with pytest.raises(Exception, match="must be unique") as raised:
        judge([Batch([*fingerprints, fingerprints[0]], [])], MarkNearDuplicates())
    assert re.search(re.escape(repr(repeated)), str(raised.value))


def test_types_are_declared() -> None:
    image = Fingerprint(
        ImageRef("a", "a"), bytes(32), 1, 0, "PNG", 1, 1, "", (Code(CodeKind.TINY, bytes(8)),)
    )
    fingerprints = beam.Pipeline(options=PipelineOptions([])) | beam.Create([image])
    assert fingerprints.element_type is Fingerprint
    batched = fingerprints | BatchFingerprints()
    for spread in (True, False):
        marked = batched | f"Mark {spread}" >> MarkNearDuplicates(planning=PlanSettings(spread=spread))
        assert marked.verdicts.element_type is bytes
        assert marked.plan.element_type is Estimate
