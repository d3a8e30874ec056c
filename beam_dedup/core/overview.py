"""Sums up verdicts for a reader: groups, bytes that could be freed, what was rejected, and what was compared by its bytes alone."""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.imaging.decode import not_decoded
from beam_dedup.core.model import Flag, Status
from beam_dedup.core.paths import SEPARATOR

MAX_KINDS = 100  # of rejected files that are counted separately

_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_DETAIL_CHARACTERS = 300


class RejectedKind(NamedTuple):
    """A reason of rejection, and what kind of file was rejected for it.

    Attributes:
      reason: the value of a `Reason`.
      kind: a format, as `other_kinds.format_of` returns it; or an extension that begins with a dot; or "".
    """

    reason: str
    kind: str


class Example(NamedTuple):
    """One of several rejected files: the first by URI."""

    uri: str
    detail: str


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """What is summed up of some verdicts.

    Attributes:
      group_keys: 64 bits of the digest of each image that has duplicates: sorted and distinct, as uint64.
      duplicate_bytes: size of all duplicates that are files of their own: neither members of archives nor links.
      duplicate_members: duplicates that lie in archives, where they can't be deleted one by one.
      kept: kept images that could be opened, so that they can be copied.
      duplicates: duplicates that could be opened.
      rejected: number of files by kind.
      examples: a file of each kind.
      bytes_only: number of images that were compared by their bytes alone, by format and cause. Only in near mode.
    """

    group_keys: bytes = b""
    duplicate_bytes: int = 0
    duplicate_members: int = 0
    kept: int = 0
    duplicates: int = 0
    rejected: Mapping[RejectedKind, int] = dataclasses.field(default_factory=dict)
    examples: Mapping[RejectedKind, Example] = dataclasses.field(default_factory=dict)
    bytes_only: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    @property
    def groups(self) -> int:
        """Number of groups of two or more images."""
        return len(self.group_keys) // np.dtype(np.uint64).itemsize


def overview_of(block: VerdictBlock, near: bool) -> Overview:
    """Returns the overview of a block of verdicts.

    Args:
      block: rows of `VERDICTS`.
      near: whether the verdicts were given in near mode.
    """
    verdicts = blocks.load([block], blocks.VERDICTS)
    is_opened = pc.invert(pc.match_substring(verdicts["flags"], Flag.DESCRIBED.value))
    opened = verdicts.filter(is_opened)
    kept, duplicates = (
        opened.filter(pc.equal(opened["status"], status.encode()))
        for status in (Status.KEPT, Status.DUPLICATE)
    )
    is_member = pc.match_substring(duplicates["uri"], SEPARATOR)
    is_link = pc.match_substring(duplicates["flags"], Flag.LINK.value)
    of_duplicates = verdicts.filter(pc.equal(verdicts["status"], Status.DUPLICATE.encode()))
    rejected, examples = _rejected(verdicts.filter(pc.equal(verdicts["status"], Status.REJECTED.encode())))
    return Overview(
        group_keys=_group_keys(of_duplicates["kept_digest"].to_pylist()),
        duplicate_bytes=pc.sum(duplicates.filter(pc.invert(pc.or_(is_member, is_link)))["size_bytes"]).as_py()
        or 0,
        duplicate_members=pc.sum(is_member).as_py() or 0,
        kept=len(kept),
        duplicates=len(duplicates),
        rejected=rejected,
        examples=examples,
        bytes_only=_bytes_only(pa.concat_tables([kept, duplicates])) if near else {},
    )


def sum_overviews(parts: Iterable[Overview], max_kinds: int = MAX_KINDS) -> Overview:
    """Returns the overview of all parts together. Of more than `max_kinds` kinds the rarest become one for each reason."""
    rejected: dict[RejectedKind, int] = {}
    examples: dict[RejectedKind, Example] = {}
    bytes_only: dict[tuple[str, str], int] = {}
    keys = [np.zeros(0, np.uint64)]
    duplicate_bytes = duplicate_members = kept = duplicates = 0
    for part in parts:
        keys.append(np.frombuffer(part.group_keys, np.uint64))
        duplicate_bytes += part.duplicate_bytes
        duplicate_members += part.duplicate_members
        kept += part.kept
        duplicates += part.duplicates
        for kind, count in part.rejected.items():
            _add(rejected, examples, kind, count, part.examples[kind])
        for cause, count in part.bytes_only.items():
            bytes_only[cause] = bytes_only.get(cause, 0) + count
    for kind in sorted(rejected, key=lambda one: (-rejected[one], one))[max_kinds:]:
        if kind.kind:
            count, example = rejected.pop(kind), examples.pop(kind)
            _add(rejected, examples, RejectedKind(kind.reason, ""), count, example)
    return Overview(
        np.unique(np.concatenate(keys)).tobytes(),
        duplicate_bytes,
        duplicate_members,
        kept,
        duplicates,
        rejected,
        examples,
        bytes_only,
    )


