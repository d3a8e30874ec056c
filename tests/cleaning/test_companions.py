"""Companions go with the duplicates that `dedup clean` takes away, unless they belong to a file that stays, or are the last copy."""

import json
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.cleaning import companions, files
from beam_dedup.cli import main
from tests.app.cli_runs import dedup
from tests.cleaning import test_laws
from tests.cleaning.trees import (
    digest_of,
    random_tree,
    record,
    snapshot,
    with_reflinks,
    without_inodes,
    write_records,
)
from tests.pictures import encoded, photo


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory; the trash is in it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    with_reflinks(monkeypatch)
    return tmp_path


def files_of(shot: str, **contents: bytes) -> list[Path]:
    """Makes the companions of a shot, by suffix."""
    Path(shot).parent.mkdir(parents=True, exist_ok=True)
    made = [Path(f"{shot}.{suffix}") for suffix in contents]
    for path, content in zip(made, contents.values(), strict=True):
        path.write_bytes(content)
    return made


def two_shots(reason: str = "exact", **second: bytes) -> Path:
    """Makes a/i.jpg with three companions, and its duplicate b/i.jpg; returns their records."""
    own = files_of("a/i", jpg=b"image", cr2=b"raw", xmp=b"first", mov=b"movie")
    others = files_of("b/i", jpg=b"image" if reason == "exact" else b"near", **second)
    return write_records(
        Path("r.jsonl"),
        record(own[0], companions=own[1:]),
        record(others[0], own[0], reason, companions=others[1:]),
    )


def left_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def undone(folder: Path) -> bool:
    before = snapshot(folder)
    return main(["undo", *map(str, folder.glob("r.jsonl.clean-*")), "--quiet"]) == 0 and bool(before)


@pytest.mark.parametrize("how", ["trash", "delete", "move:away"])
def test_companions_with_the_bytes_of_those_of_the_witness_go(how: str, workplace: Path) -> None:
    two_shots(cr2=b"raw", xmp=b"first", mov=b"movie")
    before = snapshot(workplace / "b")
    assert main(["clean", "r.jsonl", "--how", how, "--yes", "--quiet"]) == 0
    assert left_in("b") == set()
    assert left_in("a") == {"i.jpg", "i.cr2", "i.xmp", "i.mov"}
    if how.startswith("move"):
        assert {path.name for path in Path("away").rglob("*.*")} == {"i.jpg", "i.cr2", "i.xmp", "i.mov"}
    assert undone(workplace)
    assert without_inodes(snapshot(workplace / "b")) == without_inodes(before)


@pytest.mark.parametrize(
    ("how", "reason", "gone"),
    [
        ("trash", "exact", False),
        ("delete", "exact", False),
        ("move:away", "exact", True),
        ("trash", "near", False),
        ("delete", "near", False),
        ("move:away", "near", True),
    ],
)
def test_content_that_no_kept_image_has_goes_only_where_it_can_come_back(
    how: str, reason: str, gone: bool, capsys: pytest.CaptureFixture[str], workplace: Path
) -> None:
    two_shots(reason, cr2=b"another raw", xmp=b"edited", mov=b"movie")
    before = snapshot(workplace / "b")
    assert main(["clean", "r.jsonl", "--how", how, "--near", "--yes"]) == (0 if gone else 1)
    text = capsys.readouterr().out
    # The other files are left with the RAW file.
    assert left_in("b") == (set() if gone else {"i.cr2", "i.xmp", "i.mov"})
    if not gone:
        assert f"b/i.cr2: it belongs to {workplace}/b/i.jpg, which is gone, and no companion of" in text
    if (how, reason) != ("delete", "near"):
        assert undone(workplace)
        assert without_inodes(snapshot(workplace / "b")) == without_inodes(before)


@pytest.mark.parametrize(("how", "left"), [("trash", set()), ("delete", {"i.xmp", "i.mov"})])
def test_side_cars_and_movies_of_near_duplicates_go_to_the_trash(
    how: str, left: set[str], workplace: Path
) -> None:
    two_shots("near", xmp=b"another", mov=b"another movie")
    before = snapshot(workplace / "b")
    assert main(["clean", "r.jsonl", "--how", how, "--near", "--yes", "--quiet"]) == (1 if left else 0)
    assert left_in("b") == left
    if how == "trash":
        assert undone(workplace)
        assert without_inodes(snapshot(workplace / "b")) == without_inodes(before)


