"""Precision and recall of `dedup -n` on a corpus with known truth.

    .venv/bin/python benchmarks/quality.py CORPUS [options of dedup, such as -k 6]

CORPUS has a folder `images` and a `truth.csv` with the columns file, group, role, transform and level: files of one
group show the same picture; role is `original` for one of them; level says how far an edit is from it.

Prints a table to be copied into benchmarks/README.md. A duplicate is right if its witness is of the same group. Of a
group that the edits of some levels leave n files of, n - 1 should go.
"""

import argparse
import collections
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

LEVELS = ("exact", "pixel", "near", "hard", "geo")  # each harder than the one before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    options, flags = parser.parse_known_args()
    with open(options.corpus / "truth.csv", newline="") as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    print(f"dedup -n {' '.join(flags)}")
    print("\n| files | should go | go | recall | wrong duplicates | precision |\n|---|---|---|---|---|---|")
    for last in range(1, len(LEVELS) + 1):
        levels = {"", *LEVELS[:last]}
        chosen = [name for name, row in truth.items() if row["level"] in levels]
        if last == 1 or any(truth[name]["level"] == LEVELS[last - 1] for name in chosen):
            print(
                row_of(LEVELS[last - 1], chosen, truth, deduplicate(options.corpus / "images", chosen, flags))
            )
    print("\nEdits of which some copy is not within reach of its original, when there are only the two:\n")
    print(misses(truth, options.corpus / "images", flags))


def deduplicate(images: Path, names: Iterable[str], flags: list[str]) -> dict[str, dict[str, object]]:
    """The record of each of the named files, when only they are there."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "in")
        folder.mkdir()
        for name in names:
            (folder / name).symlink_to((images / name).resolve())
        records = Path(scratch, "records.jsonl")
        command = [
            sys.executable,
            "-m",
            "beam_dedup",
            "-n",
            "-i",
            str(folder),
            "-o",
            "",
            "--records",
            str(records),
        ]
        subprocess.run([*command, "--quiet", *flags], check=True)
        lines = records.read_text().splitlines()
    return {Path(record["uri"]).name: record for record in map(json.loads, lines)}


def row_of(
    level: str, chosen: list[str], truth: dict[str, dict[str, str]], records: dict[str, dict[str, object]]
) -> str:
    sizes = collections.Counter(truth[name]["group"] for name in chosen)
    should = sum(size - 1 for size in sizes.values())
    right = wrong = 0
    for name, record in records.items():
        if record["status"] == "duplicate":
            same = truth[Path(str(record["duplicate_of"])).name]["group"] == truth[name]["group"]
            right, wrong = right + same, wrong + (not same)
    recall, precision = right / max(should, 1), right / max(right + wrong, 1)
    return f"| originals and edits up to {level}: {len(chosen)} | {should} | {right} | {recall:.4f} | {wrong} | {precision:.4f} |"


def misses(truth: dict[str, dict[str, str]], images: Path, flags: list[str]) -> str:
    """Each edit alone with the originals: how many copies are found."""
    originals = [name for name, row in truth.items() if row["role"] == "original"]
    by_edit = collections.defaultdict(list)
    for name, row in truth.items():
        if row["role"] == "variant":
            by_edit[LEVELS.index(row["level"]), row["transform"]].append(name)
    lines = ["| level | edit | found |", "|---|---|---|"]
    for (level, edit), names in sorted(by_edit.items()):
        records = deduplicate(images, [*originals, *names], flags)
        found = sum(record["status"] == "duplicate" for record in records.values())
        if found < len(names):
            lines.append(f"| {LEVELS[level]} | {edit} | {found} of {len(names)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
