"""The journal of a run of `dedup clean`: JSON Lines, written to the disk before a file is touched.

The first line says how and from what. Each other line is a step (`beam_dedup.cleaning.steps.Step`). Whether a step was
done, `dedup undo` sees from the files themselves, so a killed run needs no other notes.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import re
from collections.abc import Iterable, Iterator
from typing import IO, Any, Self

from beam_dedup.cleaning import files, trash
from beam_dedup.cleaning.decided import DROPPING
from beam_dedup.cleaning.files import DIGEST_BYTES, State
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
        try:
            _lock(self._file, path)
            self._write({_VERSION_FIELD: _VERSION, "how": how.value, "records": os.path.abspath(records)})
            self._file.flush()  # a run that is killed now leaves a journal without steps
            files.sync_directory(os.path.dirname(path) or ".")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk; `plan` has raised it
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


@contextlib.contextmanager
def opened_journal(path: str) -> Iterator[tuple[How, list[Step]]]:
    """Reads a journal, and locks it during the block.

    Yields:
      How the duplicates were cleaned up, and the steps in order. An incomplete last line is passed over.

    Raises:
      UsageError: the file can't be read, is no journal, or is in use.
      DedupError: it is damaged.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, encoding="ascii"))
            _lock(file, path)
            lines = file.read().split("\n")[:-1]
        except OSError as error:
            raise UsageError(f"JOURNAL: {shown(path)} can't be read: {error.strerror}") from error
        except ValueError as error:
            raise UsageError(f"JOURNAL: {shown(path)} is no journal of dedup clean") from error
        yield _parsed(path, lines)


def _lock(file: IO[str], path: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UsageError(f"JOURNAL: {shown(path)} is in use by another dedup; wait until it ends") from None
    except OSError:
        return  # a file system without locks


def _parsed(path: str, lines: list[str]) -> tuple[How, list[Step]]:
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
            step = Step(**row)
            _check(step, how)
            steps.append(step)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DedupError(f"{shown(path)}, line {number}, is damaged: {error}") from error
    return how, steps


def _check(step: Step, how: How) -> None:
    """Raises ValueError or TypeError unless `dedup clean` could have written this step."""
    if not step.witness and (how not in DROPPING or step.witness_digest or not step.target):
        raise ValueError("it has no witness")
    for name in (step.path, *filter(None, (step.witness, step.target, step.info))):
        if not os.path.isabs(name) or "\0" in name:
            raise ValueError("it has a path that is not absolute")
        os.fsencode(name)
    if step.info and step.info != trash.info_path(step.target):
        raise ValueError("info does not belong to target")
    if len(step.digest) != DIGEST_BYTES or len(step.witness_digest) != (DIGEST_BYTES if step.witness else 0):
        raise ValueError("digest must have 32 bytes")
    if not re.fullmatch("[0-9a-f]+", step.token):
        raise ValueError("token must be hexadecimal digits")
    numbers = (step.number, step.mode, step.atime_ns, *step.owner)
    numbers += (*dataclasses.astuple(step.state), *dataclasses.astuple(step.witness_state))
    if len(step.owner) != len(("user", "group")) or not all(type(one) is int for one in numbers):
        raise TypeError("it has no number where one must be")
