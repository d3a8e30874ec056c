"""What lies in the folder of records when a run begins: what is damaged is told in one sentence, what is not ours is left alone."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.core.errors import DedupError
from beam_dedup.core.stream.protocol import exact_plan
from beam_dedup.options import checks, parser
from beam_dedup.stream import resume
from transforms.stream import local_state
from transforms.stream.record import Folders

RECORD: dict[str, Any] = {
    "uri": "in/a.jpg",
    "status": "kept",
    "reason": None,
    "digest": "ab" * 32,
    "fingerprint": "cd" * 32,
    "algorithm": "dct/1",
    "duplicate_of": None,
    "distance": None,
    "long_distance": None,
    "view": None,
    "width": 8,
    "height": 8,
    "format": "JPEG",
    "size_bytes": 9,
    "flags": [],
    "detail": "",
    "metadata": {"generation": "1-9", "event_time": "2026-01-31T12:00:00.000Z"},
}


class Before:
    """What a run before has left, and how the next begins."""

    def __init__(self, folder: Path) -> None:
        self.records = folder / "records"
        self.state = self.records / ".state"
        self.state.mkdir(parents=True)
        self.scratch = folder
        self.write("records-1.jsonl", RECORD)

    def write(self, name: str, *records: Any) -> None:
        (self.records / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    def resumed(self) -> resume.Resumed:
        arguments = ["-n", "--watch", "-i", "in", "--records", str(self.records)]
        config = checks.configure(parser.parse(arguments)[0])
        folders = Folders("run", config.records, config.counts, str(self.state))
        return resume.resume(config, folders, exact_plan(1), 1_769_860_800_000, str(self.scratch))

    def started(self) -> None:
        with local_state.exclusive_lock(str(self.state)):
            local_state.note_started(str(self.state))
            self.resumed()


@pytest.fixture
def before(tmp_path: Path) -> Before:
    return Before(tmp_path)


def test_what_was_recorded_is_known(before: Before) -> None:
    other = {**RECORD, "uri": "in/b.jpg", "digest": "ef" * 32}
    rejected = {**RECORD, "uri": "in/c.jpg", "status": "rejected", "reason": "empty", "digest": None}
    before.write("records-2.jsonl", other, rejected)
    found = before.resumed()
    assert (found.judged, found.kept) == (3, 2)
    assert found.beginning
    assert found.skipped


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record.pop(name)


WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{f"no {name}": without(name) for name in ("uri", "metadata", "digest", "flags")},
    "status unknown": lambda record: record.update(status="lost"),
    "flag unknown": lambda record: record.update(flags=["odd"]),
    "flags no list": lambda record: record.update(flags=None),
    "metadata no object": lambda record: record.update(metadata=[1]),
    "uri no text": lambda record: record.update(uri=5),
    "digest no hex": lambda record: record.update(digest="zz"),
    "digest too short": lambda record: record.update(digest="ab"),
    "fingerprint no hex": lambda record: record.update(fingerprint="zz"),
    "algorithm unknown": lambda record: record.update(algorithm="sift/1"),
    "a size that is none": lambda record: record.update(size_bytes="large"),
    "size infinite": lambda record: record.update(size_bytes=float("inf")),
    "size not a number": lambda record: record.update(size_bytes=float("nan")),
    "size huge": lambda record: record.update(size_bytes=10**30),
    "size negative": lambda record: record.update(size_bytes=-1),
    "width huge": lambda record: record.update(width=10**400),
    "height of text": lambda record: record.update(height="8"),
    "format no text": lambda record: record.update(format=[1]),
    "format not storable": lambda record: record.update(format="\ud800"),
    "uri not storable": lambda record: record.update(uri="\ud800"),
    "fingerprint too short": lambda record: record.update(fingerprint="cd"),
    "nothing at all": lambda record: record.clear(),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_line_that_is_no_record_is_told(case: str, before: Before) -> None:
    record = dict(RECORD)
    WRONG[case](record)
    before.write("records-2.jsonl", RECORD, record)
    with pytest.raises(DedupError) as raised:
        before.resumed()
    told = str(raised.value)
    assert told.startswith(f"--records: {before.records}/records-2.jsonl, line 2 is no record: ")
    assert told.endswith("; put the file elsewhere, or name another folder")
    assert "\n" not in told


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"uri": ' + "9" * 5000 + "}"])
def test_deep_or_huge_json_is_reported(text: str, before: Before) -> None:
    (before.records / "records-2.jsonl").write_text(f"{json.dumps(RECORD)}\n{text}\n")
    with pytest.raises(
        DedupError, match=r"records-2\.jsonl, line 2 is no record: .*; put the file elsewhere"
    ):
        before.resumed()


@pytest.mark.parametrize(
    "data", [b"a text\n", bytes(range(256)), b"[1, 2]\n", json.dumps(RECORD).encode()[:99]]
)
def test_a_file_that_is_none_of_records_or_cut_is_told(data: bytes, before: Before) -> None:
    (before.records / "records-2.jsonl").write_bytes(data)
    with pytest.raises(
        DedupError, match=r"records-2\.jsonl, line 1 is no record: .*; put the file elsewhere"
    ):
        before.resumed()


def test_what_is_not_ours_is_left_alone(before: Before) -> None:
    """Also what has begun to get a name when a run was killed, and what was killed while it was appended to."""
    names = ("notes.txt", "records-notes.txt", "records-1.jsonl.gz", ".dedup-1-2.part", "records-0.jsonl")
    for name in names:
        (before.records / name).write_bytes(b"" if name == "records-0.jsonl" else b"a text")
    (before.state / "codes-2.blocks").write_bytes(bytes(7) + b"\xf0" + b"\xff\xff\xff\xffcut")
    (before.state / "codes-3.blocks").write_bytes(bytes(5))
    assert before.resumed().judged == 1
    assert all((before.records / name).exists() for name in names)


ODD: dict[str, Callable[[Path], Any]] = {
    "it is a directory": Path.mkdir,
    "it is a pipe": os.mkfifo,
    "No such file": lambda path: path.symlink_to("nothing"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    "it is a device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("why", ODD)
def test_records_that_are_no_regular_file_are_reported(why: str, before: Before) -> None:
    path = before.records / "records-2.jsonl"
    ODD[why](path)
    with pytest.raises(DedupError) as raised:
        before.resumed()
    assert re.fullmatch(
        rf"--records: {re.escape(str(path))} cannot be read: ({why}).*; "
        "put it elsewhere, or name another folder",
        str(raised.value),
    )


@pytest.mark.parametrize("why", ODD)
@pytest.mark.parametrize("name", ["codes-2.blocks", "undelivered-1.block", "processes", "lock"])
def test_state_that_is_no_regular_file_is_reported(name: str, why: str, before: Before) -> None:
    """Nothing is waited for, and nothing is written to what a link leads to."""
    path = before.state / name
    ODD[why](path)
    with pytest.raises(DedupError) as raised:
        before.started()
    assert re.fullmatch(
        rf"{re.escape(str(path))} cannot be read: ({why}).*; move it elsewhere and start again \(.*\)",
        str(raised.value),
    )
    assert not (before.state / "nothing").exists()


def test_copied_file_of_records_is_reported(before: Before) -> None:
    shutil.copy(before.records / "records-1.jsonl", before.records / "records-1 (copy).jsonl")
    with pytest.raises(DedupError) as raised:
        before.resumed()
    assert str(raised.value) == (
        f"--records: {before.records}/records-1.jsonl is a copy of {before.records}/records-1 (copy).jsonl; "
        "put one of them elsewhere, or name another folder"
    )


def test_image_that_is_recorded_twice_counts_once(before: Before) -> None:
    """A message that is redelivered after its image was forgotten may lead to the same file of records again."""
    for number in range(2):
        before.write(
            f"records-20260131T120000000Z-0-{number:08}.jsonl", RECORD, {**RECORD, "uri": "in/b.jpg"}
        )
    found = before.resumed()
    assert (found.judged, found.kept) == (2, 2)


def test_line_without_end_is_reported(before: Before, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "MOST_LINE_BYTES", 1 << 20)
    (before.records / "records-2.jsonl").write_bytes(b"x" * (3 << 20))
    with pytest.raises(DedupError, match=r"records-2\.jsonl has a line of more than 1048576 bytes"):
        before.resumed()


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("codes-2.blocks", local_state.WITHOUT_CODES),
        ("undelivered-1.block", local_state.WITHOUT_UNDELIVERED),
    ],
)
def test_damaged_state_is_told(name: str, without: str, before: Before) -> None:
    (before.state / name).write_bytes(bytes(7) + b"\x09" + b"no block.")
    with pytest.raises(DedupError) as raised:
        before.resumed()
    told = f"{before.state}/{name} is damaged; move it elsewhere and start again ({without})"
    assert str(raised.value) == told


def test_numbers_of_processes_that_are_none_are_passed_over(before: Before) -> None:
    (before.state / "processes").write_bytes(b"17\nabc\n\xff\n17\n4\n" + b"9" * 5000)
    assert local_state.note_started(str(before.state)) == [4, 17]
