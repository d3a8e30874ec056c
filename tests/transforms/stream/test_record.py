"""Records of a stream: each verdict is in one complete, numbered file before it is passed on."""

import collections
import contextlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.errors import DedupError
from beam_dedup.core.model import ImageRef, Reason, Status, Verdict
from tests.transforms.streams import FailOnceFn, run, scripted
from transforms.batching import verdicts_in
from transforms.storage import files as storage
from transforms.stream import local_state, record
from transforms.stream.record import RecordingProgress, RecordPaths, RecordVerdicts, recording_progress


def block(*numbers: int) -> VerdictBlock:
    return blocks.dump(
        tables.verdicts_table(
            [
                Verdict(ImageRef(f"/in/{n}.png", f"{n}.png"), Status.KEPT, digest=b"%032d" % n)
                if n % 3
                else Verdict(ImageRef(f"/in/{n}.png", f"{n}.png"), Status.REJECTED, Reason.EMPTY)
                for n in numbers
            ]
        )
    )


def recorded(
    folders: RecordPaths,
    given: list[VerdictBlock],
    shards: int = 1,
    failing: bool = False,
    max_waiting_bytes: int = 1 << 26,
) -> list[list[str]]:
    """Records blocks. Returns the names in each block that is passed on."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        verdicts = pipeline | scripted([(1.0, [one]) for one in given])
        if failing:
            verdicts |= "Fail" >> beam.ParDo(FailOnceFn())
        return {
            "passed": verdicts
            | RecordVerdicts(folders, interval=0.05, shards=shards, max_waiting_bytes=max_waiting_bytes)
        }

    passed = run(build)["passed"]
    return [[verdict.ref.name for verdict in verdicts_in(one)] for one in passed]


def names_in(path: Path) -> list[str]:
    return [Path(json.loads(line)["uri"]).name for line in path.read_text().splitlines()]


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_each_verdict_is_in_one_file_and_passed_on_once(tmp_path: Path, shards: int, failing: bool) -> None:
    folders = RecordPaths(f"run-{shards}-{failing}", f"{tmp_path}/records/", f"{tmp_path}/counts/")
    given = [block(*range(start, start + 7)) for start in range(0, 70, 7)]
    passed = recorded(folders, given, shards, failing)
    wanted = [f"{n}.png" for n in range(70)]
    assert sorted(name for names in passed for name in names) == sorted(wanted)
    files = sorted((tmp_path / "records").iterdir())
    assert sorted(names_in(path) for path in files) == sorted(passed)
    numbers = collections.Counter(path.name.rsplit("-", 1)[0] for path in files)
    assert len(numbers) <= shards
    for prefix, count in numbers.items():
        assert [path.name for path in files if path.name.startswith(f"{prefix}-")] == [
            f"{prefix}-{number:08}.jsonl" for number in range(count)
        ]
    counts = [json.loads(path.read_text()) for path in (tmp_path / "counts").iterdir()]
    assert len(counts) == len(files)
    assert sum(count["Initial_Image_Count"] for count in counts) == 70
    assert sum(count["Rejected"].get("empty", 0) for count in counts) == len(range(0, 70, 3))


def test_file_is_written_early_when_many_bytes_wait(tmp_path: Path) -> None:
    passed = recorded(RecordPaths("much", f"{tmp_path}/"), [block(1), block(2)], max_waiting_bytes=100)
    assert passed == [["1.png"], ["2.png"]]


def test_verdicts_are_passed_on_without_a_directory(tmp_path: Path) -> None:
    assert recorded(RecordPaths("none"), [block(1, 2)]) == [["1.png", "2.png"]]
    assert list(tmp_path.iterdir()) == []


def test_recorded_verdicts_are_saved_until_they_are_delivered(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    folders = RecordPaths("noted", f"{tmp_path}/records/", state=str(state))
    recorded(folders, [block(1, 2)])
    [(name, noted)] = local_state.undelivered(str(state))
    assert (tmp_path / f"records/records-{name}.jsonl").exists()
    assert [verdict.ref.name for verdict in verdicts_in(noted)] == ["1.png", "2.png"]
    local_state.forget_undelivered(str(state))
    assert list(local_state.undelivered(str(state))) == []


def test_progress_is_done_when_everything_received_so_far_is_recorded() -> None:
    now = 0.0
    progress = RecordingProgress(lambda: now)
    assert progress.is_done(since=5.0)  # nothing was received
    now = 6.0
    progress.recorded()
    now = 7.0
    progress.received()
    assert progress.is_done(since=5.5)  # later verdicts do not matter
    assert not progress.is_done(since=6.5)
    now = 7.5
    progress.recorded()
    assert progress.is_done(since=9.0)  # nothing is left


def test_each_run_has_its_own_progress() -> None:
    assert recording_progress("one") is recording_progress("one")
    assert recording_progress("one") is not recording_progress("other")


class TestCodes:
    """The codes in a state directory, by digest."""

    def table(self, *numbers: int) -> Any:
        codes = blocks.FINGERPRINTS.field("codes")
        return pa.table(
            {
                "digest": pa.array([b"%032d" % n for n in numbers], pa.binary(32)),
                "codes": pa.array(
                    [[{"view": 0, "kind": 0, "data": b"%032d" % n}] for n in numbers], codes.type
                ),
            },
            schema=local_state.CODES,
        )

    def test_wanted_codes_are_found_once_and_others_removed(self, tmp_path: Path) -> None:
        for run_name, numbers in (("a", (1, 2)), ("a", (3,)), ("b", (2, 4))):
            local_state.append(str(tmp_path / f"codes-{run_name}.blocks"), self.table(*numbers))
        wanted = pa.array([b"%032d" % n for n in (2, 4, 9)], pa.binary())
        for _ in range(2):
            found = local_state.take_codes(str(tmp_path), wanted)
            assert sorted(row[0]["data"] for row in found["codes"].to_pylist()) == [
                b"%032d" % n for n in (2, 4)
            ]
            assert [path.name for path in tmp_path.iterdir()] == ["codes-0.blocks"]
        assert len(local_state.take_codes(str(tmp_path), wanted[:0])) == 0

    def test_incomplete_last_block_is_left_out(self, tmp_path: Path) -> None:
        path = tmp_path / "codes-a.blocks"
        local_state.append(str(path), self.table(1))
        whole = path.read_bytes()
        for cut in range(len(whole)):
            path.write_bytes(whole + whole[:cut])
            assert len(list(local_state.read_blocks(str(path)))) == 1

    def test_damaged_length_is_reported_and_hides_no_block(self, tmp_path: Path) -> None:
        """Whichever block it belongs to, and whatever the length is then."""
        path = tmp_path / "codes-a.blocks"
        for number in range(3):
            local_state.append(str(path), self.table(number))
        whole = path.read_bytes()
        size = len(whole) // 3
        for at in (0, size, 2 * size):
            for length in (0, 1, size - 9, size - 7, size, 2 * size - 8, 1 << 20, 1 << 40, (1 << 64) - 1):
                path.write_bytes(whole[:at] + length.to_bytes(8, "big") + whole[at + 8 :])
                with pytest.raises(DedupError, match=r"codes-a\.blocks is damaged; move it elsewhere"):
                    local_state.take_codes(str(tmp_path), pa.array([], pa.binary()))
                assert path.exists()

    def test_damaged_byte_is_reported_or_harmless(self, tmp_path: Path) -> None:
        path = tmp_path / "codes-a.blocks"
        local_state.append(str(path), self.table(1, 2))
        whole = path.read_bytes()
        for at in range(len(whole)):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x15]) + whole[at + 1 :])
            with contextlib.suppress(DedupError):
                for name in tmp_path.iterdir():
                    assert name == path
                local_state.take_codes(str(tmp_path), pa.array([b"%032d" % 1], pa.binary()))
                (tmp_path / "codes-0.blocks").unlink()

    def test_append_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "codes-a.blocks"
        local_state.append(str(path), self.table(1))
        before = path.read_bytes()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large") as error:
                local_state.append(str(path), self.table(2))
            assert error.value.filename == str(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before


def test_records_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is synced before it gets its name, its directory after it; undelivered verdicts come first."""
    done: list[object] = []
    monkeypatch.setattr(os, "fsync", lambda number: done.append(os.fstat(number).st_ino))
    give_name = storage.give_name

    def give(partial: str, path: str, *rest: Any) -> None:
        done.append(os.path.basename(path))
        give_name(partial, path, *rest)

    monkeypatch.setattr(storage, "give_name", give)
    folders = RecordPaths("run", str(tmp_path / "records"), state=str(tmp_path))
    record.write_files(folders, "name", block(1))
    wanted: list[object] = []
    for path in (tmp_path / "undelivered-name.block", tmp_path / "records/records-name.jsonl"):
        wanted += [path.stat().st_ino, path.name, path.parent.stat().st_ino]
    assert done == wanted
