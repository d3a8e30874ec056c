"""Runs that stay, each a process of its own, which tests feed, stop, kill and look at from the outside."""

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

FAULT_INJECTION = (sys.executable, "-m", "tests.app.fault_injection")
_PATIENCE = 60.0


class StreamProcess:
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
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log_tail()}"
            assert time.monotonic() < until, (
                f"not in {seconds} s: {what}, {len(self.records())} records:\n{self.log_tail()}"
            )
            time.sleep(0.05)

    def drain(self) -> int:
        """Ctrl-C: its exit code. Not before it has done something: till then nobody listens."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log_tail()}"
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_PATIENCE)

    def kill(self) -> None:
        """As a machine dies. What it had started must end by itself."""
        assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log_tail()}"
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

    def log_tail(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]


@contextlib.contextmanager
def running_stream(
    folder: Path,
    *arguments: object,
    frequent_records: bool = True,
    quiet: bool = True,
    env: Mapping[str, str] | None = None,
) -> Iterator[StreamProcess]:
    """A run for as long as the block lasts, at most. folder: where `records`, `counts` and the log go.

    frequent_records: its records are written several times a second, not one time in ten.
    """
    log = folder / "log"
    command = [*(FAULT_INJECTION if frequent_records else COMMAND), *map(str, arguments), *(("--quiet",) if quiet else ())]
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
    """All records that runs have written."""
    paths = sorted((folder / "records").glob("records-*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def check_counts(folder: Path) -> dict[str, int]:
    """Beside each file of records there is one of its counts, and no other. Returns: the sums."""
    files = sorted((folder / "records").glob("records-*.jsonl"))
    names = {path.name.replace("records-", "counts-").replace(".jsonl", ".json") for path in files}
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
    """What the counts of some records must be."""
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


def check_summary(said: str, records: Sequence[dict[str, Any]]) -> int:
    """What a run has told at its end is what all the records say, if it wrote all of them. Returns: what was delivered again."""
    counts = counts_of(records)
    told = dict(re.findall(r"^(\w[\w ]*?) +([\d,]+)$", said, re.MULTILINE))
    numbers = {name: int(number.replace(",", "")) for name, number in told.items()}
    redelivered = numbers.pop("Redelivered")
    assert numbers == {
        "Images": counts["Initial_Image_Count"],
        "Kept": counts["Final_Image_Count"],
        "Exact duplicates": counts["Exact_Duplicate_Count"],
        "Near duplicates": counts["Near_Duplicate_Count"],
        "Rejected": counts["Rejected_Count"],
    }
    return redelivered
