"""Runs on real pictures whose duplicates are known.

The pictures are not part of the project. Without them beside the checkout, these tests are skipped.
"""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.cli_runs import ROOT, dedup, records_in

CORPUS = ROOT.parent / "shared" / "corpus"
pytestmark = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="needs the corpus of real pictures in ../shared/corpus, beside the checkout"
)


def judged(folder: str, tmp_path: Path, *flags: str) -> dict[str, dict[str, Any]]:
    return records_of(CORPUS / folder, tmp_path, *flags)


def records_of(folder: Path, tmp_path: Path, *flags: str) -> dict[str, dict[str, Any]]:
    assert dedup(*flags, "-i", folder, "--records", tmp_path / "r", "--quiet") == 0
    return records_in(tmp_path / "r")


def kept(records: dict[str, dict[str, Any]]) -> set[str]:
    return {name for name, record in records.items() if record["status"] == "kept"}


def test_exact_duplicates_of_the_seed_set(tmp_path: Path) -> None:
    records = judged("seed", tmp_path)
    assert len(records) == 15
    assert records.keys() - kept(records) == {"dup_blue2.jpg", "dup_red2.jpg"}


def test_near_duplicates_of_the_seed_set(tmp_path: Path) -> None:
    records = judged("seed", tmp_path, "-n")
    gone = {name: Path(records[name]["duplicate_of"]).name for name in records.keys() - kept(records)}
    assert gone == {
        "dup_blue2.jpg": "dup_blue1.jpg",
        "dup_red2.jpg": "dup_red1.jpg",
        "dup_regular_thumbnail.jpg": "dup_regular.jpg",
    }
    assert records["vectorportal_gun_vector.eps"]["flags"] == ["undecodable"]


@pytest.mark.parametrize(
    ("folder", "initial", "final"), [("lookalikes", 250, 250), ("kodak", 24, 24), ("orientation", 18, 2)]
)
def test_number_of_kept_images(folder: str, initial: int, final: int, tmp_path: Path) -> None:
    records = judged(folder, tmp_path, "-n")
    images = {name for name, record in records.items() if record["status"] != "rejected"}
    assert (len(images), len(kept(records))) == (initial, final)


def test_light_edits_are_duplicates_of_the_original(tmp_path: Path) -> None:
    records = judged("bridge", tmp_path, "-n")
    with open(CORPUS / "bridge" / "truth.csv", newline="") as file:
        near = {row["file"] for row in csv.DictReader(file) if row["level"] == "near"}
    assert len(near) > 5
    assert {Path(str(records[name]["duplicate_of"])).name for name in near} == {"aaa-orig.jpg"}


def test_edits_and_hostile_files_get_the_expected_verdicts(tmp_path: Path) -> None:
    """Animations are not duplicates of still pictures. Cropped and mirrored copies may be duplicates or not."""
    photo = sorted((CORPUS / "kodak").glob("*.png"))[0]
    make = [sys.executable, str(CORPUS / "hostile.py"), "make", str(tmp_path / "h"), "--from", str(photo)]
    subprocess.run(make, check=True, capture_output=True)
    records = records_of(tmp_path / "h" / "images", tmp_path, "-n")
    with open(tmp_path / "h" / "truth.csv", newline="") as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    assert records.keys() == truth.keys()
    group = {name for name, row in truth.items() if row["group"] == "1"}
    [best] = {str(records[name]["duplicate_of"]) for name in group if truth[name]["level"] == "exact"} - {
        "None"
    }
    for name, row in truth.items():
        record = records[name]
        gone = record["status"] == "duplicate"
        if name in group and row["level"] in ("exact", "near") and "frames" not in row["transform"]:
            assert gone or record["uri"] == best, name
            assert record["duplicate_of"] in (best, None), name
        if name not in group:
            assert not gone, name
