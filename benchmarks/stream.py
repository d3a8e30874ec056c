"""Measures a streaming run on a watched directory: images per second, and the latency of verdicts and records.

    .venv/bin/python -m benchmarks.stream FOLDER WORK [--remembered 100000 | --before 100000] [--rate 250] [--flags="--runner=..."]

FOLDER is a directory of different JPEGs, such as `benchmarks.pictures web` makes. WORK is an empty directory on the same
disk, to which the benchmark writes. It links the images into a directory that `dedup -n --watch` watches: --rate images per
second, or all at once.

The stream remembers earlier images: --remembered writes records of so many kept images with random codes before the run,
which only the local runner reads. Other runners get their state from images that they have judged themselves: --before
first feeds so many small pictures of noise, which are not part of the measurement. --flags passes options to `dedup`, such
as those of another runner.

Prints the images per second, from the discovery of the first image to the last record on disk; and, for the middle half of
the images, the time from discovery to the verdict and to the record on disk. Here, files of records are written every half
second instead of every ten seconds; on Flink they appear at a checkpoint, many at once.
"""

import argparse
import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from PIL import Image

from beam_dedup.cli import main as dedup
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.model import ImageRef, Status, Verdict
from beam_dedup.stream import pipeline
from transforms.stream import record
from transforms.tally import Tally

RECORD_INTERVAL_SECONDS = 0.5
_AS_WORKER = "--as-worker"  # makes this program run `dedup` with the changes for the measurement
_LATENCIES_VARIABLE, _LATENCIES_NAME = "DEDUP_BENCHMARK_LATENCIES", "latencies"  # of a file of milliseconds
_count_verdicts = record.count_verdicts
_TIMEOUT_SECONDS = 900.0  # until the expected number of records exists
_SILENCE_SECONDS = 180.0  # without a new file of records


