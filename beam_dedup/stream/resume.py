"""Reads what earlier runs of a stream on this machine have done, from their records and the state beside them.

Every file is read with care, and none is skipped: one that cannot be read, is damaged, or is a copy of another
raises a `DedupError` that names it and says what to do. Skipping it would judge its images a second time.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import event_metadata_in, identity, remembered_since
from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.codes import code_bytes
from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.model import Code, CodeKind, Fingerprint, Flag, ImageRef, Status
from beam_dedup.core.paths import is_remote
from beam_dedup.core.stream import initial_state
from beam_dedup.core.stream.protocol import StreamPlan
from beam_dedup.options.config import DedupConfig
from transforms.storage import files, objects
from transforms.stream import local_state
from transforms.stream.record import (
    COUNTS_PREFIX,
    COUNTS_SUFFIX,
    RECORDS_PREFIX,
    RECORDS_SUFFIX,
    RecordPaths,
    is_records_name,
    write_counts,
)

_KINDS = {Flag.TINY: CodeKind.TINY, Flag.FLAT: CodeKind.FLAT, Flag.DESCRIBED: CodeKind.METADATA}
_MILLISECONDS = 1000
_DIGEST_BYTES = 32
MOST_LINE_BYTES = 1 << 28
_CHUNK_BYTES = 1 << 20
_MOST_PIXELS = (1 << 31) - 1  # of a side
_MOST_BYTES = (1 << 63) - 1  # of a file


class Resumed(NamedTuple):
    """What earlier runs have done, as far as it is recorded.

    Attributes:
      judged: number of images that have a verdict.
      kept: number of images that were kept.
      initial_state: path of a file with the state to start from (`beam_dedup.core.stream.initial_state`); ""
        without earlier runs.
      skipped: path of a file with the identities of judged images whose references are opened again, such as
        the members of an archive; "" if there are none.
      undelivered: blocks of verdicts that are recorded, but whose copies and messages are perhaps not made.
    """

    judged: int = 0
    kept: int = 0
    initial_state: str = ""
    skipped: str = ""
    undelivered: tuple[bytes, ...] = ()


def resume(config: DedupConfig, folders: RecordPaths, plan: StreamPlan, now_ms: int, scratch: str) -> Resumed:
    """Reads the records and the state of earlier runs.

    Args:
      config: the options of the run.
      folders: where the records, the counts and the state are.
      plan: how images are compared.
      now_ms: the current time, in milliseconds since the epoch. Kept images that are older than `--remember`
        are not compared with new ones.
      scratch: path of the directory for the files of `Resumed`.

    Raises:
      UsageError: the records have codes of another algorithm.
      DedupError: a file of records or of the state cannot be read, is damaged, or is a copy of another.
    """
    assert config.stream
    if not config.records:
        return Resumed()
    oldest_ms = now_ms - int(config.stream.remember_seconds * _MILLISECONDS)
    references: set[bytes] = set()
    opened_again: set[bytes] = set()
    kept: dict[bytes, Fingerprint] = {}
    kept_images: set[bytes] = set()
    for record in _records(config.records):
        (opened_again if record.is_opened_again else references).add(record.identity)
        if record.kept:
            kept_images.add(record.identity)
            if record.since_ms is None or record.since_ms >= oldest_ms:
                _check_recipe(config, record.kept)
                kept[record.kept.digest] = record.kept
    judged = len(references) + len(opened_again)
    if not judged:
        return Resumed(undelivered=_undelivered(folders))
    table = _with_codes(tables.fingerprints_table(list(kept.values())), folders.state)
    path = os.path.join(scratch, "initial-state")
    initial_state.write(initial_state.build(plan, references, table), path)
    skipped = ""
    if opened_again:
        skipped = os.path.join(scratch, "skipped.npy")
        np.save(skipped, np.sort(np.array(list(opened_again), "S16")))
    return Resumed(judged, len(kept_images), path, skipped, _undelivered(folders))


class JudgedRecord(NamedTuple):
    """The parts of one record that a later run needs.

    Attributes:
      identity: identifies the reference, or the image itself if the reference is opened again.
      is_opened_again: whether the next run opens the reference again. It does so for archives, and for
        rejected files, because these may be archives with members that can be read.
      since_ms: time from which the image is remembered, in milliseconds since the epoch, if it is known.
      kept: the kept image, with the code of its whole picture; None for others.
    """

    identity: bytes
    is_opened_again: bool
    since_ms: int | None
    kept: Fingerprint | None


def _records(folder: str) -> Iterator[JudgedRecord]:
    """Yields all records in a directory.

    Raises:
      DedupError: a line is not a record, a file cannot be read, or it is a copy of another.
    """
    contents: dict[bytes, str] = {}
    for path in _files(folder, RECORDS_PREFIX, RECORDS_SUFFIX):
        content = hashlib.sha256()
        number = 0
        for number, line in enumerate(_lines(path), 1):
            content.update(line + b"\n")
            try:
                record = parse_record(_json_value(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                why = f"{error} is missing" if isinstance(error, KeyError) else error
                raise DedupError(
                    f"--records: {path}, line {number} is not a record: {why}; move the file away, or name another directory"
                ) from error
            yield record
        first = contents.setdefault(content.digest(), path)
        if number and first != path and not (is_records_name(first) and is_records_name(path)):
            raise DedupError(
                f"--records: {path} is a copy of {first}; move one of them away, or name another directory"
            )


def _json_value(line: bytes) -> Any:
    try:
        return json.loads(line)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _lines(path: str) -> Iterator[bytes]:
    """Yields the lines of a file of records, without line ends.

    Raises:
      DedupError: the file cannot be read, or has a line that is too long for a record.
    """
    try:
        with files.open_bytes(path) if is_remote(path) else files.open_regular(path) as stream:
            rest = b""
            while chunk := stream.read(_CHUNK_BYTES):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from lines
                if len(rest) > MOST_LINE_BYTES:
                    raise DedupError(
                        f"--records: {path} has a line of more than {MOST_LINE_BYTES} bytes, which is not a record; "
                        "move the file away, or name another directory"
                    )
            if rest:
                yield rest
    except OSError as error:
        raise DedupError(
            f"--records: {path} cannot be read: {error.strerror or error}; move it away, or name another directory"
        ) from error


def parse_record(record: dict[str, Any]) -> JudgedRecord:
    """Parses a record. Raises ValueError, KeyError, TypeError or AttributeError if it is not valid."""
    metadata = record["metadata"] or {}
    generation, _ = event_metadata_in(metadata)
    path, member = split_uri(record["uri"])
    status = Status(record["status"])
    is_opened_again = bool(member) or status == Status.REJECTED
    key = identity(record["uri"] if is_opened_again else path, generation, record.get("reason"))
    kept = _kept_image(record) if status == Status.KEPT else None
    return JudgedRecord(key, is_opened_again, remembered_since(metadata), kept)


def _files(folder: str, prefix: str, suffix: str) -> list[str]:
    """Returns the sorted paths of the files in a local or remote directory that have a prefix and a suffix."""
    if is_remote(folder):
        paths = sorted(objects.list_objects(folder + prefix))
    else:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        paths = [os.path.join(folder, name) for name in names if name.startswith(prefix)]
    return [path for path in paths if path.endswith(suffix)]


def _bytes_of(kind: CodeKind) -> int:
    """Returns the number of bytes of a code of a kind."""
    return int(code_bytes(np.array([kind], np.uint8))[0])


def _kept_image(record: dict[str, Any]) -> Fingerprint:
    """Returns the image of the record of a kept image."""
    algorithm = record["algorithm"] or ""
    flags = tuple(Flag(flag) for flag in record["flags"])
    code: tuple[Code, ...] = ()
    if record["fingerprint"]:
        name = algorithm.partition("/")[0]
        kind = next((_KINDS[flag] for flag in flags if flag in _KINDS), ALGORITHMS[name].kind)
        if kind == CodeKind.FULL and len(record["fingerprint"]) == 2 * _bytes_of(CodeKind.DETAILED):
            kind = CodeKind.DETAILED
        code = (Code(kind, _hex(record["fingerprint"], _bytes_of(kind), "a fingerprint")),)
    return Fingerprint(
        ImageRef(record["uri"], record["uri"], known=True),
        _hex(record["digest"], _DIGEST_BYTES, "a digest"),
        _number(record["size_bytes"] or 0, _MOST_BYTES),
        0,
        _text(record["format"] or ""),
        _number(record["width"] or 0, _MOST_PIXELS),
        _number(record["height"] or 0, _MOST_PIXELS),
        algorithm,
        code,
        flags,
    )


def _hex(text: str, size: int, what: str) -> bytes:
    data = bytes.fromhex(text)
    if len(data) != size:
        raise ValueError(f"{what} has {size} bytes")
    return data


def _text(value: str) -> str:
    to_bytes(value)  # raises if it cannot be stored
    return value


def _number(value: Any, most: int) -> int:
    if not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"a number must be an integer from 0 to {most}")
    return value


def _check_recipe(config: DedupConfig, known: Fingerprint) -> None:
    """Raises UsageError if the codes of a kept image can't be compared with those of this run."""
    if config.near and known.algorithm not in ("", config.recipe.name):
        raise UsageError(
            f"--records: {config.records} contains codes of {known.algorithm}, not of {config.recipe.name}; "
            "use the same --algorithm, or name another directory"
        )


