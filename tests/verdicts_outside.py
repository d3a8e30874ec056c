"""What must hold of the records of any run, seen from the outside: judged by the definition, with nothing of the search.

Files are known by their digests: all that ever arrived is given, whatever its name was.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from beam_dedup.core.codes import VIEWS
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import DUPLICATE_REASONS, REASONS, CodeKind
from beam_dedup.core.thresholds import DEFAULT_BIT_DISTANCE, DEFAULT_VERIFY
from tests import oracle
from tests.pictures import fingerprint_of

Record = dict[str, Any]


class Key(NamedTuple):
    """What has one verdict."""

    uri: str
    generation: str


def key_of(record: Record) -> Key:
    return Key(record["uri"], (record["metadata"] or {}).get("generation", ""))


def by_status(records: Iterable[Record], status: str) -> list[Record]:
    return [record for record in records if record["status"] == status]


def check_each_once(records: Sequence[Record], expected: Iterable[Key]) -> None:
    """Each that arrived has one record, and there are no others."""
    found, wanted = Counter(map(key_of, records)), set(expected)
    assert not [key for key, times in found.items() if times > 1], "judged twice"
    assert set(found) - wanted == set(), "of what has not arrived"
    assert wanted - set(found) == set(), "lost"


class Outside:
    """Codes of all that arrived, made anew."""

    def __init__(
        self, files: Iterable[bytes], k: int = DEFAULT_BIT_DISTANCE, verify: int = DEFAULT_VERIFY
    ) -> None:
        self.k, self.verify = k, verify
        self.codes: dict[str, list[oracle.Code]] = {}
        for data in set(files):
            self.codes[hashlib.sha256(data).hexdigest()] = _codes(len(self.codes), data)

    def check(self, records: Sequence[Record]) -> None:
        """No two kept images are equal or within k; each duplicate has a kept witness within k, at the distance told."""
        kept = by_status(records, "kept")
        digests = [record["digest"] for record in kept]
        assert len(set(digests)) == len(digests), "equal files are kept"
        too_near = [pair for pair in itertools.combinations(digests, 2) if self._are_within(*pair)]
        assert not too_near, f"{len(too_near)} pairs of kept images are within k"
        of_uri = defaultdict(list)
        for record in kept:
            assert record["reason"] is None
            of_uri[record["uri"]].append(record["digest"])
        for record in by_status(records, "duplicate"):
            witnesses = of_uri[record["duplicate_of"]]
            assert any(self._is_witness(record, digest) for digest in witnesses), (record, witnesses)
        for record in by_status(records, "rejected"):
            assert REASONS[record["reason"]] not in DUPLICATE_REASONS

    def _are_within(self, one: str, other: str) -> bool:
        a, b = self.codes[one], self.codes[other]
        return any(oracle.within(x, y, self.k, self.verify) for x in a for y in b if not (x.view and y.view))

    def _is_witness(self, record: Record, kept: str) -> bool:
        if record["digest"] == kept:
            return bool(record["reason"] == "exact")
        found = oracle.matches(self.codes[record["digest"]], self.codes[kept], self.k, self.verify)
        if record["reason"] == "exact":  # a copy of one that is near to what is kept
            return bool(found)
        long = oracle.NONE if record["long_distance"] is None else record["long_distance"]
        told = record["distance"], VIEWS.index(record["view"]), long
        return told in [(match.distance, match.view, match.long_distance) for match in found]


def _codes(image: int, data: bytes) -> list[oracle.Code]:
    try:
        codes = fingerprint_of(data).codes
    except ImageError:
        return []
    return [
        oracle.Code(image, VIEWS.index(code.view), code.kind, cells=code.data)
        if code.kind == CodeKind.FLAT
        else oracle.Code(image, VIEWS.index(code.view), code.kind, int.from_bytes(code.data))
        for code in codes
    ]


def check_copies(
    records: Sequence[Record], copies: Mapping[str, bytes], may_be_missing: Iterable[str] = ()
) -> list[Record]:
    """Every kept image has its copy with exactly its bytes, and there is nothing else.

    copies: all files of the output folder. may_be_missing: URIs of what was changed or removed in the meantime.
    Returns: the records of the kept images without one.
    """
    kept = {record["digest"]: record for record in by_status(records, "kept")}
    there = [hashlib.sha256(data).hexdigest() for data in copies.values()]
    strange = [name for name, digest in zip(copies, there, strict=True) if digest not in kept]
    assert not strange, "not the bytes of anything kept"
    twice = [name for name, digest in zip(copies, there, strict=True) if there.count(digest) > 1]
    assert not twice, "copied twice"
    missing = [record for digest, record in kept.items() if digest not in there]
    lost = {record["uri"] for record in missing} - set(may_be_missing)
    assert not lost, "kept, but not copied"
    return missing
