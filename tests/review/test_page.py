"""The review page as files: data, thumbnails, escaping, and which directories are written to."""

import itertools
import json
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from beam_dedup.core.errors import DedupError
from beam_dedup.core.imaging import thumbnail
from beam_dedup.core.imaging.decode import oriented
from beam_dedup.core.imaging.thumbnail import MAX_SIDE
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef
from beam_dedup.review import alignment, data, sprites
from beam_dedup.review.groups import read_review
from beam_dedup.review.report import ReportConfig, make_report
from beam_dedup.review.thumbnails import ThumbnailMaker
from beam_dedup.review.writer import write_page
from beam_dedup.signals import handling
from tests.app.cli_runs import dedup
from tests.pictures import encoded, photo
from tests.review.reports import data_of, digest_of, exact, near, record, write_records

PAGE = Path(data.__file__).parent / "page"


def report(folder: Path, records: list[dict[str, Any]], **options: Any) -> Path:
    """Writes records and a page about them, and returns the directory of the page."""
    path = write_records(folder / "records.jsonl", records)
    page = folder / "page"
    settings = {"directory": str(folder), "jobs": 1, "quiet": True, **options}
    make_report(ReportConfig(records=str(path), output=str(page), **settings))
    return page


def tile_of(page: Path, tile: list[int]) -> Image.Image:
    """Returns a thumbnail of a page."""
    sprite, place, width, height = tile
    left, top = (place % sprites.COLUMNS) * MAX_SIDE, place // sprites.COLUMNS * MAX_SIDE
    with Image.open(page / f"sprites/{sprite:04}.jpg") as sheet:
        return sheet.crop((left, top, left + width, top + height))


def difference(one: Image.Image, other: Image.Image) -> float:
    """Returns the mean difference of two pictures of one size, in levels."""
    assert one.size == other.size
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other.convert("RGB")).astype(int)).mean())


