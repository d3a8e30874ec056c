"""Checks what the job server of Flink logs: little, and JSON lines on request."""

import json
from pathlib import Path

import pytest

from tests.app.cli_runs import dedup_apart
from tests.services import servers
from tests.services.require_service import required
from tests.services.servers import Service

pytestmark = [pytest.mark.service, pytest.mark.slow]

MOST_LINES = 100  # there were 5,000 for one batch


def test_log_of_a_batch_is_short_and_has_the_state_of_the_job(samples: Path, tmp_path: Path) -> None:
    with required(servers.flink()) as service:
        lines = _log_of_batch(service, samples, tmp_path)
    assert len(lines) < MOST_LINES, "\n".join(lines)
    assert any("Job server now running" in line for line in lines)
    assert any("reached terminal state FINISHED" in line for line in lines)


def test_log_consists_of_json_lines_on_request(samples: Path, tmp_path: Path) -> None:
    """Also at the most detailed level, where messages have several lines, and exceptions have stack traces."""
    with required(servers.flink({"DEDUP_LOG_FORMAT": "json", "DEDUP_LOG_LEVEL": "info"})) as service:
        lines = [json.loads(line) for line in _log_of_batch(service, samples, tmp_path)]
    assert len(lines) > MOST_LINES
    assert {tuple(line) for line in lines} == {("time", "severity", "logger", "message")}
    assert any("\n" in line["message"] for line in lines)
    assert all(line["time"].endswith("Z") for line in lines)


def _log_of_batch(service: Service, samples: Path, folder: Path) -> list[str]:
    done = dedup_apart("-n", "-i", samples, "-o", "", "--records", folder / "r.jsonl", *service.flags)
    assert done.returncode == 0, done.stderr
    return service.log.read_text("utf-8").splitlines()
