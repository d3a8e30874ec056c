"""Runs that stay, on other engines: seen from the outside they are those of this machine."""

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


@pytest.mark.parametrize("engine", ["flink", "prism"])
def test_a_watched_folder(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Files that are there before, arrive while it runs, and are replaced: each has one record and each kept one its copy.
    Ctrl-C ends the job, and exits 130.
    """
    service: Service = request.getfixturevalue(engine)
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


def test_steps_that_fail_leave_no_trace(flink: Service, tmp_path: Path) -> None:
    """Flink goes back to its last checkpoint each time, and does again what it had done since: no record is lost, doubled or
    changed, though files had been written.
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
    assert seen.items() <= tree(tmp_path / "records").items(), "a file of records changed"
    failures = [f"fails after file {number}" for number in (2, 5, 9, 14)]
    assert [text for text in failures if text not in flink.log.read_text("utf-8", "replace")] == []


@pytest.mark.parametrize("engine", ["flink", "prism"])
@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_windows(mode: str, engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Each is one file, and judged by itself; a file that is overwritten within one is another image."""
    service: Service = request.getfixturevalue(engine)
    incoming = WatchedDirectory(tmp_path / "in")
    files = list(stream_files.files(80, seed=6).items())
    arguments = (mode, "--watch", "-i", incoming.folder, "--window", "5s", *service.flags, OFTEN)
    with running_stream(tmp_path, *arguments) as run:
        for some in (files[:40], files[40:]):
            for name, data in some:
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
        of_window = [json.loads(line) for line in path.read_bytes().splitlines()]
        if mode == "-n":
            outside.check(of_window)
            continue
        kept = {record["digest"] for record in by_status(of_window, "kept")}
        assert len(kept) == len(by_status(of_window, "kept"))
        assert all(record["digest"] in kept for record in of_window)