class TestThumbnails:
    def test_thumbnail_shows_the_picture_of_its_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sprites, "ROWS", 1)  # so that there are two files
        pictures = {f"{seed}.png": photo(seed, (320, 200 + seed)) for seed in range(sprites.COLUMNS + 2)}
        for name, picture in pictures.items():
            (tmp_path / name).write_bytes(encoded(picture))
        names = list(pictures)
        page = report(tmp_path, [record(names[0]), *(near(name, names[0], 1) for name in names[1:])])
        _, [group], _ = data_of(page)
        assert sorted(os.listdir(page / "sprites")) == ["0000.jpg", "0001.jpg"]
        for row in group:
            picture = pictures[row["files"][0][1]]
            tile = tile_of(page, row["tile"])
            assert tile.width == MAX_SIDE
            assert difference(tile, picture.resize(tile.size)) < 12

    def test_exif_orientation_date_and_transparency(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        exif.get_ifd(0x8769)[0x9003] = "2019:05:03 12:34:56"
        turned = photo(3, (200, 100))
        turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
        Image.new("RGBA", (40, 40), (255, 0, 0, 0)).save(tmp_path / "clear.png")
        page = report(tmp_path, [record("turned.jpg"), near("clear.png", "turned.jpg")])
        _, [[first, second]], _ = data_of(page)
        assert first["taken"] == "2019-05-03 12:34:56"
        assert first["tile"][2:] == [64, 128]
        expected = turned.rotate(-90, expand=True).resize((64, 128))
        assert difference(tile_of(page, first["tile"]), expected) < 12
        assert "taken" not in second
        assert second["tile"][2:] == [40, 40], "small pictures are not enlarged"
        assert tile_of(page, second["tile"]).getpixel((20, 20)) == (255, 255, 255)

    def test_harmful_missing_and_foreign_files_get_a_placeholder(self, tmp_path: Path) -> None:
        (tmp_path / "good.png").write_bytes(encoded(photo(1)))
        (tmp_path / "text.png").write_text("no picture")
        (tmp_path / "damaged.png").write_bytes(encoded(photo(2))[:60])
        os.mkfifo(tmp_path / "pipe.png")
        with zipfile.ZipFile(tmp_path / "bomb.png", "w") as archive:  # was a picture when it was judged
            archive.writestr("inner.png", encoded(photo(3)))
        others = ["text.png", "damaged.png", "pipe.png", "bomb.png", "gone.png", "gs://bucket/a.png", "a\0b"]
        page = report(tmp_path, [record("good.png"), *(near(name, "good.png") for name in others)])
        _, [group], _ = data_of(page)
        tiles = {row["files"][0][1]: row.get("tile") for row in group}
        assert tiles.pop("good.png")
        assert set(tiles) == {name.rpartition("/")[2] for name in others}
        assert not any(tiles.values())
        times = {row["files"][0][1]: row["files"][0][2] for row in group}
        assert times["gone.png"] == data.GONE
        assert times["a.png"] == data.UNKNOWN_TIME
        assert times["good.png"] > 0

    def test_members_of_archives_get_thumbnails(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "photos!.zip", "w") as archive:
            for seed in range(1, 4):
                archive.writestr(f"{seed}.png", encoded(photo(seed)))
        base = "photos%21.zip!"
        page = report(tmp_path, [record(f"{base}1.png"), near(f"{base}3.png", f"{base}1.png")])
        _, [[first, second]], _ = data_of(page)
        assert difference(tile_of(page, first["tile"]), photo(1).resize((128, 96))) < 12
        assert difference(tile_of(page, second["tile"]), photo(3).resize((128, 96))) < 12
        assert second["files"][0][1:] == [f"{base}3.png", data.UNKNOWN_TIME, 0]

    def test_file_that_has_changed_is_marked(self, tmp_path: Path) -> None:
        data_of_picture = encoded(photo(1))
        (tmp_path / "a.png").write_bytes(data_of_picture)
        page = report(tmp_path, [record("a.png"), near("gone", "a.png")])
        assert data_of(page)[1][0][0]["changed"]

    def test_results_keep_the_order_of_many_requests(self, tmp_path: Path) -> None:
        names = [f"{number}.png" for number in range(150)]
        for number, name in enumerate(names):
            Image.new("RGB", (2 + number % 100, 1)).save(tmp_path / name)
        done: list[int] = []
        with ThumbnailMaker(str(tmp_path), 2, Limits()) as maker:
            found = list(maker.thumbnails(names, done.append))
        widths = [one.pixels.shape[1] if one and one.pixels is not None else 0 for one in found]
        assert widths == [2 + number % 100 for number in range(150)]
        assert sum(done) == 150

    @pytest.mark.parametrize(
        "code", [b"", b"\x00\x02\x00\x02", b"\xff\xff\x00\x01" + bytes(9), b"\x00\x01\x00\x01" + bytes(4)]
    )
    def test_replies_of_wrong_size_are_refused(self, code: bytes) -> None:
        made = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 0, "PNG", 1, 1, "", (Code(CodeKind.FULL, code),))
        with pytest.raises(ValueError, match=r"no thumbnail|offset"):
            thumbnail.of(made)


class TestAlignment:
    KEPT = np.asarray(photo(5, (128, 96)))

    @pytest.mark.parametrize("turn", range(2, 9))
    def test_turn_brings_the_other_picture_into_the_position_of_the_kept_one(self, turn: int) -> None:
        inverse = {6: 8, 8: 6}.get(turn, turn)
        other = oriented(self.KEPT, inverse)
        assert alignment.alignment(self.KEPT, other, "rot90") == {"turn": turn}

    @pytest.mark.parametrize("of", ["kept", "other"])
    def test_crop_is_found_in_the_picture_that_shows_more(self, of: str) -> None:
        crop = np.asarray(photo(5, (128, 96)).crop((26, 19, 128, 96)).resize((110, 83)))
        pair = (self.KEPT, crop) if of == "kept" else (crop, self.KEPT)
        assert alignment.alignment(*pair, "topleft10") == {"of": of, "box": [0.1, 0.1, 1, 1]}

    def test_border_is_found(self) -> None:
        framed = Image.new("RGB", (128, 96), "white")
        framed.paste(photo(5, (64, 48)), (32, 24))
        aligned = alignment.alignment(self.KEPT, np.asarray(framed), "trim")
        assert aligned is not None
        assert aligned["of"] == "other"
        assert aligned["box"] == pytest.approx([0.25, 0.25, 0.75, 0.75], abs=0.03)

    def test_whole_pictures_and_unknown_views_are_not_aligned(self) -> None:
        for view in ("base", None, "tiltleft", "none such"):
            assert alignment.alignment(self.KEPT, self.KEPT, view) is None


