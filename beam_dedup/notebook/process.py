"""Runs the command line in a process of its own, and waits for it.

A process, since Beam and a notebook get in each other's way: Beam imports its dataframes if it finds IPython, which fails with
pandas 3; a run replaces signal handlers and the directory of temporary files; and a runner cannot be interrupted in
the middle of its work, but a process can be ended. It also works in any thread, and while an event loop runs.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import IO

from beam_dedup import service_log
from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError, UsageError

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
DONE, WRONG_USAGE = 0, 2  # exit codes of `beam_dedup.cli`, which imports this package
MODULE = "beam_dedup.notebook.run_process"

_PREFIX = "dedup: "  # of messages on stderr, other than the lines of the progress
_SUMMARY = "summary"  # file in the scratch directory
_STOP_SECONDS = 10.0  # that an interrupted run may take to clean up


def run_command(arguments: Sequence[str], scratch: str, show: Callable[[str], None]) -> str:
    """Runs the command line with arguments, and returns what it printed.

    An exception, such as KeyboardInterrupt, ends the process, its children, and the partial files that they had begun.

    Args:
      arguments: of the command line.
      scratch: a directory for temporary files. The process removes it if this process ends unexpectedly.
      show: called with each line about the progress.

    Raises:
      UsageError: an option or an input can't be used.
      DedupError: the run failed; the message gives the reason.
    """
    summary = os.path.join(scratch, _SUMMARY)
    with open(summary, "wb") as output:
        process = _start(output)
    errors: list[str] = []
    code: int | None = None
    try:
        assert process.stdin is not None
        assert process.stderr is not None
        request = json.dumps({"arguments": list(arguments), "scratch": scratch})
        with contextlib.suppress(BrokenPipeError):  # it ended at once: its exit code says so
            process.stdin.write(f"{request}\n".encode("ascii"))
            process.stdin.flush()
        for line in process.stderr:
            _take(line.decode("utf-8", "replace").rstrip("\n"), errors, show)
        code = process.wait()
    finally:
        if code is None:  # after an exception, also KeyboardInterrupt
            _stop(process)
        for stream in (process.stdin, process.stderr):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
    if code != DONE:
        raise _error(code, "\n".join(errors))
    with open(summary, encoding="utf-8") as file:
        return file.read()


def _start(output: IO[bytes]) -> "subprocess.Popen[bytes]":
    environment = dict(os.environ)
    for name in (service_log.LEVEL_VARIABLE, service_log.FORMAT_VARIABLE):
        environment.pop(name, None)  # messages are read here
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
    environment["PYTHONIOENCODING"] = "utf-8"
    return subprocess.Popen(
        # -P: imports no modules from the directory of the notebook, which may be called as ours.
        [sys.executable, "-P", "-m", MODULE],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process only, which then ends the other one
    )


def _take(line: str, errors: list[str], show: Callable[[str], None]) -> None:
    """Adds a line of stderr to the lines of the last message; shows it too unless it begins a message."""
    if line.startswith(_PREFIX):
        errors[:] = [line.removeprefix(_PREFIX)]
    else:
        errors.append(line)
    if os.environ.get(DEBUG_VARIABLE):
        print(line, file=sys.stderr)
    elif not line.startswith(_PREFIX):
        show(line)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process: it kills its children and removes what they had begun."""
    try:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)
    finally:  # also after a second Ctrl-C
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _error(code: int, message: str) -> DedupError:
    """Returns the error of a process that ended with an exit code other than 0, and a message."""
    if code == WRONG_USAGE:
        return UsageError(message.removesuffix(" (see dedup --help)"))
    if code < 0:
        name = signal.Signals(-code).name
        return DedupError(f"the process of the run was ended by {name}; the system may be out of memory")
    return DedupError(message or f"the process of the run ended with exit code {code}")
