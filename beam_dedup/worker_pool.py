"""Workers for engines that ask for them, such as Flink, on machines without containers.

    python -m beam_dedup.worker_pool --port=50000        and give the job --environment_type=EXTERNAL --environment_config=HOST:50000

A task manager asks the pool to start a worker, which is a process of the same Python, and to stop it. (`ExternalWorkerPool` in Beam's
`beam_fn_api.proto`. Beam for Python has a pool, too: it listens on all addresses, and tells its workers no options of the
job. Its `boot`, which does, comes in containers only.)
"""

import argparse
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

HOST, PORT = "127.0.0.1", 50000
_PATIENCE_SECONDS = 10  # with a worker that was asked to end
_ANSWERING_THREADS = 4


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """Starts and stops workers. start: makes a process of a command."""

    def __init__(self, start: "Callable[[Sequence[str]], subprocess.Popen[bytes]]") -> None:
        self._start = start
        self._workers: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)
        self._lock = threading.Lock()

    def StartWorker(  # noqa: N802  the name of the call
        self, request: api.StartWorkerRequest, _: Any
    ) -> api.StartWorkerResponse:
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
            return api.StartWorkerResponse(error=f"the worker could not be started: {error}")
        with self._lock:
            # Those that have ended and nobody asks after stay in the table of processes.
            for name in self._workers:
                self._workers[name] = self._running(name)
            self._workers[request.worker_id].append(worker)
        return api.StartWorkerResponse()

    def StopWorker(self, request: api.StopWorkerRequest, _: Any) -> api.StopWorkerResponse:  # noqa: N802
        """Task managers that share a pool give the same names. Then it can't be told which is meant, and it ends by itself, as
        any worker does when its engine hangs up.
        """
        with self._lock:
            running = self._running(request.worker_id)
            if len(running) < 2:
                del self._workers[request.worker_id]
        if len(running) == 1:
            _stop(running)
        return api.StopWorkerResponse()

    def _running(self, name: str) -> "list[subprocess.Popen[bytes]]":
        return [worker for worker in self._workers[name] if worker.poll() is None]

    def stop_all(self) -> None:
        with self._lock:
            _stop([worker for workers in self._workers.values() for worker in workers])
            self._workers.clear()


def _stop(workers: "Sequence[subprocess.Popen[bytes]]") -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def start_process(command: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Its output goes where that of the pool goes. Ctrl-C is for the pool, which then stops it."""
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)


def serve(pool: WorkerPool, host: str, port: int) -> grpc.Server:
    """A server that has begun to answer.

    Raises:
      OSError: the address is taken, or none of this machine.
    """
    server = grpc.server(ThreadPoolExecutor(_ANSWERING_THREADS), options=[("grpc.so_reuseport", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    try:
        server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise OSError(f"can't listen on {host}:{port}: {error}") from error
    server.start()
    return server


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or Ctrl-C. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_dedup.worker_pool", description="Starts workers for engines that ask for them."
    )
    parser.add_argument("--port", type=int, default=PORT, help="to listen on (default %(default)s)")
    parser.add_argument(
        "--host",
        default=HOST,
        help="address to listen on; whoever reaches it can have programs run here (default %(default)s)",
    )
    given = parser.parse_args(arguments)
    pool = WorkerPool(start_process)
    try:
        server = serve(pool, given.host, given.port)
    except OSError as error:
        print(f"worker_pool: {error}", file=sys.stderr)
        return 1
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    print(f"worker_pool: starts workers for who asks at {given.host}:{given.port}", file=sys.stderr)
    ended.wait()
    server.stop(None).wait()
    pool.stop_all()
    return 0


if __name__ == "__main__":
    sys.exit(main())
