"""Tests of what goes to the standard streams: early, and quietly where nobody reads them any more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from beam_dedup import output
from beam_dedup.core.errors import DedupError
from tests.app.cli_runs import COMMAND, ROOT
from tests.waiting import soon


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a thousand images of long names, whose preview is longer than the buffer of a pipe."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1000):
        (folder / f"{number}{'x' * 100}.gif").write_bytes(b"GIF89a%d" % number)
    return folder


def run_without_reader(*arguments: object, stderr_too: bool = False) -> tuple[int, str]:
    """Runs `dedup` with a standard output that nobody reads. Returns the exit code and the standard error."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            cwd=ROOT,
            stdout=write,
            stderr=write if stderr_too else subprocess.PIPE,
            text=True,
            timeout=300,
        )
    finally:
        os.close(write)
    return ended.returncode, ended.stderr or ""


class TestReaderThatEnds:
    @pytest.mark.parametrize("arguments", [["--help"], ["--help", "-k"], ["--version"], ["--beam_help"], []])
    def test_help_ends_quietly(self, arguments: list[str]) -> None:
        assert run_without_reader(*arguments) == (0, "")

    def test_preview_ends_quietly(self, folder: Path, tmp_path: Path) -> None:
        records = tmp_path / "r.jsonl"
        preview = ("-i", folder, "-d", tmp_path / "out", "--preview", "--records", records)
        assert run_without_reader(*preview, "--quiet") == (0, "")
        assert len(records.read_text().splitlines()) == 1000

    def test_summary_ends_quietly(self, folder: Path, tmp_path: Path) -> None:
        code, error = run_without_reader("-i", folder, "-d", tmp_path / "out", "-o", "")
        assert code == 0
        assert "roken pipe" not in error
        assert "Traceback" not in error
        assert len(list((tmp_path / "out").iterdir())) == 1000

    def test_errors_end_quietly(self) -> None:
        assert run_without_reader("-i", "nosuch", stderr_too=True) == (2, "")

    def test_exit_code_of_a_run_without_standard_streams_is_that_of_the_run(
        self, folder: Path, tmp_path: Path
    ) -> None:
        command = [*COMMAND, "-i", str(folder), "-o", str(tmp_path / "g.json")]
        shell = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]
        assert subprocess.run(shell, cwd=ROOT, timeout=300).returncode == 0
        assert (tmp_path / "g.json").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full, which Linux has")
def test_full_disk_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(
            [*COMMAND, "--help"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert ended.returncode == 1
    assert ended.stderr == "dedup: can't write to the standard output: No space left on device\n"


def _reads(capfd: pytest.CaptureFixture[str], shown: list[str]) -> bool:
    """Adds what was written to stderr to a list. Returns whether that is anything by now."""
    shown.append(capfd.readouterr().err)
    return any(shown)


class TestSignOfLife:
    def test_it_appears_if_the_block_takes_long(self, capfd: pytest.CaptureFixture[str]) -> None:
        with output.sign_of_life("loading"):
            shown: list[str] = []
            assert soon(lambda: _reads(capfd, shown))
            assert "".join(shown) == "dedup: loading\n"
        assert capfd.readouterr().err == ""

    def test_it_does_not_appear_if_the_block_ends_before(self, capfd: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(DedupError), output.sign_of_life("loading"):
            raise DedupError
        assert capfd.readouterr().err == ""

    def test_it_is_removed_from_a_terminal(
        self, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        shown: list[str] = []
        with output.sign_of_life("loading"):
            assert soon(lambda: _reads(capfd, shown))
        shown.append(capfd.readouterr().err)
        assert "".join(shown) == "dedup: loading\r\x1b[K"

    def test_it_comes_while_beam_is_imported(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "sitecustomize.py").write_text(
            "import sys, time\n"
            "class Slow:\n"
            "    def find_spec(self, name, *_):\n"
            "        if name == 'apache_beam':\n"
            "            time.sleep(5)\n"
            "            print('importing', file=sys.stderr, flush=True)\n"
            "sys.meta_path.insert(0, Slow())\n"
        )
        ended = subprocess.run(
            [*COMMAND, "-n", "-i", str(folder), "-o", ""],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path / "site"), str(ROOT)))},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert ended.stderr.splitlines()[:2] == ["dedup: loading Apache Beam", "importing"]

    def test_quiet_runs_have_none(self, folder: Path) -> None:
        ended = subprocess.run(
            [*COMMAND, "-i", str(folder), "-o", "", "--quiet"], cwd=ROOT, capture_output=True, timeout=300
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
