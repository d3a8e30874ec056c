"""Nothing is lost, whatever other programs do to the input meanwhile. The checks look at files, not at what was compared.

Random trees of links, hard links, bad sectors, slow writers, temporary names and renames are read, judged and placed, as
in a batch and as in a stream. Every picture that is there in the end has a copy, or is near one that has; or else it is
named as unreadable, or as an image that could not be placed.
"""

import collections
import hashlib
import io
import json
import os
import random
import zipfile
from collections.abc import Collection, Iterator, Set
from pathlib import Path

import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.matching import shard_verdicts
from beam_dedup.core.matching.plan import plan_for
from beam_dedup.core.model import (
    BASE_VIEW,
    REASONS,
    Fingerprint,
    Flag,
    ImageRef,
    Placement,
    Reason,
    Rejection,
    Status,
    Verdict,
    Witness,
)
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.reading.reader import read_images
from beam_dedup.core.stream.protocol import StreamPlan
from beam_dedup.core.thresholds import Thresholds
from tests.app.cli_runs import dedup
from tests.core.stream.toy_engine import ToyRunner
from tests.stream_files import generation_of
from tests.transforms.random_trees import BadSectors, RandomTree, bytes_below
from tests.verdicts_outside import Key
from transforms.place import PlaceFn, PlaceMembersFn, is_file, members_of, placements
from transforms.read import list_references
from transforms.stand_ins import MissingCopies, PlaceResult
from transforms.storage.placing import PlaceMode, PlacingError
from transforms.stream.watch import PATIENCE, ScanTimes, Watch

QUIET_SECONDS = 10.0
NO_BYTE = 1 << 40
NAMED = (
    Reason.UNREADABLE,
    Reason.NOT_AN_IMAGE,
)  # of files that are rejected for what they are; the latter are cut
BATCHES, STREAMS = range(60), range(40)
MORE = pytest.mark.slow


