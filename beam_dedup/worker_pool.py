"""Starts and stops workers on request of a runner such as Flink, on machines without containers.

Start the pool, then submit the job with two options that name it:

    python -m beam_dedup.worker_pool --port=50000
    dedup ... --environment_type=EXTERNAL --environment_config=HOST:50000

A task manager of Flink asks the pool to start a worker, and later to stop it (`ExternalWorkerPool` in
Beam's `beam_fn_api.proto`). Each worker is a process of the same Python interpreter.

Beam for Python has a worker pool too, but it listens on all addresses, and it does not pass the options of
the job to its workers. Beam's `boot` does pass them, but exists in containers only.

The pool logs to stderr which workers it starts and stops, and which end by themselves; as JSON lines with
DEDUP_LOG_FORMAT=json (`beam_dedup.service_log`).
"""

import argparse
import logging
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2 as api
from apache_beam.portability.api import beam_fn_api_pb2_grpc

from beam_dedup import service_log, signals

_LOGGER = logging.getLogger("worker_pool")

HOST, PORT = "127.0.0.1", 50000
_STOP_SECONDS = 10  # that a worker may take to end after SIGTERM
_SERVER_THREADS = 4


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers.

    Args:
      start: starts a process that runs a command.
    """

    def __init__(self, start: "Callable[[Sequence[str]], subprocess.Popen[bytes]]") -> None:
        self._start = start
        self._workers: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)
        self._lock = threading.Lock()

    def StartWorker(  # noqa: N802  gRPC sets the name
        self, request: api.StartWorkerRequest, _: Any
    ) -> api.StartWorkerResponse:
        """Starts a worker. The response has an error if the process could not be started."""
        command = [
            sys.executable,
            "-m",
            "beam_dedup.runners.worker_boot",
            f"--id={request.worker_id}",
            f"--control_endpoint={request.control_endpoint.url}",
            f"--logging_endpoint={request.logging_endpoint.url}",
            f"--provision_endpoint={request.provision_endpoint.url}",
        ]
        try:
            worker = self._start(command)
        except OSError as error:
            _LOGGER.log(logging.ERROR, "worker %s could not be started: %s", request.worker_id, error)
            return api.StartWorkerResponse(error=f"the worker could not be started: {error}")
        _LOGGER.info("worker %s started, process %d", request.worker_id, worker.pid)
        threading.Thread(target=_log_end, args=(request.worker_id, worker), daemon=True).start()
        with self._lock:
            # Polling reaps workers that have ended; otherwise they would remain as zombie processes.
            for worker_id in self._workers:
                self._workers[worker_id] = self._running(worker_id)
            self._workers[request.worker_id].append(worker)
        return api.StartWorkerResponse()

    def StopWorker(self, request: api.StopWorkerRequest, _: Any) -> api.StopWorkerResponse:  # noqa: N802
        """Stops the worker of an id, if exactly one runs.

        Task managers that share a pool use the same ids. If two workers have the same id, it is unknown which
        one is meant; that one ends by itself, as every worker does when its runner closes the connection.
        """
        with self._lock:
            running = self._running(request.worker_id)
            if len(running) < 2:
                del self._workers[request.worker_id]
        if len(running) == 1:
            _stop(running)
        return api.StopWorkerResponse()

    def _running(self, worker_id: str) -> "list[subprocess.Popen[bytes]]":
        return [worker for worker in self._workers[worker_id] if worker.poll() is None]

    def stop_all(self) -> None:
        """Stops all workers."""
        with self._lock:
            _stop([worker for workers in self._workers.values() for worker in workers])
            self._workers.clear()


def _log_end(worker_id: str, worker: "subprocess.Popen[bytes]") -> None:
    """Waits until a worker has ended, and logs its exit code; as a warning unless it ended normally."""
    code = worker.wait()
    level = logging.INFO if code in (0, -signal.SIGTERM) else logging.WARNING
    _LOGGER.log(level, "worker %s ended with exit code %d, process %d", worker_id, code, worker.pid)


def _stop(workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def start_process(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Starts a worker process.

    Its output goes where the output of the pool goes. It does not receive Ctrl-C, as it has a session of its
    own: the pool does, and stops it.
    """
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def serve(pool: WorkerPool, host: str, port: int) -> grpc.Server:
    """Starts a gRPC server for a pool, and returns it.

    Raises:
      OSError: the address is in use, or does not belong to this machine.
    """
    server = grpc.server(ThreadPoolExecutor(_SERVER_THREADS), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"can't listen on {host}:{port}: {error}") from error
    server.start()
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves requests until SIGTERM or Ctrl-C, then stops all workers.

    Returns:
      The exit code: 0, or 1 if the address can't be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m beam_dedup.worker_pool",
        description="Starts workers on request of a runner, such as Flink.",
    )
    parser.add_argument("--port", type=int, default=PORT, help="port to listen on (default %(default)s)")
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; everyone who can reach it can run programs here (default %(default)s)",
    )
    given = parser.parse_args(arguments)
    service_log.set_up("worker_pool")
    _LOGGER.handlers = [service_log.handler("%(name)s: %(message)s")]
    _LOGGER.setLevel(service_log.level(logging.INFO))
    pool = WorkerPool(start_process)
    ended = threading.Event()
    with signals.handling((signal.SIGTERM, signal.SIGINT), lambda *_: ended.set()):
        try:
            server = serve(pool, given.host, given.port)
        except OSError as error:
            _LOGGER.log(logging.ERROR, "%s", error)
            return 1
        _LOGGER.info("listening on %s:%d", given.host, given.port)
        ended.wait()
        server.stop(None).wait()
        pool.stop_all()
    return 0


if __name__ == "__main__":
    signals.wake_main_thread_on_signals()
    sys.exit(main())
