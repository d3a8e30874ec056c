"""Parses notification messages: the arrival of an image, another event, or an invalid message.

Two forms are understood. Cloud Storage describes an object in the attributes of a message
(https://cloud.google.com/storage/docs/pubsub-notifications). Only OBJECT_FINALIZE is an arrival; an object
that is overwritten arrives again, with another generation. Other publishers may send JSON:

    {"uri": "s3://bucket/a.jpg", "generation": "7", "time": "2026-01-31T12:00:00Z", "metadata": {...}}

All fields except `uri` may be missing. The URI must be in an object store. Local files are refused, since
otherwise anyone who may publish could request any file of the machine that reads the message. Publishers also
choose all attributes, so a notification of Cloud Storage proves nothing about its sender: which objects may be read
is decided elsewhere (`beam_dedup.core.allowed`). The generation of
the object is the field `generation` and nothing else: one within `metadata` is only recorded, under another name.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from beam_dedup.core import strict_json
from beam_dedup.core.allowed import STORES
from beam_dedup.core.arrivals import Arrival, milliseconds

ARRIVED = "OBJECT_FINALIZE"

_MAX_URI_BYTES = 4096
_MAX_GENERATION_BYTES = 1024  # of an attribute in Pub/Sub
_MAX_METADATA_BYTES = 1 << 20  # as JSON
_MAX_QUOTED = 300  # characters of a bad message in a record


class OtherEvent(NamedTuple):
    """An event on an object other than its arrival, such as a deletion."""

    event: str


class BadNotificationError(ValueError):
    """A message that names no image. The text says why, and quotes the message."""


def parse(data: bytes, attributes: Mapping[str, str]) -> Arrival | OtherEvent:
    """Returns the arrival, or the other event, that a message reports.

    Args:
      data: the body of the message.
      attributes: of the message.

    Raises:
      BadNotificationError: the message has neither of the two forms, or a field is invalid.
    """
    if "eventType" in attributes:
        return _parse_storage_event(attributes)
    try:
        fields = strict_json.parse(data.decode(json.detect_encoding(data)))
    except ValueError as error:
        raise _bad(f"not JSON, and no attribute eventType ({error})", data) from None
    if not isinstance(fields, dict) or not isinstance(fields.get("uri"), str):
        raise _bad("no uri", data)
    metadata = fields.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise _bad("metadata is not a JSON object", data)
    text = "" if metadata is None else json.dumps(metadata, sort_keys=True)
    if len(text) > _MAX_METADATA_BYTES:
        raise _bad(f"metadata has more than {_MAX_METADATA_BYTES} bytes", data)
    generation = fields.get("generation", "")
    if isinstance(generation, bool) or not isinstance(generation, str | int):
        raise _bad("generation is neither text nor an integer", data)
    return Arrival(
        _checked_uri(fields["uri"], data),
        _checked_generation(str(generation), data),
        _milliseconds(fields.get("time"), data),
        text,
    )


def _parse_storage_event(attributes: Mapping[str, str]) -> Arrival | OtherEvent:
    event = attributes["eventType"]
    if event != ARRIVED:
        return OtherEvent(event[:_MAX_QUOTED])
    message = json.dumps(dict(attributes)).encode()
    bucket, name = attributes.get("bucketId", ""), attributes.get("objectId", "")
    if not bucket or not name:
        raise _bad("bucketId or objectId is missing", message)
    if "/" in bucket:
        raise _bad("bucketId contains a slash", message)
    return Arrival(
        _checked_uri(f"gs://{bucket}/{name}", message),
        _checked_generation(attributes.get("objectGeneration", ""), message),
        _milliseconds(attributes.get("eventTime"), message),
    )


def _checked_uri(uri: str, message: bytes) -> str:
    if not uri or "\0" in uri or len(uri.encode("utf-8", "surrogatepass")) > _MAX_URI_BYTES:
        raise _bad(f"uri is empty, longer than {_MAX_URI_BYTES} bytes, or contains a zero byte", message)
    _check_unicode(uri, "uri", message)
    if uri.partition("://")[0] not in STORES:
        raise _bad(
            f"uri must be in an object store ({', '.join(f'{store}://' for store in STORES)})", message
        )
    return uri


def _checked_generation(generation: str, message: bytes) -> str:
    _check_unicode(generation, "generation", message)
    if len(generation.encode()) > _MAX_GENERATION_BYTES:
        raise _bad(f"generation is longer than {_MAX_GENERATION_BYTES} bytes", message)
    return generation


def _check_unicode(text: str, field: str, message: bytes) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _bad(f"{field} is not valid Unicode", message) from None


def _milliseconds(time: object, message: bytes) -> int | None:
    if time is None:
        return None
    try:
        return milliseconds(str(time))
    except ValueError:
        raise _bad("time must be written as 2026-01-31T12:00:00Z", message) from None


def _bad(why: str, message: bytes) -> BadNotificationError:
    text = message.decode("utf-8", "replace")
    more = "..." if len(text) > _MAX_QUOTED else ""
    return BadNotificationError(f"{why}: {text[:_MAX_QUOTED]}{more}")
