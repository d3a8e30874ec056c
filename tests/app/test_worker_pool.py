"""Checks that the worker pool starts and stops workers, passes them the options of the job, and leaves none running."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import psutil
import pytest
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from google.protobuf import json_format, struct_pb2, text_format

from beam_dedup import worker_pool
from beam_dedup.runners import worker_boot
from beam_dedup.worker_pool import HOST, WorkerPool
from tests.app.cli_runs import ROOT
from tests.services.processes import answers, free_port, listening, running
from tests.waiting import SECONDS

Started = list["tuple[Sequence[str], subprocess.Popen[bytes]]"]


def sleeping(started: Started) -> Any:
    """Returns a starter of processes that only sleep, which adds each command and its process to a list."""

    def start(command: Sequence[str]) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        started.append((command, process))
        return process

    return start


class TaskManager:
    """A client of the pool, which acts as a task manager."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"{HOST}:{port}")
        self.stub = beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolStub(self.channel)

    def start(self, name: str) -> str:
        request = beam_fn_api_pb2.StartWorkerRequest(worker_id=name)
        for endpoint in ("control", "logging", "provision"):
            getattr(request, f"{endpoint}_endpoint").url = f"somewhere:{len(endpoint)}"
        return str(self.stub.StartWorker(request).error)

    def stop(self, name: str) -> str:
        return str(self.stub.StopWorker(beam_fn_api_pb2.StopWorkerRequest(worker_id=name)).error)


@pytest.fixture
def started() -> Iterator[Started]:
    processes: Started = []
    yield processes
    for _, process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def manager(started: Started) -> Iterator[TaskManager]:
    pool, port = WorkerPool(sleeping(started)), free_port()
    server = worker_pool.serve(pool, HOST, port)
    made = TaskManager(port)
    yield made
    made.channel.close()
    server.stop(None).wait()
    pool.stop_all()
    assert all(process.poll() is not None for _, process in started)


def test_worker_is_started_and_stopped(manager: TaskManager, started: Started) -> None:
    assert manager.start("1-1") == manager.start("1-2") == ""
    (command, first), (_, second) = started
    assert command == [
        *(sys.executable, "-m", "beam_dedup.runners.worker_boot", "--id=1-1"),
        *(
            "--control_endpoint=somewhere:7",
            "--logging_endpoint=somewhere:7",
            "--provision_endpoint=somewhere:9",
        ),
    ]
    assert manager.stop("1-1") == ""
    assert first.poll() is not None
    assert second.poll() is None


def test_worker_with_an_ambiguous_id_is_not_stopped(manager: TaskManager, started: Started) -> None:
    """Two task managers may use the same id. Neither must stop the worker of the other."""
    assert manager.start("1-1") == manager.start("1-1") == ""
    (_, first), (_, second) = started
    assert manager.stop("1-1") == ""
    assert first.poll() is second.poll() is None
    first.kill()
    first.wait()
    assert manager.stop("1-1") == ""
    assert second.poll() is not None


def test_stopping_a_worker_that_does_not_run_succeeds(manager: TaskManager, started: Started) -> None:
    assert manager.stop("7") == ""
    assert manager.start("7") == ""
    started[0][1].kill()
    started[0][1].wait()
    assert manager.start("8") == manager.stop("7") == ""


def test_failure_to_start_is_reported() -> None:
    def start(_: Sequence[str]) -> "subprocess.Popen[bytes]":
        raise BlockingIOError("no more processes")

    request = beam_fn_api_pb2.StartWorkerRequest(worker_id="1")
    assert (
        WorkerPool(start).StartWorker(request, None).error
        == "the worker could not be started: no more processes"
    )


