"""Compares `dedup -n` with other tools on the same files, measured in the same session.

    .venv/bin/python -m benchmarks.peers loop  --set WEB 1000 4000 --set CAMERA 20 80 [--rounds 3] [--write]
    .venv/bin/python -m benchmarks.peers whole WEB [--count 10000] [-j 2] [--rounds 3] [PEERS] [--write]
    .venv/bin/python -m benchmarks.peers found CORPUS [--different DIR] [-j 2] [PEERS] [--write]

`loop` measures images per second of one process, as the slope between two sizes of each set: `imagehash.phash` in a plain
loop, and `dedup -n -j 1`. `whole` times whole runs on the first files of a set of different pictures, with the same number
of processes or threads and without caches. `found` counts the files that each tool would remove, of a corpus with known
truth (a directory `images` and a file `truth.csv` with the columns file, group and level, as for `benchmarks/quality.py`)
and of a directory of pictures that are all different.

PEERS locates the other tools: `--czkawka PATH`, the program; `--python PATH`, the Python of an environment that has
imagededup and perception. A tool that is not installed gets a row that says how to install it. imagehash is a dependency of
this package. `benchmarks/pictures.py` makes WEB and CAMERA.

Prints a table. --write also writes it into benchmarks/README.md.
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

_LIGHT = ("", "exact", "pixel", "near")  # levels of edits that every tool should recognise


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=SECTIONS, help="comparison to run")
    parser.add_argument("folder", type=Path, nargs="?", help="directory of images, or the corpus")
    parser.add_argument(
        "--set",
        nargs=3,
        action="append",
        default=[],
        metavar=("FOLDER", "SMALL", "LARGE"),
        help="directory and its two numbers of files, for loop",
    )
    parser.add_argument("--count", type=int, default=10_000, help="number of files, for whole")
    parser.add_argument("--different", type=Path, help="directory of different pictures, for found")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes or threads")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each command")
    parser.add_argument("--czkawka", default="czkawka_cli", help="program of czkawka")
    parser.add_argument("--python", default=sys.executable, help="Python that has imagededup and perception")
    parser.add_argument("--write", action="store_true", help="also write the table into benchmarks/README.md")
    options = parser.parse_args(argv)
    if (options.folder is None) != (options.what == "loop"):
        parser.error("loop needs --set and no directory; whole and found need a directory")
    report.publish(f"peers-{options.what}", SECTIONS[options.what](options), options.write)


def loop(options: argparse.Namespace) -> str:
    """Measures the rate of imagehash and of `dedup` in one process. Returns the section of the README."""
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
    set_sizes = "; ".join(f"{Path(folder).name}: {low} and {high} files" for folder, low, high in options.set)
    return f"{head} {set_sizes}; medians of {options.rounds} rounds.\n\n{report.table(columns, rows)}"


def loop_times(folder: Path, sizes: tuple[int, int], library: Tool, rounds: int) -> dict[str, timing.Timed]:
    with tempfile.TemporaryDirectory() as scratch:

        def commands(part: Path) -> dict[str, timing.Command]:
            return {
                "imagehash.phash in a loop": library.command(part, Path(scratch, "out"), 1),
                "dedup -n -j 1": timing.dedup(part, "-n", "-j", "1"),
            }

        return timing.at_two_sizes(folder, sizes, commands, rounds)


def whole(options: argparse.Namespace) -> str:
    """Times whole runs of all tools. Returns the section of the README."""
    head, all_tools = header_and_tools(options)
    installed = [tool for tool in all_tools if tool.installed]
    seconds: dict[str, list[float]] = collections.defaultdict(list)
    removed = {}
    with timing.subset(options.folder, options.count) as part, tempfile.TemporaryDirectory() as scratch:
        for _, tool in itertools.product(range(options.rounds), installed):
            out = Path(scratch, f"{tool.name}.json")
            seconds[tool.name].append(timing.timed(tool.command(part, out, options.jobs)))
            removed[tool.name] = len(removed_files(tool.groups(part, out)))
    ours = statistics.median(seconds[all_tools[0].name])

    def row(tool: Tool) -> list[str]:
        took = statistics.median(seconds[tool.name])
        rate, ratio = options.count / took, took / ours
        return [tool.name, f"{took:.1f}", f"{rate:,.0f}", f"{ratio:.2f}", f"{removed[tool.name]:,}"]

    columns = ["tool", "s", "images/s", "dedup is faster by", "files removed, of 0 duplicates"]
    setting = f"{options.count:,} different web JPEGs, {options.jobs} processes or threads (perception: its own 5), whole runs"
    return f"{head} {setting}, medians of {options.rounds} rounds.\n\n{report.table(columns, rows_of(all_tools, row, len(columns)))}"


def found(options: argparse.Namespace) -> str:
    """Counts the files that each tool would remove, rightly and wrongly. Returns the section of the README."""
    head, all_tools = header_and_tools(options)
    truth = {row["file"]: row for row in read_truth(options.folder)}
    light = [name for name, row in truth.items() if row["level"] in _LIGHT]
    images = options.folder / "images"

    def row(tool: Tool) -> list[str]:
        cells = [tool.name, tool.setting]
        for names in (light, list(truth)):
            with timing.linked(images, names) as part:
                cells += judged(removed_files(run(tool, part, options.jobs)), names, truth)
        if options.different:
            cells.append(str(len(removed_files(run(tool, options.different, options.jobs)))))
        return cells

    columns = ["tool", "setting; what it reports"]
    for name, names in (("up to near", light), ("all edits", list(truth))):
        columns += [f"{name}, {duplicates(names, truth):,} duplicates: right", "recall", "wrong", "precision"]
    if options.different:
        columns.append(f"{options.different.name}: wrong")
    definition = (
        "*Duplicates*: all files of a picture except one. Files are visited by name: one is removed if the tool pairs or"
        " groups it with an earlier file that is kept; it is removed rightly if both show the same picture."
    )
    return f"{head} {definition}\n\n{report.table(columns, rows_of(all_tools, row, len(columns)))}"


SECTIONS: dict[str, Callable[[argparse.Namespace], str]] = {"loop": loop, "whole": whole, "found": found}


def header_and_tools(options: argparse.Namespace) -> tuple[str, list[Tool]]:
    """Returns the header line of a section, and all tools, `dedup` first."""
    peers = tools.peers(options.czkawka, options.python)
    return report.header([f"{peer.name} {peer.version}" for peer in peers if peer.installed]), [
        tools.ours(),
        *peers,
    ]


def rows_of(all_tools: Iterable[Tool], row: Callable[[Tool], list[str]], width: int) -> list[list[str]]:
    """Returns a row for each tool; that of a missing tool says how to install it."""
    return [
        row(tool) if tool.installed else [tool.name, f"not installed: {tool.get}", *[""] * (width - 2)]
        for tool in all_tools
    ]


def run(tool: Tool, folder: Path, jobs: int) -> Groups:
    """Returns the groups that a tool finds in a directory."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "out.json")
        timing.timed(tool.command(folder.resolve(), out, jobs))
        return tool.groups(folder.resolve(), out)


