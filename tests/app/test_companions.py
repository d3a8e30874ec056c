"""Files that belong to an image go where it goes: records, counts and copies."""

import json
import os
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.core.companions import owners
from beam_dedup.core.imaging.formats import sniff
from tests.app.cli_runs import dedup, tree
from tests.transforms.files import encoded, write

RAW = b"II*\x00\x10\x00\x00\x00CR"  # what a CR2 file begins with


def random_tree(folder: Path, rng: random.Random) -> None:
    """Makes images of few contents, with and without companions of few contents, and files that are none."""
    pictures = [encoded(seed, "JPEG") for seed in range(3)]
    for directory in ("a", "b", "b/c"):
        for stem in ("IMG_1", "IMG_2", "x"):
            for suffix in rng.sample(["jpg", "JPG", "heic", "png"], rng.choice([0, 1, 1, 2])):
                data = rng.choice([*pictures, *pictures, b"no picture", b""])
                write(folder / directory / f"{stem}.{suffix}", data)
            for suffix in rng.sample(["xmp", "MOV", "cr2", "jpg.xmp", "json"], rng.choice([0, 1, 2, 3])):
                data = b"%s %d" % (suffix.lower().encode(), rng.randrange(3))
                write(folder / directory / f"{stem}.{suffix}", RAW + data if suffix == "cr2" else data)
            if rng.random() < 0.3:
                write(folder / directory / f"IMG_E{stem[-1]}.JPG", rng.choice(pictures))


def records_of(path: Path) -> dict[str, dict[str, Any]]:
    return {record["uri"]: record for record in map(json.loads, path.read_text("utf-8").splitlines())}


def is_image(path: Path) -> bool:
    return sniff(path.read_bytes()) is not None


def expected_companions(folder: Path) -> dict[str, list[str]]:
    """The definition: the companions of each image, without those that are read since the file that owns them is none."""
    found = defaultdict(list)
    for directory in {path.parent for path in folder.rglob("*") if path.is_file()}:
        names = [path.name for path in directory.iterdir() if path.is_file()]
        for name, images in owners(names).items():
            for image in images:
                if is_image(directory / image):
                    found[str(directory / image)].append(str(directory / name))
    return {image: sorted(names) for image, names in found.items()}


