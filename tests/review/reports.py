"""Writes records, and reads what a review page gets as data."""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from beam_dedup.core.model import RECORD_FIELDS

Record = dict[str, Any]


def digest_of(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def record(uri: str, status: str = "kept", **fields: Any) -> Record:
    """Returns a record; its digest is that of its URI unless it is given."""
    return {
        **dict.fromkeys(RECORD_FIELDS),
        "uri": uri,
        "status": status,
        "digest": digest_of(uri),
        "algorithm": "dct/2",
        "width": 40,
        "height": 30,
        "format": "PNG",
        "size_bytes": 1000,
        "flags": [],
        "companions": [],
        **fields,
    }


def exact(uri: str, witness: str, **fields: Any) -> Record:
    return record(
        uri,
        "duplicate",
        **{"reason": "exact", "duplicate_of": witness, "distance": 0, "digest": digest_of(witness), **fields},
    )


def near(uri: str, witness: str, distance: int = 3, **fields: Any) -> Record:
    return record(
        uri,
        "duplicate",
        **{"reason": "near", "duplicate_of": witness, "distance": distance, "view": "base", **fields},
    )


def write_records(path: Path, records: Iterable[Record]) -> Path:
    path.write_text("".join(f"{json.dumps(one)}\n" for one in records))
    return path


def data_of(page: Path) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Returns the facts, the groups and the rejected images of a report, without a browser."""
    [facts] = _arguments(page / "data/index.js", "start")
    groups = []
    for file in sorted((page / "data").glob("groups-*.js")):
        _, rows = _arguments(file, "addGroups")
        groups += rows
    [rejected] = _arguments(page / "data/rejected.js", "addRejected")
    return facts, groups, rejected


def _arguments(path: Path, function: str) -> list[Any]:
    text = path.read_text("ascii")
    match = re.fullmatch(rf"DedupReview\.data\.{function}\((.*)\);\n", text)
    assert match, text[:100]
    arguments: list[Any] = json.loads(f"[{match[1]}]")
    return arguments
