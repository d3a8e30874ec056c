"""Tests records, groups, and files that appear whole or not at all."""

import collections
import contextlib
import dataclasses
import json
import os
import random
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import apache_beam as beam
import fastavro
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.model import (
    RECORD_FIELDS,
    ImageRef,
    Placement,
    Reason,
    Rejection,
    Status,
    Unplaced,
    Verdict,
    Witness,
    json_text,
    printable,
)
from beam_dedup.core.record_tables import write_parquet
from beam_dedup.record_files import read_records
from tests.transforms import image_blocks
from tests.transforms.batches import random_batch
from tests.transforms.object_store import uri
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import WriteGroups, WriteRecords
from transforms.count import write_json
from transforms.storage import files
from transforms.storage.own_files import HEAD_BYTES, TAIL_BYTES, is_own
from transforms.write import placement_line, record_lines, unplaced_line, with_group_sizes, write_sorted

BATCH = random_batch("write", 8, 48, sets=12)
REJECTIONS = [
    Verdict.of_rejection(Rejection(ImageRef(uri, uri), reason, detail))
    for uri, reason, detail in [
        ("/in/empty", Reason.EMPTY, ""),
        ("/in/\udce5.jpg", Reason.NOT_AN_IMAGE, "first bytes: b'<\\x00'"),
        ("/in/å\udce5.jpg", Reason.UNREADABLE, "Permission denied"),
        ('/in/"quoted"\n\\.jpg', Reason.NOT_FOUND, "line\nend"),
    ]
]
VERDICTS = [*BATCH.verdicts, *REJECTIONS]


