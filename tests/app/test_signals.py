"""Checks that a signal ends the command with 128 plus its number, and leaves nothing, at every moment of its life."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.cli_runs import ROOT, tree

# Sends a signal to its own process when a function is first called, then goes on.
DRIVER = """
import importlib, os, sys

module, name, number, *arguments = sys.argv[1:]
owner = importlib.import_module(module)
real = getattr(owner, name)

def signalled(*given, **named):
    setattr(owner, name, real)
    os.kill(os.getpid(), int(number))
    return real(*given, **named)

setattr(owner, name, signalled)
sys.argv[1:] = arguments
from beam_dedup.cli import entry

entry()
"""

MOMENTS = (
    ("beam_dedup.cli", "_configure"),  # before Beam is imported
    ("beam_dedup.preflight", "prepare"),
    ("beam_dedup.batch.run", "count_files"),
    ("beam_dedup.batch.pipeline", "build"),  # with a scratch directory
    ("beam_dedup.batch.run", "executing"),
    ("beam_dedup.runners.select", "wait_for"),  # at the end of the run
    ("beam_dedup.batch.summary", "text"),  # after the run
    ("shutil", "rmtree"),
    ("os", "_exit"),
)


def run_with_signal(
    moment: tuple[str, str],
    number: int,
    folder: Path,
    *arguments: str,
    hangup: signal.Handlers = signal.SIG_DFL,
) -> "subprocess.CompletedProcess[str]":
    """Runs the command on an empty picture below a directory, with a signal at some moment."""

    def set_signals() -> None:
        # A shell ignores Ctrl-C for a test run in the background, and its child processes inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, hangup)

    for name in ("in", "tmp"):
        (folder / name).mkdir()
    (folder / "in/a.gif").write_bytes(b"GIF89a")
    command = [
        sys.executable,
        "-c",
        DRIVER,
        *moment,
        str(number),
        "-i",
        "in",
        "-d",
        "out",
        "-o",
        "g.json",
        *arguments,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder / "tmp")}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        preexec_fn=set_signals,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", MOMENTS, ids=".".join)
def test_signal_settles_the_exit_code_at_every_moment(
    moment: tuple[str, str], number: signal.Signals, tmp_path: Path
) -> None:
    ended = run_with_signal(moment, number, tmp_path)
    assert ended.returncode == 128 + number, ended.stderr
    assert "interrupted" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert os.listdir(tmp_path / "tmp") == []
    assert set(tree(tmp_path)) <= {"in/a.gif", "out/a.gif", "g.json"}
    if (tmp_path / "g.json").exists():
        json.loads((tmp_path / "g.json").read_bytes())


@pytest.mark.parametrize(
    "moment", [("beam_dedup.preflight", "prepare"), ("beam_dedup.execution", "in_background")], ids=".".join
)
def test_hangup_ends_the_command_unless_it_is_ignored(moment: tuple[str, str], tmp_path: Path) -> None:
    """`nohup` starts programs with SIGHUP ignored."""
    for name, handler in (("ended", signal.SIG_DFL), ("ignored", signal.SIG_IGN)):
        (tmp_path / name).mkdir()
        ended = run_with_signal(moment, signal.SIGHUP, tmp_path / name, hangup=handler)
        assert (ended.returncode == 129) == (name == "ended"), ended.stderr
        assert ("interrupted" in ended.stderr) == (name == "ended")
        assert (tmp_path / name / "g.json").exists() == (name == "ignored")


# The system delivers the signal to another thread, so the main thread is not woken: as if it came just before the wait.
WAITING = """
import os, signal, sys, threading
from beam_dedup.signals import wake_main_thread_on_signals

def stop(number, _):
    print("handled", flush=True)
    os._exit(7)

signal.signal(signal.SIGTERM, stop)
if sys.argv[1] == "woken":
    wake_main_thread_on_signals()
ended = threading.Event()
other = threading.Thread(target=ended.wait, daemon=True)
other.start()
threading.Timer(1, signal.pthread_kill, (other.ident, signal.SIGTERM)).start()
threading.Timer(float(sys.argv[2]), os._exit, (9,)).start()
threading.Event().wait()
"""


@pytest.mark.parametrize(("how", "seconds", "code"), [("woken", 60, 7), ("as Python does", 3, 9)])
def test_signal_is_handled_while_the_main_thread_waits(how: str, seconds: int, code: int) -> None:
    command = [sys.executable, "-c", WAITING, how, str(seconds)]
    ended = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
    assert ended.returncode == code