@pytest.mark.parametrize("how", ["hardlink", "symlink", "reflink"])
def test_links_leave_companions_alone(how: str) -> None:
    two_shots(cr2=b"raw", xmp=b"first")
    assert main(["clean", "r.jsonl", "--how", how, "--yes", "--quiet"]) == 0
    assert left_in("b") == {"i.jpg", "i.cr2", "i.xmp"}
    assert not Path("b/i.xmp").is_symlink()
    assert Path("b/i.xmp").stat().st_ino != Path("a/i.xmp").stat().st_ino


@pytest.mark.parametrize("is_known", [True, False], ids=["kept by the run", "newer than the run"])
def test_companions_of_an_image_that_stays_are_not_touched(is_known: bool, workplace: Path) -> None:
    records = two_shots(cr2=b"raw", xmp=b"first", mov=b"movie")
    Path("b/I.HEIC").write_bytes(b"another picture")
    if is_known:
        with records.open("a") as file:
            text = write_records(Path("more"), record(Path("b/I.HEIC"), companions=[Path("b/i.mov")]))
            file.write(text.read_text())
    assert main(["clean", "r.jsonl", "--yes", "--quiet"]) == 0
    assert left_in("b") == {"I.HEIC", "i.cr2", "i.xmp", "i.mov"}


def test_companions_of_two_duplicates_go_after_both() -> None:
    own = files_of("a/i", jpg=b"image", mov=b"movie")
    files_of("b/i", jpg=b"image", heic=b"image", mov=b"movie")
    images = [Path("b/i.jpg"), Path("b/i.heic")]
    shared = [Path("b/i.mov")]
    kept = record(own[0], companions=own[1:])
    duplicates = [record(image, own[0], companions=shared) for image in images]
    write_records(Path("one.jsonl"), kept, duplicates[0])
    assert main(["clean", "one.jsonl", "--yes", "--quiet"]) == 0
    assert left_in("b") == {"i.heic", "i.mov"}
    write_records(Path("other.jsonl"), kept, duplicates[1])
    assert main(["clean", "other.jsonl", "--yes", "--quiet"]) == 0
    assert left_in("b") == set()


def test_the_side_car_of_a_raw_file_that_stays_stays_with_it() -> None:
    two_shots(cr2=b"another raw", xmp=b"first", mov=b"movie")
    assert main(["clean", "r.jsonl", "--yes", "--quiet"]) == 1
    assert left_in("b") == {"i.cr2", "i.xmp", "i.mov"}


@pytest.mark.parametrize("how", ["trash", "delete"])
def test_a_companion_that_is_the_last_copy_by_now_is_left(how: str) -> None:
    two_shots(xmp=b"first")
    Path("a/i.xmp").write_bytes(b"edited since")
    assert main(["clean", "r.jsonl", "--how", how, "--yes", "--quiet"]) == 1
    assert left_in("b") == {"i.xmp"}


def test_protected_companions_are_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    two_shots(xmp=b"first", mov=b"movie")
    assert main(["clean", "r.jsonl", "--protect", "*.xmp", "--yes"]) == 0
    assert left_in("b") == {"i.xmp"}
    assert "Left since protected: 1 file" in capsys.readouterr().out


def test_companions_of_an_image_that_could_not_be_taken_stay() -> None:
    two_shots(xmp=b"first")
    Path("b/i.jpg").write_bytes(b"changed")
    assert main(["clean", "r.jsonl", "--yes", "--quiet"]) == 1
    assert left_in("b") == {"i.jpg", "i.xmp"}


@pytest.mark.parametrize("how", ["trash", "move:away"])
def test_companions_of_a_dropped_picture_go_with_it(how: str, workplace: Path) -> None:
    own = files_of("a/i", jpg=b"image", cr2=b"raw", xmp=b"text")
    write_records(Path("r.jsonl"), record(own[0], companions=own[1:]))
    Path("d.jsonl").write_text(json.dumps({"decision": "drop", "digest": digest_of(own[0])}) + "\n")
    before = snapshot(workplace / "a")
    assert main(["clean", "r.jsonl", "--decisions", "d.jsonl", "--how", how, "--yes", "--quiet"]) == 0
    assert left_in("a") == set()
    assert undone(workplace)
    assert without_inodes(snapshot(workplace / "a")) == without_inodes(before)


