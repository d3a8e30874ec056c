"""Runs on a Prism that the run itself starts: it ends with the run, however that ends."""

import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.app.cli_runs import COMMAND, ROOT, dedup_apart, records_in
from tests.services.processes import HOST, answers, free_port
from tests.services.require_service import required
from tests.services.servers import prism_program
from tests.transforms.files import encoded, write

pytestmark = [pytest.mark.service, pytest.mark.slow]

_SECONDS = 60


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def flags(port: int) -> list[str]:
    with required(prism_program()) as program:
        return [
            "--runner=PrismRunner",
            f"--prism_location={program}",
            f"--job_port={port}",
            "--environment_type=LOOPBACK",
        ]


def assert_nobody_listens(port: int) -> None:
    with socket.socket() as client:
        assert client.connect_ex((HOST, port)) != 0, "Prism still takes pipelines"


def test_prism_ends_with_a_batch(flags: list[str], port: int, tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"in/{number}.png", encoded(number))
    records = tmp_path / "r.jsonl"
    done = dedup_apart("-n", "-i", tmp_path / "in", "-o", "", "--records", records, *flags)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(records_in(records)) == 3
    assert_nobody_listens(port)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stream", [False, True], ids=["batch", "stream"])
def test_prism_ends_with_a_run_that_is_ended(
    stream: bool, number: signal.Signals, flags: list[str], port: int, tmp_path: Path
) -> None:
    for picture in range(300):
        write(tmp_path / f"in/{picture}.png", encoded(picture))
    arguments = ["--watch"] if stream else ["-o", ""]
    records = tmp_path / ("records/" if stream else "r.jsonl")
    command = [
        *COMMAND,
        "-n",
        "-i",
        str(tmp_path / "in"),
        "--records",
        f"{records}/" if stream else str(records),
    ]
    with subprocess.Popen([*command, *arguments, *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        until = time.monotonic() + _SECONDS
        while not answers(port):
            assert run.poll() is None
            assert time.monotonic() < until, "Prism did not start"
            time.sleep(0.1)
        run.send_signal(number)
        run.wait(_SECONDS)
        assert run.stderr is not None
        assert "Traceback" not in run.stderr.read()
    assert run.returncode != 0
    assert_nobody_listens(port)
