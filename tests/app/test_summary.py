"""Tests of the summary: what people read first, what was left out and why, and when a run has failed."""

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from beam_dedup.cli import main
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.reading import decoder_process
from beam_dedup.texts import counted
from tests.app.cli_runs import ROOT, dedup, dedup_apart, records_in
from tests.core.archives import made_archives
from tests.pictures import encoded, photo

MP4 = b"\x00\x00\x00\x18ftypmp42"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()


def summary(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> tuple[list[str], str]:
    """Runs `dedup`. Returns the lines of the summary, and the error."""
    assert dedup(*arguments) == code
    shown = capsys.readouterr()
    return shown.out.splitlines(), shown.err


class TestOverview:
    def test_groups_and_bytes_that_could_be_freed_come_first(
        self, samples: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        lines, _ = summary(capsys, "-n", "-i", samples, "--records", "r.jsonl")
        records = records_in(Path("r.jsonl")).values()
        freed = sum(record["size_bytes"] for record in records if record["status"] == "duplicate")
        groups = len({record["duplicate_of"] for record in records} - {None})
        assert lines[:6] == [
            "42 images: 17 kept, 23 duplicates, 2 rejected",
            f"{groups} groups of duplicates; deleting the duplicates would free {freed / 1e6:.1f} MB",
            "Compared by bytes only: 1 image",
            "  1 SVG: SVG is not decoded",
            "Rejected: 1 .jpg file (empty), 1 plain text file",
            "",
        ]
        assert lines[6] == "Initial_Image_Count    42"

    def test_members_of_archives_free_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.zip").write_bytes(made_archives.zipped({"b.gif": b"GIF89a", "c.gif": b"GIF89a"}))
        lines, _ = summary(capsys, "-i", "in")
        assert lines[:3] == ["2 images: 1 kept, 1 duplicate, 0 rejected", "1 group of duplicates", ""]
        Path("in", "d.gif").write_bytes(b"GIF89a")
        lines, _ = summary(capsys, "-i", "in")
        assert lines[1] == (
            "1 group of duplicates; deleting the duplicates (without 1 in archives) would free 6 bytes"
        )

    def test_links_free_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.gif").write_bytes(b"GIF89a")
        Path("in", "b.gif").symlink_to("a.gif")
        Path("in", "c.gif").hardlink_to("in/a.gif")
        lines, _ = summary(capsys, "-i", "in")
        assert lines[:3] == ["3 images: 1 kept, 2 duplicates, 0 rejected", "1 group of duplicates", ""]
        Path("in", "d.gif").write_bytes(b"GIF89a")
        lines, _ = summary(capsys, "-i", "in")
        assert lines[1] == "1 group of duplicates; deleting the duplicates would free 6 bytes"

    def test_nothing_to_say_of_duplicates_that_are_not_there(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("in", "d.gif").write_bytes(b"GIF89a")
        lines, _ = summary(capsys, "-i", "in")
        assert lines[:3] == [
            "1 image: 1 kept, 0 duplicates, 0 rejected",
            "",
            "Initial_Image_Count    1",
        ]

    def test_plan_and_candidates_only_if_verbose(
        self, samples: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        usual, _ = summary(capsys, "-n", "-i", samples, "--counts", "c.json")
        verbose, _ = summary(capsys, "-n", "-i", samples, "--verbose")
        plan = json.loads(Path("c.json").read_text())["Plan"]
        assert "candidates" in plan
        assert f"Plan: {plan}" in verbose
        assert "candidates" not in "\n".join(usual)


class TestBytesOnly:
    def test_heic_without_its_extra_is_named_with_what_to_install(self) -> None:
        """The decoder process is one in which the extra is not installed."""
        prepare_decoders()
        Path("in", "a.heic").write_bytes(encoded(photo(1, (200, 150)), "HEIF"))
        Path("in", "b.HEIC").write_bytes(encoded(photo(2, (200, 150)), "HEIF"))
        Path("in", "c.jpg").write_bytes(encoded(photo(3, (200, 150)), "JPEG"))
        Path("sitecustomize.py").write_text(
            "import importlib.util, sys\n"
            f"if {decoder_process.__name__!r} in sys.orig_argv:\n"
            "    real = importlib.util.find_spec\n"
            "    importlib.util.find_spec = lambda name, *rest: None if 'heif' in name else real(name, *rest)\n"
        )
        ended = dedup_apart(
            *("-n", "-i", Path("in").absolute(), "-o", ""),
            env={**os.environ, "PYTHONPATH": os.pathsep.join((os.getcwd(), str(ROOT)))},
        )
        assert ended.returncode == 0
        assert ended.stdout.splitlines()[1:3] == [
            "Compared by bytes only: 2 images",
            "  2 HEIF: HEIF is not decoded; run pip install '.[heif]' in the checkout",
        ]

    def test_damaged_pictures_are_named_by_format(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.png").write_bytes(encoded(photo(1, (200, 150)))[:60])
        lines, _ = summary(capsys, "-n", "-i", "in")
        assert lines[1:3] == [
            "Compared by bytes only: 1 image",
            "  1 PNG: damaged, or larger than the limits",
        ]

    def test_exact_mode_says_nothing_of_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.svg").write_text("<svg ></svg>")
        lines, _ = summary(capsys, "-i", "in")
        assert "ytes only" not in "\n".join(lines)


class TestNothingJudged:
    """Everything was rejected: exit code 1, what the files are, and what to do."""

    def test_videos(self, capsys: pytest.CaptureFixture[str]) -> None:
        for number in range(3):
            Path("in", f"{number}.mp4").write_bytes(MP4 + b"%d" % number)
        Path("in", "0.xmp").write_text("<x:xmpmeta/>")
        lines, error = summary(capsys, "-n", "-i", "in", "-d", "out", code=1)
        assert lines[:2] == [
            "4 images: 0 kept, 0 duplicates, 4 rejected",
            "Rejected and not copied: 3 MP4 videos, 1 XMP text file",
        ]
        assert error.splitlines()[-1] == (
            "dedup: no image could be judged: all 4 files were rejected (3 MP4 videos, 1 XMP text file). dedup reads "
            "images, and tar, zip and WARC archives of images. To compare frames of videos, extract them first, for "
            "example with ffmpeg"
        )

    def test_parquet_in_the_input(self, capsys: pytest.CaptureFixture[str]) -> None:
        pyarrow.parquet.write_table(pa.table({"__path__": ["in/a.gif"]}), "in/my table.parquet")
        lines, error = summary(capsys, "-i", "in", code=1)
        assert lines[1] == "Rejected: 1 Parquet data file"
        assert "replace -i by -l 'in/my table.parquet'" in error
        Path("in", "a.gif").write_bytes(b"GIF89a")
        assert dedup("-l", "in/my table.parquet") == 0

    @pytest.mark.parametrize("name", ["t.parquet", "t.jsonl"])
    def test_rows_without_a_path(self, name: str, capsys: pytest.CaptureFixture[str]) -> None:
        rows = [{"file_name": "a.jpg", "label": 1}, {"file_name": "b.jpg", "label": 2}]
        if name == "t.jsonl":
            Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        else:
            pyarrow.parquet.write_table(pa.Table.from_pylist(rows), name)
        lines, error = summary(capsys, "-l", name, code=1)
        assert lines[1] == "Rejected: 2 rows (malformed)"
        assert error.splitlines()[-1] == (
            "dedup: no image could be judged: all 2 rows were rejected (2 rows (malformed)). Each row must have the "
            "path of an image under the key __path__, or under another key that --path_field names; "
            f"{name}!1: no __path__; it has file_name, label"
        )

    def test_rows_whose_files_are_gone(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("l.jsonl").write_text('{"__path__": "nosuch/a.jpg"}\n')
        _, error = summary(capsys, "-l", "l.jsonl", code=1)
        assert "the only row was rejected (1 .jpg file (not_found)). Check the paths; relative ones" in error

    @pytest.mark.parametrize(
        ("content", "advice"),
        [
            (b"7z\xbc\xaf\x27\x1c", "Extract archives of other kinds first"),
            (b"SQLite format 3\x00", "Export images that are stored in data files to files first"),
            (b"text", "dedup reads images, and tar, zip and WARC archives of images"),
            (b"\x00\xff", "in/a: the bytes are not in a known image format (first bytes: b'\\x00\\xff')"),
            (b"", "The first is in/a: the file has no bytes"),
        ],
    )
    def test_other_files(self, content: bytes, advice: str, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a").write_bytes(content)
        _, error = summary(capsys, "-i", "in", code=1)
        assert error.endswith(f"{advice}\n")

    def test_the_error_is_one_line_and_printed_by_quiet_runs_too(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path("in", "a\n\x1b[2J.mp4").write_bytes(b"\x00\xff")
        lines, error = summary(capsys, "-i", "in", "--quiet", code=1)
        assert lines == []
        assert error.count("\n") == 1
        assert error.replace("\n", "").isprintable()

    def test_records_and_counts_are_written_all_the_same(self) -> None:
        Path("in", "a.mp4").write_bytes(MP4)
        assert dedup("-i", "in", "--records", "r.jsonl", "--counts", "c.json") == 1
        assert records_in(Path("r.jsonl"))["a.mp4"]["reason"] == "not_an_image"
        assert json.loads(Path("c.json").read_text())["Rejected_Count"] == 1

    def test_one_image_among_rejected_files_is_enough(self) -> None:
        Path("in", "a.mp4").write_bytes(MP4)
        Path("in", "a.gif").write_bytes(b"GIF89a")
        assert dedup("-i", "in") == 0

    def test_an_empty_directory_is_no_failure(self) -> None:
        assert dedup("-i", "in") == 0


class TestKindsOfRejectedFiles:
    def test_many_kinds_are_cut(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "z.gif").write_bytes(b"GIF89a")
        for number in range(12):
            Path("in", f"a.x{number:02}").write_bytes(b"\x00\xff")
        lines, _ = summary(capsys, "-i", "in")
        kinds = ", ".join(f"1 .x{number:02} file (not_an_image)" for number in range(8))
        assert lines[1] == f"Rejected: {kinds}, 4 others"

    def test_records_say_what_rejected_files_are_and_how_large(self) -> None:
        Path("in", "a.mp4").write_bytes(MP4)
        Path("in", "b.txt").write_text("text")
        Path("in", "c.jpg").touch()
        Path("in", "d.jpg").symlink_to("nosuch")
        Path("in", "e.zip").write_bytes(made_archives.zipped({"f.txt": b"12345"}))
        Path("in", "g.gif").write_bytes(b"GIF89a" + bytes(1000))
        os.mkfifo("in/h")
        Path("in", "i.tar").write_bytes(made_archives.tar({"j.gif": b"GIF89a" * 200})[:1000])
        assert dedup("-i", "in", "--records", "r.jsonl", "--max_bytes", "1kB") == 1
        found = records_in(Path("r.jsonl"))
        assert {name: (one["reason"], one["format"], one["size_bytes"]) for name, one in found.items()} == {
            "a.mp4": ("not_an_image", "MP4", 12),
            "b.txt": ("not_an_image", "plain", 4),
            "c.jpg": ("empty", None, 0),
            "d.jpg": ("not_found", None, None),
            "e.zip!f.txt": ("not_an_image", "plain", 5),
            "g.gif": ("too_large", None, 1006),
            "h": ("not_a_file", None, None),
            "i.tar": ("damaged", None, 1000),
        }

    def test_file_that_crashes_the_decoder_is_not_touched_again_for_its_size(self) -> None:
        Path("in", "a.gif").write_bytes(b"GIF89a")
        Path("in", "b.gif").write_bytes(b"GIF89a crash")
        Path("sitecustomize.py").write_text(
            "import os, sys\n"
            f"if {decoder_process.__name__!r} in sys.orig_argv:\n"
            "    from beam_dedup.core.reading import reader\n"
            "    real = reader.fingerprint\n"
            "    reader.fingerprint = lambda ref, *rest: os.abort() if 'b.gif' in ref.uri else real(ref, *rest)\n"
        )
        ended = dedup_apart(
            *("-i", Path("in").absolute(), "-o", "", "--records", Path("r.jsonl").absolute(), "--quiet"),
            env={**os.environ, "PYTHONPATH": os.pathsep.join((os.getcwd(), str(ROOT)))},
        )
        assert ended.returncode == 0
        crashed = records_in(Path("r.jsonl"))["b.gif"]
        assert (crashed["reason"], crashed["size_bytes"]) == ("decoder_crashed", None)


class TestOtherFiles:
    """Files in the output directory that are not of this run."""

    def in_summary(self, capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
        lines, _ = summary(capsys, *arguments)
        return "".join(line for line in lines if line.startswith("Not of this run"))

    def test_a_second_input_in_the_same_directory(self, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("a", "b"):
            Path(name).mkdir()
            Path(name, f"{name}1.gif").write_bytes(b"GIF89a1" + name.encode())
            Path(name, f"{name}2.gif").write_bytes(b"GIF89a2" + name.encode())
        assert self.in_summary(capsys, "-i", "a", "-d", "out") == ""
        assert self.in_summary(capsys, "-i", "a", "-d", "out") == ""
        assert self.in_summary(capsys, "-i", "b", "-d", "out") == (
            "Not of this run: 2 files in out, from other inputs, options or programs"
        )
        assert self.in_summary(capsys, "-i", "a", "-i", "b", "-d", "out2") == ""

    def test_other_options_in_the_same_directory(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.gif").write_bytes(b"GIF89a")
        Path("in", "b.gif").write_bytes(b"GIF89a")
        assert self.in_summary(capsys, "-i", "in", "-d", "out", "-s") == ""
        assert self.in_summary(capsys, "-i", "in", "-d", "out").startswith("Not of this run: 1 file in out")

    def test_own_outputs_are_of_this_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.gif").write_bytes(b"GIF89a")
        outputs = ("--records", "out/r/", "--counts", "out/c.json", "-o", "out/g.json")
        assert self.in_summary(capsys, "-i", "in", "-d", "out", *outputs) == ""

    def test_files_that_are_in_the_way_are_not_of_this_run(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.gif").write_bytes(b"GIF89a")
        Path("in", "b.gif").write_bytes(b"GIF89ab")
        Path("out").mkdir()
        Path("out", "a.gif").write_bytes(b"else")
        lines, error = summary(capsys, "-i", "in", "-d", "out", code=1)
        assert "1 image could not be placed" in error
        assert lines[-1].startswith("Not of this run: 1 file in out")

    def test_previews_count_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("in", "a.gif").write_bytes(b"GIF89a")
        Path("out").mkdir()
        Path("out", "x").touch()
        assert self.in_summary(capsys, "-i", "in", "-d", "out", "--preview") == ""


def test_paths_that_cannot_be_printed_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Path("\x1b[2J").mkdir()
    Path("\x1b[2J", "a.gif").write_bytes(b"GIF89a")
    assert main(["-i", "\x1b[2J", "-d", "out\x1b[2J", "-o", "g\x1b.json"]) == 0
    shown = capsys.readouterr().out
    assert re.sub(r"\n", "", shown).isprintable()
    assert counted(1, "x") == "1 x"
