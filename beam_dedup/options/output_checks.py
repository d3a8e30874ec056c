"""Checks the names of outputs: their endings, and that no two outputs or inputs get in each other's way."""

import os

from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote
from beam_dedup.core.reading import input_paths
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.option import quoted

# How the name of each output file may end. The ending of a name without a dot is "", which every option accepts.
ENDINGS: dict[str, tuple[str, ...]] = {
    "-o": (".json",),
    "--records": (".jsonl", ".ndjson", ".json", ".avro", ".parquet", ".csv"),
    "--counts": (".json",),
    "--drop_list": (".txt", ".nul"),
    "--pairs": (".jsonl", ".ndjson", ".avro", ".parquet", ".csv"),
}
TABLE_ENDINGS = (".parquet", ".csv")  # of records that are always one file
# Endings that name a file, so that they are not taken for those of a directory.
FILE_ENDINGS = (".json", ".jsonl", ".ndjson", ".avro", ".csv", ".tsv", ".parquet")


def check_endings(config: DedupConfig) -> None:
    """Raises UsageError if the name of an output file ends like a file of a format that is not written.

    Directories of files, whose names end in /, may have any name except those of tables.
    """
    if config.records.rstrip("/").endswith(TABLE_ENDINGS) and config.records.endswith("/"):
        raise UsageError(
            f"--records: a directory receives JSON Lines, so its name must not end in "
            f"{' or '.join(TABLE_ENDINGS)}; got {quoted(config.records)}. Choose another name"
        )
    for flag, path in config.output_files.items():
        if path.endswith("/") and flag != "--records" and not config.stream:
            raise UsageError(
                f"{flag} must name a file, not a directory; got {quoted(path)}. Remove the / at its end"
            )
        ending = os.path.splitext(path)[1]
        if ending and not path.endswith("/") and ending not in ENDINGS[flag]:
            *others, last = ENDINGS[flag]
            endings = f"{', '.join(others)} or {last}" if others else last
            directory = ", or in / for a directory" if flag == "--records" else ""
            raise UsageError(f"{flag} must end in {endings}{directory}; got {quoted(path)}")


def check_distinct(config: DedupConfig) -> None:
    """Raises UsageError if an output would be in the way of another output, or would replace an input."""
    outputs = {
        flag: path
        for flag, path in (
            *config.output_files.items(),
            ("-d", config.output_dir),
            ("--report", config.report),
        )
        if path
    }
    files = {flag: path for flag, path in config.output_files.items() if not path.endswith("/")}
    inputs = [
        ("-l", config.json_metadata),
        ("--reference", config.reference),
        ("--decisions", config.decisions_file),
    ]
    inputs += [(config.input_flag, path) for path in config.inputs]
    flags: dict[str, tuple[str, str]] = {}
    for flag, path in inputs:
        if path and not input_paths.is_pattern(path) and not os.path.isdir(path):
            flags.setdefault(_key(path), (flag, path))
    for flag, path in outputs.items():
        other, _ = flags.setdefault(_key(path), (flag, path))
        if other != flag:
            raise UsageError(f"{other} and {flag} must name different paths; both name {quoted(path)}")
    for flag, path in files.items():
        for other, inner in outputs.items():
            if _key(inner).startswith(f"{_key(path)}/"):
                raise UsageError(
                    f"{other} must not lie below {flag}, which names a file; got {other} {quoted(inner)} and "
                    f"{flag} {quoted(path)}"
                )


def _key(path: str) -> str:
    """Returns the same text for all names of one path."""
    return path.rstrip("/") if is_remote(path) else os.path.realpath(path)
