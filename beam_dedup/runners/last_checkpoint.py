"""Finds the last checkpoint that Flink has retained, from which a stream that failed or was cancelled can resume.

    python -m beam_dedup.runners.last_checkpoint CHECKPOINTS [--job_id ID] [options of Beam]

Prints one path, for `--savepoint_path`. CHECKPOINTS is Flink's `state.checkpoints.dir`, or the
`--state_backend_storage_path` of the job; a directory, or a prefix of a store. Flink writes the checkpoint number
n of a job to `CHECKPOINTS/<id of the job>/chk-<n>`, and its file `_metadata` last, so a checkpoint that has
this file is complete. Without --job_id the newest checkpoint of all jobs is printed: give the id if other
streams use the same directory.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from beam_dedup.core.errors import DedupError
from beam_dedup.runners import select

_METADATA = re.compile(r"(?P<path>.*/(?P<job>[0-9a-f]{32})/chk-(?P<number>\d+))/_metadata")
_LOCAL = "file://"


def newest(files: Iterable[FileMetadata], job_id: str = "") -> str:
    """Returns the path of the newest complete checkpoint, or "" if there is none.

    Args:
      files: files below the directory of checkpoints.
      job_id: the job whose checkpoints count; "" for all jobs.
    """
    found = [
        (file.last_updated_in_seconds, int(match["number"]), match["path"])
        for file in files
        if (match := _METADATA.fullmatch(file.path)) and job_id in ("", match["job"])
    ]
    return max(found, default=(0.0, 0, ""))[2]


def last_checkpoint(directory: str, job_id: str = "") -> str:
    """Returns the path of the newest complete checkpoint below a directory of Flink.

    Raises:
      DedupError: there is none, or the directory can't be read.
    """
    root = directory.removeprefix(_LOCAL).rstrip("/")
    try:
        [matched] = FileSystems.match([f"{root}/*/chk-*/_metadata"])
    except (BeamIOError, ValueError, OSError) as error:
        raise DedupError(f"{directory} can't be read: {error}") from error
    found = newest(matched.metadata_list, job_id)
    if not found:
        of_job = f" of job {job_id}" if job_id else ""
        raise DedupError(f"there is no complete checkpoint{of_job} in {directory}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the path of the last checkpoint. Returns the exit code: 0, or 1 if there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m beam_dedup.runners.last_checkpoint",
        description="Prints the path of the last checkpoint that Flink has retained, for --savepoint_path.",
        allow_abbrev=False,
    )
    parser.add_argument("checkpoints", help="Flink's directory or prefix of checkpoints")
    parser.add_argument("--job_id", default="", help="only checkpoints of this job (default: of all jobs)")
    given, rest = parser.parse_known_args(arguments)
    try:
        FileSystems.set_options(select.beam_options(rest))
        print(last_checkpoint(given.checkpoints, given.job_id))
    except DedupError as error:
        print(f"last_checkpoint: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
