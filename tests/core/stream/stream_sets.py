"""Random sets as what arrives at a stream, and what must hold of the verdicts however it arrived."""

import collections
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
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef, Reason, Status, Verdict, Witness
from beam_dedup.core.stream import state_cells
from beam_dedup.core.stream.messages import OUTCOMES, STATUSES
from beam_dedup.core.stream.protocol import Step, StreamPlan, Topic
from beam_dedup.core.thresholds import MAX_BIT_DISTANCE, Thresholds
from tests import oracle, random_sets
from tests.core import small_limits
from tests.core.stream.toy_engine import Engine
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
    """What arrives."""

    uri: str
    generation: str
    image: Fingerprint | None  # nothing, if it is rejected
    codes: list[oracle.Code]

    @property
    def identity(self) -> bytes:
        return identity(self.uri, self.generation)


def items_of(case: RandomSet, rng: random.Random, copies: bool = True) -> list[Item]:
    """An image for each of the set in order, copies of bytes and of pictures among them, and rejected ones; some are a new
    generation of a name."""
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
            picture = []  # the base is always there
        earlier = digests[id(pictures[number])]
        digest = hashlib.sha256(b"%d" % number).digest()
        if earlier and rng.random() < 0.5:
            digest = rng.choice(earlier)  # the same bytes
        earlier.append(digest)
        uri = items[-1].uri if copies and items and rng.random() < 0.1 else f"{number}"
        codes = tuple(Code(CodeKind(c.kind), random_sets.data(c), VIEWS[c.view]) for c in picture)
        image = Fingerprint(
            ImageRef(uri, f"{number}"), digest, number, 0, "PNG", 1, 1, "dct/1" if codes else "", codes
        )
        items.append(Item(uri, f"{number}", image, [code._replace(image=number) for code in picture]))
    if copies and rng.random() < 0.3:
        items.append(Item("junk", "", None, []))
    return items


def random_plan(rng: random.Random, thresholds: Thresholds, words: int) -> StreamPlan:
    prefix = rng.choice([0, 1, 1, 2 if thresholds.word_k < 3 else 1])
    # One key a place, most of the time, and not too many places.
    subset = (
        prefix if rng.random() < 0.7 else rng.randint(prefix, max(prefix, 2 if thresholds.word_k <= 8 else 1))
    )
    shards = rng.choice([1, 1, 2, 5] if thresholds.word_k < 5 else [1, 1, 1, 2]) if prefix else 1
    return StreamPlan(thresholds, plan_for(thresholds, subset, prefix, shards), rng.choice([1, 2, 3]), words)


def thresholds_of(case: RandomSet) -> Thresholds:
    return Thresholds(case.k, case.verify, case.bits)


def words_of(algorithm: str) -> int:
    return 1 if algorithm in ("phash", "colorhash") else 4


class Stream:
    """Items on their way through an engine."""

    def __init__(self, items: Sequence[Item], engine: Engine) -> None:
        self.items, self.engine, self.rng = items, engine, engine.rng
        self.rejected: list[int] = []
        self.redelivered = 0
        self.to_read: list[int] = []

    def deliver(self, numbers: Sequence[int]) -> None:
        self.engine.deliver([self.items[number].identity for number in numbers], numbers)

    def read(self, numbers: Sequence[int]) -> None:
        images = [self.items[number].image for number in numbers]
        self.engine.read([image for image in images if image])
        self.rejected += [number for number in numbers if not self.items[number].image]

    def one_by_one(self) -> None:
        for number in range(len(self.items)):
            self.deliver([number])
            self.engine.run()
            self.read(self.engine.admitted())
            self.engine.run()

    def one_by_one_of_each(self, sizes: Sequence[int]) -> None:
        """The items of several sets, one of each at a time."""
        starts = list(itertools.accumulate(sizes, initial=0))
        for turn in range(max(sizes)):
            numbers = [start + turn for start, size in zip(starts, sizes, strict=False) if turn < size]
            self.deliver(numbers)
            self.engine.run()
            self.read(sorted(self.engine.admitted()))
            self.engine.run()

    def at_random(self, times: int = 1) -> None:
        """Every item up to `times` times, in any order, some together; reading takes its time."""
        todo = [n for n in range(len(self.items)) for _ in range(self.rng.randint(1, times))]
        if self.rng.random() < 0.7:
            self.rng.shuffle(todo)
        repeated = len(todo) - len(self.items)
        most = self.rng.choice([1, 3, 10] if len(self.items) < 30 else [30, 100, 1000])
        while todo or self.engine.pending or self.to_read:
            taken = self.rng.randint(1, most)
            if todo and self.rng.random() < 0.5:
                self.deliver(todo[:taken])
                del todo[:taken]
            if self.to_read and self.rng.random() < 0.6:
                self.read(self.to_read[:taken])
                del self.to_read[:taken]
            self.engine.run(self.rng.choice([50, 5, 1, 0]))
            self.to_read += self.engine.admitted()
            if self.engine.mixed:
                self.rng.shuffle(self.to_read)
            self.redelivered += len(self.engine.redelivered())
        assert self.redelivered == repeated

    def check(self, k: int, verify: int) -> None:
        """DESIGN, section 2: 1 to 3; and that nothing is left in flight, and nobody was told anything twice."""
        assert not any(cells.waiting for cells in self.engine.state.values())
        told = self.engine.heard_of(Step.SETTLE, Topic.OUTCOMES, OUTCOMES)
        assert pc.count_distinct(told["image"]).as_py() == len(told)
        verdicts = self.engine.verdicts()
        judged = sorted(int(verdict.ref.name) for verdict in verdicts)
        assert sorted(judged + self.rejected) == list(range(len(self.items)))
        check_verdicts(self.items, verdicts, k, verify, self.anchors())

    def anchors(self) -> dict[bytes, int]:
        """Digests and numbers."""
        statuses = self.engine.heard_of(Step.CONFIRM, Topic.STATUSES, STATUSES)
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
    """DESIGN, section 2, of verdicts on all items that were read. anchors: digests and numbers, where they are known."""
    anchors = anchors or {}
    pictures = collections.defaultdict(list)
    for verdict in verdicts:
        pictures[verdict.digest].append(verdict)
    fates = {digest: _fate_of_all(group) for digest, group in pictures.items()}
    codes = {item.image.digest: item.codes for item in items if item.image}
    kept = [digest for digest, witness in fates.items() if not witness]
    assert set(anchors) <= set(kept)
    for digest, witness in fates.items():
        near = {
            other: min(found)
            for other in kept
            if other != digest and (found := oracle.matches(codes[digest], codes[other], k, verify))
        }
        if not witness:
            assert not near, "two kept images within k"
            continue
        match = near[witness.digest]
        told = -1 if witness.long_distance is None else witness.long_distance
        assert (match.distance, match.view, match.long_distance) == (
            witness.distance, VIEWS.index(witness.view), told,
        )  # fmt: skip
        of_anchors = [(near[other].distance, anchors[other], other) for other in near if other in anchors]
        if of_anchors:
            assert min(of_anchors)[2] == witness.digest, "not the nearest anchor"


