"""Measures precision and recall of `dedup -n` on a corpus with known truth.

    .venv/bin/python benchmarks/quality.py CORPUS [options of dedup, such as -k 6]

CORPUS has a directory `images` and a file `truth.csv` with the columns file, group, role, transform and level. The files
of a group show the same picture; role is `original` for one of them; level is the difficulty of an edit.

Prints tables for benchmarks/README.md. A duplicate is right if its witness is of the same group. n - 1 of the n files of
a group should be duplicates.
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

LEVELS = ("exact", "pixel", "near", "hard", "geo")  # of edits, the easiest first


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="directory with images/ and truth.csv")
    options, flags = parser.parse_known_args()
    with open(options.corpus / "truth.csv", newline="") as file:
        truth = {row["file"]: row for row in csv.DictReader(file)}
    print(f"dedup -n {' '.join(flags)}")
    print(
        "\n| files | duplicates | found | recall | wrong duplicates | precision |\n|---|---|---|---|---|---|"
    )
    for last in range(1, len(LEVELS) + 1):
        levels = {"", *LEVELS[:last]}
        chosen = [name for name, row in truth.items() if row["level"] in levels]
        if last == 1 or any(truth[name]["level"] == LEVELS[last - 1] for name in chosen):
            print(
                row_of(LEVELS[last - 1], chosen, truth, deduplicate(options.corpus / "images", chosen, flags))
            )
    print("\nKinds of edit of which a copy is missed, each run alone with the originals:\n")
    print(misses(truth, options.corpus / "images", flags))


def deduplicate(images: Path, names: Iterable[str], flags: list[str]) -> dict[str, dict[str, object]]:
    """Runs `dedup -n` on the named files only. Returns their records by name."""
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
    """Returns a row of the table for the files of all levels up to one."""
    sizes = collections.Counter(truth[name]["group"] for name in chosen)
    duplicates = sum(size - 1 for size in sizes.values())
    right = wrong = 0
    for name, record in records.items():
        if record["status"] == "duplicate":
            same = truth[Path(str(record["duplicate_of"])).name]["group"] == truth[name]["group"]
            right, wrong = right + same, wrong + (not same)
    recall, precision = right / max(duplicates, 1), right / max(right + wrong, 1)
    return f"| originals and edits up to {level}: {len(chosen)} | {duplicates} | {right} | {recall:.4f} | {wrong} | {precision:.4f} |"


def misses(truth: dict[str, dict[str, str]], images: Path, flags: list[str]) -> str:
    """Runs each kind of edit alone with the originals. Returns a table of those of which a copy is missed."""
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