def _add(
    rejected: dict[RejectedKind, int],
    examples: dict[RejectedKind, Example],
    kind: RejectedKind,
    count: int,
    example: Example,
) -> None:
    rejected[kind] = rejected.get(kind, 0) + count
    examples[kind] = min(example, examples.get(kind, example))


def _group_keys(digests: list[bytes]) -> bytes:
    return np.unique(np.frombuffer(b"".join(digest[:8] for digest in digests), np.uint64)).tobytes()


def _rejected(table: pa.Table) -> tuple[dict[RejectedKind, int], dict[RejectedKind, Example]]:
    rejected: dict[RejectedKind, int] = {}
    examples: dict[RejectedKind, Example] = {}
    for row in table.select(["uri", "reason", "format", "detail"]).to_pylist():
        uri, reason, found, detail = map(blocks.to_text, row.values())
        kind = RejectedKind(reason, found or extension(uri))
        _add(rejected, examples, kind, 1, Example(uri, detail[:_DETAIL_CHARACTERS]))
    return rejected, examples


def extension(uri: str) -> str:
    """Returns the extension of the name of a file or member, in lower case; "" if it has none of up to 8 letters and digits.

    >>> (
    ...     extension("a/b.JPG"),
    ...     extension("a.zip!c.txt"),
    ...     extension("a.d/b"),
    ...     extension(".hidden"),
    ...     extension("rows.jsonl!17"),
    ... )
    ('.jpg', '.txt', '', '', '')
    """
    name = re.split(f"[/{SEPARATOR}]", uri)[-1]
    match = _EXTENSION.search(name, 1) if name else None
    return match[0].lower() if match else ""


def _bytes_only(table: pa.Table) -> dict[tuple[str, str], int]:
    """Counts the images without a code, by format and by why they have none."""
    without = table.filter(pc.equal(pc.binary_length(table["fingerprint"]), 0))
    counts: dict[tuple[str, str], int] = {}
    grouped = without.group_by(["format", "flags", "detail"]).aggregate([([], "count_all")])
    for row in grouped.to_pylist():
        image_format, flags, detail = (blocks.to_text(row[name]) for name in ("format", "flags", "detail"))
        cause = image_format, _cause(image_format, flags.split(), detail)
        counts[cause] = counts.get(cause, 0) + row["count_all"]
    return counts


def _cause(image_format: str, flags: list[str], detail: str) -> str:
    if detail == not_decoded(image_format):
        return detail
    if Flag.UNDECODABLE in flags:
        return "damaged, or larger than the limits"
    return "no structure that could be compared"


def to_json(overview: Overview) -> dict[str, Any]:
    """Returns the overview as JSON types, for `from_json`."""
    fields = {field.name: getattr(overview, field.name) for field in dataclasses.fields(overview)}
    return fields | {
        "group_keys": overview.group_keys.hex(),
        "rejected": [[*kind, count, *overview.examples[kind]] for kind, count in overview.rejected.items()],
        "examples": [],
        "bytes_only": [[*cause, count] for cause, count in overview.bytes_only.items()],
    }


def from_json(fields: dict[str, Any]) -> Overview:
    """Returns the overview that `to_json` made the fields of."""
    return Overview(
        **fields
        | {
            "group_keys": bytes.fromhex(fields["group_keys"]),
            "rejected": {RejectedKind(reason, kind): count for reason, kind, count, *_ in fields["rejected"]},
            "examples": {
                RejectedKind(reason, kind): Example(uri, detail)
                for reason, kind, _, uri, detail in fields["rejected"]
            },
            "bytes_only": {
                (image_format, cause): count for image_format, cause, count in fields["bytes_only"]
            },
        }
    )
