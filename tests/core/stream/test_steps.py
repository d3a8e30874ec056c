"""The single steps of a stream: copies in flight, the size of the state, known images, periods."""

import collections
import dataclasses
import hashlib
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core.matching.plan import Plan, plan_for
from beam_dedup.core.model import Code, CodeKind, Fingerprint, Flag, ImageRef, Reason, Status, Verdict
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.band import band
from beam_dedup.core.stream.messages import ANSWER_ROWS, NO_IMAGE, code_rows
from beam_dedup.core.stream.protocol import (
    DETAILED_WORDS,
    Step,
    StreamPlan,
    Topic,
    blocks_by_topic,
    exact_plan,
    words_of,
)
from beam_dedup.core.stream.state_cells import Cells
from beam_dedup.core.thresholds import Thresholds
from tests import oracle
from tests.core.stream.stream_sets import Stream, items_of, random_plan, thresholds_of
from tests.core.stream.toy_engine import ToyRunner
from tests.random_sets import RandomSet, random_set

THRESHOLDS = Thresholds(4, 256)
PLANS = [
    StreamPlan(THRESHOLDS, plan_for(THRESHOLDS, 1, 1, 2), 2),
    StreamPlan(THRESHOLDS, plan_for(THRESHOLDS, 1, 0), 3),
]
BITS = 192  # position of the short code within the 256 bits


def image(
    number: int, value: int, same_bytes_as: int | None = None, kind: CodeKind = CodeKind.FULL
) -> Fingerprint:
    """Returns an image with a code of the given value.

    same_bytes_as: number of the image whose bytes it has.
    """
    digest = hashlib.sha256(b"%d" % (number if same_bytes_as is None else same_bytes_as)).digest()
    code = Code(kind, value.to_bytes(32, "big"))
    return Fingerprint(ImageRef(f"{number}", f"{number}"), digest, 1, 0, "PNG", 1, 1, "dct/2", (code,))


def runner(plan: StreamPlan) -> ToyRunner:
    return ToyRunner(plan, random.Random(0))


def verdicts_by_uri(run: ToyRunner) -> dict[str, Verdict]:
    return {verdict.ref.uri: verdict for verdict in run.verdicts()}


@pytest.mark.parametrize("plan", PLANS)
class TestCopies:
    def test_copies_of_a_near_duplicate_wait_and_get_its_witness(self, plan: StreamPlan) -> None:
        run = runner(plan)
        run.read([image(0, 0)])
        run.run()
        run.read([image(1, 3 << BITS)])
        run.run_only(Step.ORIGINALS, Step.SETTLE)
        run.read([image(2, 3 << BITS, 1)])
        run.run_only(Step.ORIGINALS, Step.SETTLE, Step.BAND, Step.GATHER)
        assert list(verdicts_by_uri(run)) == ["0"]
        run.run()
        run.read([image(3, 3 << BITS, 1)])
        run.run_only(Step.ORIGINALS, Step.SETTLE)  # the outcome is known by now
        found = verdicts_by_uri(run)
        for uri in "123":
            witness = found[uri].witness
            assert witness is not None
            assert (witness.uri, witness.distance, found[uri].reason) == ("0", 2, Reason.NEAR)

    def test_copy_of_a_kept_orphan_is_its_exact_duplicate(self, plan: StreamPlan) -> None:
        """1 is a duplicate of 0; 2 is near 1 only, so it is an orphan."""
        run = runner(plan)
        for number, value in enumerate((0, 0xF << BITS, 0xFF << BITS)):
            run.read([image(number, value)])
            if number < 2:
                run.run()
        run.read([image(3, 0xFF << BITS, 2)])
        run.run_only(*(step for step in Step if step != Step.FINISH))
        assert sorted(verdicts_by_uri(run)) == ["0", "1"]
        run.run()
        found = verdicts_by_uri(run)
        assert [found[uri].status for uri in "0123"] == [
            Status.KEPT, Status.DUPLICATE, Status.KEPT, Status.DUPLICATE,
        ]  # fmt: skip
        assert found["3"].witness is not None
        assert (found["3"].witness.uri, found["3"].reason) == ("2", Reason.EXACT)

    def test_file_comes_before_its_links_in_a_block(self, plan: StreamPlan) -> None:
        run = runner(plan)
        link = dataclasses.replace(image(0, 0), identity=b"\2")
        run.read([link, dataclasses.replace(image(1, 0, 0), identity=b"\0")])
        run.run()
        found = verdicts_by_uri(run)
        assert (found["1"].status, found["0"].reason) == (Status.KEPT, Reason.EXACT)

    def test_images_that_cannot_be_decoded_are_compared_by_bytes(self, plan: StreamPlan) -> None:
        run = runner(plan)
        first = dataclasses.replace(image(0, 0), codes=(), algorithm="")
        other = dataclasses.replace(image(2, 0), codes=(), algorithm="")
        run.read([first, dataclasses.replace(first, ref=ImageRef("1", "1")), other])
        run.run()
        assert [verdicts_by_uri(run)[uri].reason for uri in "012"] == [None, Reason.EXACT, None]


