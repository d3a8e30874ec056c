"""Records of a stream: each verdict in one file, files whole and numbered, what follows a record follows it, and again after a failure."""

import collections
import json
import os
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.model import ImageRef, Reason, Status, Verdict
from tests.transforms.streams import FailOnceFn, run, scripted
from transforms.batching import verdicts_in
from transforms.storage import files as storage
from transforms.stream import local_state, record
from transforms.stream.record import RecordPaths, RecordVerdicts, recording_progress


def block(*numbers: int) -> bytes:
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
    folders: RecordPaths, given: list[bytes], shards: int = 1, failing: bool = False
) -> list[list[str]]:
    """The names in each block that is passed on."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        verdicts = pipeline | scripted([(1.0, [one]) for one in given])
        if failing:
            verdicts |= "Fail" >> beam.ParDo(FailOnceFn())
        return {"passed": verdicts | RecordVerdicts(folders, interval=0.05, shards=shards)}

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


def test_files_are_cut_when_there_is_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_MOST_BYTES", 100)
    passed = recorded(RecordPaths("much", f"{tmp_path}/"), [block(1), block(2)])
    assert passed == [["1.png"], ["2.png"]]


def test_without_a_folder_verdicts_are_passed_on(tmp_path: Path) -> None:
    assert recorded(RecordPaths("none"), [block(1, 2)]) == [["1.png", "2.png"]]
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_noted_until_it_is_delivered(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    folders = RecordPaths("noted", f"{tmp_path}/records/", state=str(state))
    recorded(folders, [block(1, 2)])
    [(name, noted)] = local_state.undelivered(str(state))
    assert (tmp_path / f"records/records-{name}.jsonl").exists()
    assert [verdict.ref.name for verdict in verdicts_in(noted)] == ["1.png", "2.png"]
    local_state.forget_undelivered(str(state))
    assert list(local_state.undelivered(str(state))) == []


def test_the_desk_knows_what_is_recorded() -> None:
    one = recording_progress("desk")
    assert one.is_done(since=5.0)  # nothing has come
    one._took, one._wrote = 7.0, 6.0
    assert one.is_done(since=5.5)  # what came later is nobody's matter
    assert not one.is_done(since=6.5)
    one._wrote = 7.5
    assert one.is_done(since=9.0)  # nothing is left


class TestCodes:
    """What is remembered of codes, by digest."""

    def table(self, *numbers: int) -> Any:
        codes = blocks.FINGERPRINTS.field("codes")
        return local_state.pa.table(
            {
                "digest": local_state.pa.array([b"%032d" % n for n in numbers], local_state.pa.binary(32)),
                "codes": local_state.pa.array(
                    [[{"view": 0, "kind": 0, "data": b"%d" % n}] for n in numbers], codes.type
                ),
            },
            schema=local_state.CODES,
        )

    def test_what_is_wanted_is_found_once_and_the_rest_forgotten(self, tmp_path: Path) -> None:
        for run_name, numbers in (("a", (1, 2)), ("a", (3,)), ("b", (2, 4))):
            local_state.append(str(tmp_path / f"codes-{run_name}.blocks"), self.table(*numbers))
        wanted = local_state.pa.array([b"%032d" % n for n in (2, 4, 9)], local_state.pa.binary())
        for _ in range(2):
            found = local_state.codes_of(str(tmp_path), wanted)
            assert sorted(row[0]["data"] for row in found["codes"].to_pylist()) == [b"2", b"4"]
            assert [path.name for path in tmp_path.iterdir()] == ["codes-0.blocks"]
        assert len(local_state.codes_of(str(tmp_path), wanted[:0])) == 0

    def test_a_block_that_was_cut_off_is_left(self, tmp_path: Path) -> None:
        path = tmp_path / "codes-a.blocks"
        local_state.append(str(path), self.table(1))
        whole = path.read_bytes()
        for cut in (3, 9, len(whole) - 1):
            path.write_bytes(whole + whole[:cut])
            assert len(list(local_state._blocks(str(path)))) == 1


def test_records_outlast_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a file gets its name its bytes are on the disk, and then the name is: of records, and of what is not copied yet."""
    done: list[object] = []
    monkeypatch.setattr(storage.os, "fsync", lambda number: done.append(os.fstat(number).st_ino))
    give_name = storage.give_name

    def give(partial: str, path: str, replace: bool) -> None:
        done.append(os.path.basename(path))
        give_name(partial, path, replace)

    monkeypatch.setattr(storage, "give_name", give)
    folders = RecordPaths("run", str(tmp_path / "records"), state=str(tmp_path))
    record.write_files(folders, "name", block(1))
    wanted: list[object] = []
    for path in (tmp_path / "undelivered-name.block", tmp_path / "records/records-name.jsonl"):
        wanted += [path.stat().st_ino, path.name, path.parent.stat().st_ino]
    assert done == wanted
