"""Runs batches on directories, and checks records, counts, groups and copies."""

import json
import os
import shutil
from pathlib import Path

import fastavro
import pytest

from beam_dedup import __version__
from tests.app.cli_runs import dedup, records_in, tree

SAMPLE_COUNTS = {
    "Initial_Image_Count": 42,
    "Final_Image_Count": 17,
    "Exact_Duplicate_Count": 5,
    "Near_Duplicate_Count": 18,
    "Rejected_Count": 2,
    "Rejected": {"empty": 1, "not_an_image": 1},
}


def test_near_mode_with_all_outputs(
    samples: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(samples)
    out, records, counts, groups = (tmp_path / name for name in ("out", "r.jsonl", "c.json", "g.json"))
    assert (
        dedup("-n", "-i", samples, "-d", out, "-s", "--records", records, "--counts", counts, "-o", groups)
        == 0
    )
    assert tree(samples) == before

    counted = json.loads(counts.read_text())
    assert counted.pop("Plan").startswith("34 codes within 8 bits")
    assert counted == SAMPLE_COUNTS

    shown = capsys.readouterr().out
    for name, count in SAMPLE_COUNTS.items():
        if name != "Rejected":
            assert [name, str(count)] == next(
                line.split()[:2] for line in shown.splitlines() if line.startswith(name)
            )
    for path in (out, records, counts, groups):
        assert str(path) in shown

    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert [line["uri"] for line in lines] == sorted(str(samples / name) for name in before)
    by_uri = {line["uri"]: line for line in lines}
    placed = tree(out)
    for line in lines:
        name = os.path.relpath(line["uri"], samples)
        match line["status"]:
            case "kept":
                assert placed.pop(name) == before[name]
            case "duplicate":
                witness = by_uri[line["duplicate_of"]]
                assert witness["status"] == "kept"
                assert line["distance"] <= 8
                assert placed.pop(f"_duplicates/{witness['digest']}/{name}") == before[name]
    assert not placed, "copies without a record"

    members = {
        key: [member["filename"] for member in group] for key, group in json.loads(groups.read_text()).items()
    }
    for key, (first, *others) in members.items():
        assert by_uri[first]["status"] == "kept"
        assert by_uri[first]["digest"] == key
        assert {by_uri[other]["duplicate_of"] for other in others} <= {first}
    assert sum(map(len, members.values())) == 40


def test_a_second_run_changes_nothing(samples: Path, tmp_path: Path) -> None:
    arguments = ("-n", "-i", samples, "-d", tmp_path / "out", "-s", "--records", tmp_path / "r.jsonl")
    assert dedup(*arguments) == 0
    first = tree(tmp_path)
    inodes = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*")}
    assert dedup(*arguments) == 0
    assert tree(tmp_path) == first
    assert {path: path.stat().st_ino for path in (tmp_path / "out").rglob("*")} == inodes


def test_outputs_inside_the_input_are_not_read(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(samples, folder)
    names = {"-d": "out", "--records": "records.jsonl", "--counts": "counts.json", "-o": "groups.json"}
    arguments = [part for flag, name in names.items() for part in (flag, folder / name)]
    for _ in range(2):
        assert dedup("-i", folder, *arguments) == 0
        assert json.loads((folder / "counts.json").read_text())["Initial_Image_Count"] == 42


def test_exact_mode_is_the_default(samples: Path, tmp_path: Path) -> None:
    for name, flags in (("default", ()), ("e", ("-e",))):
        assert dedup(*flags, "-i", samples, "--records", tmp_path / name) == 0
    assert (tmp_path / "default").read_bytes() == (tmp_path / "e").read_bytes()
    records = [json.loads(line) for line in (tmp_path / "e").read_text().splitlines()]
    assert {record["reason"] for record in records} == {None, "exact", "empty", "not_an_image"}
    assert sum(record["status"] == "duplicate" for record in records) == 5


def test_avro_records_equal_json_records(samples: Path, tmp_path: Path) -> None:
    assert dedup("-n", "-i", samples, "--records", tmp_path / "r.avro") == 0
    assert dedup("-n", "-i", samples, "--records", tmp_path / "r.jsonl") == 0
    with open(tmp_path / "r.avro", "rb") as file:
        records = list(fastavro.reader(file))
    assert records == [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]


def test_empty_directory_gives_empty_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    counts, groups = tmp_path / "c.json", tmp_path / "g.json"
    assert (
        dedup("-n", "-i", tmp_path / "empty", "--counts", counts, "-o", groups, "--records", tmp_path / "r")
        == 0
    )
    assert json.loads(counts.read_text())["Initial_Image_Count"] == 0
    assert json.loads(groups.read_text()) == {}
    assert (tmp_path / "r").read_bytes() == b""
    assert f"no files in {tmp_path / 'empty'}" in capsys.readouterr().out


def test_groups_go_to_image_locations_by_default(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from beam_dedup.cli import main

    monkeypatch.chdir(tmp_path)
    assert main(["-i", str(samples), "--quiet"]) == 0
    assert json.loads((tmp_path / "image_locations.json").read_text())


def test_quiet_prints_nothing(samples: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert dedup("-n", "-i", samples, "--quiet") == 0
    assert capfd.readouterr() == ("", "")


def test_verify_and_k_change_the_verdicts(samples: Path, tmp_path: Path) -> None:
    found = {}
    for flags in ((), ("-k", "0"), ("--verify", "0"), ("-k", "16", "--verify", "256")):
        assert dedup("-n", "-i", samples, "--records", tmp_path / "r", *flags) == 0
        found[flags] = sum(record["reason"] == "near" for record in records_in(tmp_path / "r").values())
    assert found["-k", "0"] < found[()]
    assert found["--verify", "0"] < found[()]
    assert found["-k", "16", "--verify", "256"] >= found[()]


def test_unusual_file_names(tmp_path: Path) -> None:
    """Names with line breaks, quotes, the form of an option, 244 bytes, and bytes that are not UTF-8."""
    folder = tmp_path / "in"
    folder.mkdir()
    names = [
        b"new\nline.gif",
        b'comma,quote".gif',
        b"-rf.gif",
        b"n" * 240 + b".gif",
        b"latin-\xe5.gif",
        "图片 😀".encode(),
    ]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(b"GIF89a" + name)
    out, records = tmp_path / "out", tmp_path / "r.jsonl"
    assert dedup("-i", folder, "-d", out, "--records", records, "-o", tmp_path / "g.json") == 0
    copies = [name.replace(b"\n", b"%0A") for name in names]
    assert sorted(os.listdir(os.fsencode(out))) == sorted(copies)
    lines = [json.loads(line) for line in records.read_text("utf-8").splitlines()]
    assert sorted(os.fsencode(os.path.basename(line["uri"])) for line in lines) == sorted(names)
    assert len(json.loads((tmp_path / "g.json").read_text("utf-8"))) == len(names)


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    from beam_dedup.cli import main

    for arguments in ([], ["--help"], ["-h"]):
        assert main(arguments) == 0
        shown = capsys.readouterr().out
        assert "Examples:" in shown
        assert "--near_duplicates" in shown
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dedup {__version__}\n"
    assert main(["--beam_help"]) == 0
    assert "--direct_running_mode" in capsys.readouterr().out
