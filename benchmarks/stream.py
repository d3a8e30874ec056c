"""A run that stays, fed from a folder: images a second, and how long a verdict takes.

    .venv/bin/python -m benchmarks.stream FOLDER WORK [--remembered 100000 | --before 100000] [--rate 250] [--flags="--runner=..."]

FOLDER: different JPEGs, as `benchmarks.pictures web` makes them. WORK: an empty folder on the same disk; it is written to. The
images are linked into a folder that `dedup -n --watch` watches; --rate: so many a second, without it all at once. --remembered: images
with random codes that were judged before, as its records say; only the engine of this machine takes them. --before: for others, whose
state comes from what they have judged themselves: so many small pictures of noise are judged first, and not counted. --flags: for
`dedup`, to run elsewhere.

Printed: images a second from the discovery of the first to the last record on disk, with all that has to fill first; and, of the
images in the middle half, the time from discovery to verdict, and to the record on disk. Files of records are written twice a second
here, and not every ten seconds; on Flink they appear with a checkpoint, many at once.
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

OFTEN_SECONDS = 0.5
_AS_WORKER = "--as-worker"
_NOTED, _NOTED_NAME = "DEDUP_BENCHMARK_LATENCIES", "latencies"
_tell = record.tell
_PATIENCE_SECONDS = 900.0
_SILENCE_SECONDS = 180.0


def main(argv: list[str] | None = None) -> None:
    if argv is None and sys.argv[1:2] == [_AS_WORKER]:
        from benchmarks import stream  # this module, by the name by which workers find it

        record.tell = stream.tell_and_note
        pipeline.RECORD_SECONDS = OFTEN_SECONDS
        sys.exit(dedup(sys.argv[2:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--remembered", type=int, default=0)
    parser.add_argument("--before", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0)
    parser.add_argument("--flags", default="")
    options = parser.parse_args(argv)
    files = sorted(path for path in options.folder.rglob("*") if path.is_file())
    records = options.work / "records"
    records.mkdir(parents=True)
    (options.work / "in").mkdir()
    if options.remembered:
        remember(records / "records-0.jsonl", options.remembered)
    begun = time.monotonic()
    with running(options.work, shlex.split(options.flags)) as process:
        feed(files[:1], options.work / "in", 0)
        wait_for(1, records, process)
        print(f"first record after {time.monotonic() - begun:.1f} s", flush=True)
        before = options.work / "in" / "before"
        make_noise(before, options.before)
        wait_for(1 + options.before, records, process)
        # How long looks take with that many files, and how seldom they are then, is not what is measured.
        shutil.rmtree(before)
        feed(files[1:2], options.work / "in", 0)
        wait_for(2 + options.before, records, process)
        feed(files[2:], options.work / "in", options.rate)
        wait_for(len(files) + options.before, records, process)
    print(told(records, options.work / _NOTED_NAME, left_out=2 + options.before))


def tell_and_note(block: bytes, tally: Tally | None = None) -> None:
    """Does what it stands for, and notes how long after its event each verdict came."""
    with open(os.environ[_NOTED], "a", encoding="ascii") as file:
        file.writelines(f"{milliseconds}\n" for milliseconds in record.latencies(block))
    _tell(block, tally)


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
    """Puts small pictures of noise into a folder, of which no two are alike."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    beside = folder.parents[1] / "made"
    for number in range(count):
        picture = Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).resize((64, 64))
        picture.save(beside, "JPEG", quality=70)
        os.replace(beside, folder / f"noise-{number:06}.jpg")


@contextlib.contextmanager
def running(work: Path, flags: list[str]) -> Iterator["subprocess.Popen[bytes]"]:
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
    environment = {**os.environ, _NOTED: str(work / _NOTED_NAME)}
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
    """Links files into a folder, so many a second."""
    begun = time.monotonic()
    for number, path in enumerate(files):
        if rate:
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
        os.link(path, folder / f"{path.parent.name}-{path.name}")


def record_files(records: Path) -> list[Path]:
    return sorted(records.glob("records-2*.jsonl"), key=lambda path: path.stat().st_mtime_ns)


def wait_for(count: int, records: Path, process: "subprocess.Popen[bytes]") -> None:
    sizes: dict[Path, int] = {}
    until = time.monotonic() + _PATIENCE_SECONDS
    heard = time.monotonic()
    while sum(sizes.values()) < count:
        new = [path for path in record_files(records) if path not in sizes]
        for path in new:
            sizes[path] = path.read_bytes().count(b"\n")
            heard = time.monotonic()
        if process.poll() is not None or time.monotonic() > min(until, heard + _SILENCE_SECONDS):
            sys.exit(f"{sum(sizes.values()):,} of {count:,} records; the run: {process.poll()}")
        time.sleep(0.2)


def told(records: Path, noted: Path, left_out: int) -> str:
    """Rate and latencies, from the records and the times of their files. left_out: of the first."""
    arrived: list[float] = []
    written: list[float] = []
    for path in record_files(records):
        at = path.stat().st_mtime
        for line in path.read_bytes().splitlines():
            moment = datetime.fromisoformat(json.loads(line)["metadata"]["event_time"])
            arrived.append(moment.timestamp())
            written.append(at)
    count = len(written) - left_out
    first, last = left_out + count // 4, left_out + count * 3 // 4
    rate = count / (max(written) - min(arrived[left_out:]))
    judged = np.loadtxt(noted)[first:last] / 1000
    waited = np.subtract(written, arrived)[first:last]
    parts = [f"{count:,} images: {rate:,.0f} a second"]
    for name, seconds in (("verdict", judged), ("record", waited)):
        p50, p95 = np.percentile(seconds, [50, 95])
        parts.append(f"discovery to {name} p50 {p50:.1f} s, p95 {p95:.1f} s")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
