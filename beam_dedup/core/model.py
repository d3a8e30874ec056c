"""The nouns: what is read, what is learnt about it, and what is decided.

These classes travel between workers, so their module path is part of stored data: add fields at the end, with
defaults, and do not move the classes. Text is `str`; a file name that is not UTF-8 keeps its bytes through
`surrogateescape`.
"""

import dataclasses
import enum
import json
from collections.abc import Sequence
from typing import Any

BASE_VIEW = "base"


class Status(enum.StrEnum):
    """Every image gets exactly one of these."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class Reason(enum.StrEnum):
    """Why an image is a duplicate or was rejected: the closed list of a record's `reason`."""

    EXACT = "exact", "duplicate: the same bytes as the kept image"
    NEAR = "near", "duplicate: a picture within k of the kept image"
    EMPTY = "empty", "rejected: the file has no bytes"
    NOT_AN_IMAGE = "not_an_image", "rejected: the bytes are of no image format we know"
    NOT_A_FILE = "not_a_file", "rejected: a pipe, socket or device"
    NOT_FOUND = "not_found", "rejected: gone, or in a stream replaced, when it was read; also a broken link"
    UNREADABLE = "unreadable", "rejected: the system refused to list or read it"
    TOO_LARGE = "too_large", "rejected: more bytes than an image, or an archive and its members, may have"
    ENCRYPTED = "encrypted", "rejected: a member of an archive that wants a password"
    NESTED_ARCHIVE = "nested_archive", "rejected: an archive within an archive, which is not opened"
    UNSUPPORTED = "unsupported", "rejected: packed in a way that is not read; the detail says which"
    DAMAGED = "damaged", "rejected: an archive, or a member of one, that is damaged or cut short"
    MALFORMED = "malformed", "rejected: a line of metadata that names no image; the detail says why"
    BAD_NOTIFICATION = "bad_notification", "rejected: a message that names no image; the detail quotes it"
    LOSSY_DUMP = "lossy_dump", "rejected: a dump in a form that has destroyed the bytes of its images"
    DECODER_CRASHED = "decoder_crashed", "rejected: it ended the process that decodes"
    TIMEOUT = "timeout", "rejected: it took longer to read or decode than an image may"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Reason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


REASONS: dict[str, Reason] = {reason.value: reason for reason in Reason}
DUPLICATE_REASONS = (Reason.EXACT, Reason.NEAR)
REJECT_REASONS = tuple(reason for reason in Reason if reason not in DUPLICATE_REASONS)


class CodeKind(enum.IntEnum):
    """How a code is compared (see `beam_dedup.core.codes`)."""

    FULL = 0  # 32 bytes: 256 bits, the first 64 of them the short code
    TINY = 1  # 8 bytes: the short code alone, of a picture too small for the long one
    FLAT = 2  # 96 bytes: colour profiles of a picture without structure
    HASH = 3  # 8 bytes: a code of up to 64 bits, the first bits first, that nothing verifies
    WIDE = 4  # 32 bytes: a code of 256 bits that is compared as a whole
    METADATA = (
        5  # 8 bytes: a simhash of the metadata of an image that can't be opened, beside codes of pictures
    )


class Flag(enum.StrEnum):
    """Peculiarities of an image that a reader of its record should know."""

    UNDECODABLE = "undecodable"  # known image format, no picture: compared by digest alone
    TINY = "tiny"  # compared by the short code alone
    FLAT = "flat"  # compared by its pixels
    TRUNCATED = "truncated"  # file cut short: ranked after whole ones, compared if enough of it is there
    ANIMATED = "animated"  # several frames, or pages: compared with what has as many, of the same length
    DESCRIBED = "described"  # could not be opened: compared by its metadata alone


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is, and what its copy is to be called.

    `uri` is the path that is opened; of what comes of it, the URI as `beam_dedup.core.archives.members` writes it: a file, or one of
    the members if it is an archive. `name` is the path of the copy below the output folder, with `/` between folders.
    `metadata` is what the source says about the image beyond its bytes, as a JSON object. A `known` image is kept
    beforehand: it can be what others duplicate, but is not judged, copied or counted itself. Of a `described` image the metadata
    stand for the bytes if it can't be opened. `refused` is a reason and a detail, of what was listed to be rejected.
    `generation` is that of an object, where only this one is meant and not what has its name later. An `arrived` image is one of
    a stream, whose metadata contain the generation and time of its event (`beam_dedup.core.arrivals`).
    """

    uri: str
    name: str
    metadata: str = ""
    known: bool = False
    described: bool = False
    refused: tuple[str, str] | None = None
    generation: str = ""
    arrived: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """One fingerprint of one view of a picture."""

    kind: CodeKind
    data: bytes  # the length is fixed by `kind`; bit order: see beam_dedup.core.imaging.fingerprint
    view: str = BASE_VIEW


@dataclasses.dataclass(frozen=True, slots=True)
class Fingerprint:
    """All that is learnt from an image's bytes."""

    ref: ImageRef
    digest: bytes  # SHA-256, 32 bytes
    size_bytes: int
    modified_ms: int  # since the epoch; 0 where the source does not tell
    format: str  # as Pillow names it: JPEG, PNG, ...; SVG, EPS, ... for what is not decoded
    width: int  # pixels, as a viewer shows it; 0 if the picture could not be decoded
    height: int
    algorithm: str  # name and version of the recipe, or "" without codes
    codes: tuple[Code, ...]  # the base view first; empty if the picture could not be decoded
    flags: tuple[Flag, ...] = ()
    detail: str = ""  # why the picture could not be decoded, or what is peculiar about it


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """An input item that takes no part, and why."""

    ref: ImageRef
    reason: Reason
    detail: str = ""
    size_bytes: int = 0
    digest: bytes = b""


