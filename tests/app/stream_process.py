"""Runs streams as processes of their own, which tests feed, stop, kill and observe from the outside."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.app.cli_runs import COMMAND, ROOT
from tests.waiting import SECONDS

FAULT_INJECTION = (sys.executable, "-m", "tests.app.fault_injection")
_POLL_SECONDS = 0.05


class StreamProcess:
    """A running `dedup` that writes its records below a directory of the test."""

    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.folder = folder
        self.process = process
        self.log = log
        self._codes_before = set(self._code_files())

    def records(self) -> list[dict[str, Any]]:
        return records_below(self.folder)

    def wait_for(self, count: int, seconds: float = SECONDS) -> None:
        """Waits until there are at least so many records."""
        self.wait_until(lambda: len(self.records()) >= count, seconds, f"{count} records")

    def wait_until(
        self, condition: Callable[[], bool], seconds: float = SECONDS, what: str = "the condition"
    ) -> None:
        """Waits until a condition is true. Fails if the process ends before, or after some seconds."""
        until = time.monotonic() + seconds
        while not condition():
            self._check_running()
            assert time.monotonic() < until, (
                f"waited {seconds} s for {what}; {len(self.records())} records:\n{self.log_tail()}"
            )
            time.sleep(_POLL_SECONDS)

    def has_all_counts(self) -> bool:
        """Returns whether each file of records has its file of counts, which on Flink is written after it."""
        return count_names(self.folder) == {path.name for path in (self.folder / "counts").glob("*")}

    def drain(self) -> int:
        """Sends Ctrl-C and returns the exit code. Only for a process that has written records: before, it may not
        have installed its signal handler yet.
        """
        self._check_running()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        """Kills the process, as if the machine failed, and checks that its child processes end by themselves."""
        self._check_running()
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(children, timeout=SECONDS)
        assert not alive, "child processes are still running"

    def _check_running(self) -> None:
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log_tail()}"

    def has_begun(self) -> bool:
        """Returns whether it has stored the codes of a picture."""
        return not self._codes_before.issuperset(self._code_files())

    def _code_files(self) -> Iterator[Path]:
        return self.folder.glob("records/.state/codes-2*")

    def log_tail(self) -> str:
        """Returns the last 4,000 characters that the process printed."""
        return self.log.read_text("utf-8", "replace")[-4000:]


@contextlib.contextmanager
def running_stream(
    folder: Path,
    *arguments: object,
    frequent_records: bool = True,
    quiet: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[StreamProcess]:
    """Runs a stream, and kills it at the end of the block if it has not ended.

    Args:
      folder: the directory for `records`, `counts` and the log.
      arguments: of the command line.
      frequent_records: writes records several times a second, not only every 10 seconds. Needed for the faults of
        `tests.app.fault_injection`.
      quiet: runs it with `--quiet`.
      env: further environment variables.
    """
    log = folder / "log"
    command = [*(FAULT_INJECTION if frequent_records else COMMAND), *map(str, arguments)]
    command += [*(("--quiet",) if quiet else ())]
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
        yield StreamProcess(folder, process, log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def records_below(folder: Path) -> list[dict[str, Any]]:
    """Returns all records that the runs with this directory have written."""
    paths = sorted((folder / "records").glob("records-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def count_names(folder: Path) -> set[str]:
    """Returns the names of the files of counts that belong to the files of records."""
    files = (folder / "records").glob("records-*.jsonl")
    return {path.name.replace("records-", "counts-").replace(".jsonl", ".json") for path in files}


def check_counts(folder: Path) -> dict[str, int]:
    """Checks that each file of records has one file with its counts, and that there are no other files of counts.

    Returns:
      The sums of the counts.
    """
    files = sorted((folder / "records").glob("records-*.jsonl"))
    names = count_names(folder)
    assert names == {path.name for path in (folder / "counts").iterdir()}
    total: Counter[str] = Counter()
    for path, name in zip(files, sorted(names), strict=True):
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        counts = json.loads((folder / "counts" / name).read_text("utf-8"))
        assert counts.pop("Written")
        assert counts == counts_of(records), name
        total.update({name: value for name, value in counts.items() if isinstance(value, int)})
    return dict(total)


def counts_of(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the counts that belong to some records."""
    status = Counter(record["status"] for record in records)
    duplicates = Counter(record["reason"] for record in records if record["status"] == "duplicate")
    reasons = Counter(record["reason"] for record in records if record["status"] == "rejected")
    return {
        "Initial_Image_Count": len(records),
        "Final_Image_Count": status["kept"],
        "Exact_Duplicate_Count": duplicates["exact"],
        "Near_Duplicate_Count": duplicates["near"],
        "Rejected_Count": status["rejected"],
        "Rejected": dict(reasons),
    }


def check_summary(output: str, records: Sequence[dict[str, Any]]) -> int:
    """Checks the summary of a run against its records, which must all be from this run.

    Returns:
      The number of redelivered images.
    """
    counts = counts_of(records)
    rows = dict(re.findall(r"^(\w[\w ]*?) +([\d,]+)$", output, re.MULTILINE))
    numbers = {name: int(number.replace(",", "")) for name, number in rows.items()}
    redelivered = numbers.pop("Redelivered")
    assert numbers == {
        "Images": counts["Initial_Image_Count"],
        "Kept": counts["Final_Image_Count"],
        "Exact duplicates": counts["Exact_Duplicate_Count"],
        "Near duplicates": counts["Near_Duplicate_Count"],
        "Rejected": counts["Rejected_Count"],
    }
    return redelivered