@pytest.mark.parametrize("plan", PLANS)
def test_images_of_a_block_arrive_in_its_order(plan: StreamPlan) -> None:
    """The images form a chain: each is within k of the next only."""
    run = runner(dataclasses.replace(plan, digest_shards=1))
    run.read([image(number, ((1 << 4 * number) - 1) << BITS) for number in range(6)])
    run.run()
    found = verdicts_by_uri(run)
    assert [uri for uri, verdict in sorted(found.items()) if verdict.status == Status.KEPT] == ["0", "2", "4"]
    assert {v.witness.uri for v in found.values() if v.witness} <= {"0", "2", "4"}


@pytest.mark.parametrize("known", [False, True])
def test_earlier_image_of_a_block_is_the_predecessor(known: bool) -> None:
    """Image numbers do not matter, and known images arrive before all others."""
    rows = np.zeros(3, code_rows(DETAILED_WORDS))
    rows["image"] = [7, 2, 5]
    rows["flags"] = [0, 0, messages.KNOWN if known else 0]
    (sent,) = messages.send(Step.BAND, b"0/0/0", Topic.CODES, rows)
    answers = messages.load_rows(
        blocks_by_topic(body for _, _, body in band(PLANS[0], sent.key, Cells(), [sent.body]).messages)[
            Topic.ANSWERS
        ],
        ANSWER_ROWS,
    )
    named = {(row["image"].item(), row["other"].item()) for row in answers if row["other"] != NO_IMAGE}
    assert named == ({(7, 5), (2, 5)} if known else {(2, 7), (5, 7)})
    assert {row["image"].item() for row in answers} == ({7, 2} if known else {7, 2, 5})


@pytest.mark.parametrize("mixed", [0.0, 0.3, 0.9])
def test_exact_mode_compares_bytes_alone(mixed: float) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        items = items_of(random_set(f"exact {seed}", 4), rng)
        stream = Stream(items, ToyRunner(exact_plan(rng.randint(1, 3)), rng, mixed))
        stream.at_random(rng.choice([1, 3]))
        verdicts = stream.runner.verdicts()
        assert len(verdicts) + len(stream.rejected) == len(items)
        groups = collections.defaultdict(list)
        for verdict in verdicts:
            groups[verdict.digest].append(verdict)
        for group in groups.values():
            (kept,) = (verdict for verdict in group if verdict.status == Status.KEPT)
            assert {v.group for v in group} == {kept.group}
            assert {v.reason for v in group} <= {None, Reason.EXACT}
        assert not stream.runner.received[Step.BAND]


def answers_to_gather(run: ToyRunner) -> messages.Rows:
    return messages.load_rows(blocks_by_topic(run.received[Step.GATHER])[Topic.ANSWERS], ANSWER_ROWS)


def stored_codes(run: ToyRunner) -> int:
    cells = [cells for (step, _), cells in run.state.items() if step == Step.BAND]
    return sum(cell.size for cell in cells) // code_rows(DETAILED_WORDS).itemsize