def removed_files(groups: Groups) -> dict[str, str]:
    """Returns each file to remove, with the kept file that it duplicates, visiting the files by name.

    >>> removed_files([["a", "b"], ["b", "c"], ["c", "d"]])
    {'b': 'a', 'd': 'c'}
    """
    grouped_with = collections.defaultdict(set)
    for group in groups:
        for name in group:
            grouped_with[name].update(group)
    removed: dict[str, str] = {}
    for name in sorted(grouped_with):
        kept = [other for other in grouped_with[name] if other < name and other not in removed]
        if kept:
            removed[name] = min(kept)
    return removed


def judged(removed: dict[str, str], names: Sequence[str], truth: dict[str, dict[str, str]]) -> list[str]:
    """Returns the number of files removed rightly, the recall, the number removed wrongly, and the precision."""
    right = sum(truth[name]["group"] == truth[kept]["group"] for name, kept in removed.items())
    recall, precision = right / max(duplicates(names, truth), 1), right / max(len(removed), 1)
    return [f"{right:,}", f"{recall:.4f}", f"{len(removed) - right:,}", f"{precision:.4f}"]


def duplicates(names: Sequence[str], truth: dict[str, dict[str, str]]) -> int:
    """Returns how many of the files are duplicates."""
    return len(names) - len({truth[name]["group"] for name in names})


def read_truth(corpus: Path) -> list[dict[str, str]]:
    with open(corpus / "truth.csv", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
