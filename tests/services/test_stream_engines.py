"""Runs streams on other runners: their files meet the same rules as those of the local runner."""

import json
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.cli_runs import tree
from tests.app.fault_injection import FAIL
from tests.app.stream_process import check_counts, running_stream
from tests.app.watched_folder import WatchedDirectory, check, files_in
from tests.services.servers import Service
from tests.verdicts_outside import Outside, by_status, check_each_once

pytestmark = [pytest.mark.service, pytest.mark.slow]

OFTEN = "--checkpointing_interval=1000"
PATIENCE = 120.0


@pytest.mark.parametrize("runner", ["flink", "prism"])
def test_watched_directory_is_judged_completely(
    runner: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Files exist before the run, arrive during it, and are replaced: each has one record, each kept image one copy.

    Ctrl-C cancels the job; the run exits with 130.
    """
    service: Service = request.getfixturevalue(runner)
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = stream_files.files(160)
    names = list(files)
    for name in names[:60]:
        incoming.write(name, files[name])
    for name, data in stream_files.hostile().items():
        incoming.write(name, data)
    with running_stream(
        tmp_path, "-n", "--watch", "-i", incoming.folder, "-d", out, *service.flags, OFTEN
    ) as run:
        run.wait_for(len(incoming.expected), PATIENCE)
        for name in names[60:140]:
            incoming.write(name, files[name])
        run.wait_for(len(incoming.expected), PATIENCE)
        for name, other in zip(names[:20], names[140:], strict=True):
            incoming.write(name, files[other])
        run.wait_for(len(incoming.expected), PATIENCE)
        run.wait_until(lambda: len(files_in(out)) == len(by_status(run.records(), "kept")), PATIENCE)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)


def test_failing_steps_do_not_change_the_records(flink: Service, tmp_path: Path) -> None:
    """After each failure, Flink restores its last checkpoint and repeats the work since, although files were written.

    No record is lost, duplicated or changed.
    """
    incoming, out = WatchedDirectory(tmp_path / "in"), tmp_path / "out"
    files = stream_files.files(240, seed=5)
    names = list(files)
    seen: dict[str, bytes] = {}
    flags = (*flink.flags, OFTEN, "--number_of_execution_retries=20", "--execution_retry_delay=200")
    arguments = ("-n", "--watch", "-i", incoming.folder, "-d", out, *flags)
    with running_stream(tmp_path, *arguments, env={FAIL: "2,5,9,14"}) as run:
        for start in range(0, 240, 40):
            for name in names[start : start + 40]:
                incoming.write(name, files[name])
            run.wait_for(len(incoming.expected), PATIENCE)
            seen |= tree(tmp_path / "records")
        run.wait_until(lambda: len(files_in(out)) == len(by_status(run.records(), "kept")), PATIENCE)
        assert run.drain() == 130, run.log_tail()
    check(run, incoming, out)
    assert seen.items() <= tree(tmp_path / "records").items(), "a file of records has changed"
    failures = [f"fails after file {number}" for number in (2, 5, 9, 14)]
    assert [text for text in failures if text not in flink.log.read_text("utf-8", "replace")] == []


@pytest.mark.parametrize("runner", ["flink", "prism"])
@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_each_window_is_one_file_and_judged_by_itself(
    mode: str, runner: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An image that is overwritten within a window counts as two images."""
    service: Service = request.getfixturevalue(runner)
    incoming = WatchedDirectory(tmp_path / "in")
    files = list(stream_files.files(80, seed=6).items())
    arguments = (mode, "--watch", "-i", incoming.folder, "--window", "5s", *service.flags, OFTEN)
    with running_stream(tmp_path, *arguments) as run:
        for batch in (files[:40], files[40:]):
            for name, data in batch:
                incoming.write(name, data)
            run.wait_for(len(incoming.expected), PATIENCE)
        for (name, _), (_, data) in zip(files[:10], files[10:], strict=False):
            incoming.write(name, data)
        run.wait_for(len(incoming.expected), PATIENCE)
        assert run.drain() == 130, run.log_tail()
    check_each_once(run.records(), incoming.expected)
    check_counts(run.folder)
    windows = list((run.folder / "records").glob("records-*-window-*.jsonl"))
    assert len(windows) >= 3
    outside = Outside(incoming.expected.values())
    for path in windows:
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        if mode == "-n":
            outside.check(records)
            continue
        kept = {record["digest"] for record in by_status(records, "kept")}
        assert len(kept) == len(by_status(records, "kept"))
        assert all(record["digest"] in kept for record in records)
