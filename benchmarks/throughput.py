"""The whole of `dedup -n` beside its physical limit: reading, SHA-256 and fingerprint in as many bare processes.

    .venv/bin/python benchmarks/throughput.py FOLDER [--small 2000] [--large 12000] [-j 2] [--rounds 3]

FOLDER has at least as many images as --large; the first files by name are used. Both are timed at both sizes, in turn,
as whole processes, so that a machine that slows down slows both; the slope between the sizes is the rate without the
fixed cost of starting. `--make N` fills FOLDER with N pictures of 500 x 400 made by code, if it does not exist.
Prints a table to be copied into benchmarks/README.md.
"""

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from beam_dedup.core import fingerprints
from beam_dedup.core.model import ImageRef
from beam_dedup.samples import picture

_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--large", type=int, default=12000)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--make", type=int, default=0)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        bare(options.folder, options.jobs)
        return
    if options.make and not options.folder.exists():
        make(options.folder, options.make, options.jobs)
    seconds: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        sizes = (options.small, options.large)
        folders = {size: linked(options.folder, Path(scratch, str(size)), size) for size in sizes}
        for _, size in itertools.product(range(options.rounds), sizes):
            for name, command in commands(folders[size], options.jobs).items():
                start = time.perf_counter()
                subprocess.run(command, check=True)
                seconds.setdefault((name, size), []).append(time.perf_counter() - start)
    report(seconds, sizes)


def commands(folder: Path, jobs: int) -> dict[str, list[str]]:
    python = sys.executable
    return {
        "bare processes": [python, __file__, str(folder), "--bare", "-j", str(jobs)],
        "dedup -n": [
            python,
            "-m",
            "beam_dedup",
            "-n",
            "-i",
            str(folder),
            "-j",
            str(jobs),
            "-o",
            "",
            "--quiet",
        ],
    }


def linked(source: Path, folder: Path, count: int) -> Path:
    folder.mkdir()
    names = sorted(os.listdir(source))[:count]
    if len(names) < count:
        sys.exit(f"{source} has {len(names)} files, {count} are needed")
    for name in names:
        (folder / name).symlink_to((source / name).resolve())
    return folder


def bare(folder: Path, jobs: int) -> None:
    names = [str(folder / name) for name in sorted(os.listdir(folder))]
    batches = [names[i : i + _BATCH] for i in range(0, len(names), _BATCH)]
    with ProcessPoolExecutor(jobs, initializer=fingerprints.prepare_decoders) as pool:
        for _ in pool.map(fingerprint_all, batches):
            pass


def fingerprint_all(names: list[str]) -> None:
    for name in names:
        with open(name, "rb", buffering=0) as file:
            fingerprints.fingerprint(ImageRef(name, name), file, os.fstat(file.fileno()).st_size)  # type: ignore[arg-type]


def make(folder: Path, count: int, jobs: int) -> None:
    folder.mkdir(parents=True)
    with ProcessPoolExecutor(jobs) as pool:
        list(pool.map(save, range(count), itertools.repeat(folder), chunksize=_BATCH))


def save(seed: int, folder: Path) -> None:
    picture(seed, (500, 400)).save(folder / f"{seed:06d}.jpg", quality=85)


def report(seconds: dict[tuple[str, int], list[float]], sizes: tuple[int, int]) -> None:
    small, large = sizes
    print(
        f"| | {small:,} images, s | {large:,} images, s | slope, images/s | fixed, s |\n|---|---|---|---|---|"
    )
    slopes = {}
    for name in dict.fromkeys(name for name, _ in seconds):
        low, high = (statistics.median(seconds[name, size]) for size in sizes)
        slopes[name] = (large - small) / (high - low)
        print(f"| {name} | {low:.2f} | {high:.2f} | {slopes[name]:,.0f} | {low - small / slopes[name]:.2f} |")
    print(f"\nslope of dedup -n against bare processes: {slopes['dedup -n'] / slopes['bare processes']:.2f}")


if __name__ == "__main__":
    main()