def test_port_in_use_is_reported(manager: TaskManager, capfd: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    server = worker_pool.serve(WorkerPool(worker_pool.start_process), HOST, port)
    try:
        assert worker_pool.main([f"--port={port}"]) == 1
    finally:
        server.stop(None).wait()
    assert f"worker_pool: can't listen on {HOST}:{port}" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_the_pool(number: signal.Signals) -> None:
    """The worker waits for a runner that does not exist, and would do so for a minute."""
    port = free_port()
    command = [sys.executable, "-m", "beam_dedup.worker_pool", f"--port={port}"]
    with running(command, lambda: answers(port), {"PYTHONPATH": str(ROOT)}) as log:
        [pool] = [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == command]
        assert listening(pool) == {HOST}
        manager = TaskManager(port)
        assert manager.start("1-1") == ""
        manager.channel.close()
        [worker] = pool.children()
        pool.send_signal(number)
        _, alive = psutil.wait_procs([pool, worker], timeout=SECONDS)
        assert not alive, log.read_text()


class Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """The provision service of a runner, which describes the job to the worker with the id 1-1."""

    def __init__(self, info: beam_provision_api_pb2.ProvisionInfo) -> None:
        self.info = info

    def GetProvisionInfo(self, _: Any, context: Any) -> Any:  # noqa: N802  gRPC sets the name
        assert ("worker_id", "1-1") in context.invocation_metadata()
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=self.info)


def info_of(options: dict[str, Any], **fields: Any) -> beam_provision_api_pb2.ProvisionInfo:
    struct = json_format.ParseDict(options, struct_pb2.Struct())
    return beam_provision_api_pb2.ProvisionInfo(pipeline_options=struct, **fields)


class TestBoot:
    OPTIONS = {"beam:option:s3_endpoint_url:v1": "http://store", "beam:option:save_main_session:v1": False}  # noqa: RUF012

    def test_worker_fetches_the_description_of_the_job(self) -> None:
        server = grpc.server(ThreadPoolExecutor(1))
        info = info_of(self.OPTIONS, runner_capabilities=["a", "b"])
        beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(Provision(info), server)
        port = server.add_insecure_port(f"{HOST}:0")
        server.start()
        try:
            assert worker_boot.provisioned(f"{HOST}:{port}", "1-1") == info
        finally:
            server.stop(None).wait()

    def test_environment_variables_of_the_worker(self) -> None:
        status = endpoints_pb2.ApiServiceDescriptor(url="status:1")
        info = info_of(self.OPTIONS, runner_capabilities=["a", "b"], status_endpoint=status)
        variables = worker_boot.environment(info, "1-1", "control:1", "logging:1")
        urls = {}
        for name in ("CONTROL", "LOGGING", "STATUS"):
            described = text_format.Parse(
                variables.pop(f"{name}_API_SERVICE_DESCRIPTOR"), endpoints_pb2.ApiServiceDescriptor()
            )
            urls[name] = described.url
        assert urls == {"CONTROL": "control:1", "LOGGING": "logging:1", "STATUS": "status:1"}
        assert json.loads(variables.pop("PIPELINE_OPTIONS")) == self.OPTIONS
        assert variables == {"WORKER_ID": "1-1", "RUNNER_CAPABILITIES": "a b"}

    @pytest.mark.parametrize(
        "name", ["setup_file", "requirements_file", "extra_packages", "save_main_session"]
    )
    def test_options_that_need_an_installation_are_refused(self, name: str) -> None:
        with pytest.raises(worker_boot.NotInstalledError, match=f"^--{name}: install it in the environment"):
            worker_boot.environment(info_of({f"beam:option:{name}:v1": "some"}), "1", "c", "l")

    def test_refused_options_are_reported_before_the_worker_starts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = info_of({"beam:option:setup_file:v1": "setup.py"})
        monkeypatch.setattr(worker_boot, "provisioned", lambda *_: info)
        before = dict(os.environ)
        arguments = [
            f"--{name}=x" for name in ("id", "control_endpoint", "logging_endpoint", "provision_endpoint")
        ]
        with pytest.raises(SystemExit) as ended:
            worker_boot.main(arguments)
        assert ended.value.code == (
            "worker x: --setup_file: install it in the environment of the workers, and leave the option out"
        )
        assert dict(os.environ) == before
