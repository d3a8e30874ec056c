"""Converts rows of a table to `ImageRow`s, and verdicts back to rows, by the schema of the table."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import apache_beam as beam
from apache_beam.coders import RowCoder
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import named_fields_from_element_type, named_fields_to_schema

from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.errors import UsageError
from beam_dedup.core.model import AVRO_SCHEMA, Verdict, avro_record, printable
from beam_dedup.core.row_images import ImageRow, digest_uri, path_of, unpacked

# The fields of a record that a row of a verdict has. The others need an option of the command line.
VERDICT_FIELDS = (
    "uri",
    "status",
    "reason",
    "digest",
    "fingerprint",
    "algorithm",
    "duplicate_of",
    "distance",
    "long_distance",
    "view",
    "width",
    "height",
    "format",
    "size_bytes",
    "flags",
    "detail",
    "metadata",
    "kept_by",
    "group",
)
FINGERPRINT_FIELDS = (
    "uri",
    "reason",
    "digest",
    "fingerprint",
    "algorithm",
    "width",
    "height",
    "format",
    "size_bytes",
    "flags",
    "detail",
    "metadata",
)

_PYTHON_TYPES = {"string": str, "int": int, "long": int}
_NO_SCHEMA = (
    "has no schema, so its fields are unknown: give the step before it rows, that is, `beam.Row`s or a NamedTuple "
    "with `.with_output_types(...)`"
)


@dataclasses.dataclass(frozen=True)
class RowSchema:
    """Which fields of a row are what, and how the others are encoded.

    Attributes:
      uri_field: the field with the URI; "" if there is none.
      image_field: the field with the bytes; "" if images are read from their URIs.
      carried: the names of the fields that are carried along.
      coder: encodes and decodes them.
      fields: names of the fields of a record that the rows get.
      prefix: of these names in the rows.
      row_type: the type of the rows with both.
    """

    uri_field: str
    image_field: str
    carried: tuple[str, ...]
    coder: RowCoder
    fields: tuple[str, ...]
    prefix: str
    row_type: RowTypeConstraint

    def image_row(self, row: Any) -> ImageRow:
        """Returns a row of the table with its other fields encoded."""
        image = getattr(row, self.image_field) if self.image_field else None
        uri = _encoded(getattr(row, self.uri_field)) if self.uri_field else b""
        if self.image_field:
            image = None if image is None else bytes(image)
            uri = uri or digest_uri(image or b"")
        else:
            uri = to_bytes(path_of(uri.decode("utf-8", "surrogateescape"))) if uri else b""
        return ImageRow(uri, image, self.coder.encode(row))

    def refusal(self, row: ImageRow) -> str:
        """Returns why a row names no image; "" if it names one."""
        if not self.image_field:
            return "" if row.uri else f"the field {self.uri_field} is empty or null"
        return f"the field {self.image_field} is null" if row.image is None else ""

    def verdict_row(self, verdict: Verdict) -> beam.Row:
        """Returns a verdict, or a fingerprint in the form of one, as a row with the carried fields."""
        record = verdict.record()
        encoded, record["metadata"] = unpacked(record["metadata"])
        plain = avro_record(record)
        values = {f"{self.prefix}{name}": plain[name] for name in self.fields}
        row = self.coder.decode(encoded)
        return beam.Row(**values, **{name: getattr(row, name) for name in self.carried})


def _encoded(uri: str | None) -> bytes:
    """Returns a URI as blocks hold text; a text that no encoding can represent with escapes."""
    try:
        return to_bytes(uri or "")
    except UnicodeEncodeError:
        return str(printable(uri)).encode()


def schema_of(
    element_type: Any,
    label: str,
    fields: tuple[str, ...],
    uri_field: str,
    image_field: str,
    carry: Sequence[str] | None,
    prefix: str,
) -> RowSchema:
    """Returns the schema for rows of an element type.

    Args:
      element_type: of a PCollection of rows.
      label: name of the transform, for messages.
      fields: names of the fields of a record that the rows get.
      uri_field: the field with the URI.
      image_field: the field with the bytes.
      carry: names of the fields to carry along; None for all but the bytes, and the URI if the rows get one of its name.
      prefix: of the names of `fields`.

    Raises:
      UsageError: the rows have no schema, or lack a field, or two fields have one name.
    """
    try:
        given: Mapping[str, Any] = dict(named_fields_from_element_type(element_type))
    except TypeError:
        raise UsageError(f"the input of {label}, of the type {element_type}, {_NO_SCHEMA}") from None
    uri, image = (name if name in given else "" for name in (uri_field, image_field))
    if not uri and not image:
        raise UsageError(
            f"the rows of {label} need a field {uri_field} (text) or {image_field} (bytes); they have "
            f"{', '.join(given) or 'none'}. Name the fields with uri_field and image_field"
        )
    for name, allowed, kind in ((uri, str, "text"), (image, bytes, "bytes")):
        if name and given[name] not in (allowed, allowed | None, Any):
            raise UsageError(f"the field {name} of the rows of {label} must be {kind}; it is {given[name]}")
    own = {f"{prefix}{name}": _type_of(name) for name in fields}
    if carry is None:
        carry = [name for name in given if name != image and not (name == uri and name in own)]
    if missing := [name for name in carry if name not in given]:
        raise UsageError(f"{label} can't carry {missing[0]}: the rows have {', '.join(given)}")
    if clashes := [name for name in carry if name in own]:
        raise UsageError(
            f"the rows of {label} have a field {clashes[0]}, which its output has too: set prefix, for example "
            f'"dedup_", or leave the field out of carry'
        )
    carried = [(name, given[name]) for name in carry]
    return RowSchema(
        uri,
        image,
        tuple(carry),
        RowCoder(named_fields_to_schema(carried)),
        fields,
        prefix,
        RowTypeConstraint.from_fields([*own.items(), *carried]),
    )


def _type_of(name: str) -> Any:
    """Returns the Python type of a field of records."""
    [declared] = [field["type"] for field in AVRO_SCHEMA["fields"] if field["name"] == name]
    if isinstance(declared, dict):
        return Sequence[str]
    if isinstance(declared, list):
        return Optional[_PYTHON_TYPES[declared[1]]]  # noqa: UP045  Beam takes a `str | None` in a schema for Any
    return _PYTHON_TYPES[declared]
