"""Other tools beside `dedup -n`: the same files, the same run, ratios.

    .venv/bin/python -m benchmarks.peers loop  --set WEB 1000 4000 --set CAMERA 20 80 [--rounds 3] [--write]
    .venv/bin/python -m benchmarks.peers whole WEB [--count 10000] [-j 2] [--rounds 3] [PEERS] [--write]
    .venv/bin/python -m benchmarks.peers found CORPUS [--different DIR] [-j 2] [PEERS] [--write]

`loop`: images a second of one process, as the slope between two sizes of each set: `imagehash.phash` in a plain loop
beside `dedup -n -j 1`. `whole`: whole runs on the first files of a set of different pictures, in as many processes or
threads, with no cache. `found`: what goes, of a corpus with known truth (a folder `images`, a `truth.csv` with the
columns file, group and level, as for `benchmarks/quality.py`), and of a folder of pictures that are all different.

PEERS says where they are; one that is not there is a row that says so: `--czkawka PATH`, the program; `--python PATH`,
the Python of an environment that has imagededup and perception. imagehash comes with us. `benchmarks/pictures.py` makes
WEB and CAMERA.

Prints a table; --write also puts it into benchmarks/README.md.
"""

import argparse
import collections
import csv
import itertools
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import report, timing, tools
from benchmarks.tools import Groups, Tool

_LIGHT = ("", "exact", "pixel", "near")  # levels of edits that every tool should see through


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=_SECTIONS)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--set", nargs=3, action="append", default=[], metavar=("FOLDER", "SMALL", "LARGE"))
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--different", type=Path)
    parser.add_argument("-j", "--jobs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--czkawka", default="czkawka_cli")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(argv)
    if (options.folder is None) != (options.what == "loop"):
        parser.error("loop takes --set, the others take a folder")
    report.publish(f"peers-{options.what}", _SECTIONS[options.what](options), options.write)


def loop(options: argparse.Namespace) -> str:
    """Rates of one process each."""
    library = tools.loop()
    head = report.header([f"imagehash {library.version}"])
    rows = []
    for folder, *sizes in options.set:
        measured = loop_times(Path(folder), (int(sizes[0]), int(sizes[1])), library, options.rounds)
        theirs, ours = measured.values()
        rows += [
            [
                Path(folder).name,
                name,
                *(f"{seconds:.2f}" for seconds in times.medians),
                f"{times.slope:,.0f}",
                ratio,
            ]
            for name, times, ratio in zip(
                measured, (theirs, ours), ("", f"{ours.slope / theirs.slope:.2f}"), strict=True
            )
        ]
    columns = ["files", "one process", "smaller, s", "larger, s", "slope, images/s", "dedup against the loop"]
    sizes_told = "; ".join(
        f"{Path(folder).name}: {low} and {high} files" for folder, low, high in options.set
    )
    return f"{head} {sizes_told}; medians of {options.rounds} rounds.\n\n{report.table(columns, rows)}"


def loop_times(folder: Path, sizes: tuple[int, int], library: Tool, rounds: int) -> dict[str, timing.Timed]:
    with tempfile.TemporaryDirectory() as scratch:

        def commands(part: Path) -> dict[str, timing.Command]:
            return {
                "imagehash.phash in a loop": library.command(part, Path(scratch, "out"), 1),
                "dedup -n -j 1": timing.dedup(part, "-n", "-j", "1"),
            }

        return timing.at_two_sizes(folder, sizes, commands, rounds)


