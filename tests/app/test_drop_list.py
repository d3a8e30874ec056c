"""`--drop_list`: which names it contains, and that nobody reads one name as two."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.preflight import check_ours
from tests.app.cli_runs import dedup
from tests.core.archives.made_archives import tar
from tests.transforms.files import encoded, write

A, B, C = encoded(1), encoded(2), encoded(3)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the current directory, which has images of two groups, a rejected file, and one to be dropped."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b!.png", "=c", "d\udce5", "-e", 'f"', "g "):
        write(tmp_path / "in" / name, A)
    write(tmp_path / "in/h.tar", tar({"m.png": A, "n.png": B}))
    write(tmp_path / "in/empty", b"")
    write(tmp_path / "in/zz", C)
    digest = hashlib.sha256(C).hexdigest()
    write(tmp_path / "decisions.jsonl", json.dumps({"decision": "drop", "digest": digest}).encode())
    return tmp_path


EXPECTED = ["=c", "a", "b!.png", "d\udce5", 'f"', "g ", "h.tar!m.png", "zz"]


def run(path: str) -> int:
    return dedup("-e", "-i", "in", "--decisions", "decisions.jsonl", "--drop_list", path, "--quiet")


@pytest.mark.parametrize(("path", "end"), [("new/l.txt", b"\n"), ("l.nul", b"\0")])
def test_duplicates_and_dropped_images_are_listed_by_the_paths_that_open_them(
    workplace: Path, path: str, end: bytes
) -> None:
    assert run(path) == 0
    assert (workplace / path).read_bytes() == b"".join(os.fsencode(f"in/{name}") + end for name in EXPECTED)


def test_name_with_a_line_break_is_only_in_a_list_with_nul(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader of the lines would take `in/z`, a file of its own, for a duplicate."""
    for name in ("y\nin/z", "y\rz"):
        write(workplace / "in" / name, A)
    write(workplace / "in/z", encoded(4))
    assert run("l.txt") == 1
    assert (workplace / "l.txt").read_bytes().split(b"\n")[-3:] == [b"in/h.tar!m.png", b"in/zz", b""]
    message = capsys.readouterr().err
    assert "--drop_list: l.txt is not complete: 2 names contain a line break or NUL. A list whose" in message
    assert run("l.nul") == 0
    found = (workplace / "l.nul").read_bytes().split(b"\0")
    assert b"in/y\nin/z" in found
    assert b"in/z" not in found


def test_existing_list_is_not_replaced(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workplace / "l.txt").write_text("mine\n")
    assert run("l.txt") == 2
    assert (workplace / "l.txt").read_text() == "mine\n"
    assert "l.txt already exists, and a list does not show who wrote it" in capsys.readouterr().err
    check_ours("--drop_list", "l.txt", b"")
    with pytest.raises(UsageError, match="already exists"):
        check_ours("--drop_list", "l.txt", b"in/a\n")


def test_run_without_duplicates_makes_an_empty_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "in/a", A)
    assert dedup("-e", "-i", "in", "--drop_list", "l.txt", "--quiet") == 0
    assert (tmp_path / "l.txt").read_bytes() == b""
