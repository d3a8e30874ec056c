"""Defines the data classes of an image on its way through a run: reference, fingerprint, verdict and record.

Workers exchange these classes, so their module path is part of stored data: add fields at the end, with
defaults, and do not move the classes. Text is `str`; a file name that is not UTF-8 keeps its bytes through
`surrogateescape`.
"""

import dataclasses
import enum
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from beam_dedup.core.paths import beside, escaped_path

BASE_VIEW = "base"


class Status(enum.StrEnum):
    """The verdict on an image: every image gets exactly one of these."""

    KEPT = "kept"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class Reason(enum.StrEnum):
    """Why an image is a duplicate or was rejected: all values of a record's `reason`."""

    EXACT = "exact", "duplicate: the same bytes as the kept image"
    NEAR = "near", "duplicate: a picture within k of the kept image"
    EMPTY = "empty", "rejected: the file has no bytes"
    NOT_AN_IMAGE = "not_an_image", "rejected: the bytes are not in a known image format"
    NOT_A_FILE = "not_a_file", "rejected: a pipe, socket or device"
    NOT_FOUND = "not_found", "rejected: gone, or in a stream replaced, before it was read; also a broken link"
    UNREADABLE = "unreadable", "rejected: the system refused to list or read it"
    TOO_LARGE = "too_large", "rejected: more bytes than the limit for an image, an archive or its members"
    ENCRYPTED = "encrypted", "rejected: a member of an archive that needs a password"
    NESTED_ARCHIVE = "nested_archive", "rejected: an archive inside an archive, which is not opened"
    UNSUPPORTED = "unsupported", "rejected: compressed or stored in an unsupported way; the detail says which"
    DAMAGED = "damaged", "rejected: an archive, or a member of one, that is damaged or truncated"
    MALFORMED = "malformed", "rejected: a line of metadata that names no image; the detail says why"
    BAD_NOTIFICATION = "bad_notification", "rejected: a message that names no image; the detail quotes it"
    NOT_ALLOWED = (
        "not_allowed",
        "rejected: a message or row names a path outside of `--allow`, which is not read",
    )
    LINK_OUTSIDE = (
        "link_outside",
        "rejected: a link that leads out of the input, not followed because of `--links inside`",
    )
    LOSSY_DUMP = "lossy_dump", "rejected: a dump format that does not preserve image bytes"
    DECODER_CRASHED = "decoder_crashed", "rejected: it crashed the decoder process"
    TIMEOUT = "timeout", "rejected: reading or decoding it took longer than the time limit"
    DROPPED = "dropped", "rejected: a person decided to drop it (`--decisions`)"
    LEAKED = "leaked", "rejected: another split has the same picture, and `--leak drop_from` names its split"

    meaning: str  # one line for people

    def __new__(cls, value: str, meaning: str = "") -> "Reason":
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member


REASONS: dict[str, Reason] = {reason.value: reason for reason in Reason}
DUPLICATE_REASONS = (Reason.EXACT, Reason.NEAR)
REJECT_REASONS = tuple(reason for reason in Reason if reason not in DUPLICATE_REASONS)
# Reasons that depend on what a run may read: a later run with other options may judge the image.
ACCESS_REASONS = (Reason.NOT_ALLOWED, Reason.LINK_OUTSIDE)


class CodeKind(enum.IntEnum):
    """How a code is compared (see `beam_dedup.core.thresholds`)."""

    FULL = 0  # 32 bytes: 256 bits, of which the first 64 are the short code
    TINY = 1  # 8 bytes: the short code only, since the picture is too small for the long code
    FLAT = 2  # 96 bytes: colour profiles of a picture without structure
    HASH = 3  # 8 bytes: a code of up to 64 bits, most significant bits first, with no long code to verify it
    WIDE = 4  # 32 bytes: a code of 256 bits that is compared as a whole
    METADATA = 5  # 8 bytes: a simhash of the metadata of an image that can't be opened
    DETAILED = (
        6  # 96 bytes: as FULL, then the 512 bits of the detail code of a picture with much plain ground
    )


class Flag(enum.StrEnum):
    """Properties of an image that change how it is compared or ranked."""

    UNDECODABLE = "undecodable"  # known image format, but no picture: compared by digest alone
    TINY = "tiny"  # compared by the short code alone
    FLAT = "flat"  # compared by its colours
    FINE = "fine"  # looks flat, but has details too fine for a code: compared by digest alone
    TRUNCATED = "truncated"  # incomplete file: ranked after complete ones, compared if enough is present
    ANIMATED = "animated"  # several frames or pages: compared only with as many frames of the same duration
    DESCRIBED = "described"  # could not be opened: compared by its metadata alone
    LINK = "link"  # another name of a file: a symbolic link, or a further hard link of one inode
    OUT_OF_MEMORY = "out_of_memory"  # undecodable with the memory that the system allows
    REPLACES = (
        "replaces"  # in a stream: kept, though it is near an earlier generation of itself, which is gone
    )
    PROTECTED = "protected"  # kept whatever is near it, because of `--protect`; not touched by `dedup clean`