@pytest.mark.parametrize(("seed", "shows"), [(0, False), (1, False), (2, True)])
def test_no_content_of_a_companion_is_missing(
    seed: int, shows: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    random_tree(folder, random.Random(f"companions {seed}"))
    options = ("-i", folder, "-d", out, *(["-s"] if shows else []))
    assert dedup("-e", *options, "--records", tmp_path / "r.jsonl", "--counts", tmp_path / "c") == 0
    records, counts = records_of(tmp_path / "r.jsonl"), json.loads((tmp_path / "c").read_text())
    expected = expected_companions(folder)
    assert expected
    assert {uri: record["companions"] for uri, record in records.items() if record["companions"]} == expected
    files = {str(path) for path in folder.rglob("*") if path.is_file()}
    companions = {name for names in expected.values() for name in names}
    assert set(records) | companions == files, "each file is judged, or goes with an image that is"
    assert counts["Companion_Count"] == len(files) - len(records)
    copies = tree(out)
    assert set(copies.values()) >= {Path(name).read_bytes() for name in companions}
    for record in records.values():
        for name in record["companions"]:
            relative = os.path.relpath(name, folder)
            if record["status"] == "kept":
                assert copies[relative] == Path(name).read_bytes()
            elif shows:
                key = records[record["duplicate_of"]]["digest"]
                assert copies[f"_duplicates/{key}/{relative}"] == Path(name).read_bytes()
    assert "Not of this run" not in capsys.readouterr().out
    assert dedup("-e", *options) == 0
    assert tree(out) == copies, "a second run changed something"
    assert "Not of this run" not in capsys.readouterr().out


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Two equal shots of a JPEG and a RAW file; the second one's side-car was edited."""
    folder = tmp_path / "in"
    for directory, side_car in (("a", b"first"), ("b", b"edited")):
        write(folder / directory / "IMG_1.JPG", encoded(1, "JPEG"))
        write(folder / directory / "IMG_1.CR2", RAW)
        write(folder / directory / "img_1.xmp", side_car)
    return folder


def test_a_duplicate_leaves_only_content_that_is_nowhere_else(shots: Path, tmp_path: Path) -> None:
    assert dedup("-n", "-i", shots, "-d", tmp_path / "out", "--records", tmp_path / "r.jsonl") == 0
    assert set(tree(tmp_path / "out")) == {"a/IMG_1.JPG", "a/IMG_1.CR2", "a/img_1.xmp", "b/img_1.xmp"}
    assert {record["format"] for record in records_of(tmp_path / "r.jsonl").values()} == {"JPEG"}


def test_without_companions_each_file_is_judged(shots: Path, tmp_path: Path) -> None:
    assert dedup("-e", "-i", shots, "--companions", "none", "--records", tmp_path / "r.jsonl") == 0
    records = records_of(tmp_path / "r.jsonl")
    assert len(records) == 6
    assert not any(record["companions"] for record in records.values())
    raw = records[str(shots / "b/IMG_1.CR2")]
    assert (raw["status"], raw["duplicate_of"]) == ("duplicate", str(shots / "a/IMG_1.CR2"))


def test_a_preview_lists_companions_and_copies_none(
    shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(shots / "a/IMG_1.HEIC", encoded(2))
    write(shots / "a/IMG_1.mov", b"movie")
    assert dedup("-e", "-i", shots, "-d", tmp_path / "out", "--preview") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(f"{shots}/a/IMG_1.mov -> {tmp_path}/out/a/IMG_1.mov") == 1
    assert not (tmp_path / "out").exists()


def test_a_companion_that_cannot_be_copied_is_named(
    shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "out/a/img_1.xmp", b"of somebody else")
    assert dedup("-e", "-i", shots, "-d", tmp_path / "out") == 1
    assert "a/img_1.xmp exists with other content" in capsys.readouterr().err
    assert (tmp_path / "out/a/img_1.xmp").read_bytes() == b"of somebody else"


def test_a_companion_outside_of_the_input_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "secret", b"secret")
    write(tmp_path / "in/a.jpg", encoded(1, "JPEG"))
    (tmp_path / "in/a.xmp").symlink_to(tmp_path / "secret")
    options = ("-e", "-i", tmp_path / "in", "-d", tmp_path / "out", "--records", tmp_path / "r.jsonl")
    assert dedup(*options, "--links", "inside") == 0
    records = records_of(tmp_path / "r.jsonl")
    assert records[str(tmp_path / "in/a.xmp")]["reason"] == "link_outside"
    assert records[str(tmp_path / "in/a.jpg")]["companions"] == []
    assert b"secret" not in tree(tmp_path / "out").values()


def test_companions_of_a_pattern_are_those_that_match(shots: Path, tmp_path: Path) -> None:
    assert dedup("-e", "-i", f"{shots}/*/*.[JC]*", "--records", tmp_path / "r.jsonl") == 0
    records = records_of(tmp_path / "r.jsonl")
    assert {uri: record["companions"] for uri, record in records.items()} == {
        f"{shots}/{name}/IMG_1.JPG": [f"{shots}/{name}/IMG_1.CR2"] for name in "ab"
    }


def test_companions_need_a_directory_and_a_batch_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "l.jsonl", b"")
    assert dedup("-e", "-l", tmp_path / "l.jsonl", "--companions", "all") == 2
    assert "--companions applies only with -i" in capsys.readouterr().err
    assert dedup("-e", "--watch", "-i", tmp_path, "--companions", "none") == 2
    assert "--companions is not available with --watch" in capsys.readouterr().err
