"""Checks the records and copies of any run against the definition, without using the search.

Files are identified by their digests. The checks need the bytes of every file that was ever an input,
whatever its name was.
"""

import hashlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from beam_dedup.core.codes import VIEWS
from beam_dedup.core.errors import ImageError
from beam_dedup.core.model import DUPLICATE_REASONS, REASONS
from beam_dedup.core.thresholds import DEFAULT_BIT_DISTANCE, DEFAULT_VERIFY
from tests import oracle, random_sets
from tests.pictures import fingerprint_of

Record = dict[str, Any]


class Key(NamedTuple):
    """Identifies an image, which has exactly one verdict."""

    uri: str
    generation: str


def key_of(record: Record) -> Key:
    return Key(record["uri"], (record["metadata"] or {}).get("generation", ""))


def by_status(records: Iterable[Record], status: str) -> list[Record]:
    return [record for record in records if record["status"] == status]


def check_each_once(records: Sequence[Record], expected: Iterable[Key]) -> None:
    """Checks that each expected image has one record, and that there are no other records."""
    found, wanted = Counter(map(key_of, records)), set(expected)
    assert not [key for key, times in found.items() if times > 1], "images judged twice"
    assert set(found) - wanted == set(), "records of unexpected images"
    assert wanted - set(found) == set(), "images without a record"


class Outside:
    """Checks records against codes that are computed anew from the bytes of all files."""

    def __init__(
        self, files: Iterable[bytes], k: int = DEFAULT_BIT_DISTANCE, verify: int = DEFAULT_VERIFY
    ) -> None:
        self.k, self.verify = k, verify
        self.codes: dict[str, list[oracle.Code]] = {}
        for data in set(files):
            self.codes[hashlib.sha256(data).hexdigest()] = _codes(len(self.codes), data)

    def check(self, records: Sequence[Record]) -> None:
        """Checks that no two kept images are equal or within k, and that each duplicate has a kept witness
        at the recorded distance.

        A kept image may be near a truncated one that came before it, or replace an earlier generation of itself.
        """
        kept = by_status(records, "kept")
        digests = [record["digest"] for record in kept if "replaces" not in record["flags"]]
        assert len(set(digests)) == len(digests), "two equal files are kept"
        truncated = {record["digest"] for record in kept if "truncated" in record["flags"]}
        whole = [digest for digest in digests if digest not in truncated]
        too_near = [pair for pair in itertools.combinations(whole, 2) if self._are_within(*pair)]
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
        if record["reason"] == "exact":  # a copy of a file that is near a kept one
            return bool(found)
        long = oracle.NONE if record["long_distance"] is None else record["long_distance"]
        recorded = record["distance"], VIEWS.index(record["view"]), long
        return recorded in [(match.distance, match.view, match.long_distance) for match in found]


def _codes(image: int, data: bytes) -> list[oracle.Code]:
    try:
        codes = fingerprint_of(data).codes
    except ImageError:
        return []
    return [random_sets.code_of(image, VIEWS.index(code.view), code.kind, code.data) for code in codes]


def check_copies(
    records: Sequence[Record], copies: Mapping[str, bytes], may_be_missing: Iterable[str] = ()
) -> list[Record]:
    """Checks that every kept image has one copy with exactly its bytes, and that there are no other files.

    Args:
      records: the records of the run.
      copies: all files of the output directory, by name.
      may_be_missing: URIs of files that were changed or removed during the run.

    Returns:
      The records of the kept images without a copy.
    """
    kept = {record["digest"]: record for record in by_status(records, "kept")}
    digests = [hashlib.sha256(data).hexdigest() for data in copies.values()]
    unexpected = [name for name, digest in zip(copies, digests, strict=True) if digest not in kept]
    assert not unexpected, "files that are not copies of kept images"
    twice = [name for name, digest in zip(copies, digests, strict=True) if digests.count(digest) > 1]
    assert not twice, "images copied twice"
    missing = [record for digest, record in kept.items() if digest not in digests]
    lost = {record["uri"] for record in missing} - set(may_be_missing)
    assert not lost, "kept images without a copy"
    return missing
