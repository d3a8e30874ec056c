"""Runs that stay, each a process of its own, which tests feed, stop, kill and look at from the outside."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.app.runs import COMMAND, ROOT

OFTEN = (sys.executable, "-m", "tests.app.often")
_PATIENCE = 60.0


class Staying:
    """A running `dedup`, that keeps its records below a folder of the test."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.folder = folder
        self.process = process
        self.log = log
        self._states = set(self._codes())

    def records(self) -> list[dict[str, Any]]:
        return records_below(self.folder)

    def wait_for(self, count: int, seconds: float = _PATIENCE) -> None:
        """Until there are so many records."""
        self.wait_until(lambda: len(self.records()) >= count, seconds, f"{count} records")

    def wait_until(
        self, is_so: Callable[[], bool], seconds: float = _PATIENCE, what: str = "it is so"
    ) -> None:
        until = time.monotonic() + seconds
        while not is_so():
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < until, (
                f"not in {seconds} s: {what}, {len(self.records())} records:\n{self.said()}"
            )
            time.sleep(0.05)

    def drain(self) -> int:
        """Ctrl-C: its exit code. Not before it has done something: till then nobody listens."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.said()}"
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_PATIENCE)

    def kill(self) -> None:
        """As a machine dies. What it had started must end by itself."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.said()}"
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive, "processes were left behind"

    def has_begun(self) -> bool:
        """Whether it has made the codes of a picture."""
        return not self._states.issuperset(self._codes())

    def _codes(self) -> Iterator[Path]:
        return self.folder.glob("records/.state/codes-2*")

    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]


@contextlib.contextmanager
def staying(
    folder: Path, *arguments: object, often: bool = True, env: Mapping[str, str] | None = None
) -> Iterator[Staying]:
    """A run for as long as the block lasts, at most. folder: where `records`, `counts` and the log go.

    often: its records are written several times a second, not one time in ten.
    """
    log = folder / "log"
    command = [*(OFTEN if often else COMMAND), *map(str, arguments), "--quiet"]
    command += ["--records", str(folder / "records"), "--counts", str(folder / "counts")]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Staying(folder, process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def records_below(folder: Path) -> list[dict[str, Any]]:
    """All records that runs have written."""
    paths = sorted((folder / "records").glob("records-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def counted_below(folder: Path) -> dict[str, int]:
    """The sum of all counts that runs have written."""
    total: dict[str, int] = {}
    for path in (folder / "counts").glob("counts-*.json"):
        for name, value in json.loads(path.read_text("utf-8")).items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return total
