"""The journal of a run of `dedup clean`: JSON Lines, written to the disk before a file is touched.

The first line says how and from what. Each other line is a step (`beam_dedup.cleaning.steps.Step`). Whether a step was
done, `dedup undo` sees from the files themselves, so a killed run needs no other notes.
"""

import dataclasses
import json
import os
from collections.abc import Iterable
from typing import Any, Self

from beam_dedup.cleaning import files
from beam_dedup.cleaning.files import State
from beam_dedup.cleaning.steps import How, Step
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.names import shown

_VERSION = 1
_VERSION_FIELD = "dedup_journal"


class Journal:
    """Writes a journal. Use it as a context manager."""

    def __init__(self, path: str, how: How, records: str) -> None:
        """Creates the file.

        Raises:
          UsageError: it exists, or can't be created.
        """
        try:
            self._file = open(path, "x", encoding="ascii")  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"--journal: {shown(path)} can't be created: {error.strerror}") from error
        self._write({_VERSION_FIELD: _VERSION, "how": how.value, "records": os.path.abspath(records)})
        files.sync_directory(os.path.dirname(path) or ".")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def plan(self, steps: Iterable[Step]) -> None:
        """Writes steps to the disk. They may be done when this returns."""
        for step in steps:
            row = dataclasses.asdict(step)
            self._write({**row, "digest": step.digest.hex(), "witness_digest": step.witness_digest.hex()})
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write(self, row: dict[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")


def read_journal(path: str) -> tuple[How, list[Step]]:
    """Returns how the duplicates were cleaned up, and the steps in order. An incomplete last line is passed over.

    Raises:
      UsageError: the file can't be read, or is no journal.
      DedupError: it is damaged.
    """
    try:
        with open(path, encoding="ascii") as file:
            lines = file.read().split("\n")[:-1]
    except OSError as error:
        raise UsageError(f"JOURNAL: {shown(path)} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"JOURNAL: {shown(path)} is no journal of dedup clean") from error
    try:
        first = json.loads(lines[0])
        how = How(first["how"])
        version = first[_VERSION_FIELD]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UsageError(f"JOURNAL: {shown(path)} is no journal of dedup clean") from error
    if version != _VERSION:
        raise UsageError(f"JOURNAL: {shown(path)} was written by another version of dedup")
    steps = []
    for number, line in enumerate(lines[1:], 2):
        try:
            row = json.loads(line)
            for name in ("digest", "witness_digest"):
                row[name] = bytes.fromhex(row[name])
            for name in ("state", "witness_state"):
                row[name] = State(**row[name])
            steps.append(Step(**row))
        except (ValueError, KeyError, TypeError) as error:
            raise DedupError(f"{shown(path)}, line {number}, is damaged: {error}") from error
    return how, steps