@pytest.mark.parametrize("plan", PLANS)
def test_equal_codes_are_stored_once(plan: StreamPlan) -> None:
    run = runner(plan)
    for start in range(0, 1000, 50):
        run.read([image(number, 12345) for number in range(start, start + 50)])
        run.run()
    shards = plan.pairs.copies if plan.pairs.prefix else 1
    assert stored_codes(run) == shards
    answers = answers_to_gather(run)
    assert (answers["other"] != NO_IMAGE).sum() == 999 * shards
    assert collections.Counter(verdict.status for verdict in run.verdicts()) == {
        Status.KEPT: 1, Status.DUPLICATE: 999,
    }  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_few_predecessors_are_named_among_many_similar_images(plan: StreamPlan) -> None:
    """All are within k, none are equal: only the first image of each bucket may be an anchor."""
    run = runner(plan)
    pairs = list(itertools.combinations(range(64), 2))[:300]
    for start in range(0, 300, 30):
        run.read(
            [
                image(number, (1 << BITS + a) + (1 << BITS + b))
                for number, (a, b) in enumerate(pairs[start : start + 30], start)
            ]
        )
        run.run()
    asked = messages.load_rows(
        blocks_by_topic(run.received[Step.CONFIRM])[Topic.QUESTIONS], messages.QUESTION_ROWS
    )
    assert 299 <= len(asked) <= 299 * (1 if not plan.pairs.prefix else 8)
    assert sum(verdict.status == Status.KEPT for verdict in run.verdicts()) == 1


class TestKnown:
    def sets(self) -> list[tuple[RandomSet, list[int], Stream]]:
        found = []
        for seed in range(40):
            rng = random.Random(seed)
            k = rng.choice([0, 1, 4, 8])
            case = random_set(f"known {seed}", k, views=rng.choice([0, 0, 2]))
            known = sorted(rng.sample(range(case.images), rng.randint(1, case.images)))
            items = items_of(case, rng, copies=False)
            for number in known:
                item = items[number]
                assert item.image
                ref = dataclasses.replace(item.image.ref, known=True)
                items[number] = item._replace(image=dataclasses.replace(item.image, ref=ref))
            plan = random_plan(rng, thresholds_of(case), DETAILED_WORDS)
            found.append((case, known, Stream(items, ToyRunner(plan, rng, rng.choice([0.0, 0.5])))))
        return found

    def test_later_images_are_judged_against_known_images(self) -> None:
        """Later images get the verdicts of the definition; known images get none."""
        for case, known, stream in self.sets():
            stream.runner.mixed = 0.0
            first = [item.image for number, item in enumerate(stream.items) if number in known and item.image]
            stream.runner.read(first)
            stream.runner.run()
            for number, item in enumerate(stream.items):
                if number not in known and item.image:
                    stream.runner.read([item.image])
                    stream.runner.run()
            kept, _ = oracle.judge(case.codes, case.images, case.k, case.verify, known)
            verdicts = stream.runner.verdicts()
            assert len(verdicts) == case.images - len(known)
            assert sorted(int(v.ref.name) for v in verdicts if v.status == Status.KEPT) == sorted(
                set(kept) - set(known)
            )

    def test_known_images_arrive_before_others_of_their_block(self) -> None:
        for case, known, stream in self.sets():
            stream.runner.mixed = 0.0
            stream.runner.plan = dataclasses.replace(stream.runner.plan, digest_shards=1)
            stream.runner.read([item.image for item in stream.items if item.image])
            stream.runner.run()
            verdicts = stream.runner.verdicts()
            assert len(verdicts) == case.images - len(known)
            kept = [int(v.ref.name) for v in verdicts if v.status == Status.KEPT]
            for one, other in itertools.product(kept, kept + known):
                codes = stream.items[one].codes, stream.items[other].codes
                assert one == other or not oracle.matches(*codes, case.k, case.verify)

    def test_copy_of_a_known_image_is_its_duplicate_and_a_known_copy_changes_nothing(self) -> None:
        run = runner(PLANS[0])
        known = image(0, 0)
        known = dataclasses.replace(known, ref=dataclasses.replace(known.ref, known=True))
        run.read([known])
        run.read([image(1, 0, 0), image(2, 1 << BITS), image(3, 0xFFFF << BITS)])
        run.run()
        again = dataclasses.replace(image(4, 0xFFFF << BITS, 3), ref=ImageRef("4", "4", known=True))
        run.read([again])
        run.run()
        found = verdicts_by_uri(run)
        assert {uri: verdict.reason for uri, verdict in found.items()} == {
            "1": Reason.EXACT,
            "2": Reason.NEAR,
            "3": None,
        }
        assert {verdict.witness.uri for verdict in found.values() if verdict.witness} == {"0"}


