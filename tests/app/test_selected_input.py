"""Tests of --exclude, --include, --min_size, --one_file_system and the defaults, from the command line."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from beam_dedup import preflight
from beam_dedup.batch import summary
from beam_dedup.batch.rejected import nothing_read
from beam_dedup.cli import main
from beam_dedup.core.errors import UsageError
from beam_dedup.core.reading.selection import Selection
from beam_dedup.options import checks, parser
from beam_dedup.options.config import DedupConfig
from beam_dedup.stream import pipeline, progress
from beam_dedup.texts import excluded_text
from tests.app.cli_runs import dedup, records_in
from tests.app.stream_process import running_stream
from tests.core.archives.made_archives import zipped
from tests.pictures import encoded, photo
from transforms import metrics
from transforms.count import as_counts
from transforms.stream.watch import WatchedSource
from transforms.tally import Tally

PICTURES = [encoded(photo(seed, (64, 48))) for seed in range(3)]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(*paths: str, data: bytes = PICTURES[0]) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def run(*arguments: object) -> tuple[list[str], dict[str, Any]]:
    """Runs `dedup`. Returns the URIs in its records, and its counts."""
    assert dedup(*arguments, "--records", "r.jsonl", "--counts", "c.json") == 0
    uris = [json.loads(line)["uri"] for line in Path("r.jsonl").read_text().splitlines()]
    return uris, json.loads(Path("c.json").read_text())


def configured(*arguments: str) -> DedupConfig:
    return checks.configure(parser.parse(arguments)[0])


class TestBatch:
    @pytest.mark.parametrize("options", [("--exclude", "*"), ("--include", "*.gif")], ids=str)
    def test_summary_does_not_say_that_there_are_no_files_if_all_are_left_out(
        self, options: tuple[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        write("in/a.png")
        assert dedup("-i", "in", *options) == 0
        assert "Initial_Image_Count    0  no files in in but those not read\n" in capsys.readouterr().out

    def test_what_is_left_out_is_counted_and_reported(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It is no input: the verdicts are those of a directory without it."""
        write("in/@eaDir/a.png", "in/b/@eaDir/a.png", "in/.git/a.png", "in/raw/a.png", "in/a.tif", "in/b.tif")
        write("in/b.png", "in/c.png")
        write("in/d.png", data=PICTURES[1])
        write("in/small.png", data=b"\x89PNG")
        choices = ("--exclude", "*.tif", "--exclude=/raw/", "--min_size", "0.1kB")
        uris, counts = run("-n", "-i", "in", *choices)
        assert uris == ["in/b.png", "in/c.png", "in/d.png"]
        assert counts[metrics.INITIAL] == 3
        assert (counts[metrics.FINAL], counts[metrics.EXACT_DUPLICATES], counts[metrics.REJECTED]) == (
            2,
            1,
            0,
        )
        assert (counts[metrics.EXCLUDED], counts[metrics.EXCLUDED_DIRECTORIES]) == (3, 4)
        assert counts["Excluded"] == {
            "directories": {"--exclude": 1, ".git": 1, "@eaDir": 2},
            "files": {"--exclude": 2, "--min_size": 1},
        }
        assert (
            "Not read: 4 directories (2 @eaDir, 1 by --exclude, 1 .git), 3 files (2 by --exclude, 1 by --min_size)"
        ) in capsys.readouterr().out.splitlines()

    def test_nothing_is_reported_if_nothing_is_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        write("in/.git/a.png", "in/b.png")
        uris, counts = run("-i", "in", "--no_default_excludes")
        assert uris == ["in/.git/a.png", "in/b.png"]
        assert not {metrics.EXCLUDED, metrics.EXCLUDED_DIRECTORIES, "Excluded"} & set(counts)
        assert "Not read" not in capsys.readouterr().out
        assert run("-i", "in", "--exclude", "!.git/")[0] == uris
        assert run("-i", "in/.git")[0] == ["in/.git/a.png"]

    def test_reference_is_selected_too(self) -> None:
        write("known/.git/a.png", data=PICTURES[0])
        write("known/raw/b.png", data=PICTURES[1])
        write("known/c.png", data=PICTURES[2])
        for number, data in enumerate(PICTURES):
            write(f"in/{number}.png", data=data)
        _, counts = run("-i", "in", "--reference", "known", "--exclude", "raw/")
        assert [record["status"] for record in records_in(Path("r.jsonl")).values()] == [
            "kept",
            "kept",
            "duplicate",
        ]
        assert counts[metrics.EXCLUDED_DIRECTORIES] == 2

    def test_archive_is_read_as_a_whole_or_not_at_all(self) -> None:
        write("in/a.zip", "in/raw.zip", data=zipped({"raw/a.png": PICTURES[0], ".git/b.png": PICTURES[1]}))
        uris, counts = run("-i", "in", "--exclude", "raw*", "--min_size", "1kB")
        assert uris == ["in/a.zip!.git/b.png", "in/a.zip!raw/a.png"]
        assert counts["Excluded"]["files"] == {"--exclude": 1}

    def test_rows_are_selected_by_patterns_only(self) -> None:
        write("in/.git/a.png", "in/raw/b.png", "in/c.png")
        rows = [
            {"__path__": path} for path in ("in/.git/a.png", "in/raw/b.png", "in/c.png", "in/c.png", "x.tif")
        ]
        Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        uris, counts = run("-l", "rows.jsonl", "--exclude", "/in/raw", "--include", "*.png")
        assert uris == ["in/.git/a.png", "in/c.png", "rows.jsonl!4"]
        assert counts["Excluded"] == {"directories": {}, "files": {"--exclude": 1, "--include": 1}}

    def test_everything_may_be_left_out(self, capsys: pytest.CaptureFixture[str]) -> None:
        write("in/a.png", "in/b/c.png")
        uris, counts = run("-i", "in", "--exclude", "*")
        assert (uris, counts[metrics.INITIAL]) == ([], 0)
        assert "Not read: 1 directory (by --exclude), 1 file (by --exclude)" in capsys.readouterr().out
        config = configured("-i", "in", "--exclude", "*")
        with pytest.raises(UsageError, match="no files in in but those that are left out: 1 directory"):
            preflight.check_not_empty(config, remote=False)
        error = nothing_read(config, elsewhere=True, excluded=excluded_text(summary.excluded_causes(counts)))
        assert error == (
            "no image was read: everything in in was left out: 1 directory (by --exclude), 1 file (by --exclude)"
        )

    def test_counts_without_causes(self) -> None:
        """As Beam's counters are: of a job elsewhere."""
        counts = as_counts(Counter({metrics.EXCLUDED: 1200, metrics.EXCLUDED_DIRECTORIES: 1}), None, None)
        assert excluded_text(summary.excluded_causes(counts)) == "1 directory, 1,200 files"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-i", "in", "--exclude", "a["],
            '--exclude must close each [ by a ], or escape it by a backslash; got "a["',
        ),
        (["-i", "in", "--include", "a", "--include", "b//c"], "--include must have no empty part"),
        (["-i", "in", "--include", "!a"], "--include must not begin with ! alone: no file would be read"),
        (
            ["-i", "in", "--exclude", "gs://b/x"],
            "--exclude must be relative to the input, without store and bucket",
        ),
        (
            ["-i", "in", "--min_size", "10 apples"],
            "--min_size: must be a number of bytes, or a number and a unit",
        ),
        (["-i", "in", "--min_size", "9TB"], "--min_size must be between 0 and"),
        (["-l", "rows.jsonl", "--min_size", "1"], "--min_size applies only with -i"),
        (["-l", "rows.jsonl", "--one_file_system"], "--one_file_system applies only with -i"),
        (["-l", "rows.jsonl", "--no_default_excludes"], "--no_default_excludes applies only with -i"),
        (
            ["--subscription", "projects/p/subscriptions/s", "--allow", "gs://b", "--min_size", "1"],
            "--min_size applies only with -i (sizes are known only of files that are listed). Remove --min_size",
        ),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in").mkdir()
    Path("rows.jsonl").write_text("")
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", ["in", "./in/", "in/*.jpg", f"{os.curdir}/in"])
def test_path_of_the_input_in_a_pattern_is_refused(given: str, tmp_path: Path) -> None:
    """It would match nothing, and the files that it should leave out would be read."""
    Path("in").mkdir()
    with pytest.raises(UsageError, match=f'must be relative to -i; got "!{tmp_path}/in/x/".') as raised:
        configured("-i", given, "--exclude", f"!{tmp_path}/in/x/")
    assert str(raised.value).endswith('Try --exclude "!/x/"')
    assert configured("-i", given, "--exclude", "/x/", "--exclude", f"{tmp_path}/inner/").selection.exclude


def test_home_directory_in_a_pattern_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not expand ~ after the = of an option."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("in").mkdir()
    with pytest.raises(UsageError, match=r'got "~/in/x/". Try --exclude "/x/"'):
        configured("-i", "~/in", "--exclude=~/in/x/")
    assert configured("-i", "in", "--exclude", "~").selection.exclude == ("~",)


class TestStream:
    @pytest.mark.slow
    def test_excluded_files_are_not_judged(self, tmp_path: Path) -> None:
        write("in/a.png", "in/b.tmp", "in/.git/c.png")
        for name in ("in/a.png", "in/b.tmp", "in/.git/c.png"):
            os.utime(name, (1_700_000_000, 1_700_000_000))
        arguments = ("--watch", "-i", tmp_path / "in", "--exclude", "*.tmp", "--quiet_time", "1s")
        with running_stream(tmp_path, *arguments, quiet=False) as run:
            run.wait_for(1)
            write("in/d.tmp")
            write("in/e.png", data=PICTURES[1])
            run.wait_for(2)
            assert run.drain() == 130, run.log_tail()
        assert sorted(Path(record["uri"]).name for record in run.records()) == ["a.png", "e.png"]
        assert "Not read: 1 directory, 2 files, by options and defaults" in run.log_tail()

    def test_selection_reaches_the_source(self, tmp_path: Path) -> None:
        config = configured(
            "--watch", "-i", "in", "--include", "*.jpg", "--min_size", "2kB", "--one_file_system"
        )
        tally = Tally(str(tmp_path))
        source = pipeline.unbounded_source(config, tally=tally)
        assert isinstance(source, WatchedSource)
        assert source.selection == Selection((), ("*.jpg",), True, 2000, True)
        assert source.tally == tally

    def test_summary_says_how_much_was_left_out(self, tmp_path: Path) -> None:
        config = configured("--watch", "-i", "in")
        tally = Tally(str(tmp_path))
        assert "Not read" not in progress.summary(tally, config, 1.0)
        tally.add(metrics.EXCLUDED, 2)
        tally.add(metrics.EXCLUDED_DIRECTORIES, 1)
        assert "\nNot read: 1 directory, 2 files, by options and defaults\n" in progress.summary(
            tally, config, 1.0
        )

    def test_subscription_has_defaults_and_patterns(self) -> None:
        subscribe = ("--subscription", "projects/p/subscriptions/s", "--allow", "gs://b")
        assert configured(*subscribe).selection == Selection(default_excludes=True)
        chosen = configured(*subscribe, "--no_default_excludes", "--exclude", "x").selection
        assert chosen == Selection(exclude=("x",))
