"""Reads the records of a run as groups of duplicates, as the review page shows them."""

import collections
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from beam_dedup.core import globs
from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.errors import UsageError
from beam_dedup.core.model import Flag, Reason, Status
from beam_dedup.core.thresholds import DEFAULT_VERIFY
from beam_dedup.options.option import quoted
from beam_dedup.record_files import Record, is_local_file, read_records, record_files

MAX_DUPLICATES = 500_000  # on one page; more would not fit in the memory of a browser
MAX_REJECTED = 5_000  # that are listed; all are counted
_MAX_TEXT = 300  # characters of a detail
_MOST_BITS = 1 << 16  # of a distance; no code has as many
_MOST_EXACT = (1 << 53) - 1  # JavaScript has no greater integers


@dataclasses.dataclass(slots=True)
class Picture:
    """Files with the same bytes.

    Attributes:
      digest: SHA-256 in hex; "" if the records do not have it, as of an image of `--reference`.
      files: their URIs; of the kept picture, the kept file first.
      near: whether it is a near duplicate of the kept picture; else it is that picture.
      distance, long_distance, view: from the kept picture, as in the records; None of the kept picture itself.
      known: whether it has no record, as an image of `--reference`.
      kept_by: why the kept picture was preferred to it, as in the records; "" of the kept picture.
      links: those of its files that are other names of a file; to remove one frees nothing.
    """

    digest: str
    files: list[str]
    near: bool = False
    known: bool = False
    width: int | None = None
    height: int | None = None
    format: str | None = None
    size_bytes: int | None = None
    flags: tuple[str, ...] = ()
    detail: str = ""
    distance: int | None = None
    long_distance: int | None = None
    view: str | None = None
    kept_by: str = ""
    links: frozenset[str] = frozenset()

    def frees(self, files: Iterable[str]) -> int:
        """Returns the bytes that are free without some of its files: local ones that are no members of archives or links."""
        return sum(1 for uri in files if is_local_file(uri) and uri not in self.links) * (
            self.size_bytes or 0
        )


@dataclasses.dataclass(slots=True)
class Group:
    """A kept picture and the pictures that duplicate it: the kept one first, then the nearest."""

    pictures: list[Picture]

    @property
    def gain(self) -> int:
        """Bytes of the files that would go if the proposal is accepted."""
        kept, *others = self.pictures
        return kept.frees(kept.files[1:]) + sum(picture.frees(picture.files) for picture in others)

    @property
    def files(self) -> int:
        return sum(len(picture.files) for picture in self.pictures)

    def risk(self, k: int, verify: int) -> float:
        """Returns how near to a threshold the farthest picture is: 0 for equal pictures, 1 at the threshold."""
        return max((_share(picture, k, verify) for picture in self.pictures), default=0.0)


def _share(picture: Picture, k: int, verify: int) -> float:
    short = (picture.distance or 0) / max(k, 1)
    return min(max(short, (picture.long_distance or 0) / max(verify, 1)), 1.0)


@dataclasses.dataclass(slots=True)
class Rejected:
    """An image that was rejected."""

    uri: str
    reason: str
    detail: str


@dataclasses.dataclass(slots=True)
class Review:
    """What a page shows.

    Attributes:
      groups: those that free most bytes first.
      counts: number of records by status.
      rejected_counts: number of rejected images by reason.
      rejected: the first of them.
      left_out: number of duplicates that are not on the page.
      k, verify: the thresholds of the run, if they are known; else the defaults of its algorithm, but at least the
        greatest distance.
    """

    groups: list[Group]
    counts: Mapping[str, int]
    rejected_counts: Mapping[str, int]
    rejected: list[Rejected]
    left_out: int
    k: int
    verify: int


def read_review(records: str, files: str = "", k: int | None = None, verify: int | None = None) -> Review:
    """Returns the groups of a run.

    The records are read twice: only kept images with duplicates are held in memory.

    Args:
      records: a file of records, or a directory of them.
      files: a pattern; of a directory only files whose names match count. The kept images that their duplicates
        name are looked up in all files.
      k, verify: the thresholds of the run; None if they are not known.

    Raises:
      UsageError: there are no such records.
      DedupError: a file contains something else than records.
    """
    chosen = _chosen(records, files)
    reading = _Reading()
    for path in chosen:
        for record in read_records(path):
            reading.add(record)
    for record in read_records(records):
        if record["status"] == Status.KEPT:
            reading.add_kept(record)
    groups = sorted(reading.groups(), key=lambda group: (-group.gain, group.pictures[0].files[0]))
    limit, long_limit = _thresholds(groups, reading.algorithm)
    return Review(
        groups=groups,
        counts=reading.counts,
        rejected_counts=reading.rejected_counts,
        rejected=reading.rejected,
        left_out=reading.left_out,
        k=limit if k is None else k,
        verify=long_limit if verify is None else verify,
    )