HOSTILE = [
    "</script><script>alert(1)</script>.png",
    "<img src=x onerror=alert(1)>.png",
    "\u2028\u2029.png",
    "quote'\"`${alert(1)}\\.png",
    "bl\udce5.png",
    "\u202egnp.exe",
    "line\nbreak\x1b[2J",
]


class TestEscaping:
    def test_hostile_text_comes_back_as_data_and_never_as_markup(self, tmp_path: Path) -> None:
        records = [record("a.png", metadata={"url": HOSTILE[0]})]
        records += [near(name, "a.png", detail=name, format=name, flags=[name]) for name in HOSTILE]
        records += [record(name, "rejected", reason="damaged", detail=name) for name in HOSTILE]
        page = report(tmp_path, records)
        facts, [group], rejected = data_of(page)
        assert {row["files"][0][1] for row in group[1:]} == {name.rpartition("/")[2] for name in HOSTILE}
        assert [row[0] for row in rejected] == HOSTILE
        assert set(facts["flags"]) == set(HOSTILE)
        for file in (page / "data").iterdir():
            text = file.read_bytes()
            assert text.isascii()
            assert not set(b"<>&") & set(text)

    def test_pages_of_all_reports_are_the_same_file(self, tmp_path: Path) -> None:
        page = report(tmp_path, [record(HOSTILE[0]), near(HOSTILE[1], HOSTILE[0])])
        for file in PAGE.iterdir():
            copy = page / file.name if file.name == "index.html" else page / "page" / file.name
            assert copy.read_bytes() == file.read_bytes()

    def test_page_has_a_policy_and_loads_only_its_own_files(self) -> None:
        html = (PAGE / "index.html").read_text()
        [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["script-src"] == "'self' file:"
        assert "unsafe" not in policy
        assert "http" not in policy
        assert rules["require-trusted-types-for"] == "'script'"
        named = {f"page/{file.name}" for file in PAGE.iterdir() if file.suffix in {".js", ".css"}}
        assert set(re.findall(r'(?:src|href)="([^"#]+)"', html)) == {*named, "data/index.js"}
        assert not re.search(r"<script(?![^>]*src=)", html)
        assert not re.search(r"\son\w+=|style=", html)

    @pytest.mark.parametrize("file", sorted(PAGE.glob("*.js")), ids=lambda path: path.name)
    def test_scripts_parse_no_text_as_html_or_code(self, file: Path) -> None:
        text = file.read_text()
        pattern = (
            r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc|fetch\(|XMLHttp"
        )
        assert not re.search(pattern, text)
        assert '"use strict";' in text


class TestDirectory:
    RECORDS = (record("a.png"), exact("b.png", "a.png"))

    def test_earlier_report_is_replaced_and_other_files_stay(self, tmp_path: Path) -> None:
        page = report(tmp_path, [*self.RECORDS, record("c"), exact("d", "c")])
        (page / "decisions.jsonl").write_text("mine")
        (page / "data/groups-0009.js").write_text("old")
        (page / ".report-left").mkdir()
        report(tmp_path, list(self.RECORDS))
        assert len(data_of(page)[1]) == 1
        assert (page / "decisions.jsonl").read_text() == "mine"
        parts = {"data", "decisions.jsonl", "index.html", "page", "report.json", "sprites"}
        assert set(os.listdir(page)) == parts

    def test_same_groups_have_the_same_identity(self, tmp_path: Path) -> None:
        def identity(records: list[dict[str, Any]]) -> str:
            return str(data_of(report(tmp_path, records))[0]["id"])

        assert identity(list(self.RECORDS)) == identity([*self.RECORDS, record("alone")])
        assert identity(list(self.RECORDS)) != identity([*self.RECORDS, near("c", "a.png")])

    def test_foreign_directories_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        records = write_records(tmp_path / "r.jsonl", self.RECORDS)
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / "index.html").write_text("mine")
        assert dedup_report(records, "-o", foreign) == 2
        assert "must be a new or empty directory, or an earlier report" in capsys.readouterr().err
        (foreign / "report.json").write_text('["dedup review page"]')
        assert dedup_report(records, "-o", foreign) == 2
        assert (foreign / "index.html").read_text() == "mine"
        assert dedup_report(records, "-o", tmp_path / "r.jsonl") == 2
        assert dedup_report(records, "-o", "gs://bucket/page") == 2

    def test_links_in_an_earlier_report_are_not_followed(self, tmp_path: Path) -> None:
        page = report(tmp_path, list(self.RECORDS))
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "file").write_text("mine")
        for name in os.listdir(page / "data"):
            (page / "data" / name).unlink()
        (page / "data").rmdir()
        (page / "data").symlink_to(precious)
        report(tmp_path, list(self.RECORDS))
        assert os.listdir(precious) == ["file"]
        assert not (page / "data").is_symlink()