def whole(options: argparse.Namespace) -> str:
    """Whole runs of all tools."""
    head, every = beside(options)
    installed = [tool for tool in every if tool.installed]
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    going = {}
    with timing.subset(options.folder, options.count) as part, tempfile.TemporaryDirectory() as scratch:
        for _, tool in itertools.product(range(options.rounds), installed):
            out = Path(scratch, f"{tool.name}.json")
            seconds[tool.name].append(timing.timed(tool.command(part, out, options.jobs)))
            going[tool.name] = len(gone(tool.groups(part, out)))
    ours = statistics.median(seconds[every[0].name])

    def row(tool: Tool) -> list[str]:
        took = statistics.median(seconds[tool.name])
        rate, ratio = options.count / took, took / ours
        return [tool.name, f"{took:.1f}", f"{rate:,.0f}", f"{ratio:.2f}", f"{going[tool.name]:,}"]

    columns = ["tool", "s", "images/s", "dedup is faster by", "files that would go, of 0 that should"]
    told = f"{options.count:,} different web JPEGs, {options.jobs} processes or threads (perception: its own 5), whole runs"
    return f"{head} {told}, medians of {options.rounds} rounds.\n\n{report.table(columns, rows_of(every, row, len(columns)))}"


def found(options: argparse.Namespace) -> str:
    """What goes, and what of it should."""
    head, every = beside(options)
    truth = {row["file"]: row for row in read_truth(options.folder)}
    light = [name for name, row in truth.items() if row["level"] in _LIGHT]
    images = options.folder / "images"

    def row(tool: Tool) -> list[str]:
        cells = [tool.name, tool.setting]
        for names in (light, list(truth)):
            with timing.linked(images, names) as part:
                cells += judged(gone(run(tool, part, options.jobs)), names, truth)
        if options.different:
            cells.append(str(len(gone(run(tool, options.different, options.jobs)))))
        return cells

    columns = ["tool", "setting; what it reports"]
    for name, names in (("up to near", light), ("all edits", list(truth))):
        columns += [f"{name}, {should_go(names, truth):,} should go: right", "recall", "wrong", "precision"]
    if options.different:
        columns.append(f"{options.different.name}: wrong")
    told = (
        "*Should go*: all files of a picture but one. A file goes if it comes after one, by name, that stays and that the"
        " tool pairs or groups with it; it goes rightly if both show the same picture."
    )
    return f"{head} {told}\n\n{report.table(columns, rows_of(every, row, len(columns)))}"


_SECTIONS: dict[str, Callable[[argparse.Namespace], str]] = {"loop": loop, "whole": whole, "found": found}


def beside(options: argparse.Namespace) -> tuple[str, list[Tool]]:
    """The header, and all tools, ours first."""
    peers = tools.peers(options.czkawka, options.python)
    return report.header([f"{peer.name} {peer.version}" for peer in peers if peer.installed]), [
        tools.ours(),
        *peers,
    ]


def rows_of(every: Iterable[Tool], row: Callable[[Tool], list[str]], width: int) -> list[list[str]]:
    return [
        row(tool) if tool.installed else [tool.name, f"not installed: {tool.get}", *[""] * (width - 2)]
        for tool in every
    ]


def run(tool: Tool, folder: Path, jobs: int) -> Groups:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out.json")
        timing.timed(tool.command(folder.resolve(), out, jobs))
        return tool.groups(folder.resolve(), out)


def gone(groups: Groups) -> dict[str, str]:
    """Each file that goes, and the file that stays for it, when one goes through the files by name.

    >>> gone([["a", "b"], ["b", "c"], ["c", "d"]])
    {'b': 'a', 'd': 'c'}
    """
    with_it = collections.defaultdict(set)
    for group in groups:
        for name in group:
            with_it[name].update(group)
    goes: dict[str, str] = {}
    for name in sorted(with_it):
        stays = [other for other in with_it[name] if other < name and other not in goes]
        if stays:
            goes[name] = min(stays)
    return goes


def judged(goes: dict[str, str], names: Sequence[str], truth: dict[str, dict[str, str]]) -> list[str]:
    """Right, recall, wrong and precision."""
    right = sum(truth[name]["group"] == truth[stays]["group"] for name, stays in goes.items())
    recall, precision = right / max(should_go(names, truth), 1), right / max(len(goes), 1)
    return [f"{right:,}", f"{recall:.4f}", f"{len(goes) - right:,}", f"{precision:.4f}"]


def should_go(names: Sequence[str], truth: dict[str, dict[str, str]]) -> int:
    return len(names) - len({truth[name]["group"] for name in names})


def read_truth(corpus: Path) -> list[dict[str, str]]:
    with open(corpus / "truth.csv", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
