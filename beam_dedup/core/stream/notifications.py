"""What a message says: that an image has arrived, or that something else has happened, or nothing that makes sense.

Two forms are read. Cloud Storage tells of its objects in attributes (https://cloud.google.com/storage/docs/pubsub-notifications);
only OBJECT_FINALIZE is the arrival of one: an object that was overwritten comes again, with another generation. Anything
else may send JSON:

    {"uri": "s3://bucket/a.jpg", "generation": "7", "time": "2026-01-31T12:00:00Z", "metadata": {...}}

All but `uri` may be missing. What lies on the machine that reads the message is not to be had by a message: anyone who may
publish could ask for any file.
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from beam_dedup.core.arrivals import Arrival, milliseconds

ARRIVED = "OBJECT_FINALIZE"

_STORES = ("gs", "s3", "hdfs", "azfs", "abfs")
_MAX_URI_BYTES = 4096
_MAX_SAID = 300  # characters of a bad message in a record


class OtherEvent(NamedTuple):
    """Something that happened to an object, but for its arrival."""

    event: str


class BadNotificationError(ValueError):
    """A message that names no image: the sentence says why, and quotes it."""


def parse(data: bytes, attributes: Mapping[str, str]) -> Arrival | OtherEvent:
    """What a message says.

    Raises:
      BadNotificationError: nothing that could be understood.
    """
    if "eventType" in attributes:
        return _of_storage(attributes)
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad("it is no JSON, and has no attribute eventType", data) from None
    if not isinstance(said, dict) or not isinstance(said.get("uri"), str):
        raise _bad("there is no uri in it", data)
    metadata = said.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise _bad("its metadata are no JSON object", data)
    generation = said.get("generation", "")
    if isinstance(generation, bool) or not isinstance(generation, str | int):
        raise _bad("its generation is neither text nor a whole number", data)
    return Arrival(
        _checked_uri(said["uri"], data),
        str(generation),
        _milliseconds(said.get("time"), data),
        "" if metadata is None else json.dumps(metadata, sort_keys=True),
    )


def _of_storage(attributes: Mapping[str, str]) -> Arrival | OtherEvent:
    event = attributes["eventType"]
    if event != ARRIVED:
        return OtherEvent(event[:_MAX_SAID])
    said = json.dumps(dict(attributes)).encode()
    bucket, name = attributes.get("bucketId", ""), attributes.get("objectId", "")
    if not bucket or not name:
        raise _bad("bucketId or objectId is missing", said)
    if "/" in bucket:
        raise _bad("its bucketId has a slash in it", said)
    return Arrival(
        _checked_uri(f"gs://{bucket}/{name}", said),
        attributes.get("objectGeneration", ""),
        _milliseconds(attributes.get("eventTime"), said),
    )


def _checked_uri(uri: str, said: bytes) -> str:
    if not uri or "\0" in uri or len(uri.encode("utf-8", "surrogatepass")) > _MAX_URI_BYTES:
        raise _bad(
            f"its uri is empty, too long (more than {_MAX_URI_BYTES} bytes) or has a zero byte in it", said
        )
    try:
        uri.encode()
    except UnicodeEncodeError:
        raise _bad("its uri is no text", said) from None
    if uri.partition("://")[0] not in _STORES:
        raise _bad("its uri is of no object store", said)
    return uri


def _milliseconds(time: object, said: bytes) -> int | None:
    if time is None:
        return None
    try:
        return milliseconds(str(time))
    except (ValueError, OverflowError):
        raise _bad("its time is not written as 2026-01-31T12:00:00Z", said) from None


def _bad(why: str, said: bytes) -> BadNotificationError:
    text = said.decode("utf-8", "replace")
    more = "..." if len(text) > _MAX_SAID else ""
    return BadNotificationError(f"{why}: {text[:_MAX_SAID]}{more}")
