"""Compares whole runs of `dedup` with their physical limit, `benchmarks/raw.py`, in the same number of processes.

    .venv/bin/python -m benchmarks.throughput web   FOLDER [--sizes 2000 12000] [-j 2] [--rounds 3] [--write]
    .venv/bin/python -m benchmarks.throughput 12mp  FOLDER [--sizes 50 300] ...
    .venv/bin/python -m benchmarks.throughput small FOLDER [--sizes 20000 100000] ...

FOLDER has at least as many images as the larger size: it is the set of that name that `benchmarks/pictures.py` makes. `web`
and `12mp` compare `dedup -n` with reading, SHA-256 and the default fingerprint; `small` compares `dedup -e` with reading and
SHA-256. Times whole processes alternately, on the first files by name, at both sizes. The slope between the two sizes is
the rate without the fixed cost of a run; the rest of the time is that cost. Passes unknown options to dedup.

Prints a table. --write also writes it into benchmarks/README.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import report, timing

_RAW, _OURS = "raw", "dedup"
SIZES = {"web": (2_000, 12_000), "12mp": (50, 300), "small": (20_000, 100_000)}
_EXACT = ("small",)  # sets that are measured in exact mode


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", choices=SIZES, help="set of files")
    parser.add_argument("folder", type=Path, help="directory of that set")
    parser.add_argument("--sizes", type=int, nargs=2, help="a smaller and a larger number of images")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each command")
    parser.add_argument("--write", action="store_true", help="also write the table into benchmarks/README.md")
    options, flags = parser.parse_known_args(argv)
    sizes = tuple(options.sizes or SIZES[options.files])
    exact = options.files in _EXACT
    text = section(options.folder, exact, sizes, options.jobs, options.rounds, flags)
    report.publish(f"throughput-{options.files}", text, options.write)


def section(
    folder: Path, exact: bool, sizes: tuple[int, int], jobs: int, rounds: int, flags: list[str]
) -> str:
    """Measures one set, and returns the section of the README."""
    head = report.header()
    flags = ["-e" if exact else "-n", "-j", str(jobs), *flags]

    with tempfile.TemporaryDirectory() as scratch:
        counts = Path(scratch, "counts.json")

        def commands(part: Path) -> dict[str, timing.Command]:
            raw = [sys.executable, "-m", "benchmarks.raw", str(part), "-j", str(jobs)]
            return {
                _RAW: [*raw, "--digests"] if exact else raw,
                _OURS: timing.dedup(part, *flags, "--counts", str(counts)),
            }

        measured = timing.at_two_sizes(folder, sizes, commands, rounds)
        found = verdicts(json.loads(counts.read_text()))
    names = {_RAW: f"raw, {jobs} processes", _OURS: f"dedup {' '.join(flags)}"}
    rows = [row(names[name], measured[name], measured[_RAW]) for name in (_RAW, _OURS)]
    columns = [
        "",
        *(f"{size:,} images, s" for size in sizes),
        "slope, images/s",
        "fixed, s",
        "slope to raw",
        f"whole run of {sizes[1]:,} to raw",
    ]
    return "\n".join(
        [
            f"{head} Files of {mean_size(folder, sizes[1])} on average, medians of {rounds} rounds.",
            "",
            report.table(columns, rows),
            "",
            f"Slope to raw, round by round: {ratios(measured)}. Found among {sizes[1]:,}: {found}.",
        ]
    )


def row(name: str, timed: timing.Timed, raw: timing.Timed) -> list[str]:
    return [
        name,
        *(f"{seconds:.2f}" for seconds in timed.medians),
        f"{timed.slope:,.0f}",
        f"{timed.fixed:.2f}",
        f"{timed.slope / raw.slope:.2f}",
        f"{raw.medians[1] / timed.medians[1]:.2f}",
    ]


def ratios(measured: dict[str, timing.Timed]) -> str:
    """Returns the ratio of the slopes in each round."""
    pairs = zip(measured[_OURS].slopes(), measured[_RAW].slopes(), strict=True)
    return ", ".join(f"{ours / raw:.2f}" for ours, raw in pairs)


def mean_size(folder: Path, count: int) -> str:
    """Returns the mean size of the first `count` files in kB."""
    mean = statistics.fmean((folder / name).stat().st_size for name in timing.first_files(folder, count))
    return f"{mean / 1000:,.0f} kB"


def verdicts(counts: dict[str, int]) -> str:
    """Returns the numbers of verdicts, which show that a fast run has not skipped its work."""
    duplicates = counts["Exact_Duplicate_Count"] + counts["Near_Duplicate_Count"]
    return f"{counts['Final_Image_Count']:,} kept, {duplicates:,} duplicates, {counts['Rejected_Count']:,} rejected"


if __name__ == "__main__":
    main()