def test_known_image_comes_first_in_exact_mode() -> None:
    run = runner(exact_plan(2))
    known = image(0, 0)
    run.read([image(1, 0, 0), dataclasses.replace(known, ref=dataclasses.replace(known.ref, known=True))])
    run.run()
    ((uri, verdict),) = verdicts_by_uri(run).items()
    assert verdict.witness is not None
    assert (uri, verdict.reason, verdict.witness.uri) == ("1", Reason.EXACT, "0")


def test_periods_are_independent() -> None:
    """Each period has its own state. One starts while messages of the previous one are on their way.

    When these have been processed, nothing waits in the state of the previous period. An image that is in
    both periods is judged in both.
    """
    for seed in range(10):
        rng = random.Random(seed)
        case = random_set(f"generations {seed}", 4)
        items = items_of(case, rng)
        streams = [
            Stream(items, ToyRunner(random_plan(rng, thresholds_of(case), DETAILED_WORDS), rng, 0.5))
            for _ in range(2)
        ]
        numbers = range(len(items))
        for stream in streams:
            stream.deliver(numbers)
        while any(stream.runner.pending for stream in streams):
            stream = rng.choice(streams)
            stream.runner.run(3)
            stream.read(stream.runner.admitted())
            assert not stream.runner.redelivered()
        for stream in streams:
            stream.check(case.k, case.verify)
            assert len(stream.runner.verdicts()) + len(stream.rejected) == len(items)


