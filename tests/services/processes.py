"""Starts servers for tests as processes on the loopback address, waits until they are ready, and stops them by their ids."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

HOST = "127.0.0.1"
STOP_SECONDS = 10.0  # how long a process may take to end after a signal
_LOG_END_BYTES = 4000
_PORTS = range(10_000, 30_000)  # the system assigns none of these to sockets that request any port
_random = random.SystemRandom()


class NotReadyError(Exception):
    """A server has ended, or was not ready in time. The message contains the end of its log."""


def free_port() -> int:
    """Returns a free port that the system does not assign by itself, so that it is still free when the server starts."""
    while True:
        port = _random.choice(_PORTS)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((HOST, port))
            return port


def answers(port: int) -> bool:
    """Returns whether a process accepts connections at a port."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def listening(process: psutil.Process) -> set[str]:
    """Returns the addresses on which a process and its descendants listen."""
    found = [process, *process.children(recursive=True)]
    return {
        connection.laddr.ip.removeprefix("::ffff:")  # how an IPv6 socket shows an IPv4 address
        for part in found
        for connection in part.net_connections()
        if connection.status == psutil.CONN_LISTEN
    }


@contextlib.contextmanager
def running(
    command: Sequence[str],
    is_ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
    stop_seconds: float = STOP_SECONDS,
) -> Iterator[Path]:
    """Runs a process until the block ends. Enters the block when the process is ready, with the path of its log.

    The process and its descendants are one process group, which is stopped as a whole.

    Args:
      command: the program and its arguments.
      is_ready: returns whether the process can be used; called every 50 ms.
      environment: environment variables, in addition to those of this process.
      seconds: how long the process may take to be ready.
      stop_seconds: how long the group may take to end after each signal.

    Raises:
      NotReadyError: the process has ended, or is not ready in time.
    """
    with tempfile.TemporaryDirectory(prefix="dedup-service-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )
        try:
            _wait(process, is_ready, seconds, log)
            yield log
        finally:
            _stop(process, stop_seconds)


def end_of(log: Path) -> str:
    """Returns the last 4000 bytes of a log as text; "" if there is no log."""
    data = log.read_bytes() if log.exists() else b""
    return data[-_LOG_END_BYTES:].decode("utf-8", "replace")


def _wait(
    process: "subprocess.Popen[bytes]", is_ready: Callable[[], bool], seconds: float, log: Path
) -> None:
    until = time.monotonic() + seconds
    while not is_ready():
        ended = process.poll()
        if ended is not None or time.monotonic() > until:
            what = f"ended with {ended}" if ended is not None else f"was not ready after {seconds} s"
            raise NotReadyError(f"{process.args!r} {what}:\n{end_of(log)}")
        time.sleep(0.05)


def _stop(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    """Stops a process group: first with SIGTERM, then with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            process.poll()  # reaps the process: as a zombie, it would still be in the group
            if not _group_exists(process.pid):
                return
            time.sleep(0.05)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