def _chosen(records: str, pattern: str) -> list[str]:
    found = record_files(records)
    if not pattern:
        return found
    try:
        wanted = globs.parse(pattern)
    except ValueError as error:
        raise UsageError(f"--files {error}; got {quoted(pattern)}") from None
    names = map(os.path.basename, found)
    matching = [path for path, name in zip(found, names, strict=True) if wanted.matches(name, name, False)]
    if not matching or wanted.is_negated:
        raise UsageError(f"--files must match a file of records; nothing matches {quoted(pattern)}")
    return matching


def _thresholds(groups: Iterable[Group], recipe: str) -> tuple[int, int]:
    """Returns k and v for a run whose options are not known."""
    pictures = [picture for group in groups for picture in group.pictures]
    defaults = (one.default_k for one in ALGORITHMS.values() if one.recipe == recipe)
    k = max([next(defaults, 1), *(picture.distance or 0 for picture in pictures)])
    return k, max([DEFAULT_VERIFY, *(picture.long_distance or 0 for picture in pictures)])


class _Reading:
    """The groups so far, while records are read."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.rejected_counts: collections.Counter[str] = collections.Counter()
        self.rejected: list[Rejected] = []
        self.left_out = 0
        self.algorithm = ""
        self._duplicates = 0
        self._exact: dict[str, list[str]] = {}  # by the URI of the witness
        self._near: dict[str, dict[str, Picture]] = {}  # by the URI of the witness, then by digest
        self._kept: dict[str, Picture] = {}  # witnesses, by URI
        self._links: set[str] = set()  # URIs of duplicates
        self._equal: dict[
            str, Picture
        ] = {}  # a file with the bytes of the witness, by the URI of the witness

    def add(self, record: Record) -> None:
        """Adds the record of a duplicate or rejected image, and counts it."""
        self.counts[str(record["status"])] += 1
        self.algorithm = self.algorithm or _text(record.get("algorithm"))
        if record["status"] == Status.REJECTED:
            self.rejected_counts[_text(record["reason"])] += 1
            if len(self.rejected) < MAX_REJECTED:
                detail = _text(record.get("detail"))
                self.rejected.append(Rejected(record["uri"], _text(record["reason"]), detail))
        elif record["status"] == Status.DUPLICATE:
            if self._duplicates == MAX_DUPLICATES:
                self.left_out += 1
                return
            self._duplicates += 1
            self._add_duplicate(record)

    def _add_duplicate(self, record: Record) -> None:
        witness, digest = record["duplicate_of"], record["digest"] or ""
        if Flag.LINK in (record.get("flags") or ()):
            self._links.add(record["uri"])
        if record["reason"] == Reason.EXACT:
            self._exact.setdefault(witness, []).append(record["uri"])
            self._equal.setdefault(witness, _picture(record, near=False))
            return
        pictures = self._near.setdefault(witness, {})
        if found := pictures.get(digest):
            found.files.append(record["uri"])
        else:
            pictures[digest] = _picture(record, near=True)

    def _known(self, witness: str) -> Picture:
        """Returns the picture of a witness without a record; a file with the same bytes has its facts."""
        equal = self._equal.get(witness, Picture("", []))
        return dataclasses.replace(equal, files=[witness], known=True)

    def add_kept(self, record: Record) -> None:
        """Adds the record of a kept image, if it has duplicates. Of two records of one URI the later one counts."""
        uri = record["uri"]
        if uri in self._exact or uri in self._near:
            self._kept[uri] = _picture(record, near=False)

    def groups(self) -> Iterator[Group]:
        """Yields the groups, in no order. Ends the reading: they take what was read."""
        for witness in dict.fromkeys([*self._exact, *self._near]):
            kept = self._kept.get(witness) or self._known(witness)
            near = sorted(
                self._near.pop(witness, {}).values(),
                key=lambda picture: (picture.distance or 0, picture.long_distance or 0, picture.files[0]),
            )
            kept.files += sorted(set(self._exact.pop(witness, ())) - {witness})
            others = [picture for picture in near if picture.files != [witness]]
            for picture in (kept, *others):
                picture.links = frozenset(self._links.intersection(picture.files))
            if len(kept.files) > 1 or others:
                yield Group([kept, *others])


def _picture(record: Record, near: bool) -> Picture:
    return Picture(
        digest=record["digest"] or "",
        files=[record["uri"]],
        near=near,
        width=_number(record.get("width")),
        height=_number(record.get("height")),
        format=_text(record.get("format")) or None,
        size_bytes=_number(record.get("size_bytes")),
        flags=tuple(map(_text, record.get("flags") or ())),
        detail=_text(record.get("detail")),
        distance=_number(record.get("distance"), _MOST_BITS) if near else None,
        long_distance=_number(record.get("long_distance"), _MOST_BITS) if near else None,
        view=(_text(record.get("view")) or None) if near else None,
        kept_by=_text(record.get("kept_by")) if near else "",
    )


def _text(value: Any) -> str:
    return value[:_MAX_TEXT] if isinstance(value, str) else ""


def _number(value: Any, most: int = _MOST_EXACT) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= most else None