class ByteDrivenRandom(random.Random):
    """Makes its choices from given bytes; when there are none left, always makes the first choice."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.data = iter(data)

    def getrandbits(self, k: int) -> int:
        return int.from_bytes([next(self.data, 0) for _ in range(-(-k // 8))], "big") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(8) / 256


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(0, 6), choices=st.binary(max_size=600))
def test_verdicts_hold_for_any_order_of_messages(seed: int, k: int, choices: bytes) -> None:
    """Hypothesis chooses the order of messages, and shrinks it if a check fails."""
    rng = ByteDrivenRandom(choices)
    case = random_set(f"hypothesis {seed}", k, shapes=["chain", "star"])
    plan = random_plan(rng, thresholds_of(case), DETAILED_WORDS)
    stream = Stream(items_of(case, random.Random(seed)), ToyRunner(plan, rng, 0.5))
    stream.at_random(times=2)
    stream.check(case.k, case.verify)


@pytest.mark.parametrize(
    ("thresholds", "pairs", "digest_shards", "words", "message"),
    [
        (Thresholds(8), Plan(8, 1), 0, 4, "digest_shards must be at least 1; got 0"),
        (
            Thresholds(8),
            Plan(8, 1),
            4,
            2,
            "words must be 1, 4 or 12, and at least the 1 that the thresholds compare; got 2",
        ),
        (
            Thresholds(31, 256, 256),
            Plan(7, 1, words=4),
            4,
            1,
            "words must be 1, 4 or 12, and at least the 4 that the thresholds compare; got 1",
        ),
        (Thresholds(8), Plan(7, 1), 4, 4, r"of the thresholds, \(8, 64, 1\); got \(7, 64, 1\)"),
    ],
)
def test_impossible_plan_is_refused(
    thresholds: Thresholds, pairs: Plan, digest_shards: int, words: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StreamPlan(thresholds, pairs, digest_shards, words)


def test_number_of_words_in_a_code() -> None:
    assert [words_of(algorithm) for algorithm in ("dct", "phash", "pdq")] == [12, 1, 4]


def test_code_with_more_words_than_the_plan_is_refused() -> None:
    run = runner(StreamPlan(THRESHOLDS, plan_for(THRESHOLDS, 1, 1, 2), 2, words=1))
    run.read([image(0, 0)])
    with pytest.raises(ValueError, match="the plan of the stream has codes of 1 word; got a code of 4 words"):
        run.run()


@pytest.mark.parametrize("plan", PLANS)
class TestPassingWitnesses:
    """Images that are gone or truncated when a better one arrives. Short codes: 1 is near 0, and 2 is near 1 only."""

    NEAR = (0, 0xF << BITS, 0xFF << BITS)

    def judged(self, plan: StreamPlan, *blocks: list[Fingerprint]) -> dict[str, Verdict]:
        """Returns the verdicts by name."""
        run = runner(plan)
        for block in blocks:
            run.read(block)
            run.run()
        return {verdict.ref.name: verdict for verdict in run.verdicts()}

    def truncated(self, fingerprint: Fingerprint) -> Fingerprint:
        return dataclasses.replace(fingerprint, flags=(Flag.TINY, Flag.TRUNCATED))

    def of_uri(self, uri: str, fingerprint: Fingerprint) -> Fingerprint:
        return dataclasses.replace(fingerprint, ref=ImageRef(uri, fingerprint.ref.name))

    def test_later_generation_is_no_duplicate_of_an_earlier_one(self, plan: StreamPlan) -> None:
        first, second, third = (self.of_uri("a", image(n, self.NEAR[n])) for n in range(3))
        found = self.judged(plan, [first], [second], [third], [image(3, self.NEAR[0])])
        assert [found[name].status for name in "0123"] == [Status.KEPT] * 3 + [Status.DUPLICATE]
        assert [found[name].flags for name in "012"] == [(), (Flag.REPLACES,), ()]
        assert found["3"].witness is not None
        assert found["3"].witness.uri == "a"

    def test_generation_of_equal_bytes_is_an_exact_duplicate(self, plan: StreamPlan) -> None:
        found = self.judged(plan, [image(0, 0)], [self.of_uri("0", image(1, 0, same_bytes_as=0))])
        assert found["1"].reason == Reason.EXACT

    def test_later_generation_is_kept_even_if_a_copy_of_it_was_a_duplicate_before(
        self, plan: StreamPlan
    ) -> None:
        copy, second = image(1, self.NEAR[1]), self.of_uri("0", image(2, self.NEAR[1], same_bytes_as=1))
        found = self.judged(plan, [image(0, 0)], [copy], [second])
        assert (found["1"].reason, found["2"].status) == (Reason.NEAR, Status.KEPT)

    def test_flags_of_the_image_are_kept(self, plan: StreamPlan) -> None:
        second = dataclasses.replace(self.of_uri("0", image(1, self.NEAR[1])), flags=(Flag.ANIMATED,))
        found = self.judged(plan, [image(0, 0)], [second])
        assert found["1"].flags == (Flag.ANIMATED, Flag.REPLACES)

    @pytest.mark.parametrize("together", [False, True])
    def test_truncated_image_is_no_witness(self, plan: StreamPlan, together: bool) -> None:
        """Neither for the whole picture, under whatever name, nor for another truncated one; but for its copies."""
        images = [
            self.truncated(image(0, 0)),
            image(1, self.NEAR[1]),
            self.truncated(image(2, 1 << BITS)),
            self.truncated(image(3, 0, same_bytes_as=0)),
        ]
        found = self.judged(plan, *([images] if together else [[one] for one in images]))
        assert found["1"].status == Status.KEPT
        if not together:  # in one block they arrive in any order, so that 0 may be a duplicate of 1
            assert found["0"].status == Status.KEPT
            assert (found["3"].reason, found["3"].witness and found["3"].witness.uri) == (Reason.EXACT, "0")
            assert found["2"].witness is not None
        for verdict in found.values():
            if verdict.witness and verdict.reason == Reason.NEAR:
                assert verdict.witness.uri == "1", "a truncated image may be a duplicate itself"

    def test_truncated_orphan_is_no_witness(self, plan: StreamPlan) -> None:
        """1 is a duplicate of 0. Of what is near 1 only, a truncated image comes first."""
        middle, end = self.NEAR[1:]
        found = self.judged(
            plan,
            [image(0, 0)],
            [image(1, middle)],
            [self.truncated(image(2, end))],
            [image(3, end)],
            [self.truncated(image(4, end)), image(5, end)],
        )
        assert [found[name].status for name in "01234"] == [
            Status.KEPT, Status.DUPLICATE, Status.KEPT, Status.KEPT, Status.DUPLICATE,
        ]  # fmt: skip
        for name in "45":
            witness = found[name].witness
            assert witness is not None
            assert witness.uri == "3"

    def test_known_truncated_image_is_no_witness(self, plan: StreamPlan) -> None:
        known = dataclasses.replace(self.truncated(image(0, 0)), ref=ImageRef("0", "0", known=True))
        found = self.judged(plan, [known], [image(1, 0)])
        assert found["1"].status == Status.KEPT
