"""Reads a Pub/Sub subscription as an unbounded source, on any runner.

Dataflow has a reader of its own; this one serves the other runners. A message is acknowledged when the runner
has committed the bundle that read it (`finalize_checkpoint`). Until then the client library extends its
lease, and limits the number of unacknowledged messages to `MAX_UNACKNOWLEDGED`. If a worker dies, its leases
end, and Pub/Sub redelivers the messages.
"""

import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam import coders
from apache_beam.io.unbounded_source import CheckpointMark, UnboundedReader, UnboundedSource
from apache_beam.metrics import Metrics
from apache_beam.pvalue import PCollection
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from beam_dedup.core.allowed import refusal
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.model import Reason
from beam_dedup.core.reading.selection import EVERYTHING, Selection, selector_of
from beam_dedup.core.stream.notifications import BadNotificationError, OtherEvent, parse
from transforms import metrics
from transforms.stream import clock
from transforms.stream.shared_readers import Shared
from transforms.tally import Tally

try:
    import google.cloud.pubsub_v1 as pubsub_v1
    from apache_beam.io.gcp.pubsub import PubsubMessage
except ImportError:  # an optional dependency: the command line reports that it is missing
    pubsub_v1 = None

MAX_UNACKNOWLEDGED = 20_000  # messages per reader; while there are as many, no more are pulled
LEASE_SECONDS = 3600  # after this time the lease of a message is not extended any more, and it is redelivered
_IDS_AT_ONCE = 1000
_IDLE_SECONDS = 2.0  # after this time without a message, the watermark follows the clock


@dataclasses.dataclass
class ParseNotifications(beam.PTransform[PCollection[Any], PCollection[bytes]]):
    """Converts messages to arrivals.

    In: `PubsubMessage`; unbounded. Out: packed arrivals (`beam_dedup.core.arrivals`). Windows and times are
    not changed.

    Other events on objects, such as deletions, are only counted. A message that cannot be understood becomes
    an arrival that will be rejected: so it is reported once, however often it is delivered.

    Attributes:
      subscription: of the messages; part of the URI of messages that name no image.
      outputs: directories that this pipeline writes to. If a bucket with notifications contains one, its new
        objects are reported too, but they are counted as other events.
      allow: prefixes of the objects that messages may name, as `beam_dedup.core.allowed.checked_prefix` returns
        them. A message that names another object becomes an arrival that will be rejected unread. Whoever may
        publish to the topic chooses the object and all attributes of a message.
      selection: which of the objects are wanted; only its patterns apply, to paths relative to the prefix in `allow`.
        Messages about others are counted (`Excluded_Count`).
      tally: where these messages are counted too, on one machine.
    """

    subscription: str
    outputs: tuple[str, ...] = ()
    allow: tuple[str, ...] = dataclasses.field(kw_only=True)
    selection: Selection = dataclasses.field(default=EVERYTHING, kw_only=True)
    tally: Tally | None = dataclasses.field(default=None, kw_only=True)

    def expand(self, notifications: PCollection[Any]) -> PCollection[bytes]:
        return notifications | "Parse" >> beam.FlatMap(
            parsed_arrivals, self.subscription, self.outputs, self.allow, self.selection, self.tally
        ).with_output_types(bytes)


def parsed_arrivals(
    message: Any,
    subscription: str,
    outputs: tuple[str, ...],
    allow: tuple[str, ...],
    selection: Selection = EVERYTHING,
    tally: Tally | None = None,
) -> Iterable[bytes]:
    """Returns the packed arrival that a message reports, or nothing for another event, or for an object not wanted."""
    try:
        event = parse(message.data, message.attributes or {})
    except BadNotificationError as error:
        uri = f"{subscription}/{message.message_id}"
        return [Arrival(uri, refused=str(error)).packed()]
    if isinstance(event, OtherEvent) or any(
        event.uri.startswith(f"{folder.rstrip('/')}/") for folder in outputs
    ):
        Metrics.counter(metrics.NAMESPACE, metrics.OTHER_EVENTS).inc()
        return []
    if why := refusal(event.uri, allow):
        event = event._replace(refused=why, reason=Reason.NOT_ALLOWED.value)
    elif selector_of(selection).file_anywhere(_below_prefix(event.uri, allow)):
        metrics.add({metrics.EXCLUDED: 1})
        if tally:
            tally.add(metrics.EXCLUDED, 1)
        return []
    return [event.packed()]


def _below_prefix(uri: str, prefixes: Sequence[str]) -> str:
    """Returns the part of an object's path below the longest of the prefixes that contain it.

    >>> _below_prefix("gs://b/in/a/b.jpg", ["gs://b", "gs://b/in", "gs://b/i"])
    'a/b.jpg'
    """
    starts = [f"{prefix.rstrip('/')}/" for prefix in prefixes]
    longest = max((len(start) for start in starts if uri.startswith(start)), default=0)
    return uri[longest:] if longest else uri.rpartition("/")[2]


class Acknowledgements(CheckpointMark):
    """The ids of the messages that one bundle has read."""

    def __init__(self, subscription: str, ids: Sequence[str]) -> None:
        self.subscription = subscription
        self.ids = list(ids)

    def finalize_checkpoint(self) -> None:
        """Acknowledges the messages: their bundle is committed.

        Another process than the one that read them may call this.
        """
        _acknowledge(self.subscription, self.ids)


