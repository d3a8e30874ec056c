"""Secrets are in no log."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.portable_runner import JobServiceHandle
from apache_beam.runners.worker import sdk_worker_main

from beam_dedup.runners import worker_boot
from beam_dedup.runners.redaction import HIDDEN, hide_secrets
from beam_dedup.runners.select import beam_options
from tests.app.cli_runs import dedup_apart
from tests.pictures import encoded, photo

SECRETS = {
    "s3_secret_access_key": "wJalrXUtnFEMI/K7MDENG+bPx",
    "s3_session_token": "with'both\"quotes\\",
    "azure_connection_string": "AccountKey=Zm9v==;x",
}
FLAGS = [f"--{name}={value}" for name, value in SECRETS.items()]
PARTS = ("wJalrXUtnFEMI", "quotes", "Zm9v")  # of each, whatever quotes and escapes are around it


@pytest.fixture(autouse=True)
def _ordinary_records() -> Iterator[None]:
    before = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(before)


def assert_hidden(log: str) -> None:
    assert [part for part in PARTS if part in log] == []
    assert log.count(HIDDEN) >= len(SECRETS)


def test_secret_options_are_hidden_as_soon_as_they_are_parsed(caplog: pytest.LogCaptureFixture) -> None:
    options = beam_options([*FLAGS, "--s3_region_name=eu-1"]).get_all_options(drop_default=True)
    assert SECRETS.items() <= options.items()
    logging.getLogger("any").error("options: %s", options)
    assert_hidden(caplog.text)
    assert "eu-1" in caplog.text
    caplog.clear()
    logging.getLogger("any").error("as JSON %s, quoted again %r", json.dumps(options), str(options))
    assert_hidden(caplog.text)


def test_keys_in_the_environment_are_hidden(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "from the environment")
    hide_secrets({})
    logging.getLogger("any").error("key %s, %d", "from the environment", 3)
    logging.getLogger("any").error("nothing secret: %s", {"a": 1})
    assert caplog.messages == [f"key {HIDDEN}, 3", "nothing secret: {'a': 1}"]


def test_worker_that_a_runner_asks_for_hides_secrets(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beam's worker logs its options at the level INFO."""
    encoded_options = JobServiceHandle.encode_pipeline_options({**SECRETS, "s3_region_name": "eu-1"})
    info = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded_options)
    info.control_endpoint.url = "localhost:1"

    def create_harness(_: list[str]) -> None:
        environment = dict(os.environ)
        del environment["LOGGING_API_SERVICE_DESCRIPTOR"]  # it would wait a minute for that server
        sdk_worker_main.create_harness(environment, dry_run=True)

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(worker_boot, "provisioned", lambda *_: info)
    monkeypatch.setattr(sdk_worker_main, "main", create_harness)
    endpoints = [f"--{name}_endpoint=localhost:1" for name in ("control", "logging", "provision")]
    # A run in this process before may have silenced Beam.
    with caplog.at_level(logging.INFO), caplog.at_level(logging.INFO, logger="apache_beam"):
        worker_boot.main(["--id=1", *endpoints])
    assert "eu-1" in caplog.text
    assert_hidden(caplog.text)


@pytest.mark.processes
def test_run_with_worker_processes_and_debugging_logs_no_secret(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(encoded(photo(), "JPEG"))
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", *FLAGS]
    environment = {**os.environ, "DEDUP_DEBUG": "1"}
    done = dedup_apart("-e", "-i", tmp_path / "in", "-o", "", *flags, env=environment)
    assert done.returncode == 0
    assert "Pipeline_options" in done.stderr
    assert_hidden(done.stdout + done.stderr)