def _fate_of_all(group: list[Verdict]) -> Witness | None:
    """The witness of images with the same bytes; nothing if one of them is kept."""
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
    """What is to come out where items arrive one by one: the definition, its witness the nearest anchor there is; where
    there is none, the nearest kept one."""
    pictures: dict[bytes, tuple[Item, list[oracle.Code]]] = {}
    fates: dict[bytes, Witness | None] = {}
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
            of_anchors = [match for other, match in near if match.kept in anchors]
            witnesses = of_anchors or [match for other, match in near if other in kept]
            if not near:
                anchors.add(int(image.ref.name))
            if not witnesses:
                kept.append(image.digest)
            fates[image.digest] = _witness(min(witnesses), pictures) if witnesses else None
            pictures[image.digest] = (item, item.codes)
            witness = fates[image.digest]
        else:
            witness = fates[image.digest] or Witness(
                pictures[image.digest][0].uri, image.digest, 0, None, VIEWS[0]
            )
        same = witness is not None and witness.digest == image.digest
        reason = None if witness is None else Reason.EXACT if same else Reason.NEAR
        verdicts.append(verdict_on(image, reason, witness))
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
    """Sets with the same thresholds."""
    views, verify = rng.choice([0, 0, 1, 3]), rng.choice(random_sets.VERIFY)
    return [random_set(f"{seed} {number}", k, views, (), algorithm, verify) for number in range(count)]


def together(cases: Sequence[RandomSet]) -> RandomSet:
    """The images of several sets, one after the other."""
    before = itertools.accumulate((case.images for case in cases), initial=0)
    codes = [
        code._replace(image=code.image + start)
        for start, case in zip(before, cases, strict=False)
        for code in case.codes
    ]
    return cases[0]._replace(images=sum(case.images for case in cases), codes=codes)


def cut_small(monkeypatch: pytest.MonkeyPatch, rng: random.Random, many: bool) -> None:
    """Sizes that make a few codes walk all ways of remembering and of searching."""
    monkeypatch.setattr(state_cells, "_RECENT_BYTES", rng.choice([0, 300, 1 << 16]))
    monkeypatch.setattr(state_cells, "_RECENT_BLOCKS", rng.choice([1, 2, 32]))
    monkeypatch.setattr(state_cells, "_PIECE_BYTES", 3000 if many else rng.choice([1, 150, 1 << 22]))
    small_limits.set_join_sizes(monkeypatch, wide_rectangle=rng.choice([0, 4, 1 << 11]))
    if not many:
        small_limits.cut_small(monkeypatch, rng)
    if rng.random() < 0.5:
        small_limits.go_through_keys(monkeypatch)


def start(
    seed: str, k: int, algorithm: str, sets: int, mixed: float, copies: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[RandomSet], Stream]:
    """So many random sets, to be judged in one stream."""
    rng = random.Random(f"{seed} {k} {algorithm}")
    cases = random_sets_alike(rng, seed, k, algorithm, sets)
    case = together(cases)
    plan = random_plan(rng, thresholds_of(case), words_of(algorithm))
    cut_small(monkeypatch, rng, sets > 1)
    return cases, Stream(items_of(case, rng, copies), Engine(plan, rng, mixed))
