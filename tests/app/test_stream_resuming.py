"""Resumes streams from existing records and state.

Damaged files are reported in one sentence, and files that are not ours are ignored.
"""

import json
import operator
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.errors import DedupError
from beam_dedup.core.model import BASE_VIEW, REASONS, ImageRef, StandIn, Status, Verdict, Witness
from beam_dedup.core.stream import initial_state
from beam_dedup.core.stream.protocol import Step, exact_plan
from beam_dedup.options import checks, parser
from beam_dedup.stream import resume
from transforms.place import placements
from transforms.stand_ins import MissingCopies
from transforms.stream import local_state
from transforms.stream.record import RecordPaths

NOW_MS = 1_769_860_800_000
DAY_MS = 86_400_000  # the default of --remember
RECORD: dict[str, Any] = {
    "uri": "in/a.jpg",
    "status": "kept",
    "reason": None,
    "digest": "ab" * 32,
    "fingerprint": "cd" * 32,
    "algorithm": "dct/2",
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


class EarlierRun:
    """The records and the state that an earlier run left, and the result of resuming from them."""

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
        folders = RecordPaths("run", config.records, config.counts, str(self.state))
        return resume.resume(config, folders, exact_plan(1), NOW_MS, str(self.scratch))

    def started(self) -> None:
        with local_state.exclusive_lock(str(self.state)):
            local_state.note_started(str(self.state))
            self.resumed()


@pytest.fixture
def earlier(tmp_path: Path) -> EarlierRun:
    return EarlierRun(tmp_path)


def test_recorded_images_are_known(earlier: EarlierRun) -> None:
    other = {**RECORD, "uri": "in/b.jpg", "digest": "ef" * 32}
    rejected = {**RECORD, "uri": "in/c.jpg", "status": "rejected", "reason": "empty", "digest": None}
    earlier.write("records-2.jsonl", other, rejected)
    found = earlier.resumed()
    assert (found.judged, found.kept) == (3, 2)
    assert found.initial_state
    assert found.skipped


@pytest.mark.parametrize(
    ("event", "arrival", "is_known"),
    [
        (NOW_MS - DAY_MS // 2, None, True),
        (NOW_MS - 2 * DAY_MS, None, False),
        (NOW_MS - 9 * DAY_MS, NOW_MS - DAY_MS // 2, True),
        (NOW_MS - 9 * DAY_MS, NOW_MS - 2 * DAY_MS, False),
        (NOW_MS + 900 * DAY_MS, NOW_MS - 2 * DAY_MS, False),
        (None, None, True),
    ],
)
def test_late_arrival_is_remembered_from_its_arrival_on(
    event: int | None, arrival: int | None, is_known: bool, earlier: EarlierRun
) -> None:
    """As it was before the restart: a backlog is not forgotten."""
    found = Arrival("in/a.jpg", "1", event, arrival_ms=arrival).reference()
    earlier.write("records-1.jsonl", {**RECORD, "metadata": json.loads(found.metadata)})
    state = initial_state.read.__wrapped__(earlier.resumed().initial_state)
    assert any(step == Step.ORIGINALS for step, _ in state) == is_known


def test_undelivered_verdicts_become_one_block(earlier: EarlierRun) -> None:
    """So a duplicate that was recorded later stands in for a kept image that is gone."""
    blocks_before = [verdict_block(name, "exact" if number else None) for number, name in enumerate("ab")]
    for number, block in enumerate(blocks_before):
        local_state.note_undelivered(str(earlier.state), str(number), block)
        earlier.write(f"records-{number}.jsonl", {**RECORD, "uri": "ab"[number]})
    [block] = earlier.resumed().undelivered
    wanted = list(placements(block, "out", False, False, True, MissingCopies(str(earlier.state))))
    [copy] = wanted
    assert (copy.uri, copy.path, copy.stand_ins) == ("a", "out/a", (StandIn("b"),))


def verdict_block(name: str, reason: str | None) -> bytes:
    """Returns a block with a verdict on an image; all images have the same bytes."""
    digest = b"1" * 32
    witness = Witness("a", digest, 0, None, BASE_VIEW) if reason else None
    status = Status.DUPLICATE if reason else Status.KEPT
    verdict = Verdict(
        ImageRef(name, name), status, REASONS[reason] if reason else None, digest, witness=witness
    )
    return blocks.dump(tables.verdicts_table([verdict]))


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"no {name}": operator.methodcaller("pop", name) for name in ("uri", "metadata", "digest", "flags")},
    "status unknown": lambda record: record.update(status="lost"),
    "flag unknown": lambda record: record.update(flags=["odd"]),
    "flags no list": lambda record: record.update(flags=None),
    "metadata no object": lambda record: record.update(metadata=[1]),
    "uri no text": lambda record: record.update(uri=5),
    "digest no hex": lambda record: record.update(digest="zz"),
    "digest too short": lambda record: record.update(digest="ab"),
    "fingerprint no hex": lambda record: record.update(fingerprint="zz"),
    "algorithm unknown": lambda record: record.update(algorithm="sift/1"),
    "size no number": lambda record: record.update(size_bytes="large"),
    "size infinite": lambda record: record.update(size_bytes=float("inf")),
    "size NaN": lambda record: record.update(size_bytes=float("nan")),
    "size huge": lambda record: record.update(size_bytes=10**30),
    "size negative": lambda record: record.update(size_bytes=-1),
    "width huge": lambda record: record.update(width=10**400),
    "height text": lambda record: record.update(height="8"),
    "format no text": lambda record: record.update(format=[1]),
    "format invalid text": lambda record: record.update(format="\ud800"),
    "uri invalid text": lambda record: record.update(uri="\ud800"),
    "fingerprint too short": lambda record: record.update(fingerprint="cd"),
    "empty": lambda record: record.clear(),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_line_that_is_not_a_record_is_reported(case: str, earlier: EarlierRun) -> None:
    record = dict(RECORD)
    WRONG[case](record)
    earlier.write("records-2.jsonl", RECORD, record)
    with pytest.raises(DedupError) as raised:
        earlier.resumed()
    message = str(raised.value)
    assert message.startswith(f"--records: {earlier.records}/records-2.jsonl, line 2 is not a record: ")
    assert message.endswith("; move the file away, or name another directory")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"uri": ' + "9" * 5000 + "}"])
def test_deep_or_huge_json_is_reported(text: str, earlier: EarlierRun) -> None:
    (earlier.records / "records-2.jsonl").write_text(f"{json.dumps(RECORD)}\n{text}\n")
    with pytest.raises(DedupError, match=r"records-2\.jsonl, line 2 is not a record: .*; move the file away"):
        earlier.resumed()


@pytest.mark.parametrize(
    "data", [b"a text\n", bytes(range(256)), b"[1, 2]\n", json.dumps(RECORD).encode()[:99]]
)
def test_foreign_or_truncated_file_of_records_is_reported(data: bytes, earlier: EarlierRun) -> None:
    (earlier.records / "records-2.jsonl").write_bytes(data)
    with pytest.raises(DedupError, match=r"records-2\.jsonl, line 1 is not a record: .*; move the file away"):
        earlier.resumed()


def test_foreign_and_partial_files_are_ignored(earlier: EarlierRun) -> None:
    """Partial files are those of a run that was killed before it renamed them, or while it appended to them."""
    names = ("notes.txt", "records-notes.txt", "records-1.jsonl.gz", ".dedup-1-2.part", "records-0.jsonl")
    for name in names:
        (earlier.records / name).write_bytes(b"" if name == "records-0.jsonl" else b"a text")
    (earlier.state / "codes-2.blocks").write_bytes(bytes(7) + b"\xf0" + b"\xff\xff\xff\xffcut")
    (earlier.state / "codes-3.blocks").write_bytes(bytes(5))
    assert earlier.resumed().judged == 1
    assert all((earlier.records / name).exists() for name in names)


ODD: dict[str, Callable[[Path], object]] = {
    "it is a directory": Path.mkdir,
    "it is a pipe": os.mkfifo,
    "No such file": lambda path: path.symlink_to("nothing"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    "it is a device": lambda path: path.symlink_to("/dev/null"),
}


@pytest.mark.parametrize("why", ODD)
def test_file_of_records_that_is_not_regular_is_reported(why: str, earlier: EarlierRun) -> None:
    path = earlier.records / "records-2.jsonl"
    ODD[why](path)
    with pytest.raises(DedupError) as raised:
        earlier.resumed()
    assert re.fullmatch(
        rf"--records: {re.escape(str(path))} cannot be read: {why}.*; move it away, or name another directory",
        str(raised.value),
    )


@pytest.mark.parametrize("why", ODD)
@pytest.mark.parametrize("name", ["codes-2.blocks", "undelivered-1.block", "processes", "lock"])
def test_file_of_state_that_is_not_regular_is_reported(name: str, why: str, earlier: EarlierRun) -> None:
    """No pipe is waited for, and nothing is written where a link leads to."""
    path = earlier.state / name
    ODD[why](path)
    with pytest.raises(DedupError) as raised:
        earlier.started()
    assert re.fullmatch(
        rf"{re.escape(str(path))} cannot be read: {why}.*; move it elsewhere and start again \(.*\)",
        str(raised.value),
    )
    assert not (earlier.state / "nothing").exists()


def test_copied_file_of_records_is_reported(earlier: EarlierRun) -> None:
    shutil.copy(earlier.records / "records-1.jsonl", earlier.records / "records-1 (copy).jsonl")
    with pytest.raises(DedupError) as raised:
        earlier.resumed()
    assert str(raised.value) == (
        f"--records: {earlier.records}/records-1.jsonl is a copy of {earlier.records}/records-1 (copy).jsonl; "
        "move one of them away, or name another directory"
    )


def test_image_that_is_recorded_twice_counts_once(earlier: EarlierRun) -> None:
    """If a message is redelivered after its image was forgotten, a stream may write the same file of records again."""
    for number in range(2):
        name = f"records-20260131T120000000Z-0-{number:08}.jsonl"
        earlier.write(name, RECORD, {**RECORD, "uri": "in/b.jpg"})
    found = earlier.resumed()
    assert (found.judged, found.kept) == (2, 2)


def test_line_that_is_too_long_is_reported(earlier: EarlierRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "MOST_LINE_BYTES", 1 << 20)
    (earlier.records / "records-2.jsonl").write_bytes(b"x" * (3 << 20))
    with pytest.raises(DedupError, match=r"records-2\.jsonl has a line of more than 1048576 bytes"):
        earlier.resumed()


@pytest.mark.parametrize(
    ("name", "without"),
    [
        ("codes-2.blocks", local_state.WITHOUT_CODES),
        ("undelivered-1.block", local_state.WITHOUT_UNDELIVERED),
    ],
)
def test_damaged_state_is_reported(name: str, without: str, earlier: EarlierRun) -> None:
    (earlier.state / name).write_bytes(bytes(7) + b"\x09" + b"no block.")
    with pytest.raises(DedupError) as raised:
        earlier.resumed()
    message = f"{earlier.state}/{name} is damaged; move it elsewhere and start again ({without})"
    assert str(raised.value) == message


def test_invalid_process_ids_are_ignored(earlier: EarlierRun) -> None:
    (earlier.state / "processes").write_bytes(b"17\nabc\n\xff\n17\n4\n" + b"9" * 5000)
    assert local_state.note_started(str(earlier.state)) == [4, 17]
