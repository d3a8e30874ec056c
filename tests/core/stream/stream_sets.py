"""Random sets as the input of a stream, and checks of the verdicts that hold for any order of arrival."""

import collections
import dataclasses
import hashlib
import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow.compute as pc
import pytest

from beam_dedup.core.arrivals import identity
from beam_dedup.core.codes import VIEWS
from beam_dedup.core.matching.plan import plan_for
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
from beam_dedup.core.stream import state_cells
from beam_dedup.core.stream.messages import OUTCOMES, STATUSES
from beam_dedup.core.stream.protocol import DETAILED_WORDS, Step, StreamPlan, Topic
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests import oracle, random_sets
from tests.core import small_limits
from tests.core.stream.toy_engine import ToyRunner
from tests.oracle import Match
from tests.random_sets import RandomSet, random_set
from tests.verdicts import verdict_on

MANY = 22  # sets in one stream
OTHERS = [
    *(("phash", k) for k in (0, 4, 12)),
    *(("colorhash", k) for k in (0, 2)),
    *(("pdq", k) for k in (0, 3, 8, 15, 31)),
]
each_k = pytest.mark.parametrize(
    ("algorithm", "k"), [*(("dct", k) for k in (*range(9), 10, 12, 14, MAX_BIT_DISTANCE)), *OTHERS]
)


class Item(NamedTuple):
    """One input of a stream."""

    uri: str
    generation: str
    image: Fingerprint | None  # None if it is rejected
    codes: list[oracle.Code]

    @property
    def identity(self) -> bytes:
        return identity(self.uri, self.generation)


