"""Servers for tests: processes on the loopback address that are waited for, stopped by their ids, and tell what went wrong."""

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
PATIENCE_SECONDS = 10  # with a process that was asked to end
_SHOWN_BYTES = 4000  # of a log
_NOT_GIVEN = range(10_000, 30_000)
_ports = random.SystemRandom()


class NotReadyError(Exception):
    """A server ended, or did not answer in time; with the end of its log."""


def free_port() -> int:
    """One of those that the system gives to nobody who does not ask for it: so it is still free when a server comes to it."""
    while True:
        port = _ports.choice(_NOT_GIVEN)
        with contextlib.suppress(OSError), socket.socket() as asked:
            asked.bind((HOST, port))
            return port


def answers(port: int) -> bool:
    """Whether something accepts connections."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


def listening(process: psutil.Process) -> set[str]:
    """The addresses on which a process and all that it has started listen."""
    found = [process, *process.children(recursive=True)]
    return {
        one.laddr.ip.removeprefix("::ffff:")  # of IPv4, as a socket of IPv6 has it
        for part in found
        for one in part.net_connections()
        if one.status == psutil.CONN_LISTEN
    }


@contextlib.contextmanager
def running(
    command: Sequence[str],
    is_ready: Callable[[], bool],
    environment: Mapping[str, str] | None = None,
    seconds: float = 120,
) -> Iterator[Path]:
    """A process for as long as the block lasts, from when it is ready: its log. With all that it has started it is a group,
    and ends as one.

    Raises:
      NotReadyError: it ended, or `seconds` were not enough.
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
            _stop(process)


def end_of(log: Path) -> str:
    data = log.read_bytes() if log.exists() else b""
    return data[-_SHOWN_BYTES:].decode("utf-8", "replace")


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


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process and what it started: asks first, and then does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            process.poll()  # or it would stay in the group, ended
            if not _is_there(process.pid):
                return
            time.sleep(0.05)


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
