"""Compares runs of `dedup -n` on tables of images with a run on the same images as files.

    .venv/bin/python -m benchmarks.tables FOLDER [--count 12000] [--shards 12] [-j 2] [--rounds 3] [--write]

FOLDER has at least as many images: it is the set `web` that `benchmarks/pictures.py` makes. The tables are written beside it,
with row groups and record batches of 100 images as `datasets` writes them, and removed at the end. Times whole processes
alternately. Passes unknown options to dedup.

Prints a table. --write also writes it into benchmarks/README.md.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import report, timing

_GROUP_ROWS = 100
_FILES = "files"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path, help="directory of the set web")
    parser.add_argument("--count", type=int, default=12_000, help="number of images")
    parser.add_argument("--shards", type=int, default=12, help="number of tables")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each command")
    parser.add_argument("--write", action="store_true", help="also write the table into benchmarks/README.md")
    options, flags = parser.parse_known_args(argv)
    text = section(options.folder, options.count, options.shards, options.jobs, options.rounds, flags)
    report.publish("tables", text, options.write)


def section(folder: Path, count: int, shards: int, jobs: int, rounds: int, flags: list[str]) -> str:
    """Measures, and returns the section of the README."""
    head = report.header()
    flags = ["-n", "-j", str(jobs), "--image_column", "image", *flags]
    names = timing.first_files(folder, count)
    with (
        timing.linked(folder, names) as files,
        tempfile.TemporaryDirectory(prefix="tables-", dir=folder.resolve().parent) as made,
    ):
        folders = {_FILES: files, **write_tables(files, names, Path(made), shards)}
        seconds: dict[str, list[float]] = {name: [] for name in folders}
        for _ in range(rounds):
            for name, inputs in folders.items():
                seconds[name].append(timing.timed(timing.dedup(inputs, *flags)))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    rows = [
        [name, f"{median:.2f}", f"{count / median:,.0f}", f"{medians[_FILES] / median:.2f}"]
        for name, median in medians.items()
    ]
    columns = ["", f"{count:,} images, s", "images/s", "rate to files"]
    return "\n".join([f"{head} Medians of {rounds} rounds.", "", report.table(columns, rows)])


def write_tables(files: Path, names: Sequence[str], folder: Path, shards: int) -> dict[str, Path]:
    """Writes the images into tables. Returns the directories of the tables by what they hold."""
    kinds = {
        f"{shards} Parquet files": folder / "parquet",
        f"{shards} Arrow files": folder / "arrow",
        "1 Parquet file": folder / "one",
    }
    parquet, arrow, one = kinds.values()
    for path in kinds.values():
        path.mkdir()
    size = -(-len(names) // shards)
    with pq.ParquetWriter(one / "all.parquet", _table([]).schema) as whole:
        for shard in range(shards):
            table = _table([(files / name).read_bytes() for name in names[shard * size : (shard + 1) * size]])
            whole.write_table(table, _GROUP_ROWS)
            pq.write_table(table, parquet / f"{shard:04}.parquet", row_group_size=_GROUP_ROWS)
            with pa.ipc.new_stream(arrow / f"{shard:04}.arrow", table.schema) as writer:
                writer.write_table(table, _GROUP_ROWS)
    return kinds


def _table(images: list[bytes]) -> pa.Table:
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    return pa.table({"image": pa.array([{"bytes": data, "path": None} for data in images], kind)})


if __name__ == "__main__":
    main()