def test_a_preview_names_companions(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    two_shots(cr2=b"raw", xmp=b"edited")
    before = snapshot(workplace)
    assert main(["clean", "r.jsonl"]) == 0
    assert "a/i.jpg; with it, if that loses no content: i.cr2, i.xmp\n" in capsys.readouterr().out
    assert snapshot(workplace) == before


@pytest.mark.parametrize("companion", ["c/i.xmp", "../outside.xmp", "b/../c/i.xmp", "b/i.zip!i.xmp"])
def test_records_cannot_name_files_elsewhere_as_companions(companion: str, workplace: Path) -> None:
    [own], [other] = files_of("a/i", jpg=b"image"), files_of("b/i", jpg=b"image")
    files_of("c/i", xmp=b"text")
    (workplace.parent / "outside.xmp").write_bytes(b"text")
    write_records(
        Path("r.jsonl"), record(own), {**record(other, own), "companions": [companion, "a/i.jpg", "r.jsonl"]}
    )
    assert main(["clean", "r.jsonl", "--how", "move:away", "--yes", "--quiet"]) == 0
    assert Path("c/i.xmp").exists()
    assert Path("a/i.jpg").exists()
    assert Path("r.jsonl").exists()
    assert (workplace.parent / "outside.xmp").exists()


@pytest.mark.parametrize("value", ["text", [1], {"a": 1}])
def test_damaged_companions_end_the_command(value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    [image] = files_of("a/i", jpg=b"image")
    write_records(Path("r.jsonl"), {**record(image), "companions": value})
    assert main(["clean", "r.jsonl"]) == 1
    assert "companions must be a list of texts" in capsys.readouterr().err


def test_shots_of_a_run_are_cleaned_and_undone(workplace: Path) -> None:
    picture = encoded(photo(1), "JPEG")
    raw = b"II*\x00\x10\x00\x00\x00CR"
    for folder in ("in/a", "in/b"):
        files_of(f"{folder}/IMG_1", JPG=picture, CR2=raw, MOV=b"movie")
        files_of(f"{folder}/img_1", xmp=b"side-car")
        files_of(f"{folder}/IMG_E1", JPG=encoded(photo(2), "JPEG"))
    before = snapshot(workplace / "in")
    assert dedup("-n", "-i", "in", "--records", "r.jsonl", "--quiet") == 0
    assert main(["clean", "r.jsonl", "--yes", "--quiet"]) == 0
    assert left_in("in/b") == set()
    assert undone(workplace)
    assert without_inodes(snapshot(workplace / "in")) == without_inodes(before)


def test_companions_do_go_in_random_trees(tmp_path: Path) -> None:
    """The laws would hold, and say nothing, if no companion ever went."""
    gone = 0
    for seed in test_laws.SEEDS:
        folder = tmp_path / str(seed) / "in"
        records = random_tree(folder, random.Random(f"clean {seed}"))
        before = snapshot(folder)
        test_laws.clean(records, "trash")
        left = snapshot(folder)
        gone += sum(
            not name.endswith("jpg") and stat.S_ISREG(entry.kind) and name not in left
            for name, entry in before.items()
        )
    assert gone > 5


def test_the_comparison_of_companions_matters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, the law that no content leaves the library is broken: the test of the law would see that."""

    def first(companion: companions.Companion, *_: Any) -> tuple[str, bytes]:
        return companion.image.witness, files.digest_of(companion.image.witness)[1]

    monkeypatch.setattr("beam_dedup.cleaning.clean.witness_of", first)

    def check() -> None:
        for seed in range(10):
            (tmp_path / str(seed)).mkdir()
            test_laws.test_no_content_is_lost_and_undo_restores_everything(
                "trash", seed, tmp_path / str(seed), monkeypatch
            )

    with pytest.raises(AssertionError):
        check()
