"""What lies in the folder of records when a run begins: what is damaged is told in one sentence, what is not ours is left alone."""

import json
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

RECORD = {
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


WRONG = {
    **{f"no {name}": lambda record, name=name: record.pop(name) for name in ("uri", "metadata", "digest", "flags")},
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
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_line_that_is_no_record_is_told(case: str, before: Before) -> None:
    record = dict(RECORD)
    change: Callable[[Any], Any] = WRONG[case]
    change(record)
    before.write("records-2.jsonl", RECORD, record)
    with pytest.raises(DedupError) as raised:
        before.resumed()
    told = str(raised.value)
    assert told.startswith(f"--records: {before.records}/records-2.jsonl, line 2 is no record: ")
    assert told.endswith("; put the file elsewhere, or name another folder")
    assert "\n" not in told


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
    (before.state / "codes-2.blocks").write_bytes(bytes(7) + b"\xf0" + b"cut")
    (before.state / "codes-3.blocks").write_bytes(b"\xff" * 8 + b"cut")
    assert before.resumed().judged == 1
    assert all((before.records / name).exists() for name in names)


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
    (before.state / "processes").write_bytes(b"17\nabc\n\xff\n17\n4\n")
    assert local_state.note_started(str(before.state)) == [4, 17]
