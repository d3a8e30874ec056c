"""Reads from the records of a run which files are duplicates, which files they duplicate, and which are dropped."""

import contextlib
import dataclasses
import os
from typing import NamedTuple

from beam_dedup.cleaning.files import DIGEST_BYTES
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.model import Flag, Reason, Status
from beam_dedup.core.paths import is_remote
from beam_dedup.record_files import is_local_file, read_records


@dataclasses.dataclass(frozen=True, slots=True)
class Duplicate:
    """A duplicate according to the records, or a file that a person decided to drop.

    Attributes:
      path: absolute, of the duplicate.
      digest: SHA-256 of the duplicate when it was judged.
      witness: absolute path of the kept image; "" if the file is dropped.
      witness_digests: of the kept image when it was judged: one unless it was overwritten and judged again; none if
        the records do not have it.
      reason: `exact` or `near`; `dropped` if the file is dropped, whatever the records say.
      is_kept: whether another record keeps the file with the same content.
      is_witness_local: whether the witness is a local file, not a member of an archive or an object of a store.
      is_protected: whether a record of the same file, or of a link that leads to it, has the flag `protected`.
      companions: absolute paths of the files that belong to the duplicate, without those that another record keeps.
      witness_companions: the same of the witness.
    """

    path: str
    digest: bytes
    witness: str
    witness_digests: frozenset[bytes]
    reason: Reason
    is_kept: bool
    is_witness_local: bool
    is_protected: bool = False
    companions: tuple[str, ...] = ()
    witness_companions: tuple[str, ...] = ()

    @property
    def is_dropped(self) -> bool:
        """Whether a person decided to drop the file. It needs no witness."""
        return self.reason is Reason.DROPPED


class Duplicates(NamedTuple):
    """The duplicates of a run.

    Attributes:
      duplicates: those that are local files.
      members: the number of those in archives.
      objects: the number of those in object stores, also in archives there.
    """

    duplicates: list[Duplicate]
    members: int
    objects: int


def read_duplicates(records: str, directory: str, drop: frozenset[bytes] = frozenset()) -> Duplicates:
    """Returns the duplicates of a run.

    Args:
      records: a file of records (JSON Lines, Avro, Parquet or CSV), or a directory of such files.
      directory: the current directory of the run, to which relative paths in the records are relative.
      drop: digests of files that are returned too, whatever their verdicts.

    Raises:
      UsageError: there is no such file.
      DedupError: the file has other content than records.
    """
    duplicates: list[tuple[str, bytes, str, Reason]] = []
    kept: dict[str, frozenset[bytes]] = {}
    companions: dict[str, list[str]] = {}  # of all images that have any
    protected: set[str] = set()
    elsewhere: set[str] = set()
    for record in read_records(records):
        if Flag.PROTECTED in (record.get("flags") or ()):
            protected |= _names_of(record["uri"], directory)
        digest = bytes.fromhex(record["digest"] or "")
        if record.get("companions") and is_local_file(record["uri"]):
            companions[record["uri"]] = record["companions"]
        if record["status"] == Status.KEPT:
            kept[record["uri"]] = kept.get(record["uri"], frozenset()) | {digest}
        if not is_local_file(record["uri"]):
            if record["status"] == Status.DUPLICATE or digest in drop:
                elsewhere.add(record["uri"])
            continue
        if len(digest) != DIGEST_BYTES:
            continue
        if digest in drop:
            duplicates.append((record["uri"], digest, "", Reason.DROPPED))
        elif record["status"] == Status.DUPLICATE:
            duplicates.append((record["uri"], digest, record["duplicate_of"], Reason(record["reason"])))

    def companions_of(uri: str) -> tuple[str, ...]:
        return tuple(
            _absolute(name, directory)
            for name in companions.get(uri, ())
            if is_local_file(name) and name not in kept
        )

    local = [
        Duplicate(
            _absolute(uri, directory),
            digest,
            _absolute(witness, directory) if witness and is_local_file(witness) else witness,
            # Equal bytes need no record of the witness, which may be an image of --reference.
            frozenset({digest}) if reason is Reason.EXACT else kept.get(witness, frozenset()),
            reason,
            digest in kept.get(uri, frozenset()),
            bool(witness) and is_local_file(witness),
            bool(protected) and not protected.isdisjoint(_names_of(uri, directory)),
            companions_of(uri),
            companions_of(witness),
        )
        for uri, digest, witness, reason in duplicates
    ]
    objects = sum(map(is_remote, elsewhere))
    return Duplicates(local, len(elsewhere) - objects, objects)


def _absolute(uri: str, directory: str) -> str:
    return os.path.join(directory, split_uri(uri)[0])


def _names_of(uri: str, directory: str) -> set[str]:
    """Returns the URI of a record, and the path of the file to which it leads, if it is a local file."""
    names = {uri}
    if is_local_file(uri):
        with contextlib.suppress(OSError, ValueError):  # no file can have such a name
            names.add(os.path.realpath(_absolute(uri, directory)))
    return names
