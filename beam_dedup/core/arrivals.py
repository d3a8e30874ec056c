"""Describes new images of a stream: their identity, and their generation and event time in the metadata.

An arrival is identified by its URI and its *generation* (the version of the object or file). A redelivered
notification has the same URI and generation; an object that is overwritten keeps its URI, gets another
generation, and is another image. Generation and event time travel with the image as keys of its metadata.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.model import ImageRef, Reason

GENERATION = "generation"  # key of the metadata
EVENT_TIME = "event_time"  # key of the metadata; an RFC 3339 time
IDENTITY_BYTES = 16

_UTC = datetime.UTC
_EPOCH = datetime.datetime.fromtimestamp(0, _UTC)


def identity(uri: str, generation: str) -> bytes:
    """Returns 16 bytes that identify an arrival; another URI or another generation gives other bytes.

    >>> (
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "1"),
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "2"),
    ... )
    (True, False)
    """
    text = b"%d %s%s" % (len(to_bytes(uri)), to_bytes(uri), to_bytes(generation))
    return hashlib.blake2b(text, digest_size=IDENTITY_BYTES).digest()


class Arrival(NamedTuple):
    """A new image that can be read now."""

    uri: str
    generation: str = ""  # of the object or file; another generation under the same URI is another image
    event_ms: int | None = None  # time of the event, in milliseconds since the epoch
    metadata: str = ""  # other facts from the source, as a JSON object
    name: str = ""  # path of its copy, with `/` between directories; "" for `default_name`
    refused: str = ""  # why the notification names no image that can be read; "" if it names one

    @property
    def identity(self) -> bytes:
        return identity(self.uri, self.generation)

    def reference(self) -> ImageRef:
        """Returns the reference that readers open; it is limited to this generation, if there is one."""
        metadata = json.loads(self.metadata) if self.metadata else {}
        if self.generation:
            metadata[GENERATION] = self.generation
        if self.event_ms is not None:
            metadata[EVENT_TIME] = rfc3339(self.event_ms)
        refused = (Reason.BAD_NOTIFICATION.value, self.refused) if self.refused else None
        return ImageRef(
            self.uri,
            self.name or default_name(self.uri),
            json.dumps(metadata) if metadata else "",
            refused=refused,
            generation=self.generation,
        )

    def packed(self) -> bytes:
        """Returns the arrival as JSON bytes, which every runner can encode."""
        return json.dumps(list(self)).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> "Arrival":
        """Returns the arrival that `packed` encoded."""
        return cls(*json.loads(data))


def default_name(uri: str) -> str:
    """Returns the path of the copy of an image outside any input directory: its URI from the bucket on.

    >>> default_name("gs://crawl/2026/a.jpg")
    'crawl/2026/a.jpg'
    """
    return uri.rpartition("://")[2].lstrip("/")


def event_metadata(metadata: str) -> tuple[str, int | None]:
    """Returns generation and event time from an image's metadata.

    The metadata are a JSON object or "". The time is in milliseconds since the epoch.

    The generation is "" and the time is None where the metadata have no such key, or where the time is
    malformed: a sidecar in an archive may use these names for anything.
    """
    return event_metadata_in(json.loads(metadata)) if metadata else ("", None)


def event_metadata_in(metadata: Mapping[str, Any]) -> tuple[str, int | None]:
    """Does what `event_metadata` does, for metadata that are parsed already."""
    if not metadata:
        return "", None
    try:
        time = milliseconds(metadata[EVENT_TIME])
    except (KeyError, TypeError, ValueError, OverflowError):
        time = None
    return str(metadata.get(GENERATION, "")), time


def milliseconds(time: str) -> int:
    """Returns the milliseconds since the epoch of an RFC 3339 time; without a time zone, of a time in UTC.

    Raises:
      ValueError: the text is not such a time.

    >>> milliseconds("1970-01-01T00:00:01.5Z")
    1500
    """
    parsed = datetime.datetime.fromisoformat(time)
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=_UTC)
    return (parsed - _EPOCH) // datetime.timedelta(milliseconds=1)


def rfc3339(since_ms: int) -> str:
    """Returns milliseconds since the epoch as an RFC 3339 time in UTC.

    >>> rfc3339(1500)
    '1970-01-01T00:00:01.500Z'
    """
    time = _EPOCH + datetime.timedelta(milliseconds=since_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
