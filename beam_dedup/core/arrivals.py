"""Defines the arrival of an image in a stream: its URI, its generation, and the time of its event.

An image is identified by its URI and *generation*. A redelivered image has the same generation. A file that is
written again under an old name has another generation, and is another image. The metadata of the image contain
its generation and event time under `GENERATION` and `EVENT_TIME`, so that its record does; and under `ARRIVAL_TIME`
the time of its arrival, if that is far from the event. These names belong to the stream: metadata from a message or
an archive that use them are renamed (`without_own_fields`).
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from beam_dedup.core.archives.members import file_uri
from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.model import ACCESS_REASONS, ImageRef, Reason

GENERATION = "generation"
EVENT_TIME = "event_time"
ARRIVAL_TIME = "arrival_time"
IDENTITY_BYTES = 16

_OWN_FIELDS = (GENERATION, EVENT_TIME, ARRIVAL_TIME)
_RENAMED_PREFIX = "source_"

_UTC = datetime.UTC
_EPOCH = datetime.datetime.fromtimestamp(0, _UTC)


def identity(uri: str, generation: str, reason: str | None = None) -> bytes:
    """Returns 16 bytes that differ if the URI or the generation differs.

    An image that a run may not read (`ACCESS_REASONS`) has another identity than the same image in a run that may.

    Args:
      uri: of the image.
      generation: of the image.
      reason: why it was rejected, if it was.

    >>> (
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "1"),
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "2"),
    ... )
    (True, False)
    """
    text = b"%d %s%s" % (len(to_bytes(uri)), to_bytes(uri), to_bytes(generation))
    if reason in ACCESS_REASONS:
        text = b"%s %s" % (to_bytes(str(reason)), text)
    return hashlib.blake2b(text, digest_size=IDENTITY_BYTES).digest()


class Arrival(NamedTuple):
    """An image that can be read now.

    Attributes:
      uri: of the file or object.
      generation: version of the object; a later version with the same URI is another image.
      event_ms: time of the event, in milliseconds since the epoch; None if unknown.
      metadata: other properties from the source, as a JSON object; "" if there are none.
      name: of the copy, with `/` between directories; "" derives it from the URI.
      refused: why no image can be read; "" if one can.
      link: whether it is a further hard link of a file that has arrived.
      arrival_ms: time from which the image is remembered, in milliseconds since the epoch; None if that is the
        time of the event.
      reason: with which the image is rejected, if it is refused.
    """

    uri: str
    generation: str = ""
    event_ms: int | None = None
    metadata: str = ""
    name: str = ""
    refused: str = ""
    link: bool = False
    arrival_ms: int | None = None
    reason: str = Reason.BAD_NOTIFICATION.value

    @property
    def identity(self) -> bytes:
        return identity(self.uri, self.generation, self.reason if self.refused else None)

    def reference(self) -> ImageRef:
        """Returns the reference that is read. It means no other generation, in stores that have generations."""
        metadata = without_own_fields(json.loads(self.metadata)) if self.metadata else {}
        if self.generation:
            metadata[GENERATION] = self.generation
        if self.event_ms is not None:
            metadata[EVENT_TIME] = rfc3339(self.event_ms)
        if self.arrival_ms is not None:
            metadata[ARRIVAL_TIME] = rfc3339(self.arrival_ms)
        return ImageRef(
            file_uri(self.uri) if self.refused and self.reason in ACCESS_REASONS else self.uri,
            self.name or default_name(self.uri),
            json.dumps(metadata) if metadata else "",
            refused=(self.reason, self.refused) if self.refused else None,
            generation=self.generation,
            arrived=True,
            link=self.link,
        )

    def packed(self) -> bytes:
        return json.dumps(list(self)).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> "Arrival":
        return cls(*json.loads(data))


def default_name(uri: str) -> str:
    """Returns the name of the copy of an object that lies below no input: its bucket and path.

    >>> default_name("gs://crawl/2026/a.jpg")
    'crawl/2026/a.jpg'
    """
    return uri.rpartition("://")[2].lstrip("/")


def without_own_fields(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata from outside, with the names that belong to the stream renamed.

    >>> without_own_fields({"generation": "7", "title": "a"})
    {'source_generation': '7', 'title': 'a'}
    """
    return {
        f"{_RENAMED_PREFIX}{name}" if name in _OWN_FIELDS else name: value for name, value in metadata.items()
    }


def event_metadata(metadata: str) -> tuple[str, int | None]:
    """Returns generation and event time from the metadata of an image, as JSON; "" and None if missing.

    Outside a stream, the metadata may contain any value under these names. Invalid values count as missing.
    """
    return event_metadata_in(json.loads(metadata)) if metadata else ("", None)


def event_metadata_in(metadata: Mapping[str, Any]) -> tuple[str, int | None]:
    """Does the same for metadata that are parsed already."""
    if not metadata:
        return "", None
    generation = metadata.get(GENERATION, "")
    is_valid = isinstance(generation, str) and _is_text(generation)
    return generation if is_valid else "", _time_in(metadata, EVENT_TIME)


def remembered_since(metadata: Mapping[str, Any]) -> int | None:
    """Returns the time from which an image is remembered, in milliseconds since the epoch; None if unknown.

    It is the time of the arrival if the metadata contain it, otherwise that of the event.

    >>> remembered_since({"event_time": "1970-01-01T00:00:01Z", "arrival_time": "1970-01-09T00:00:00Z"})
    691200000
    """
    arrival = _time_in(metadata, ARRIVAL_TIME)
    return _time_in(metadata, EVENT_TIME) if arrival is None else arrival


def _time_in(metadata: Mapping[str, Any], name: str) -> int | None:
    try:
        return milliseconds(metadata[name])
    except (KeyError, TypeError, ValueError):
        return None


def _is_text(value: str) -> bool:
    try:
        to_bytes(value)
    except UnicodeEncodeError:
        return False
    return True


def milliseconds(time: str) -> int:
    """Converts a time as in RFC 3339 to milliseconds since the epoch; without a time zone it is in UTC.

    Raises:
      ValueError: the time is written differently, or in UTC its year is not within 1 to 9999.

    >>> milliseconds("1970-01-01T00:00:01.5Z")
    1500
    """
    found = datetime.datetime.fromisoformat(time)
    try:
        in_utc = found.replace(tzinfo=_UTC) if found.tzinfo is None else found.astimezone(_UTC)
    except OverflowError:
        raise ValueError(f"the year is not within 1 to 9999 in UTC: {time}") from None
    return (in_utc - _EPOCH) // datetime.timedelta(milliseconds=1)


def rfc3339(since_ms: int) -> str:
    """Converts milliseconds since the epoch to a time as in RFC 3339.

    >>> rfc3339(1500)
    '1970-01-01T00:00:01.500Z'
    """
    time = _EPOCH + datetime.timedelta(milliseconds=since_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