class _AcknowledgementsCoder(coders.Coder):
    """Encodes a mark as lines of UTF-8: the subscription, then the ids, which contain no line breaks."""

    def encode(self, value: Acknowledgements) -> bytes:
        return "\n".join([value.subscription, *value.ids]).encode()

    def decode(self, encoded: bytes) -> Acknowledgements:
        subscription, *ids = encoded.decode().split("\n")
        return Acknowledgements(subscription, ids)

    def is_deterministic(self) -> bool:
        return True


class SubscriptionReader(UnboundedReader):
    """Reads the messages that a connection receives in the background."""

    def __init__(self, subscription: str) -> None:
        self._subscription = subscription
        self._connection = _connections.acquire(subscription, functools.partial(_Connection, subscription))
        self._current: Any = None
        self._read: list[str] = []  # since the last mark
        self._watermark: Timestamp = MIN_TIMESTAMP
        self._last_message = time.monotonic()

    def start(self) -> bool:
        return self.advance()

    def advance(self) -> bool:
        message = self._connection.next_message()
        if message is None:
            return False
        self._current = message
        self._read.append(message.ack_id)
        self._last_message = time.monotonic()
        return True

    def get_current(self) -> Any:
        message = self._current
        return PubsubMessage(message.data, dict(message.attributes), message.message_id, message.publish_time)

    def get_current_timestamp(self) -> Timestamp:
        return Timestamp.from_utc_datetime(self._current.publish_time)

    def get_watermark(self) -> Timestamp:
        """Returns the latest publish time read; for an idle subscription, at least the time 2 seconds ago.

        Pub/Sub delivers messages only roughly in the order of their publication, and redelivers those that
        are not acknowledged in time. Such messages are late.
        """
        if self._current is not None:
            self._watermark = max(self._watermark, self.get_current_timestamp())
        if time.monotonic() - self._last_message > _IDLE_SECONDS:
            self._watermark = max(self._watermark, clock.now() - _IDLE_SECONDS)
        return self._watermark

    def get_checkpoint_mark(self) -> Acknowledgements:
        read, self._read = self._read, []
        return Acknowledgements(self._subscription, read)

    def close(self) -> None:
        """Returns the messages that are in no checkpoint mark to Pub/Sub, for redelivery."""
        _nack(self._read)
        _connections.release(self._subscription)


@dataclasses.dataclass(frozen=True)
class SubscriptionSource(UnboundedSource):
    """An unbounded source of `PubsubMessage`, each at its publish time.

    Attributes:
      subscription: projects/P/subscriptions/S.
      readers: number of equal readers into which the source is split.
      part: number of the reader; None before the split.
    """

    subscription: str
    readers: int = 1
    part: int | None = None

    def split(self, desired_num_splits: int, options: Any = None) -> Iterable[UnboundedSource]:  # noqa: ARG002
        parts = max(1, min(desired_num_splits, self.readers))
        return [dataclasses.replace(self, part=part) for part in range(parts)]

    def create_reader(self, options: Any, checkpoint_mark: CheckpointMark | None) -> SubscriptionReader:  # noqa: ARG002
        return SubscriptionReader(self.subscription)

    def get_checkpoint_mark_coder(self) -> coders.Coder:
        return _AcknowledgementsCoder()

    def default_output_coder(self) -> coders.Coder:
        return coders.registry.get_coder(PubsubMessage)


class _Connection:
    """A streaming pull; received messages wait in a queue."""

    def __init__(self, subscription: str) -> None:
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._client = _client()
        flow = pubsub_v1.types.FlowControl(max_messages=MAX_UNACKNOWLEDGED, max_lease_duration=LEASE_SECONDS)
        self._pull = self._client.subscribe(subscription, self._receive, flow_control=flow)

    def _receive(self, message: Any) -> None:
        _UNACKNOWLEDGED.add(message)
        self._waiting.put(message)

    def next_message(self) -> Any | None:
        """Returns the next message, or None if no message is waiting.

        Raises:
          google.api_core.exceptions.GoogleAPICallError: the subscription can't be read.
        """
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            if self._pull.done():
                self._pull.result()  # raises the error that ended the pull
            return None

    def close(self) -> None:
        """Ends the pull, and returns the messages that nobody has read to Pub/Sub."""
        self._pull.cancel()
        self._pull.result()
        while not self._waiting.empty():
            _nack([self._waiting.get().ack_id])
        self._client.close()


_connections: Shared[_Connection] = Shared(_Connection.close)


class _Unacknowledged:
    """The messages that this process has received and not yet acknowledged, by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[str, Any] = {}

    def add(self, message: Any) -> None:
        with self._lock:
            self._messages[message.ack_id] = message

    def take(self, ack_id: str) -> Any | None:
        with self._lock:
            return self._messages.pop(ack_id, None)


_UNACKNOWLEDGED = _Unacknowledged()


def _client() -> Any:
    return pubsub_v1.SubscriberClient()


def _nack(ids: Sequence[str]) -> None:
    """Returns messages to Pub/Sub, which redelivers them at once."""
    for ack_id in ids:
        message = _UNACKNOWLEDGED.take(ack_id)
        if message is not None:
            message.nack()


def _acknowledge(subscription: str, ids: Sequence[str]) -> None:
    """Acknowledges messages: those of this process through the connection that leases them, others by id."""
    foreign = []
    for ack_id in ids:
        message = _UNACKNOWLEDGED.take(ack_id)
        if message is None:
            foreign.append(ack_id)
        else:
            message.ack()
    for start in range(0, len(foreign), _IDS_AT_ONCE):
        with _client() as client:
            client.acknowledge(subscription=subscription, ack_ids=foreign[start : start + _IDS_AT_ONCE])