def main(argv: list[str] | None = None) -> None:
    if argv is None and sys.argv[1:2] == [_AS_WORKER]:
        from benchmarks import stream  # this module, under the name by which workers import it

        record.count_verdicts = stream.count_and_note
        pipeline.RECORD_SECONDS = RECORD_INTERVAL_SECONDS
        sys.exit(dedup(sys.argv[2:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="directory of different JPEGs")
    parser.add_argument("work", type=Path, help="empty directory to write to")
    parser.add_argument("--remembered", type=int, default=0, help="images with random codes to remember")
    parser.add_argument("--before", type=int, default=0, help="pictures of noise to judge first")
    parser.add_argument("--rate", type=float, default=0, help="images per second (default: all at once)")
    parser.add_argument("--flags", default="", help="further options of dedup")
    options = parser.parse_args(argv)
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    records = options.work / "records"
    records.mkdir(parents=True)
    (options.work / "in").mkdir()
    if options.remembered:
        remember(records / "records-0.jsonl", options.remembered)
    start = time.monotonic()
    with running(options.work, shlex.split(options.flags)) as process:
        feed(files[:1], options.work / "in", 0)
        wait_for(1, records, process)
        print(f"first record after {time.monotonic() - start:.1f} s", flush=True)
        before = options.work / "in" / "before"
        make_noise(before, options.before)
        wait_for(1 + options.before, records, process)
        # Listing so many files takes long, and would make the lists of the watched directory rare.
        shutil.rmtree(before)
        feed(files[1:2], options.work / "in", 0)
        wait_for(2 + options.before, records, process)
        feed(files[2:], options.work / "in", options.rate)
        wait_for(len(files) + options.before, records, process)
    print(summary(records, options.work / _LATENCIES_NAME, left_out=2 + options.before))


def count_and_note(block: bytes, tally: Tally | None = None) -> None:
    """Replaces `record.count_verdicts`: also writes the milliseconds from each image's event to its verdict into a file."""
    with open(os.environ[_LATENCIES_VARIABLE], "a", encoding="ascii") as file:
        file.writelines(f"{milliseconds}\n" for milliseconds in record.latencies(block))
    _count_verdicts(block, tally)


def remember(path: Path, count: int) -> None:
    """Writes records of kept images with random codes."""
    recipe = Recipe().name
    with path.open("w", encoding="ascii") as file:
        for number in range(count):
            ref = ImageRef(f"/before/{number}.jpg", f"{number}.jpg")
            code, digest = secrets.token_bytes(32), secrets.token_bytes(32)
            verdict = Verdict(
                ref,
                Status.KEPT,
                digest=digest,
                fingerprint=code,
                algorithm=recipe,
                width=500,
                height=400,
                format="JPEG",
            )
            file.write(verdict.json_line() + "\n")


def make_noise(folder: Path, count: int) -> None:
    """Writes small pictures of noise, no two of which are near duplicates, into a new directory."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    partial = folder.parents[1] / "partial"
    for number in range(count):
        picture = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).resize((64, 64))
        picture.save(partial, "JPEG", quality=70)
        os.replace(partial, folder / f"noise-{number:06}.jpg")


@contextlib.contextmanager
def running(work: Path, flags: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs `dedup --watch` for as long as the block lasts."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.stream",
        _AS_WORKER,
        "-n",
        "--watch",
        "-i",
        str(work / "in"),
        "-o",
        "",
    ]
    command += ["--records", str(work / "records"), *flags]
    environment = {**os.environ, _LATENCIES_VARIABLE: str(work / _LATENCIES_NAME)}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def feed(files: list[Path], folder: Path, rate: float) -> None:
    """Links files into a directory: `rate` files per second, or all at once if that is 0."""
    start = time.monotonic()
    for number, path in enumerate(files):
        if rate:
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
        os.link(path, folder / f"{path.parent.name}-{path.name}")


def record_files(records: Path) -> list[Path]:
    """Returns the files of records that the run has written, the oldest first."""
    return sorted(records.glob("records-2*.jsonl"), key=lambda path: path.stat().st_mtime_ns)


def wait_for(count: int, records: Path, process: "subprocess.Popen[bytes]") -> None:
    """Waits until `count` records exist. Exits if the run ends before, or if they take too long."""
    sizes: dict[Path, int] = {}
    until = time.monotonic() + _TIMEOUT_SECONDS
    last_new = time.monotonic()
    while sum(sizes.values()) < count:
        new = [path for path in record_files(records) if path not in sizes]
        for path in new:
            sizes[path] = path.read_bytes().count(b"\n")
            last_new = time.monotonic()
        if process.poll() is not None or time.monotonic() > min(until, last_new + _SILENCE_SECONDS):
            sys.exit(f"{sum(sizes.values()):,} of {count:,} records; exit code of the run: {process.poll()}")
        time.sleep(0.2)


def summary(records: Path, latencies: Path, left_out: int) -> str:
    """Returns the rate and the latencies, from the records and the modification times of their files.

    Args:
      records: the directory of the files of records.
      latencies: a file of the milliseconds to each verdict.
      left_out: how many of the first images are not part of the measurement.
    """
    arrived: list[float] = []
    written: list[float] = []
    for path in record_files(records):
        modified = path.stat().st_mtime
        for line in path.read_bytes().splitlines():
            event = datetime.fromisoformat(json.loads(line)["metadata"]["event_time"])
            arrived.append(event.timestamp())
            written.append(modified)
    count = len(written) - left_out
    first, last = left_out + count // 4, left_out + count * 3 // 4
    rate = count / (max(written) - min(arrived[left_out:]))
    to_verdict = np.loadtxt(latencies)[first:last] / 1000
    to_record = np.subtract(written, arrived)[first:last]
    parts = [f"{count:,} images: {rate:,.0f} per second"]
    for name, seconds in (("verdict", to_verdict), ("record", to_record)):
        p50, p95 = np.percentile(seconds, [50, 95])
        parts.append(f"discovery to {name} p50 {p50:.1f} s, p95 {p95:.1f} s")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