@dataclasses.dataclass(frozen=True, slots=True)
class Witness:
    """The kept image that a duplicate duplicates."""

    uri: str
    digest: bytes
    distance: int  # bits of the short code (flat pictures: grey levels); 0 for equal bytes
    long_distance: int | None  # bits of the long code, where both have one
    view: str  # of the two views that matched, the one that is not the base; else "base"


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one image; `record()` is what is written."""

    ref: ImageRef
    status: Status
    reason: Reason | None = None
    digest: bytes = b""
    fingerprint: bytes = b""  # of the base view
    algorithm: str = ""
    witness: Witness | None = None
    width: int = 0
    height: int = 0
    format: str = ""
    size_bytes: int = 0
    flags: tuple[Flag, ...] = ()
    detail: str = ""

    @classmethod
    def of_rejection(cls, rejection: Rejection) -> "Verdict":
        return cls(
            ref=rejection.ref,
            status=Status.REJECTED,
            reason=rejection.reason,
            digest=rejection.digest,
            size_bytes=rejection.size_bytes,
            detail=rejection.detail,
        )

    @property
    def group(self) -> str:
        """Key of the group: the digest, in hex, of the kept image."""
        return (self.witness.digest if self.witness else self.digest).hex()

    def record(self) -> dict[str, Any]:
        """The record as JSON types, in the order of `RECORD_FIELDS`; what is not known is None."""
        witness = self.witness
        return {
            "uri": self.ref.uri,
            "status": self.status.value,
            "reason": self.reason and self.reason.value,
            "digest": self.digest.hex() or None,
            "fingerprint": self.fingerprint.hex() or None,
            "algorithm": self.algorithm or None,
            "duplicate_of": witness and witness.uri,
            "distance": witness and witness.distance,
            "long_distance": witness and witness.long_distance,
            "view": witness and witness.view,
            "width": self.width or None,
            "height": self.height or None,
            "format": self.format or None,
            "size_bytes": self.size_bytes,
            "flags": [flag.value for flag in self.flags],
            "detail": self.detail or None,
            "metadata": json.loads(self.ref.metadata) if self.ref.metadata else None,
        }

    def json_line(self) -> str:
        """The record as one line of JSON, without the line end."""
        return json_text(self.record())


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """A copy that is to be made, or has been."""

    uri: str  # of the image
    path: str  # of the copy
    digest: bytes  # of both
    generation: str = ""  # of the image, where only this one is meant
    otherwise: str = ""  # another path of the copy, if something else has the first


@dataclasses.dataclass(frozen=True, slots=True)
class Unplaced:
    """A copy that could not be made, and why."""

    placement: Placement
    why: str


def avro_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record as `AVRO_SCHEMA` wants it: metadata as JSON text, nothing that is not UTF-8."""
    metadata = record["metadata"]
    plain = {name: printable(value) for name, value in record.items()}
    return {**plain, "metadata": None if metadata is None else json_text(metadata)}


def printable(value: Any) -> Any:
    """Text that can be encoded: a byte that was not UTF-8 shows as a backslash escape."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def json_text(value: Any) -> str:
    r"""JSON that any encoding can carry.

    Names stay readable; only where a name is not UTF-8 is everything outside ASCII escaped, so that
    `json.loads` gives back the very same name.

    >>> json_text("blå"), json_text("bl\udce5")
    ('"blå"', '"bl\\udce5"')
    """
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text


def _avro_field(name: str, avro_type: str, doc: str) -> dict[str, Any]:
    return {"name": name, "type": ["null", avro_type], "default": None, "doc": doc}


def _avro_symbols(values: Sequence[str]) -> str:
    return " | ".join(values)


AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Verdict",
    "namespace": "beam_dedup",
    "fields": [
        {"name": "uri", "type": "string", "doc": "where the image is"},
        {"name": "status", "type": "string", "doc": _avro_symbols(list(Status))},
        _avro_field("reason", "string", _avro_symbols(list(Reason))),
        _avro_field("digest", "string", "SHA-256 of the bytes, hex"),
        _avro_field(
            "fingerprint", "string", "code of the whole picture, hex; the first 16 digits are the short code"
        ),
        _avro_field("algorithm", "string", "recipe of the fingerprint and its version"),
        _avro_field("duplicate_of", "string", "uri of the kept image"),
        _avro_field(
            "distance", "int", "to the kept image: bits of the short code; flat pictures: grey levels"
        ),
        _avro_field("long_distance", "int", "to the kept image: bits of the long code"),
        _avro_field("view", "string", "through which it matched"),
        _avro_field("width", "int", "pixels, as shown"),
        _avro_field("height", "int", "pixels, as shown"),
        _avro_field("format", "string", "by content, not by name"),
        {"name": "size_bytes", "type": "long", "doc": "bytes of the file"},
        {"name": "flags", "type": {"type": "array", "items": "string"}, "doc": _avro_symbols(list(Flag))},
        _avro_field("detail", "string", "what the reader or decoder said"),
        _avro_field("metadata", "string", "what the source says of the image, as JSON"),
    ],
}

RECORD_FIELDS: tuple[str, ...] = tuple(field["name"] for field in AVRO_SCHEMA["fields"])
