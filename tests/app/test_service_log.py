"""Checks that everything a service writes to stderr becomes JSON lines on request, and stays text otherwise."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.api import beam_fn_api_pb2 as api

from beam_dedup import service_log, worker_pool
from beam_dedup.service_log import FORMAT_VARIABLE, LEVEL_VARIABLE, JsonLines
from beam_dedup.worker_pool import WorkerPool
from tests.app.cli_runs import ROOT, dedup_apart
from tests.app.stream_process import running_stream
from tests.services.processes import HOST, answers, free_port, running
from tests.waiting import SECONDS, soon

AS_JSON = {**os.environ, FORMAT_VARIABLE: "json"}
# The first words of the lines of the summary, which is on stdout and remains text.
SUMMARY = [
    "Images",
    "Kept",
    "Exact",
    "Near",
    "Rejected",
    "Redelivered",
    "Total",
    "Time",
    "Records:",
    "Counts:",
    "Copies:",
]
FIELDS = ("time", "severity", "logger", "message")


def parsed(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(tuple(line) == FIELDS for line in lines)
    return lines


class TestJsonLines:
    def test_line_in_pieces_is_one_object(self) -> None:
        target = io.StringIO()
        stream = JsonLines(target, "dedup")
        for piece in ("dedup: 2 ", "judged\n", "\n", "odd \x1b[31m ü\udcff\nrest"):
            stream.write(piece)
        lines = parsed(target.getvalue())
        assert [line["message"] for line in lines] == ["2 judged", "odd \x1b[31m ü\udcff"]
        assert {(line["logger"], line["severity"]) for line in lines} == {("dedup", "INFO")}
        assert target.getvalue().isascii()

    def test_failure_has_the_severity_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        target = io.StringIO()
        monkeypatch.setattr(sys, "stderr", JsonLines(target, "dedup"))
        print("fine", file=sys.stderr)
        with pytest.raises(KeyError), service_log.failures_are_errors():
            raise KeyError
        print("bad", file=sys.stderr)
        assert [line["severity"] for line in parsed(target.getvalue())] == ["INFO", "ERROR"]

    def test_log_record_is_one_object_with_its_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        target = io.StringIO()
        monkeypatch.setattr(sys, "stderr", JsonLines(target, "dedup"))
        monkeypatch.setenv(FORMAT_VARIABLE, "json")
        logger = logging.Logger("some.library")
        logger.addHandler(service_log.handler("%(message)s"))
        try:
            raise ValueError("no\nluck")
        except ValueError:
            logger.exception("two\nlines")
        [line] = parsed(target.getvalue())
        assert (line["logger"], line["severity"]) == ("some.library", "ERROR")
        assert line["message"].startswith("two\nlines\nTraceback")
        assert line["message"].endswith("ValueError: no\nluck")


@pytest.mark.parametrize(
    ("value", "level"),
    [("debug", 10), ("INFO", 20), ("warn", 30), ("error", 40), ("", 99), ("loud", 99)],
)
def test_level_is_that_of_the_environment(value: str, level: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEVEL_VARIABLE, value)
    assert service_log.level(99) == level


def test_wrong_usage_is_one_json_line() -> None:
    done = dedup_apart("-n", env=AS_JSON)
    assert done.returncode == 2
    [line] = parsed(done.stderr)
    assert line["severity"] == "ERROR"
    assert line["message"].startswith("-i or -l is required")


def test_text_is_the_default() -> None:
    done = dedup_apart("-n", env={**os.environ, FORMAT_VARIABLE: ""})
    assert done.stderr.startswith("dedup: -i or -l is required")


def test_log_of_an_interrupted_stream_consists_of_json_lines(samples: Path, tmp_path: Path) -> None:
    """Its plan, its progress, and what the signal handler writes."""
    arguments = ("-n", "--watch", "-i", samples)
    with running_stream(
        tmp_path, *arguments, frequent_records=False, quiet=False, env={FORMAT_VARIABLE: "json"}
    ) as run:
        run.wait_for(1)
        run.process.send_signal(signal.SIGINT)
        run.process.send_signal(signal.SIGINT)
        run.process.wait(SECONDS)
    log = [line for line in run.log_tail().splitlines() if line.partition(" ")[0] not in SUMMARY]
    messages = [line["message"] for line in parsed("\n".join(log))]
    assert any(message.startswith("plan for --expected_images") for message in messages)


def test_signal_handler_writes_a_json_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\ndedup: interrupted; the input is unchanged\n"
    assert service_log.encoded(text) == text.encode()
    monkeypatch.setenv(FORMAT_VARIABLE, "json")
    [line] = parsed(service_log.encoded(text).decode())
    assert line["message"] == "interrupted; the input is unchanged"


def test_pool_logs_the_start_and_the_unexpected_end_of_a_worker(caplog: pytest.LogCaptureFixture) -> None:
    def start(_: Sequence[str]) -> "subprocess.Popen[bytes]":
        return worker_pool.start_process([sys.executable, "-c", "raise SystemExit(3)"])

    with caplog.at_level(logging.INFO, "worker_pool"):
        WorkerPool(start).StartWorker(api.StartWorkerRequest(worker_id="1-1"), None)
        assert soon(lambda: len(caplog.records) >= 2)
    started, ended = caplog.records
    assert started.getMessage().startswith("worker 1-1 started, process ")
    assert ended.levelname == "WARNING"
    assert ended.getMessage().startswith("worker 1-1 ended with exit code 3, process ")


@pytest.mark.parametrize("as_json", [False, True])
def test_pool_logs_text_or_json(as_json: bool) -> None:
    port = free_port()
    command = [sys.executable, "-m", "beam_dedup.worker_pool", f"--port={port}"]
    environment = {"PYTHONPATH": str(ROOT), FORMAT_VARIABLE: "json" if as_json else "text"}
    with running(command, lambda: answers(port), environment) as log:
        assert soon(lambda: log.read_text().endswith("\n"))
        text = log.read_text()
    if not as_json:
        assert text == f"worker_pool: listening on {HOST}:{port}\n"
        return
    [line] = parsed(text)
    assert (line["logger"], line["message"]) == ("worker_pool", f"listening on {HOST}:{port}")