@dataclasses.dataclass(frozen=True, slots=True)
class ImageRef:
    """Where an image is, and the name of its copy.

    Args:
      uri: before reading, the path to open; after reading, the URI of the image as
        `beam_dedup.core.archives.members` writes it: of the file, or, if the file is an archive, of one
        member.
      name: path of the copy below the output directory, with `/` between directories.
      metadata: facts from the source besides the bytes, as a JSON object; "" if there are none.
      known: whether the image was kept beforehand. A known image can be a witness, but is not judged,
        copied or counted.
      described: whether the metadata are compared in place of the picture if the image can't be opened.
      refused: reason and detail, if listing already decided that the image is rejected.
      generation: generation of the object or file, if no other generation under the same URI may be read;
        else "".
      arrived: whether the image belongs to a stream, so that its metadata contain its generation and event
        time (`beam_dedup.core.arrivals`).
      link: whether listing found that this is a further hard link of a file with another name.
      companions: names of the files in its directory that belong to this image (`beam_dedup.core.companions`), and are
        listed with no other; in a verdict, all that belong to it.
      shared: names of those that belong to it, and are listed with another image.
    """

    uri: str
    name: str
    metadata: str = ""
    known: bool = False
    described: bool = False
    refused: tuple[str, str] | None = None
    generation: str = ""
    arrived: bool = False
    link: bool = False
    companions: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Code:
    """The code of one view of a picture."""

    kind: CodeKind
    data: bytes  # its length follows from `kind`; bit order: see beam_dedup.core.imaging.fingerprint
    view: str = BASE_VIEW


@dataclasses.dataclass(frozen=True, slots=True)
class Fingerprint:
    """The result of reading an image: digest, format, size and codes."""

    ref: ImageRef
    digest: bytes  # SHA-256, 32 bytes
    size_bytes: int
    modified_ms: int  # time of modification, in milliseconds since the epoch; 0 if the source has none
    format: str  # as Pillow names it: JPEG, PNG, ...; SVG, EPS, ... for formats that are not decoded
    width: int  # pixels, after EXIF orientation; 0 if the picture could not be decoded
    height: int
    algorithm: str  # name and version of the recipe; "" without codes
    codes: tuple[Code, ...]  # the base view first; empty if the picture could not be decoded
    flags: tuple[Flag, ...] = ()
    detail: str = ""  # why the picture could not be decoded, or an explanation of the flags
    identity: bytes = b""  # of the file (`beam_dedup.core.reading.local_files`); b"" if it has none
    taken: int = (
        0  # local time in its EXIF, YYYYMMDDhhmmss; 0 if it is unknown or was not asked for (`Recipe.facts`)
    )
    metadata_kinds: int = 0  # kinds of metadata in the file (`beam_dedup.core.imaging.facts`), if asked for


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """An input item that can't be deduplicated, and the reason."""

    ref: ImageRef
    reason: Reason
    detail: str = ""
    size_bytes: int = 0  # 0 if it is unknown
    digest: bytes = b""
    format: str = ""  # of a file that is no image, if it was recognised: MP4, Parquet, ...


@dataclasses.dataclass(frozen=True, slots=True)
class Witness:
    """The kept image that a duplicate duplicates."""

    uri: str
    digest: bytes
    # Bits of the short code (flat pictures: colour levels); 0 for equal bytes. None if a person declared two images
    # the same whose codes can't be compared.
    distance: int | None
    long_distance: int | None  # bits of the long code; None if one of the two images has no long code
    view: str  # the matching view that is not the base; "base" if two bases matched


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one image. `record()` returns it as it is written."""

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
    kept_by: str = ""  # why the witness was preferred to this image; "" without a witness
    union: str = (
        ""  # the fields `also` and `label_conflict` of the record, as a JSON object; "" if there are none
    )
    component: bytes = b""  # the lowest digest of its connected component; b"" if it was not asked for
    split: str = ""  # of the input from which the image was read; "" if it has none
    assigned: str = ""  # the split that the image was assigned to; "" if none was

    @classmethod
    def of_rejection(cls, rejection: Rejection) -> "Verdict":
        return cls(
            ref=rejection.ref,
            status=Status.REJECTED,
            reason=rejection.reason,
            digest=rejection.digest,
            format=rejection.format,
            size_bytes=rejection.size_bytes,
            detail=rejection.detail,
        )

    @property
    def group(self) -> str:
        """Key of the image's group of duplicates: the digest of the kept image, in hex."""
        return (self.witness.digest if self.witness else self.digest).hex()

    def record(self) -> dict[str, Any]:
        """Returns the record as JSON types, in the order of `RECORD_FIELDS`. Unknown values are None.

        `group_size` is None: only who knows all records can count those of a group.
        """
        witness = self.witness
        union = json.loads(self.union) if self.union else {}
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
            # Only an empty file has no bytes; another 0 stands for a size that is unknown.
            "size_bytes": 0 if self.reason == Reason.EMPTY else self.size_bytes or None,
            "flags": [flag.value for flag in self.flags],
            "detail": self.detail or None,
            "metadata": json.loads(self.ref.metadata) if self.ref.metadata else None,
            "kept_by": self.kept_by or None,
            "companions": [beside(self.ref.uri, escaped_path(name)) for name in self.ref.companions],
            "also": union.get("also"),
            "label_conflict": union.get("label_conflict"),
            "group": None if self.status == Status.REJECTED else self.group,
            "group_size": None,
            "component": self.component.hex() or None,
            "split": self.split or None,
            "assigned": self.assigned or None,
        }

    def json_line(self) -> str:
        """Returns the record as one line of JSON, without a line break."""
        return json_text(self.record())


