"""Tests of --keep, --reference, --place and --preview."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from beam_dedup.cli import main
from beam_dedup.samples import picture
from tests.app.cli_runs import dedup, records_in, tree
from tests.transforms.files import encoded, write


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four copies of one picture, and another picture: the first by name, the largest, the oldest and the newest all differ."""
    folder = tmp_path_factory.mktemp("copies")
    small = picture(1, (200, 150))
    small.save(folder / "a.png")
    picture(1).save(folder / "b.jpg", quality=90)
    small.save(folder / "c.jpg", quality=80)
    small.save(folder / "d.jpg", quality=70)
    picture(2).save(folder / "other.jpg")
    for name, modified in (("a.png", 3), ("b.jpg", 2), ("c.jpg", 1), ("d.jpg", 4), ("other.jpg", 5)):
        os.utime(folder / name, (modified * 1e6, modified * 1e6))
    return folder


@pytest.mark.parametrize(
    ("policy", "kept"), [("first", "a.png"), ("largest", "b.jpg"), ("oldest", "c.jpg"), ("newest", "d.jpg")]
)
def test_keep_policy_decides_which_near_duplicate_is_kept(
    policy: str, kept: str, folder: Path, tmp_path: Path
) -> None:
    assert dedup("-n", "-i", folder, "--keep", policy, "--records", tmp_path / "r") == 0
    records = records_in(tmp_path / "r")
    assert {name for name, record in records.items() if record["status"] == "kept"} == {kept, "other.jpg"}
    assert {record["duplicate_of"] for record in records.values()} == {None, str(folder / kept)}


