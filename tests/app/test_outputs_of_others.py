"""Outputs of the command line where somebody else writes, and where names are made to mislead."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.batch import pipeline
from beam_dedup.core.model import Placement, Unplaced
from beam_dedup.unplaced import append_unplaced, unplaced_message
from tests.app.cli_runs import dedup, records_in, tree
from tests.core.archives.made_archives import record, response, tar, warc
from tests.transforms.files import encoded, write

A, B, C = encoded(1), encoded(2), encoded(3)
HARM = "\x1b]0;title\x07\x9b2J"  # sets the title of a terminal and clears it


def test_file_that_appears_during_the_run_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in/a.png", A)
    paths = {flag: tmp_path / f"out/{flag}.json" for flag in ("-o", "--records", "--counts")}
    build = pipeline.build

    def build_later(*arguments: Any, **options: Any) -> None:
        build(*arguments, **options)
        for path in paths.values():
            write(path, b"theirs")

    monkeypatch.setattr(pipeline, "build", build_later)
    given = [argument for flag, path in paths.items() for argument in (flag, path)]
    assert dedup("-i", tmp_path / "in", *given, "-d", tmp_path / "copies") == 1
    assert [path.read_bytes() for path in paths.values()] == [b"theirs"] * 3
    assert list(records_in(tmp_path / "out/--records.json.new")) == ["a.png"]
    assert json.loads((tmp_path / "out/--counts.json.new").read_text())["Initial_Image_Count"] == 1
    assert tree(tmp_path / "copies") == {"a.png": A}, "all else is done"
    message = capsys.readouterr().err
    assert "was put there by somebody else during the run and is not replaced" in message
    assert all(f"the output of this run is in {path}.new" in message for path in paths.values())


def test_links_below_the_output_directory_are_named_and_all_else_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in/a.png", A)
    write(tmp_path / "in/sub/b.png", B)
    write(tmp_path / "in/sub/c.png", B)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("sub", "_duplicates"):
        (tmp_path / "out" / name).symlink_to("../elsewhere")
    assert dedup("-i", tmp_path / "in", "-d", tmp_path / "out", "-s", "--quiet") == 1
    assert os.listdir(tmp_path / "elsewhere") == []
    assert (tmp_path / "out/a.png").read_bytes() == A
    message = capsys.readouterr().err
    for name in ("sub", "_duplicates"):
        assert (
            f"{tmp_path}/out/{name} is a link; links below the output directory are not followed" in message
        )


def test_crawl_with_a_name_that_is_file_and_directory(tmp_path: Path) -> None:
    pages = [
        record(f"http://e.example/{name}", response(data))
        for name, data in {"img": A, "img/1.jpg": B, "img/2.jpg": C}.items()
    ]
    write(tmp_path / "in/f.warc", warc(*pages))
    assert dedup("-i", tmp_path / "in", "-d", tmp_path / "out") == 0
    found = tree(tmp_path / "out")
    assert sorted(found.values()) == sorted([A, B, C])
    assert {Path(name).name for name in found} == {"%69mg", "1.jpg", "2.jpg"}


def test_names_in_messages_cannot_control_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "in/a.tar", tar({f"{HARM}.png": A}))
    write(tmp_path / f"in/{HARM}.png", B)
    given = ("-i", tmp_path / "in", "-d", tmp_path / "out")
    assert dedup(*given, "--place", "symlink") == 1
    assert dedup(*given, "--preview") == 0
    assert dedup("-i", tmp_path / "in", "-i", tmp_path / HARM) == 2
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert "\\u001b]0;title" in text
        assert all(line.isprintable() for line in text.split("\n"))


def test_every_image_that_could_not_be_placed_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "unplaced")
    for number in range(9):
        append_unplaced(Unplaced(Placement("", f"/out/{number}", b""), f"{number}{HARM} is gone"), path)
    lines = unplaced_message(path).split("\n")
    assert lines[0] == "9 images could not be placed:"
    assert [line[:3] for line in lines[1:]] == [f"  {number}" for number in range(9)]
    assert all(line.isprintable() for line in lines)