def digest_of(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def key_of(path: str) -> Key:
    """Returns the path of a file, and its generation at present."""
    return Key(path, generation_of(path) if os.path.exists(path) else "")


def digests_below(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yields the digest of every picture below a directory, also of those in archives, with the path of its file."""
    for path, data in bytes_below(folder):
        if zipfile.is_zipfile(io.BytesIO(data)):
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                yield from ((path, digest_of(archive.read(name))) for name in archive.namelist())
        elif data:
            yield path, digest_of(data)


class Placing:
    """Places the verdicts of blocks in an output directory.

    Attributes:
      results: one per copy, or copy that can't be made.
    """

    def __init__(self, out: Path, rng: random.Random, missing: MissingCopies, generations: bool) -> None:
        self.rng, self.missing, self.generations = rng, missing, generations
        self.out = str(out)
        self.file = PlaceFn(1, self.out, PlaceMode.COPY, None, generations, missing)
        self.members = PlaceMembersFn(1, self.out, PlaceMode.COPY, None, generations, missing)
        self.results: list[PlaceResult] = []

    def place(self, block: bytes) -> None:
        wanted = [*placements(block, self.out, False, False, self.generations, self.missing)]
        files: list[Placement] = list(filter(is_file, wanted))
        self.rng.shuffle(files)
        for placement in files:
            self.results += self.file.work(placement)
        for members in members_of(block, self.out, False, False, self.generations, self.missing):
            self.results += self.members.work(members)

    def reported(self) -> set[bytes]:
        """Returns the digests of images that could not be placed: they are named at the end of a run."""
        return {placement.digest for placement, done in self.results if isinstance(done, PlacingError)}


def check(
    tree: RandomTree,
    out: Path,
    verdicts: Collection[Verdict],
    reported: Set[bytes],
    unreadable: set[Key],
    changed: Set[bytes] = frozenset(),
) -> None:
    """Checks that every digest that is there has a copy, or has a witness that has one and is no part of a picture.

    Args:
      tree: the input, as it is now.
      out: the output directory.
      verdicts: on all images.
      reported: digests of images that are named as such that could not be placed. Images near them may have no copy.
      unreadable: files that are rejected because their bytes can't be read, or are the beginning of a picture.
      changed: digests that were not there when the input was read, or that were reported.
    """
    copies = [digest for _, digest in digests_below(out)]
    assert len(set(copies)) == len(copies), "an image has two copies"
    witnesses: dict[bytes, set[bytes]] = collections.defaultdict(set)
    truncated = {verdict.digest for verdict in verdicts if Flag.TRUNCATED in verdict.flags}
    for verdict in verdicts:
        if verdict.witness and (verdict.digest in truncated or verdict.witness.digest not in truncated):
            witnesses[verdict.digest].add(verdict.witness.digest)
    for path, digest in digests_below(tree.folder):
        near = witnesses[digest] - {digest}
        assert (
            digest in copies
            or near & set(copies)
            or near & reported
            or key_of(str(path)) in unreadable
            or digest in changed
        ), f"{path} is lost"


class BatchByHand:
    """Judges a tree by its bytes, as a batch in exact mode does."""

    def __init__(self, tree: RandomTree) -> None:
        self.found = [
            image
            for references in list_references([bytes(tree.folder)], (), False, 8)
            for reference in references
            for image in read_images(reference, reference.uri, None, lambda _: None)
        ]
        rejected = [image for image in self.found if isinstance(image, Rejection)]
        self.unreadable = {key_of(split_uri(image.ref.uri)[0]) for image in rejected if image.reason in NAMED}

    def block(self, rng: random.Random) -> bytes:
        """Returns the verdicts. They do not depend on the order of the images."""
        images = [image for image in self.found if isinstance(image, Fingerprint)]
        rng.shuffle(images)
        table = tables.ranked(tables.fingerprints_table(images), KeepPolicy.FIRST)
        settled = shard_verdicts.group_images(table, pictures=False)
        return blocks.dump(shard_verdicts.verdicts(settled, blocks.MARKS.empty_table(), Preference()))


class StreamByHand(Watch):
    """Watches a tree by a manual clock, and judges and places what arrives, in steps that a test chooses."""

    def __init__(self, tree: RandomTree, out: Path, state: Path, recipe: Recipe | None) -> None:
        self.now = 0.0
        super().__init__((str(tree.folder),), (), ScanTimes(quiet_seconds=QUIET_SECONDS), lambda: self.now)
        self.rng, self.recipe = tree.rng, recipe
        plan = StreamPlan(Thresholds(), plan_for(Thresholds(), 1, 1, 2), 2, exact=recipe is None)
        self.runner = ToyRunner(plan, tree.rng, tree.rng.choice([0.0, 0.3]))
        self.placing = Placing(out, tree.rng, MissingCopies(str(state)), generations=True)
        self.arrivals: list[Arrival] = []
        self.to_read: list[int] = []
        self.to_place: list[bytes] = []
        self.recorded = 0
        self.unreadable: set[Key] = set()

    def look(self, seconds: float) -> None:
        """Scans after some seconds."""
        self.now += seconds
        for arrival in self.scan():
            self.runner.deliver([arrival.identity], [len(self.arrivals)])
            self.arrivals.append(arrival)
        self.runner.run()
        self.to_read += self.runner.admitted()

    def read(self, most: int) -> None:
        """Reads and judges some of the images that have arrived, and records the verdicts."""
        for number in self.to_read[:most]:
            reference = self.arrivals[number].reference()
            for image in read_images(reference, reference.uri, self.recipe, lambda _: None):
                if isinstance(image, Fingerprint):
                    self.runner.read([image])
                elif isinstance(image, Rejection) and image.reason in NAMED:
                    self.unreadable.add(Key(reference.uri, reference.generation))
        del self.to_read[:most]
        self.runner.run(self.rng.choice([1000, 10]))

    def record(self) -> None:
        verdicts = self.runner.verdicts()
        if len(verdicts) > self.recorded:
            self.to_place.append(blocks.dump(tables.verdicts_table(verdicts[self.recorded :])))
            self.recorded = len(verdicts)

    def restart(self) -> None:
        """Joins the blocks that are recorded and not yet placed, as a restart does."""
        if self.to_place:
            self.to_place = [blocks.dump(blocks.load(self.to_place, blocks.VERDICTS))]

    def place(self, most: int) -> None:
        for block in self.to_place[:most]:
            self.placing.place(block)
        del self.to_place[:most]

    def end(self) -> None:
        """Does all that is left, after a time in which nothing changed."""
        for _ in range(4):
            self.look(PATIENCE * QUIET_SECONDS + 1)
        self.read(len(self.to_read))
        self.runner.run()
        self.record()
        self.place(len(self.to_place))


@pytest.mark.parametrize("seed", [*BATCHES, *(pytest.param(n, marks=MORE) for n in range(1000, 1400))])
def test_batch_loses_nothing(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    tree, out = RandomTree(tmp_path / "in", rng), tmp_path / "out"
    for _ in range(rng.choice([5, 20, 40])):
        tree.change()
    bad = rng.choice([(), (".jpg",), ("2", "5")])
    BadSectors(monkeypatch, rng.choice([NO_BYTE, 100]), lambda path: 500 if path.endswith(bad) else NO_BYTE)
    batch = BatchByHand(tree)
    block = batch.block(rng)
    verdicts = list(tables.verdicts_of(blocks.load([block], blocks.VERDICTS)))
    by_uri = {verdict.ref.uri: verdict for verdict in verdicts}
    again = tables.verdicts_of(blocks.load([batch.block(rng)], blocks.VERDICTS))
    assert {verdict.ref.uri: verdict for verdict in again} == by_uri
    assert len(by_uri) == len(verdicts)
    for _ in range(rng.choice([0, 0, 3, 10])):  # until the copies are made
        rng.choice([tree.rename, tree.delete, tree.write_anew])()
    placing = Placing(out, rng, MissingCopies(), generations=False)
    placing.place(block)
    reported = placing.reported()
    there = {
        by_uri[uri].digest
        for path, digest in digests_below(tree.folder)
        if (uri := str(path).replace("!", "%21")) in by_uri and by_uri[uri].digest == digest
    }
    assert not reported & there, "an equal file is there"
    judged = {verdict.digest for verdict in verdicts}
    new = {digest for _, digest in digests_below(tree.folder)} - judged
    check(tree, out, verdicts, reported, batch.unreadable, reported | new)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(n, marks=MORE) for n in range(1000, 1200))])
def test_deleting_all_duplicates_of_a_batch_loses_nothing(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    tree = RandomTree(tmp_path / "in", rng)
    for _ in range(40):
        tree.change()
    before = {digest for path, digest in digests_below(tree.folder) if path.suffix != ".zip"}
    block = BatchByHand(tree).block(rng)
    for verdict in tables.verdicts_of(blocks.load([block], blocks.VERDICTS)):
        path = Path(verdict.ref.uri.replace("%21", "!"))
        if verdict.status == Status.DUPLICATE and path.exists():
            path.unlink()
    assert before <= {digest for _, digest in digests_below(tree.folder)}


@pytest.mark.parametrize("seed", [*STREAMS, *(pytest.param(n, marks=MORE) for n in range(1000, 1400))])
def test_stream_loses_nothing(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(seed)
    tree, out, state = RandomTree(tmp_path / "in", rng), tmp_path / "out", tmp_path / "state"
    state.mkdir()
    bad = rng.choice([(), (), ("2.jpg", "5")])
    BadSectors(monkeypatch, rng.choice([NO_BYTE, 100]), lambda path: 500 if path.endswith(bad) else NO_BYTE)
    stream = StreamByHand(tree, out, state, rng.choice([None, Recipe()]))
    for _ in range(rng.choice([10, 30])):
        for _ in range(rng.randint(0, 3)):
            tree.change()
        stream.look(rng.choice([0.5, 3, 3, 11, 30]))
        stream.read(rng.choice([0, 1, 5]))
        if rng.random() < 0.4:
            stream.record()
        if rng.random() < 0.1:
            stream.restart()
        stream.place(rng.choice([0, 0, 1]))
    if rng.random() < 0.7:
        tree.finish_writing()
    stream.end()
    assert not stream.to_read
    assert not stream.to_place
    check(tree, out, stream.runner.verdicts(), stream.placing.reported(), stream.unreadable)


def verdicts_in(records: Path) -> list[Verdict]:
    """Returns the verdicts of a file of records, as far as `check` needs them."""
    found = [json.loads(line) for line in records.read_bytes().splitlines()]
    digests = {record["uri"]: bytes.fromhex(record["digest"] or "") for record in found}
    return [
        Verdict(
            ImageRef(record["uri"], ""),
            Status(record["status"]),
            record["reason"] and REASONS[record["reason"]],
            digests[record["uri"]],
            witness=Witness(of, digests[of], 0, None, BASE_VIEW) if (of := record["duplicate_of"]) else None,
            flags=tuple(map(Flag, record["flags"])),
        )
        for record in found
    ]


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=MORE) for n in range(1000, 1020))])
def test_run_loses_nothing(seed: int, tmp_path: Path) -> None:
    """The command itself, with near duplicates. No file that can be read is unreadable, and no copy is missing."""
    rng = random.Random(seed)
    tree, out, records = RandomTree(tmp_path / "in", rng), tmp_path / "out", tmp_path / "records.jsonl"
    for _ in range(60):
        tree.change()
    assert dedup("-n", "-i", tree.folder, "-d", out, "--records", records, "-j", 1, "--quiet") == 0
    verdicts = verdicts_in(records)
    cut = {
        key_of(split_uri(verdict.ref.uri)[0])
        for verdict in verdicts
        if verdict.reason in (Reason.NOT_AN_IMAGE, Reason.EMPTY)
    }
    check(tree, out, verdicts, set(), cut)
