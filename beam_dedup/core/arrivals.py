"""Images that arrive, one after the other, and what is said of each beyond its bytes.

An arrival's identity is its URI and its *generation*: what is delivered again has the same, and what is written anew
under an old name has another, and is another image. Both go where the image goes: its metadata name them.
"""

import datetime
import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.model import ImageRef, Reason

GENERATION = "generation"
EVENT_TIME = "event_time"
IDENTITY_BYTES = 16

_UTC = datetime.UTC
_EPOCH = datetime.datetime.fromtimestamp(0, _UTC)


def identity(uri: str, generation: str) -> bytes:
    """16 bytes; two things that differ in either have different ones.

    >>> (
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "1"),
    ...     identity("gs://a/b", "1") == identity("gs://a/b", "2"),
    ... )
    (True, False)
    """
    text = b"%d %s%s" % (len(to_bytes(uri)), to_bytes(uri), to_bytes(generation))
    return hashlib.blake2b(text, digest_size=IDENTITY_BYTES).digest()


class Arrival(NamedTuple):
    """An image that can be read now."""

    uri: str
    generation: str = ""  # of what is there: a later one of the same name is another image
    event_ms: int | None = None  # since the epoch
    metadata: str = ""  # what is said of it besides, as a JSON object
    name: str = ""  # of its copy, with `/` between folders
    refused: str = ""  # why there is no image that could be read

    @property
    def identity(self) -> bytes:
        return identity(self.uri, self.generation)

    def reference(self) -> ImageRef:
        """What is to be read, and no other generation of it where the store tells them apart."""
        said = json.loads(self.metadata) if self.metadata else {}
        if self.generation:
            said[GENERATION] = self.generation
        if self.event_ms is not None:
            said[EVENT_TIME] = rfc3339(self.event_ms)
        metadata = json.dumps(said) if said else ""
        refused = (Reason.BAD_NOTIFICATION.value, self.refused) if self.refused else None
        return ImageRef(
            self.uri,
            self.name or default_name(self.uri),
            metadata,
            refused=refused,
            generation=self.generation,
        )

    def packed(self) -> bytes:
        return json.dumps(list(self)).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> "Arrival":
        return cls(*json.loads(data))


def default_name(uri: str) -> str:
    """The path of the copy of what has no place below an input: bucket and all.

    >>> default_name("gs://crawl/2026/a.jpg")
    'crawl/2026/a.jpg'
    """
    return uri.rpartition("://")[2].lstrip("/")


def event_metadata(metadata: str) -> tuple[str, int | None]:
    """Generation and time of the event, of what the metadata of an image say: "" and None where they say nothing.

    What is beside an image in an archive may say anything by these names.
    """
    return event_metadata_in(json.loads(metadata)) if metadata else ("", None)


def event_metadata_in(said: Mapping[str, Any]) -> tuple[str, int | None]:
    """The same, of metadata that are no text any more."""
    if not said:
        return "", None
    try:
        time = milliseconds(said[EVENT_TIME])
    except (KeyError, TypeError, ValueError, OverflowError):
        time = None
    return str(said.get(GENERATION, "")), time


def milliseconds(time: str) -> int:
    """Since the epoch, of a time as RFC 3339 has it; without a time zone, of UTC.

    Raises:
      ValueError: it is written otherwise.

    >>> milliseconds("1970-01-01T00:00:01.5Z")
    1500
    """
    found = datetime.datetime.fromisoformat(time)
    if found.tzinfo is None:
        found = found.replace(tzinfo=_UTC)
    return (found - _EPOCH) // datetime.timedelta(milliseconds=1)


def rfc3339(since_ms: int) -> str:
    """
    >>> rfc3339(1500)
    '1970-01-01T00:00:01.500Z'
    """
    time = _EPOCH + datetime.timedelta(milliseconds=since_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