def dedup_report(*arguments: object) -> int:
    from beam_dedup.cli import main

    return main(["report", *map(str, arguments)])


class TestCommand:
    @pytest.fixture
    def pictures(self, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir()
        original = photo(1)
        (folder / "a.png").write_bytes(encoded(original))
        (folder / "b.png").write_bytes(encoded(original))
        original.save(folder / "c.jpg", quality=90)
        (folder / "other.png").write_bytes(encoded(photo(2)))
        (folder / "text.txt").write_text("text")
        return folder

    def test_run_with_report_writes_the_page_and_names_it(
        self, pictures: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = pictures / "review"  # inside the input: it is not read as input
        for _ in range(2):
            assert dedup("-n", "-i", pictures, "--report", page) == 0
            assert f"Review page: {page}/index.html\n" in capsys.readouterr().out
        facts, [group], rejected = data_of(page)
        assert [[file[1] for file in row["files"]] for row in group] == [["a.png", "b.png"], ["c.jpg"]]
        assert all(row["tile"] for row in group)
        assert "changed" not in group[0]
        assert facts["counts"] == {"kept": 2, "duplicate": 2, "rejected": 1}
        assert facts["run"]["Near_Duplicate_Count"] == 1
        assert facts["run"]["Plan"]
        assert (facts["k"], facts["verify"]) == (8, 48)
        assert rejected == [[f"{pictures}/text.txt", "not_an_image", "first bytes: b'text'"]]

    @pytest.mark.usefixtures("pictures")
    def test_report_of_records_equals_that_of_the_run(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        counts = tmp_path / "c.json"
        options = ("--records", "r.jsonl", "--counts", counts, "--report", "first")
        assert dedup("-n", "-i", "pictures", *options) == 0
        capsys.readouterr()
        monkeypatch.chdir("/")
        given = (tmp_path / "r.jsonl", "-o", tmp_path / "second", "--directory", tmp_path, "--counts", counts)
        assert dedup_report(*given) == 0
        assert capsys.readouterr().out == f"Review page: {tmp_path}/second/index.html\n"
        assert data_of(tmp_path / "second") == data_of(tmp_path / "first")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["r.jsonl"], "the following arguments are required: -o/--output"),
            (["missing", "-o", "page"], "missing is no file or directory"),
            (["r.jsonl", "-o", "page", "--files", "x"], "--files chooses files of a directory"),
            (["r.jsonl", "-o", "page", "-j", "-1"], "-j must be between 1 and 1024"),
            (["r.jsonl", "-o", "page", "--directory", "none"], "--directory must be a directory"),
            (["r.jsonl", "-o", "page", "--counts", "r.jsonl"], "--counts must be a file that"),
            (["r.jsonl", "-o", "page", "--counts", "deep.json"], "--counts must be a file that"),
            (["r.jsonl", "-o", ""], "-o must name a directory; got nothing"),
            (["r.jsonl", "-o", "page", "--nonsense"], "unrecognized arguments: --nonsense"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_wrong_usage_is_reported(
        self,
        arguments: list[str],
        message: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        write_records(tmp_path / "r.jsonl", [record("a"), record("b")])
        (tmp_path / "deep.json").write_text('{"a":' * 9999)
        assert dedup_report(*arguments) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "page").exists()

    def test_help_is_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert dedup_report("--help") == 0
        assert capsys.readouterr().out.startswith("usage: dedup report RECORDS -o DIRECTORY")

    def test_stream_names_the_command_that_makes_the_page(
        self, pictures: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert dedup("-n", "-i", pictures, "--watch", "--report", "page") == 2
        assert "run dedup report RECORDS -o DIR over its records directory" in capsys.readouterr().err

    def test_directory_that_is_no_report_is_refused_before_the_run(
        self, pictures: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert dedup("-n", "-i", pictures, "--report", pictures) == 2
        assert "--report must be a new or empty directory" in capsys.readouterr().err


def test_names_that_no_file_can_have_get_a_placeholder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(photo(1)))
    names = ("\ud83d.png", "\ud83d.zip!b.png")
    _, [group], _ = data_of(
        report(tmp_path, [record("a.png"), *({**near("b.png", "a.png"), "uri": name} for name in names)])
    )
    assert ["tile" in picture for picture in group] == [True, False]


@pytest.mark.parametrize("number", range(5))
def test_report_that_was_killed_can_be_written_again(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is killed before it puts a part of the first page in its place, and can't clean up."""
    path = write_records(tmp_path / "r.jsonl", [record("a"), exact("b", "a")])
    command = (path, "-o", tmp_path / "page", "-j", "1", "--quiet")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killing(number, os.replace))
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        assert dedup_report(*command) == 128 + signal.SIGINT
    assert dedup_report(*command) == 0
    assert sorted(os.listdir(tmp_path / "page")) == ["data", "index.html", "page", "report.json", "sprites"]
    assert len(data_of(tmp_path / "page")[1]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=str)
def test_signal_leaves_nothing_unfinished(number: signal.Signals, tmp_path: Path) -> None:
    left = []

    def end(_number: int, _frame: object) -> None:
        left.extend(os.listdir(tmp_path / "page"))
        raise InterruptedError

    path = write_records(tmp_path / "r.jsonl", [record("a"), exact("b", "a")])
    review = read_review(str(path))
    with handling([number], end), ThumbnailMaker(str(tmp_path), 1, Limits()) as maker:
        with pytest.raises(DedupError):
            write_page(
                str(tmp_path / "page"), review, maker, "/", None, lambda _: signal.raise_signal(number)
            )
        assert signal.getsignal(number) == end
    assert left == []


def killing(number: int, real: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function whose call of this number, from 0, raises an error that nobody handles."""
    calls = itertools.count()

    def call(*arguments: Any) -> Any:
        if next(calls) == number:
            raise KeyboardInterrupt
        return real(*arguments)

    return call


def test_index_describes_each_group(tmp_path: Path) -> None:
    records = [
        record("x/a.png", size_bytes=5000),
        exact("y/b.png", "x/a.png", size_bytes=5000),
        near("z/c.png", "x/a.png", 8, view="centre90", flags=["animated"], size_bytes=700),
        record("x/d.png"),
        exact("x/e.png", "x/d.png"),
    ]
    page = report(tmp_path, records)
    facts, groups, _ = data_of(page)
    columns = facts["columns"]
    assert len(groups) == 2
    assert columns["files"] == [3, 2]
    assert columns["gain"] == [5700, 1000]
    assert columns["risk"] == [1000, 0]
    assert columns["kinds"] == [3, 1]
    assert columns["largest"] == [5000, 1000]
    assert [[facts["views"][one] for one in row] for row in columns["views"]] == [["centre90"], []]
    assert [[facts["flags"][one] for one in row] for row in columns["flags"]] == [["animated"], []]
    places = [[facts["directories"][one] for one in row] for row in columns["places"]]
    assert places == [[f"{tmp_path}/x/", f"{tmp_path}/y/", f"{tmp_path}/z/"], [f"{tmp_path}/x/"]]
    assert facts["distances"] == [0] * 8 + [1]
    assert json.dumps(groups).count(digest_of("x/a.png")) == 1
