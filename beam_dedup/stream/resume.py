"""What a stream on this machine did before it was stopped, or killed: read from its records, and what lies beside them."""

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import event_metadata_in, identity
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
    Folders,
    write_counts,
)

_KINDS = {Flag.TINY: CodeKind.TINY, Flag.FLAT: CodeKind.FLAT, Flag.DESCRIBED: CodeKind.METADATA}
_MILLISECONDS = 1000
_DIGEST_BYTES = 32


class Resumed(NamedTuple):
    """Where a stream goes on.

    judged, kept: how many images were, as far as is recorded. beginning: the state it begins with, a file; "" if there is none.
    skipped: identities of images that were judged, of references that are opened again, a file. undelivered: blocks of
    verdicts that are recorded, whose copies and messages are to be made.
    """

    judged: int = 0
    kept: int = 0
    beginning: str = ""
    skipped: str = ""
    undelivered: tuple[bytes, ...] = ()


def resume(config: DedupConfig, folders: Folders, plan: StreamPlan, now_ms: int, scratch: str) -> Resumed:
    """Reads what is there.

    Raises:
      UsageError: it was made with other codes.
      DedupError: a file of records is damaged.
    """
    assert config.stream
    if not config.records:
        return Resumed()
    oldest_ms = now_ms - int(config.stream.remember_seconds * _MILLISECONDS)
    references: list[bytes] = []
    opened_again: list[bytes] = []
    kept: dict[bytes, Fingerprint] = {}
    judged = kept_count = 0
    for record in _records(config.records):
        judged += 1
        (opened_again if record.is_opened_again else references).append(record.identity)
        if record.kept:
            kept_count += 1
            if record.event_ms is None or record.event_ms >= oldest_ms:
                _check_recipe(config, record.kept)
                kept[record.kept.digest] = record.kept
    if not judged:
        return Resumed(undelivered=_undelivered(folders))
    table = _with_codes(tables.fingerprints_table(list(kept.values())), folders.state)
    beginning = os.path.join(scratch, "beginning")
    initial_state.write(initial_state.build(plan, references, table), beginning)
    skipped = ""
    if opened_again:
        skipped = os.path.join(scratch, "skipped.npy")
        np.save(skipped, np.sort(np.array(opened_again, "S16")))
    return Resumed(judged, kept_count, beginning, skipped, _undelivered(folders))


class _Record(NamedTuple):
    """What is to be known of one record."""

    identity: bytes
    is_opened_again: bool  # what is rejected may be an archive with good members
    event_ms: int | None
    kept: Fingerprint | None  # with the code of its whole picture


def _records(folder: str) -> Iterator[_Record]:
    for path in _files(folder, RECORDS_PREFIX, RECORDS_SUFFIX):
        with files.open_bytes(path) as stream:
            lines = stream.read().splitlines()
        for number, line in enumerate(lines, 1):
            try:
                record = _read(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                why = f"{error} is missing" if isinstance(error, KeyError) else error
                raise DedupError(
                    f"--records: {path}, line {number} is no record: {why}; put the file elsewhere, or name another folder"
                ) from error
            yield record


def _read(record: dict[str, Any]) -> _Record:
    """Raises ValueError, KeyError, TypeError or AttributeError if it is no record of ours."""
    generation, event_ms = event_metadata_in(record["metadata"] or {})
    path, member = split_uri(record["uri"])
    status = Status(record["status"])
    is_opened_again = bool(member) or status == Status.REJECTED
    known = identity(record["uri"] if is_opened_again else path, generation)
    return _Record(known, is_opened_again, event_ms, _known(record) if status == Status.KEPT else None)


def _files(folder: str, prefix: str, suffix: str) -> list[str]:
    if is_remote(folder):
        paths = sorted(objects.list_objects(folder + prefix))
    else:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        paths = [os.path.join(folder, name) for name in names if name.startswith(prefix)]
    return [path for path in paths if path.endswith(suffix)]


def _known(record: dict[str, Any]) -> Fingerprint:
    algorithm = record["algorithm"] or ""
    flags = tuple(Flag(flag) for flag in record["flags"])
    code: tuple[Code, ...] = ()
    if record["fingerprint"]:
        name = algorithm.partition("/")[0]
        kind = next((_KINDS[flag] for flag in flags if flag in _KINDS), ALGORITHMS[name].kind)
        code = (Code(kind, bytes.fromhex(record["fingerprint"])),)
    digest = bytes.fromhex(record["digest"])
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(f"a digest has {_DIGEST_BYTES} bytes")
    return Fingerprint(
        ImageRef(record["uri"], record["uri"], known=True),
        digest,
        int(record["size_bytes"]),
        0,
        record["format"] or "",
        int(record["width"] or 0),
        int(record["height"] or 0),
        algorithm,
        code,
        flags,
    )


def _check_recipe(config: DedupConfig, known: Fingerprint) -> None:
    if config.near and known.algorithm not in ("", config.recipe.name):
        raise UsageError(
            f"--records: {config.records} was made with codes of {known.algorithm}, not {config.recipe.name}: "
            "use the same --algorithm, or another folder"
        )


def _with_codes(known: pa.Table, folder: str) -> pa.Table:
    """Known images with all of their codes, where these are remembered."""
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


def _undelivered(folders: Folders) -> tuple[bytes, ...]:
    """Of what was noted that which was recorded; the rest will be judged again."""
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
    return tuple(found)