def _with_codes(known: pa.Table, folder: str) -> pa.Table:
    """Returns a table of kept images in which each has the codes of all its views, if the state has them.

    Records contain only the code of the whole picture.
    """
    if not folder or not len(known):
        return known
    codes = local_state.take_codes(folder, known["digest"].combine_chunks().cast(pa.binary()))
    order = {digest: row for row, digest in enumerate(codes["digest"].to_pylist())}
    both = pa.concat_tables([known.select(["codes"]), codes.select(["codes"])]).combine_chunks()
    rows = [
        len(known) + order[digest] if digest in order else row
        for row, digest in enumerate(known["digest"].to_pylist())
    ]
    at = known.schema.get_field_index("codes")
    return known.set_column(at, blocks.FINGERPRINTS.field("codes"), both["codes"].take(pa.array(rows)))


def _undelivered(folders: RecordPaths) -> tuple[bytes, ...]:
    """Returns the blocks of verdicts that are noted as undelivered and are recorded.

    Blocks that are noted but not recorded are ignored: their images will be judged again. Writes counts that
    are missing beside recorded verdicts. All verdicts become one block, so that duplicates in it can stand in for kept
    images that are gone.
    """
    if not folders.state:
        return ()
    recorded = {os.path.basename(path) for path in _files(folders.records, RECORDS_PREFIX, RECORDS_SUFFIX)}
    counted = (
        {os.path.basename(path) for path in _files(folders.counts, COUNTS_PREFIX, COUNTS_SUFFIX)}
        if folders.counts
        else set()
    )
    found = []
    for name, block in local_state.undelivered(folders.state):
        if f"{RECORDS_PREFIX}{name}{RECORDS_SUFFIX}" in recorded:
            found.append(block)
            if folders.counts and f"{COUNTS_PREFIX}{name}{COUNTS_SUFFIX}" not in counted:
                write_counts(folders, name, block)
    return (blocks.dump(blocks.load(found, blocks.VERDICTS)),) if found else ()