def by_uri(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Returns verdicts in the order of the files: by the bytes of the URI."""
    return sorted(verdicts, key=lambda verdict: os.fsencode(verdict.ref.uri))


def written(
    verdicts: Sequence[Verdict],
    transform: beam.PTransform[Any, Any],
    *flags: str,
    seed: int = 0,
    size: int = image_blocks.IMAGES_PER_BLOCK,
) -> list[str]:
    """Writes shuffled verdicts, `size` per block; returns the names of the files."""
    shuffled = random.Random(seed).sample(verdicts, len(verdicts))

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        made = image_blocks.verdicts(pipeline, shuffled, reshuffle=bool(seed % 2), size=size)
        return {"files": made | "Write" >> transform}

    return run(build, *flags).values["files"]


def records_of(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Returns the records of a file, in which each has the size of its group."""
    records = [verdict.record() for verdict in by_uri(verdicts)]
    sizes = collections.Counter(record["group"] for record in records)
    return [{**record, "group_size": record["group"] and sizes[record["group"]]} for record in records]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


class TestRecords:
    def test_records_are_lines_sorted_by_uri(self, tmp_path: Path) -> None:
        path = tmp_path / "new folder/records.jsonl"
        assert written(VERDICTS, WriteRecords(str(path))) == [str(path)]
        records = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
        assert records == records_of(VERDICTS)
        assert len({record["group_size"] for record in records}) > 3, "of none, one and several images"
        assert all(tuple(record) == RECORD_FIELDS for record in records)
        assert os.listdir(path.parent) == ["records.jsonl"]

    @pytest.mark.parametrize("name", ["records.jsonl", "records.avro", "records.parquet", "records.csv"])
    def test_the_file_does_not_depend_on_the_order_of_the_verdicts(self, tmp_path: Path, name: str) -> None:
        """Nor on the size of the blocks."""
        # Avro has a random mark between its blocks, so the rows are compared.
        read = avro if name.endswith(".avro") else Path.read_bytes
        path = tmp_path / name
        written(VERDICTS, WriteRecords(str(path)))
        first = read(path)
        for seed, flags in enumerate([REPEATED, THREADS], start=1):
            written(VERDICTS, WriteRecords(str(path)), *flags, seed=seed, size=seed * 5)
            assert read(path) == first

    @pytest.mark.parametrize("name", ["r.avro", "r.parquet", "r.csv"])
    def test_other_records_equal_json_records(self, tmp_path: Path, name: str) -> None:
        written(VERDICTS, WriteRecords(str(tmp_path / name)))
        written(VERDICTS, WriteRecords(str(tmp_path / "r.jsonl")))
        found = list(read_records(str(tmp_path / name)))
        expected = lines(tmp_path / "r.jsonl")
        for record in expected:
            record["metadata"] = record["metadata"] and json_text(record["metadata"])
        assert found == [{name: printable(value) for name, value in record.items()} for record in expected]
        assert sum("\\xe5" in record["uri"] or "\\udce5" in record["uri"] for record in found) == 2

    @pytest.mark.parametrize("name", ["records.jsonl", "records.avro", "records.parquet", "records.csv"])
    def test_no_verdicts_make_a_valid_file(self, tmp_path: Path, name: str) -> None:
        written([], WriteRecords(str(tmp_path / name)))
        assert list(read_records(str(tmp_path / name))) == []
        assert (tmp_path / name).exists()

    def test_a_directory_gets_several_files(self, tmp_path: Path) -> None:
        names = written(VERDICTS, WriteRecords(f"{tmp_path}/deep/records/"), *THREADS)
        folder = tmp_path / "deep/records"
        assert sorted(os.listdir(folder)) == sorted(Path(name).name for name in names)
        assert all(name.startswith("records-0000") and name.endswith(".jsonl") for name in os.listdir(folder))
        found = [record for path in folder.iterdir() for record in lines_of_shard(path)]
        assert sorted(found, key=lambda record: os.fsencode(record["uri"])) == [
            verdict.record() for verdict in by_uri(VERDICTS)
        ]

    def test_names_that_are_not_utf8_are_preserved(self, tmp_path: Path) -> None:
        """They have the same bytes after a round trip through JSON."""
        written(REJECTIONS, WriteRecords(str(tmp_path / "r.jsonl")))
        assert {record["uri"] for record in lines(tmp_path / "r.jsonl")} == {v.ref.uri for v in REJECTIONS}

    @pytest.mark.parametrize("name", ["r-\udce5.jsonl", "r-\udce5.avro", "r-\udce5.parquet", "r-\udce5.csv"])
    def test_the_file_may_have_an_odd_name(self, tmp_path: Path, name: str) -> None:
        written(REJECTIONS, WriteRecords(f"{tmp_path}/{name}"))
        assert [path.name for path in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("name", ["r.parquet", "r.csv"])
    def test_records_of_tables_in_stores_replace_only_records(
        self, tmp_path: Path, name: str, store: dict[str, bytes]
    ) -> None:
        write = WriteRecords(uri(name), own_only=True)
        written(VERDICTS, write)
        written(REJECTIONS, write)
        assert set(store) == {uri(name)}
        (tmp_path / name).write_bytes(store[uri(name)])
        found = [record["uri"] for record in read_records(str(tmp_path / name))]
        assert found == [printable(verdict.ref.uri) for verdict in by_uri(REJECTIONS)]
        store[uri(name)] = b"PAR1 theirs PAR1" if name.endswith("parquet") else b"uri;theirs\n"
        written(REJECTIONS, write)
        assert set(store) == {uri(name), uri(f"{name}.new")}

    def test_a_large_parquet_file_of_records_is_recognised(self, tmp_path: Path) -> None:
        verdicts = [dataclasses.replace(REJECTIONS[0], ref=ImageRef(f"{n:09}", "")) for n in range(70_000)]
        path = str(tmp_path / "r.parquet")
        blocks_of_lines = record_lines(blocks.dump(tables.verdicts_table(verdicts)))
        for _ in range(2):
            write_sorted(path.encode(), [blocks_of_lines], write_parquet, "--records", with_group_sizes)
        assert os.path.getsize(path) > HEAD_BYTES + TAIL_BYTES
        assert os.listdir(tmp_path) == ["r.parquet"]

    def test_an_older_file_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "r.jsonl").write_text("older and longer\n" * 1000)
        written(REJECTIONS[:1], WriteRecords(str(tmp_path / "r.jsonl")))
        assert [record["uri"] for record in lines(tmp_path / "r.jsonl")] == ["/in/empty"]


class TestFilesOfOthers:
    """Somebody else puts a file at the path of an output after the run has begun."""

    OWN: ClassVar[dict[str, bytes]] = {
        "--records": b'{"uri": "a"}\n',
        "-o": b"{}\n",
        "--counts": b'{\n  "Initial_Image_Count": 1\n}\n',
    }

    def write(self, flag: str, path: Path) -> None:
        if flag == "--counts":
            write_json({"Initial_Image_Count": 5}, str(path), flag)
        else:
            made = (WriteRecords if flag == "--records" else WriteGroups)(str(path), own_only=True)
            written(VERDICTS, made)

    @pytest.mark.parametrize("flag", OWN)
    def test_only_files_of_the_same_option_are_replaced(self, tmp_path: Path, flag: str) -> None:
        for path in (tmp_path / "new", tmp_path / "theirs", tmp_path / "ours"):
            if path.name != "new":
                path.write_bytes(b"theirs" if path.name == "theirs" else self.OWN[flag])
            self.write(flag, path)
            if path.name == "theirs":
                assert path.read_bytes() == b"theirs"
                path = tmp_path / "theirs.new"
            assert path.read_bytes() not in (b"theirs", self.OWN[flag])
            assert is_own(flag, path.read_bytes())
        assert {path.name for path in tmp_path.iterdir()} == {"new", "theirs", "theirs.new", "ours"}

    def test_pipes_directories_and_broken_links_are_left_alone(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a")
        (tmp_path / "b").mkdir()
        (tmp_path / "c").symlink_to("nowhere")
        (tmp_path / "a.new").write_bytes(b"theirs too")
        for name in "abc":
            self.write("--counts", tmp_path / name)
        found = {path.name for path in tmp_path.iterdir()}
        assert found == {"a", "a.new", "a.new.new", "b", "b.new", "c", "c.new"}
        assert os.readlink(tmp_path / "c") == "nowhere"

    def test_file_that_appears_at_the_last_moment_is_not_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = os.link

        def link_later(old: str, new: str, **options: Any) -> None:
            if not os.path.exists(tmp_path / "c"):
                (tmp_path / "c").write_bytes(b"theirs")
            link(old, new, **options)

        monkeypatch.setattr(os, "link", link_later)
        self.write("--counts", tmp_path / "c")
        assert (tmp_path / "c").read_bytes() == b"theirs"
        assert is_own("--counts", (tmp_path / "c.new").read_bytes())


def test_names_in_previews_and_errors_cannot_control_a_terminal() -> None:
    name = "/in/a.tar!\x1b]0;title\x07\x9b2J\n.jpg"
    placement = Placement(name, f"/out/{name}", b"")
    line = placement_line(placement)[2].decode()
    assert line.isprintable()
    assert [json.loads(text) for text in line.split(" -> ")] == [name, f"/out/{name}"]
    assert unplaced_line(Unplaced(placement, f"{name} is gone"))[2].decode().isprintable()


def avro(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))


def lines_of_shard(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


class TestGroups:
    def groups(self, path: Path) -> dict[str, list[str]]:
        pairs = json.loads(path.read_text("utf-8"), object_pairs_hook=list)
        assert len({key for key, _ in pairs}) == len(pairs), "each key occurs once"
        assert all([name for name, _ in member] == ["filename"] for _, members in pairs for member in members)
        return {key: [member[0][1] for member in members] for key, members in pairs}

    def test_the_kept_image_comes_first_then_the_others_in_order(self, tmp_path: Path) -> None:
        path = tmp_path / "groups.json"
        assert written(VERDICTS, WriteGroups(str(path))) == [str(path)]
        groups = self.groups(path)
        kept = [verdict for verdict in by_uri(VERDICTS) if verdict.status == Status.KEPT]
        assert [members[0] for members in groups.values()] == [verdict.ref.uri for verdict in kept]
        assert list(groups) == [verdict.digest.hex() for verdict in kept]
        for verdict in kept:
            duplicates = [
                v.ref.uri for v in by_uri(VERDICTS) if v.witness and v.witness.uri == verdict.ref.uri
            ]
            assert groups[verdict.group][1:] == duplicates
        assert sum(len(members) for members in groups.values()) == len(BATCH.verdicts)

    def test_further_kept_images_with_the_same_bytes_have_groups_of_their_own(self, tmp_path: Path) -> None:
        """As with `--protect` and `--across`: equal keys in one object would be read as one."""
        one, two = bytes(32), bytes([255] * 32)
        kept = [("d", one), ("a", one), ("c", two), ("b", one)]
        duplicates = [("x", one, "d"), ("0", two, "b")]
        verdicts = [Verdict(ImageRef(uri, uri), Status.KEPT, digest=digest) for uri, digest in kept] + [
            Verdict(
                ImageRef(uri, uri),
                Status.DUPLICATE,
                Reason.NEAR,
                digest,
                witness=Witness(of, one, 1, 1, "base"),
            )
            for uri, digest, of in duplicates
        ]
        written(verdicts, WriteGroups(str(tmp_path / "g.json")))
        key = one.hex()
        assert self.groups(tmp_path / "g.json") == {
            key: ["a"],
            f"{key}-2": ["b", "0"],
            two.hex(): ["c"],
            f"{key}-3": ["d", "x"],
        }

    def test_the_kept_image_comes_first_also_if_it_ranks_behind(self, tmp_path: Path) -> None:
        """The nearest kept image may rank behind its duplicate."""
        verdicts = random_batch("behind", 16, 256, sets=40).verdicts
        behind = [v for v in verdicts if v.witness and v.witness.uri > v.ref.uri]
        assert behind
        written(verdicts, WriteGroups(str(tmp_path / "g.json")))
        groups = self.groups(tmp_path / "g.json")
        for verdict in behind:
            assert verdict.witness is not None
            assert groups[verdict.group][0] == verdict.witness.uri
            assert verdict.ref.uri in groups[verdict.group][1:]

    @pytest.mark.parametrize("flags", [REPEATED, THREADS])
    def test_the_file_does_not_depend_on_the_order_of_the_verdicts(
        self, tmp_path: Path, flags: tuple[str, ...]
    ) -> None:
        path = tmp_path / "groups.json"
        written(VERDICTS, WriteGroups(str(path)))
        first = path.read_bytes()
        written(VERDICTS, WriteGroups(str(path)), *flags, seed=3)
        assert path.read_bytes() == first

    @pytest.mark.parametrize("verdicts", [[], REJECTIONS], ids=["nothing", "rejections only"])
    def test_no_groups_make_a_valid_file(self, tmp_path: Path, verdicts: list[Verdict]) -> None:
        written(verdicts, WriteGroups(str(tmp_path / "g.json")))
        assert self.groups(tmp_path / "g.json") == {}

    def test_odd_names_are_preserved(self, tmp_path: Path) -> None:
        odd = [v for v in BATCH.verdicts if not v.ref.uri.isascii() or "\n" in v.ref.uri or '"' in v.ref.uri]
        assert any("\udcff" in verdict.ref.uri for verdict in odd)
        written(BATCH.verdicts, WriteGroups(str(tmp_path / "g.json")))
        found = {uri for members in self.groups(tmp_path / "g.json").values() for uri in members}
        assert {verdict.ref.uri for verdict in odd} <= found


class TestWholeFile:
    def test_a_file_gets_its_name_when_it_is_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "a/b/file"
        with files.whole_file(str(path)) as file:
            file.write(b"half")
            file.flush()
            assert not path.exists()
            [partial] = os.listdir(path.parent)
            assert partial.startswith(".dedup-")
        assert path.read_bytes() == b"half"
        assert os.listdir(path.parent) == ["file"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_a_failed_write_leaves_nothing_behind(self, tmp_path: Path, error: type[BaseException]) -> None:
        older = tmp_path / "older"
        older.write_bytes(b"older")
        for path in (older, tmp_path / "newer"):
            with contextlib.suppress(error), files.whole_file(str(path)) as file:
                file.write(b"half")
                raise error
        assert os.listdir(tmp_path) == ["older"]
        assert older.read_bytes() == b"older"

    def test_a_file_whose_name_is_taken_by_a_directory_leaves_nothing_behind(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(IsADirectoryError), files.whole_file(str(tmp_path / "folder")) as file:
            file.write(b"x")
        assert os.listdir(tmp_path) == ["folder"]

    def test_a_reader_of_the_older_file_reads_on(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"older")
        with path.open("rb") as reader:
            with files.whole_file(str(path)) as file:
                file.write(b"newer")
            assert reader.read() == b"older"
        assert path.read_bytes() == b"newer"

    def test_a_link_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "theirs").write_bytes(b"theirs")
        (tmp_path / "link").symlink_to("theirs")
        with files.whole_file(str(tmp_path / "link")) as file:
            file.write(b"ours")
        assert (tmp_path / "theirs").read_bytes() == b"theirs"
        assert (tmp_path / "link").read_bytes() == b"ours"

    def test_a_name_without_a_directory_is_in_the_current_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with files.whole_file("here") as file:
            file.write(b"x")
        assert os.listdir(tmp_path) == ["here"]

    @pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
    def test_permissions_follow_the_umask(self, tmp_path: Path, mask: int) -> None:
        with umask(mask), files.whole_file(str(tmp_path / "file")) as file:
            file.write(b"x")
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~mask

    def test_permissions_follow_the_umask_in_many_threads(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The umask belongs to the process: a thread that changes it, even for a moment, changes it for all threads."""
        set_umask = os.umask

        def slow_umask(mask: int) -> int:
            before = set_umask(mask)
            time.sleep(0.002)  # so that other threads run in between
            return before

        def write_some(number: int) -> None:
            for i in range(10):
                with files.whole_file(str(tmp_path / f"{number}-{i}")):
                    pass

        with umask(0o077):
            monkeypatch.setattr(os, "umask", slow_umask)
            threads = [threading.Thread(target=write_some, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            monkeypatch.undo()
            left = os.umask(0o077)
        assert left == 0o077
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


@contextlib.contextmanager
def umask(mask: int) -> Any:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