@pytest.mark.parametrize(("policy", "kept"), [("first", "a.png"), ("oldest", "c.png"), ("newest", "b.png")])
def test_keep_policy_decides_which_equal_file_is_kept(policy: str, kept: str, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, modified in (("a.png", 2), ("b.png", 3), ("c.png", 1)):
        picture(1, (60, 40)).save(folder / name)
        os.utime(folder / name, (modified, modified))
    assert dedup("-i", folder, "--keep", policy, "--records", tmp_path / "r") == 0
    assert [name for name, r in records_in(tmp_path / "r").items() if r["status"] == "kept"] == [kept]


@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_duplicates_of_known_images_are_not_kept(mode: str, folder: Path, tmp_path: Path) -> None:
    """Known images are neither judged nor copied; their duplicates are not kept, whatever the policy prefers."""
    known = tmp_path / "known"
    known.mkdir()
    shutil.copy(folder / "d.jpg", known / "mine.jpg")
    shutil.copy(folder / "d.jpg", known / "mine again.jpg")
    (known / "notes.txt").write_text("no image")
    before = tree(known)
    out, records = tmp_path / "out", tmp_path / "r"
    arguments = (
        mode,
        "-i",
        folder,
        "--reference",
        known,
        "--keep",
        "largest",
        "-d",
        out,
        "--records",
        records,
    )
    assert dedup(*arguments) == 0
    assert tree(known) == before
    found = records_in(records)
    assert set(found) == {"a.png", "b.jpg", "c.jpg", "d.jpg", "other.jpg"}
    gone = {name for name, record in found.items() if record["status"] == "duplicate"}
    assert gone == ({"d.jpg"} if mode == "-e" else {"a.png", "b.jpg", "c.jpg", "d.jpg"})
    assert {found[name]["duplicate_of"] for name in gone} == {str(known / "mine again.jpg")}
    assert set(tree(out)) == set(found) - gone


def test_reference_inside_the_input_is_not_judged(folder: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(folder, both / "new")
    shutil.copytree(folder, both / "known")
    assert dedup("-n", "-i", both, "--reference", both / "known", "--records", tmp_path / "r") == 0
    assert [record["status"] for record in records_in(tmp_path / "r").values()] == ["duplicate"] * 5


@pytest.mark.slow
def test_each_way_of_placing_replaces_the_copies_of_the_one_before(folder: Path, tmp_path: Path) -> None:
    """Runs in one output directory; the second run with the same value changes nothing."""
    out, before = tmp_path / "out", tree(folder)
    for how in ("copy", "hardlink", "symlink", "copy", "symlink", "hardlink", "copy"):
        for _ in range(2):
            assert dedup("-n", "-i", folder, "-d", out, "-s", "--place", how) == 0
            assert tree(out).keys() == {
                "a.png",
                "other.jpg",
                *(str(p.relative_to(out)) for p in out.glob("_d*/*/*")),
            }
            for path in (path for path in out.rglob("*") if not path.is_dir()):
                source = folder / path.name
                assert path.read_bytes() == source.read_bytes()
                assert path.is_symlink() == (how == "symlink")
                assert path.is_symlink() or path.samefile(source) == (how == "hardlink")
    assert tree(folder) == before


def test_preview_names_what_the_run_then_places(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from beam_dedup.cli import main

    monkeypatch.chdir(tmp_path)
    arguments = ["-n", "-i", str(folder), "-d", "out", "-s"]
    assert main([*arguments, "--preview", "--counts", "c.json"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"c.json"}
    shown = capsys.readouterr().out
    announced = dict(line.split(" -> ")[::-1] for line in shown.splitlines() if " -> " in line)
    assert "Kept images" not in shown
    assert main(arguments) == 0
    assert announced == {f"out/{name}": str(folder / Path(name).name) for name in tree(tmp_path / "out")}


def test_preview_quotes_odd_names_on_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("new\nline.gif", "a -> b.gif", "plain.gif"):
        (folder / name).write_bytes(b"GIF89a" + name.encode())
    assert dedup("-i", folder, "-d", tmp_path / "out", "--preview") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " -> " in line]
    assert len(lines) == 3
    assert sum(line.startswith('"') for line in lines) == 2


def test_protected_images_are_kept_and_not_touched_by_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two protected files with the same bytes both are kept; `dedup clean` sees that in the records."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "safe/b.png", "safe/deep/c.png", "d.png"):
        write(tmp_path / "in" / name, encoded(1))
    records = tmp_path / "r.jsonl"
    assert dedup("-e", "-i", "in", "--protect", "sfae") == 0
    assert "Protected_Image_Count  0  no image matches --protect" in re.sub(
        " {2,}", "  ", capsys.readouterr().out
    )
    assert dedup("-e", "-i", "in", "--protect", "safe", "--records", records, "--counts", "counts") == 0
    assert "Protected_Image_Count  2  kept because of --protect" in re.sub(
        " {2,}", "  ", capsys.readouterr().out
    )
    assert json.loads(Path("counts").read_text())["Protected_Image_Count"] == 2
    found = records_in(records)
    assert {name: record["duplicate_of"] for name, record in found.items()} == {
        "a.png": "in/safe/b.png",
        "b.png": None,
        "c.png": None,
        "d.png": "in/safe/b.png",
    }
    assert [name for name, record in found.items() if "protected" in record["flags"]] == ["b.png", "c.png"]
    # A later run without protection calls all but the first a duplicate: the earlier record still counts.
    assert dedup("-e", "-i", "in", "--records", "again.jsonl") == 0
    with records.open("a") as file:
        file.write(Path("again.jsonl").read_text())
    capsys.readouterr()
    assert main(["clean", str(records), "--how", "delete", "--yes"]) == 1  # a.png is kept by one of the runs
    assert "Left since protected: 2 files" in capsys.readouterr().out
    assert sorted(tree(tmp_path / "in")) == ["a.png", "safe/b.png", "safe/deep/c.png"]


def test_globs_match_the_path_below_the_input_and_the_absolute_path(tmp_path: Path) -> None:
    for name in ("a.png", "x/b.png", "y/x/c.png"):
        write(tmp_path / "in" / name, encoded(1))
    records = tmp_path / "r.jsonl"
    for globs, kept in (
        (["/x"], ["b.png"]),
        (["x"], ["b.png", "c.png"]),
        ([f"{tmp_path}/in/y"], ["c.png"]),
        (["a.*", "/nosuch"], ["a.png"]),
        (["*.png"], ["a.png", "b.png", "c.png"]),
    ):
        protect = [argument for glob in globs for argument in ("--protect", glob)]
        assert dedup("-e", "-i", tmp_path / "in", *protect, "--records", records) == 0
        assert [name for name, record in records_in(records).items() if record["status"] == "kept"] == kept


def test_glob_with_leading_slash_begins_below_each_input(tmp_path: Path) -> None:
    for name in ("in/raw/a.png", "in/x/raw/b.png", "more/raw/c.png"):
        write(tmp_path / name, encoded(1))
    records = tmp_path / "r.jsonl"
    inputs = ("-i", tmp_path / "in", "-i", tmp_path / "more")
    assert dedup("-e", *inputs, "--protect", "/raw/", "--records", records) == 0
    found = records_in(records)
    assert [name for name in sorted(found) if "protected" in found[name]["flags"]] == ["a.png", "c.png"]
    assert dedup("-e", *inputs, "--exclude", "/raw/", "--records", records) == 0
    assert list(records_in(records)) == ["b.png"]


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One picture in four files: each is preferred by another rule."""
    folder = tmp_path_factory.mktemp("shots")
    times = {"phone/a.jpg": "2020:01:01 00:00:00", "card/b.jpg": "2019:01:01 00:00:00", "card/c.png": None}
    for name, taken in {**times, "web/d.jpg": "0000:00:00 00:00:00"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        if taken:
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken
        if name == "phone/a.jpg":
            exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 30.0, 0.0)
        image = picture(1, (480, 360) if name == "web/d.jpg" else (240, 180))
        image.save(folder / name, exif=exif.tobytes(), quality=85)
        os.utime(folder / name, (1e9, 1e9))
    return folder


@pytest.mark.parametrize(
    ("rules", "kept", "kept_by"),
    [
        ("first", "b.jpg", {"first"}),
        ("largest", "d.jpg", {"pixels"}),
        ("taken", "b.jpg", {"taken"}),
        ("metadata", "a.jpg", {"metadata"}),
        ("format:png,jpeg", "c.png", {"format:png,jpeg"}),
        ("format:raw,jpeg,taken", "b.jpg", {"format:raw,jpeg", "taken"}),
        ("path:card,format:png", "c.png", {"path:card", "format:png"}),
        ("not:card,not:*.jpg,pixels", "d.jpg", {"not:card", "pixels"}),
        ("oldest,newest,path:/web", "d.jpg", {"path:/web"}),
        ("bytes", "c.png", {"bytes"}),
    ],
)
def test_rules_decide_which_near_duplicate_is_kept_and_the_records_say_which_rule(
    rules: str, kept: str, kept_by: set[str], shots: Path, tmp_path: Path
) -> None:
    assert dedup("-n", "-i", shots, "--keep", rules, "--records", tmp_path / "r") == 0
    records = records_in(tmp_path / "r")
    assert [name for name, record in records.items() if record["status"] == "kept"] == [kept]
    assert {record["kept_by"] for record in records.values() if record["status"] == "duplicate"} == kept_by
    assert records[kept]["kept_by"] is None


def test_rules_about_paths_prefer_no_link_to_its_file(tmp_path: Path) -> None:
    write(tmp_path / "in/all/a.png", encoded(1))
    (tmp_path / "in/best").mkdir()
    (tmp_path / "in/best/link.png").symlink_to("../all/a.png")
    records = tmp_path / "r"
    assert dedup("-e", "-i", tmp_path / "in", "--keep", "path:best", "--records", records) == 0
    found = records_in(records)
    assert found["a.png"]["status"] == "kept"
    assert found["link.png"]["kept_by"] == "links"


@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_known_and_protected_images_are_named_as_the_reason(mode: str, tmp_path: Path) -> None:
    for number, name in enumerate(["known/x.png", "in/b.png", "in/safe/y.png", "in/c.png"]):
        write(tmp_path / name, encoded(1 + number // 2))
    arguments = ["--reference", tmp_path / "known", "--protect", "safe", "--records", tmp_path / "r"]
    assert dedup(mode, "-i", tmp_path / "in", *arguments) == 0
    assert {name: record["kept_by"] for name, record in records_in(tmp_path / "r").items()} == {
        "b.png": "known",
        "c.png": "protected",
        "y.png": None,
    }
