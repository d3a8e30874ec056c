"""Checks that a job server that does not answer is reported in one sentence, soon, and before anything is submitted."""

import functools
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from beam_dedup.core.errors import UsageError
from beam_dedup.runners import select
from tests.app.cli_runs import dedup
from tests.services.processes import HOST, free_port

SECONDS = 0.3


def check(*flags: str) -> None:
    select.check_job_server(select.beam_options(flags), SECONDS)


@pytest.mark.parametrize("runner", ["PortableRunner", "FlinkRunner", "PrismRunner", "SparkRunner"])
def test_port_without_a_server_is_refused(runner: str) -> None:
    endpoint = f"{HOST}:{free_port()}"
    with pytest.raises(UsageError, match=rf"--job_endpoint: no job server answers at {endpoint} \(tried for"):
        check(f"--runner={runner}", f"--job_endpoint={endpoint}")


@pytest.mark.parametrize("endpoint", ["http://localhost:8099", "no-such-host.invalid:8099", "8099"])
def test_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(UsageError, match=f"no job server answers at {endpoint}"):
        check("--runner=PortableRunner", f"--job_endpoint={endpoint}")


def test_other_server_at_the_port_is_refused() -> None:
    """Such as the REST interface of Flink, given by mistake."""
    with socket.create_server((HOST, 0)) as other, pytest.raises(UsageError, match="no job server answers"):
        check("--runner=PortableRunner", f"--job_endpoint={HOST}:{other.getsockname()[1]}")


def test_server_that_answers_is_accepted() -> None:
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        select.check_job_server(
            select.beam_options(["--runner=PortableRunner", f"--job_endpoint={HOST}:{port}"]), 60
        )
        server.stop(None).wait()


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("--runner=PrismRunner",),
        ("--runner=FlinkRunner",),
        ("--runner=PortableRunner", "--job_endpoint=embed"),
    ],
)
def test_job_server_that_beam_starts_itself_is_not_checked(flags: tuple[str, ...]) -> None:
    check(*flags)


@pytest.mark.parametrize("more", [(), ("--watch",)], ids=["batch", "stream"])
def test_command_ends_with_one_sentence(
    more: tuple[str, ...],
    samples: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the limit of real runs, Beam would have waited for five minutes and failed with `FutureTimeoutError`."""
    assert select.JOB_SERVER_SECONDS < 10
    monkeypatch.setattr(
        select, "check_job_server", functools.partial(select.check_job_server, seconds=SECONDS)
    )
    endpoint = f"{HOST}:{free_port()}"
    flags = ("--runner=PortableRunner", f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK")
    assert dedup("-n", "-i", samples, "--records", tmp_path / "records/", *more, *flags) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dedup: --job_endpoint: no job server answers at {endpoint}")