def items_of(case: RandomSet, rng: random.Random, copies: bool = True) -> list[Item]:
    """Returns an item for each image of a set, in order.

    With `copies` there are also copies of bytes and of pictures, rejected items, and new generations of
    earlier URIs, in random order.
    """
    of_image = collections.defaultdict(list)
    for code in sorted(case.codes, key=lambda code: code.view):
        of_image[code.image].append(code)
    pictures = [of_image[image] for image in range(case.images)]
    if copies:
        pictures += [rng.choice(pictures) for _ in range(rng.choice([0, 1, 3, case.images // 3]))]
        rng.shuffle(pictures)
    digests: dict[int, list[bytes]] = collections.defaultdict(list)
    items: list[Item] = []
    for number, picture in enumerate(pictures):
        if picture and picture[0].view:
            picture = []  # every image has a base code
        earlier = digests[id(pictures[number])]
        digest = hashlib.sha256(b"%d" % number).digest()
        if earlier and rng.random() < 0.5:
            digest = rng.choice(earlier)  # the same bytes
        earlier.append(digest)
        uri = items[-1].uri if copies and items and rng.random() < 0.1 else f"{number}"
        codes = tuple(Code(CodeKind(c.kind), random_sets.data(c), VIEWS[c.view]) for c in picture)
        image = Fingerprint(
            ImageRef(uri, f"{number}"), digest, number, 0, "PNG", 1, 1, "dct/2" if codes else "", codes
        )
        items.append(Item(uri, f"{number}", image, [code._replace(image=number) for code in picture]))
    if copies and rng.random() < 0.3:
        items.append(Item("junk", "", None, []))
    return items


def random_plan(rng: random.Random, thresholds: Thresholds, words: int) -> StreamPlan:
    """Returns a random plan for some thresholds."""
    prefix = rng.choice([0, 1, 1, 2 if thresholds.word_k < 3 else 1])
    # Mostly one key per code shard, and few code shards.
    subset = (
        prefix if rng.random() < 0.7 else rng.randint(prefix, max(prefix, 2 if thresholds.word_k <= 8 else 1))
    )
    shards = rng.choice([1, 1, 2, 5] if thresholds.word_k < 5 else [1, 1, 1, 2]) if prefix else 1
    return StreamPlan(thresholds, plan_for(thresholds, subset, prefix, shards), rng.choice([1, 2, 3]), words)


def thresholds_of(case: RandomSet) -> Thresholds:
    return Thresholds(case.k, case.verify, case.bits)


def words_of(algorithm: str) -> int:
    return {"dct": DETAILED_WORDS, "pdq": 4}.get(algorithm, 1)


class Stream:
    """Sends items through a runner."""

    def __init__(self, items: Sequence[Item], runner: ToyRunner) -> None:
        self.items, self.runner, self.rng = items, runner, runner.rng
        self.rejected: list[int] = []
        self.redelivered = 0
        self.to_read: list[int] = []

    def deliver(self, numbers: Sequence[int]) -> None:
        """Delivers some items to `admit`."""
        self.runner.deliver([self.items[number].identity for number in numbers], numbers)

    def read(self, numbers: Sequence[int]) -> None:
        """Reads some items that were admitted: they are fingerprinted, or rejected."""
        images = [self.items[number].image for number in numbers]
        self.runner.read([image for image in images if image])
        self.rejected += [number for number in numbers if not self.items[number].image]

    def one_by_one(self) -> None:
        """Judges each item before the next is delivered."""
        for number in range(len(self.items)):
            self.deliver([number])
            self.runner.run()
            self.read(self.runner.admitted())
            self.runner.run()

    def one_by_one_of_each(self, sizes: Sequence[int]) -> None:
        """Judges the items of several sets, one of each set at a time."""
        starts = list(itertools.accumulate(sizes, initial=0))
        for turn in range(max(sizes)):
            numbers = [start + turn for start, size in zip(starts, sizes, strict=False) if turn < size]
            self.deliver(numbers)
            self.runner.run()
            self.read(sorted(self.runner.admitted()))
            self.runner.run()

    def at_random(self, times: int = 1) -> None:
        """Delivers each item up to `times` times, in any order and grouping; reads admitted items later."""
        todo = [n for n in range(len(self.items)) for _ in range(self.rng.randint(1, times))]
        if self.rng.random() < 0.7:
            self.rng.shuffle(todo)
        repeated = len(todo) - len(self.items)
        most = self.rng.choice([1, 3, 10] if len(self.items) < 30 else [30, 100, 1000])
        while todo or self.runner.pending or self.to_read:
            taken = self.rng.randint(1, most)
            if todo and self.rng.random() < 0.5:
                self.deliver(todo[:taken])
                del todo[:taken]
            if self.to_read and self.rng.random() < 0.6:
                self.read(self.to_read[:taken])
                del self.to_read[:taken]
            self.runner.run(self.rng.choice([50, 5, 1, 0]))
            self.to_read += self.runner.admitted()
            if self.runner.mixed:
                self.rng.shuffle(self.to_read)
            self.redelivered += len(self.runner.redelivered())
        assert self.redelivered == repeated

    def check(self, k: int, verify: int) -> None:
        """Checks DESIGN, section 2, 1 to 3; that no state is waiting; and that each outcome is sent once."""
        assert not any(cells.waiting for cells in self.runner.state.values())
        outcomes = self.runner.messages_to(Step.SETTLE, Topic.OUTCOMES, OUTCOMES)
        assert pc.count_distinct(outcomes["image"]).as_py() == len(outcomes)
        verdicts = self.runner.verdicts()
        judged = sorted(int(verdict.ref.name) for verdict in verdicts)
        assert sorted(judged + self.rejected) == list(range(len(self.items)))
        check_verdicts(self.items, verdicts, k, verify, self.anchors())

    def anchors(self) -> dict[bytes, int]:
        """Returns the numbers of the anchors by digest."""
        statuses = self.runner.messages_to(Step.CONFIRM, Topic.STATUSES, STATUSES)
        found = {row["digest"]: row["image"] for row in statuses.to_pylist() if row["uri"] is not None}
        assert len(statuses) == len({row["image"] for row in statuses.to_pylist()}), (
            "two statuses of one image"
        )
        return found


def check_verdicts(
    items: Sequence[Item],
    verdicts: Sequence[Verdict],
    k: int,
    verify: int,
    anchors: Mapping[bytes, int] | None = None,
) -> None:
    """Checks the verdicts on all items that were read against DESIGN, section 2.

    anchors: numbers by digest, if known.
    """
    anchors = anchors or {}
    check_replacing(items, verdicts, k, verify)
    verdicts = [verdict for verdict in verdicts if Flag.REPLACES not in verdict.flags]
    pictures = collections.defaultdict(list)
    for verdict in verdicts:
        pictures[verdict.digest].append(verdict)
    witnesses = {digest: _witness_of_copies(group) for digest, group in pictures.items()}
    codes = {item.image.digest: item.codes for item in items if item.image}
    kept = [digest for digest, witness in witnesses.items() if not witness]
    assert set(anchors) <= set(kept)
    for digest, witness in witnesses.items():
        near = {
            other: min(found)
            for other in kept
            if other != digest and (found := oracle.matches(codes[digest], codes[other], k, verify))
        }
        if not witness:
            assert not near, "two kept images within k"
            continue
        match = near[witness.digest]
        long_distance = -1 if witness.long_distance is None else witness.long_distance
        assert (match.distance, match.view, match.long_distance) == (
            witness.distance, VIEWS.index(witness.view), long_distance,
        )  # fmt: skip
        near_anchors = [(near[other].distance, anchors[other], other) for other in near if other in anchors]
        if near_anchors:
            assert min(near_anchors)[2] == witness.digest, "not the nearest anchor"


def check_replacing(items: Sequence[Item], verdicts: Sequence[Verdict], k: int, verify: int) -> None:
    """Checks that no image duplicates another generation of itself with other bytes, and that what is kept for that is near one."""
    codes = {item.image.digest: item.codes for item in items if item.image}
    for verdict in verdicts:
        if verdict.witness:
            assert (verdict.witness.uri != verdict.ref.uri) or verdict.witness.digest == verdict.digest
        if Flag.REPLACES in verdict.flags:
            assert verdict.status == Status.KEPT
            assert any(
                other.status == Status.KEPT
                and other.digest != verdict.digest
                and oracle.matches(codes[verdict.digest], codes[other.digest], k, verify)
                for other in verdicts
                if other.ref.uri == verdict.ref.uri
            )


def some_truncated(items: Sequence[Item], rng: random.Random) -> list[Item]:
    """Returns the same items, some of which are truncated; of equal bytes, all or none."""
    chosen: dict[bytes, bool] = collections.defaultdict(lambda: rng.random() < 0.4)
    return [
        item._replace(image=dataclasses.replace(item.image, flags=(Flag.TRUNCATED,)))
        if item.image and chosen[item.image.digest]
        else item
        for item in items
    ]


def check_truncated(items: Sequence[Item], verdicts: Sequence[Verdict], k: int, verify: int) -> None:
    """Checks that no two whole images that are kept are within k, and that the witnesses of near duplicates are whole."""
    check_replacing(items, verdicts, k, verify)
    codes = {item.image.digest: item.codes for item in items if item.image}
    kept = {
        verdict.digest: verdict
        for verdict in verdicts
        if verdict.status == Status.KEPT and Flag.REPLACES not in verdict.flags
    }
    whole = [digest for digest, verdict in kept.items() if Flag.TRUNCATED not in verdict.flags]
    for one, other in itertools.combinations(whole, 2):
        assert not oracle.matches(codes[one], codes[other], k, verify), "two kept images within k"
    for verdict in verdicts:
        if verdict.witness and verdict.witness.digest != verdict.digest:
            assert verdict.witness.digest in whole
            assert oracle.matches(codes[verdict.digest], codes[verdict.witness.digest], k, verify)


def _witness_of_copies(group: list[Verdict]) -> Witness | None:
    """Checks the verdicts on images with the same bytes.

    Returns their witness, or None if one of them is kept.
    """
    kept = [verdict for verdict in group if verdict.status == Status.KEPT]
    copies = [verdict for verdict in group if verdict.status == Status.DUPLICATE]
    assert len(kept) + len(copies) == len(group)
    if kept:
        (original,) = kept
        assert original.reason is None
        for copy in copies:
            assert copy.reason == Reason.EXACT
            assert copy.witness == Witness(original.ref.uri, original.digest, 0, None, VIEWS[0])
        return None
    assert {verdict.reason for verdict in copies} == {Reason.NEAR}
    (witness,) = {verdict.witness for verdict in copies}
    return witness


def in_order(items: Iterable[Item], k: int, verify: int) -> list[Verdict]:
    """Returns the verdicts that the definition gives if items arrive one by one.

    The witness is the nearest anchor; if there is none, the nearest kept image.
    """
    pictures: dict[bytes, tuple[Item, list[oracle.Code]]] = {}
    witness_of: dict[bytes, Witness | None] = {}
    anchors: set[int] = set()
    kept: list[bytes] = []
    verdicts = []
    for item in items:
        image = item.image
        if not image:
            continue
        if image.digest not in pictures:
            near = [
                (other, min(found))
                for other, (_, codes) in pictures.items()
                if (found := oracle.matches(item.codes, codes, k, verify))
            ]
            near_anchors = [match for _, match in near if match.kept in anchors]
            witnesses = near_anchors or [match for other, match in near if other in kept]
            if not near:
                anchors.add(int(image.ref.name))
            if not witnesses:
                kept.append(image.digest)
            witness_of[image.digest] = _witness(min(witnesses), pictures) if witnesses else None
            pictures[image.digest] = (item, item.codes)
            witness = witness_of[image.digest]
        else:
            witness = witness_of[image.digest] or Witness(
                pictures[image.digest][0].uri, image.digest, 0, None, VIEWS[0]
            )
        same = witness is not None and witness.digest == image.digest
        if witness and witness.uri == item.uri and not same:
            replacing = dataclasses.replace(image, flags=(*image.flags, Flag.REPLACES))
            verdicts.append(verdict_on(replacing, None, None))
            continue
        reason = None if witness is None else Reason.EXACT if same else Reason.NEAR
        verdicts.append(verdict_on(image, reason, witness, "arrival"))
    return verdicts


def _witness(match: Match, pictures: dict[bytes, tuple[Item, list[oracle.Code]]]) -> Witness:
    ((digest, item),) = [
        (d, item)
        for d, (item, _) in pictures.items()
        if item.image and int(item.image.ref.name) == match.kept
    ]
    long = None if match.long_distance == oracle.NONE else match.long_distance
    return Witness(item.uri, digest, match.distance, long, VIEWS[match.view])


def random_sets_alike(rng: random.Random, seed: str, k: int, algorithm: str, count: int) -> list[RandomSet]:
    """Returns random sets with the same thresholds."""
    views, verify = rng.choice([0, 0, 1, 3]), rng.choice(random_sets.VERIFY)
    return [random_set(f"{seed} {number}", k, views, (), algorithm, verify) for number in range(count)]


def together(cases: Sequence[RandomSet]) -> RandomSet:
    """Returns the images of several sets as one set."""
    before = itertools.accumulate((case.images for case in cases), initial=0)
    codes = [
        code._replace(image=code.image + start)
        for start, case in zip(before, cases, strict=False)
        for code in case.codes
    ]
    return cases[0]._replace(images=sum(case.images for case in cases), codes=codes)


def cut_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random, many: bool) -> None:
    """Sets sizes so small that a few codes take all branches of storing and searching."""
    monkeypatch.setattr(state_cells, "RECENT_BYTES", rng.choice([0, 300, 1 << 16]))
    monkeypatch.setattr(state_cells, "RECENT_BLOCKS", rng.choice([1, 2, 32]))
    monkeypatch.setattr(state_cells, "PIECE_BYTES", 3000 if many else rng.choice([1, 150, 1 << 22]))
    small_limits.set_join_sizes(monkeypatch, wide_rectangle=rng.choice([0, 4, 1 << 11]))
    if not many:
        small_limits.cut_small(monkeypatch, rng)
    if rng.random() < 0.5:
        small_limits.go_through_keys(monkeypatch)


def start(
    seed: str, k: int, algorithm: str, sets: int, mixed: float, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[RandomSet], Stream]:
    """Returns random sets, and a stream of all their items."""
    rng = random.Random(f"{seed} {k} {algorithm}")
    cases = random_sets_alike(rng, seed, k, algorithm, sets)
    case = together(cases)
    plan = random_plan(rng, thresholds_of(case), words_of(algorithm))
    cut_small(monkeypatch, rng, sets > 1)
    return cases, Stream(items_of(case, rng, copies), ToyRunner(plan, rng, mixed))
