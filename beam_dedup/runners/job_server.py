"""Ends the job servers that Beam starts for a run: Prism itself, or the one that submits jobs to Flink or Spark.

A job server runs whatever program it gets from whoever reaches its port. Beam stops it when Python exits, but
this program ends without Python's exit handlers (`beam_dedup.cli.entry`).
"""

import contextlib
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import psutil
from apache_beam.runners.portability.job_server import StopOnExitJobServer

from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.shutdown import kill


@contextlib.contextmanager
def stopping_job_server() -> Iterator[None]:
    """Stops the job server that a runner starts in the block, and all else that it starts, however the block ends.

    A job server that was there before (`--job_endpoint`) goes on, and so does a job on a Flink cluster. A signal that ends the
    process inside the block is handled by `beam_dedup.shutdown`.
    """
    _hide_failures_of_connections()
    here = psutil.Process()
    before = here.children(recursive=True)
    try:
        with _remembering_job_servers() as started:
            yield
    finally:
        ours = set(here.children(recursive=True)).difference(before)
        try:
            for server in started:
                server.stop()
        finally:  # also if Ctrl-C cuts the stopping short
            kill(ours.union(here.children(recursive=True)).difference(before))


def _hide_failures_of_connections() -> None:
    """Hides the tracebacks of threads that lose the connection to a job server, unless DEDUP_DEBUG is set."""
    if os.environ.get(DEBUG_VARIABLE):
        return
    show = threading.excepthook

    def show_others(failure: Any) -> None:
        modules = {
            frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(failure.exc_traceback)
        }
        if not any(name == "grpc" or name.startswith("grpc.") for name in modules):
            show(failure)

    threading.excepthook = show_others


@contextlib.contextmanager
def _remembering_job_servers() -> Iterator[list[Any]]:
    """Yields a list to which each job server that is started in the block is added.

    A started job server replaces the handler of SIGINT by one that waits without end if it is interrupted, as by a second Ctrl-C.
    Here the earlier handler is left in place.
    """
    started: list[Any] = []
    untyped: Any = StopOnExitJobServer
    start = untyped.start

    def start_and_remember(server: Any) -> Any:
        server._lock = threading.RLock()  # a signal between the two handlers can then stop the server
        started.append(server)
        handler = signal.getsignal(signal.SIGINT)
        try:
            return start(server)
        finally:
            signal.signal(signal.SIGINT, handler)

    untyped.start = start_and_remember
    try:
        yield started
    finally:
        untyped.start = start
