"""Tests of --max_bytes, --max_pixels and --decode_timeout, from the command line to the records."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from beam_dedup.core.reading import decoder_process
from beam_dedup.samples import picture
from tests.app.cli_runs import ROOT, dedup, dedup_apart, records_in
from tests.core.archives.made_archives import zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a small picture and a large one, each as a file and as a member of an archive."""
    folder = tmp_path / "in"
    folder.mkdir()
    picture(1, (60, 40)).save(folder / "small.png")
    picture(2, (600, 400)).save(folder / "large.png", compress_level=0)
    members = {name: (folder / f"{name}.png").read_bytes() for name in ("small", "large")}
    (folder / "both.zip").write_bytes(zipped(members))
    return folder


def records(folder: Path, *flags: object) -> dict[str, dict[str, Any]]:
    """Runs dedup on the directory; returns the records by base name."""
    path = folder.parent / "r.jsonl"
    assert dedup("-i", folder, "--records", path, "--quiet", *flags) == 0
    return records_in(path)


def test_larger_files_and_members_are_rejected(folder: Path) -> None:
    most = (folder / "large.png").stat().st_size
    assert {one["reason"] for one in records(folder, "--max_bytes", most).values()} == {None, "exact"}
    found = records(folder, "--max_bytes", most - 1)
    assert {name for name, one in found.items() if one["reason"] == "too_large"} == {
        "large.png",
        "both.zip!large",
    }
    assert found["large.png"]["detail"] == f"{most} bytes; an image may have {most - 1}"
    assert found["small.png"]["duplicate_of"] == f"{folder}/both.zip!small"


def test_pictures_of_more_pixels_are_compared_by_their_bytes(folder: Path) -> None:
    found = records(folder, "-n", "--max_pixels", 600 * 400)
    assert not any(one["flags"] for one in found.values())
    found = records(folder, "-n", "--max_pixels", 600 * 400 - 1)
    assert {name for name, one in found.items() if one["flags"] == ["undecodable"]} == {
        "large.png",
        "both.zip!large",
    }
    assert found["both.zip!large"]["detail"] == "600 x 400 pixels; at most 239999 are decoded"
    assert found["large.png"]["reason"] == "exact", "it is compared by its bytes"


@pytest.mark.parametrize("mode", [[], ["-n"]])
def test_slow_images_are_rejected(mode: list[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, time\n"
        f"if {decoder_process.__name__!r} in sys.orig_argv:\n"
        "    from beam_dedup.core.reading import reader as inputs\n"
        "    real = inputs.fingerprint\n"
        "    def slow(ref, *rest):\n"
        "        time.sleep(60 if 'large' in ref.uri else 0)\n"
        "        return real(ref, *rest)\n"
        "    inputs.fingerprint = slow\n"
    )
    ended = dedup_apart(
        *(
            "-i",
            folder,
            "-o",
            "",
            "--records",
            tmp_path / "r.jsonl",
            "--decode_timeout",
            "5",
            "--quiet",
            *mode,
        ),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    found = records_in(tmp_path / "r.jsonl")
    assert {name: one["reason"] for name, one in found.items()} == {
        "both.zip!large": "timeout",
        "both.zip!small": None,
        "large.png": "timeout",
        "small.png": "exact",
    }
    assert found["large.png"]["detail"] == "reading or decoding took longer than 5 s"


def test_rejected_images_are_counted(folder: Path, tmp_path: Path) -> None:
    Image.new("L", (9, 9)).save(folder / "tiny.gif")
    assert dedup("-i", folder, "--max_bytes", 200, "--counts", tmp_path / "c.json", "--quiet") == 0
    counts = json.loads((tmp_path / "c.json").read_text())
    assert counts["Rejected"] == {"too_large": 4}
    assert counts["Final_Image_Count"] == 1