class StandIn(NamedTuple):
    """An image with the same bytes as a kept one."""

    uri: str
    generation: str = ""  # if no other generation under the same URI may be copied; else ""


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """A copy to be made, or a copy that was made."""

    uri: str  # of the image
    path: str  # of the copy
    digest: bytes  # of both
    generation: str = ""  # of the image, if no other generation under the same URI may be copied; else ""
    otherwise: str = ""  # the path to use if another file already has the first
    kept: bool = False  # whether it is the copy of a kept image, or of one that stands in for it
    stand_ins: tuple[StandIn, ...] = ()  # equal images; one of them is copied if this one can't be
    if_missing: bool = False  # whether it is only made if the kept image has no copy


@dataclasses.dataclass(frozen=True, slots=True)
class Unplaced:
    """A copy that could not be made, and why."""

    placement: Placement
    why: str


def avro_record(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record in the form of `AVRO_SCHEMA`: metadata as JSON text, and all text encodable as UTF-8."""
    metadata = record["metadata"]
    plain = {name: printable(value) for name, value in record.items()}
    return {
        **plain,
        "metadata": None if metadata is None else json_text(metadata),
        "companions": list(map(printable, record["companions"])),
        "also": _printable_texts(record["also"]),
    }


def printable(value: Any) -> Any:
    """Returns text that UTF-8 can encode: bytes that were not UTF-8 become backslash escapes.

    Other values are returned unchanged.
    """
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _printable_texts(value: Any) -> Any:
    """Returns a JSON value in which all text can be encoded; see `printable`."""
    if isinstance(value, dict):
        return {name: _printable_texts(item) for name, item in value.items()}
    return list(map(_printable_texts, value)) if isinstance(value, list) else printable(value)


def json_text(value: Any) -> str:
    r"""Returns a value as JSON that UTF-8 can encode.

    Characters outside ASCII are written as they are. Only if the value holds text that is not UTF-8 are all
    of them escaped, so that `json.loads` returns exactly the same text.

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


_ALSO_TYPE: dict[str, Any] = {
    "type": "record",
    "name": "Also",
    "fields": [
        {"name": "count", "type": "long", "doc": "duplicates"},
        {
            "name": "images",
            "doc": "the first of them by uri",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "AlsoImage",
                    "fields": [
                        {"name": "uri", "type": "string"},
                        *(_avro_field(name, "string", "") for name in ("url", "caption", "label", "date")),
                        {
                            "name": "position",
                            "type": ["null", {"type": "array", "items": "double"}],
                            "default": None,
                            "doc": "latitude and longitude in degrees",
                        },
                    ],
                },
            },
        },
    ],
}

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
            "distance", "int", "to the kept image: bits of the short code; flat pictures: colour levels"
        ),
        _avro_field("long_distance", "int", "to the kept image: bits of the long code"),
        _avro_field("view", "string", "the view through which it matched"),
        _avro_field("width", "int", "pixels, as shown"),
        _avro_field("height", "int", "pixels, as shown"),
        _avro_field("format", "string", "by content, not by name"),
        _avro_field("size_bytes", "long", "bytes of the file"),
        {"name": "flags", "type": {"type": "array", "items": "string"}, "doc": _avro_symbols(list(Flag))},
        _avro_field("detail", "string", "message of the reader or decoder"),
        _avro_field("metadata", "string", "facts from the source besides the bytes, as JSON"),
        _avro_field("kept_by", "string", "of a duplicate: why the kept image was preferred to it"),
        {
            "name": "companions",
            "type": {"type": "array", "items": "string"},
            "default": [],
            "doc": "uris of the files that belong to the image",
        },
        {
            "name": "also",
            "type": ["null", _ALSO_TYPE],
            "default": None,
            "doc": "duplicates of a kept image; null if there are none, or if they were not collected",
        },
        _avro_field(
            "label_conflict", "boolean", "whether the labels of a kept image and its duplicates differ"
        ),
        _avro_field("group", "string", "digest of the kept image of the group, hex"),
        _avro_field("group_size", "long", "number of records of the group"),
        _avro_field("component", "string", "lowest digest that pairs within the thresholds lead to, hex"),
        _avro_field("split", "string", "split of the input from which the image was read"),
        _avro_field("assigned", "string", "split that the image was assigned to"),
    ],
}

RECORD_FIELDS: tuple[str, ...] = tuple(field["name"] for field in AVRO_SCHEMA["fields"])
