"""A subscription of Pub/Sub as an unbounded source for any runner.

Dataflow has a reader of its own; elsewhere this one is used. A message is acknowledged when the engine has committed
what was made of it (`finalize_checkpoint`), and until then its lease is extended by the client library, which also sees
to it that no more messages are held than `MOST_HELD`. If a worker dies, its leases end, and Pub/Sub delivers again.
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

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.stream.notifications import BadNotificationError, OtherEvent, parse
from transforms import metrics
from transforms.stream import clock
from transforms.stream.shared_readers import Shared

try:
    import google.cloud.pubsub_v1 as pubsub_v1
    from apache_beam.io.gcp.pubsub import PubsubMessage
except ImportError:  # an extra: said by `check_installed` of the command line
    pubsub_v1 = None

MOST_HELD = 20_000  # messages of one reader that are not acknowledged yet: more are not asked for
LEASE_SECONDS = 3600  # after which a message that was never committed is given up, and delivered again
_IDS_AT_ONCE = 1000
_IDLE_SECONDS = 2.0  # without a message for so long, the watermark follows the clock


@dataclasses.dataclass
class ParseNotifications(beam.PTransform[PCollection[Any], PCollection[bytes]]):
    """Messages (`PubsubMessage`) as packed arrivals.

    What happened to objects but for their arrival is counted. What makes no sense arrives as well, to be rejected: so it is
    told once, however often it is delivered.

    subscription: whose messages they are, for the names of those that name nothing. outputs: folders whose objects are ours:
    a copy in a bucket that tells of new objects is told of, and is no arrival.
    """

    subscription: str
    outputs: tuple[str, ...] = ()

    def expand(self, notifications: PCollection[Any]) -> PCollection[bytes]:
        return notifications | "Parse" >> beam.FlatMap(
            arrival_of, self.subscription, self.outputs
        ).with_output_types(bytes)


def arrival_of(message: Any, subscription: str, outputs: tuple[str, ...] = ()) -> Iterable[bytes]:
    try:
        said = parse(message.data, message.attributes or {})
    except BadNotificationError as error:
        uri = f"{subscription}/{message.message_id}"
        return [Arrival(uri, refused=str(error)).packed()]
    if isinstance(said, OtherEvent) or any(
        said.uri.startswith(f"{folder.rstrip('/')}/") for folder in outputs
    ):
        Metrics.counter(metrics.NAMESPACE, metrics.OTHER_EVENTS).inc()
        return []
    return [said.packed()]


class Acknowledgements(CheckpointMark):
    """The messages that one bundle has read."""

    def __init__(self, subscription: str, ids: Sequence[str]) -> None:
        self.subscription = subscription
        self.ids = list(ids)

    def finalize_checkpoint(self) -> None:
        """What was made of the messages is committed; also called by another process than the one that read them."""
        _acknowledge(self.subscription, self.ids)


class _AcknowledgementsCoder(coders.Coder):
    """Lines of UTF-8: the subscription, then the ids, which have no line breaks."""

    def encode(self, value: Acknowledgements) -> bytes:
        return "\n".join([value.subscription, *value.ids]).encode()

    def decode(self, encoded: bytes) -> Acknowledgements:
        subscription, *ids = encoded.decode().split("\n")
        return Acknowledgements(subscription, ids)

    def is_deterministic(self) -> bool:
        return True


class SubscriptionReader(UnboundedReader):
    """Gives away the messages that a connection in the background has received."""

    def __init__(self, subscription: str) -> None:
        self._subscription = subscription
        self._connection = _connections.take(subscription, functools.partial(_Connection, subscription))
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
        """The publish time of what is read; of an idle subscription, that of some seconds ago.

        Messages are delivered in about the order of their publication, not exactly; and again, if they are not
        acknowledged in time. Such come late.
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
        """Gives back what no mark speaks for."""
        _give_back(self._read)
        _connections.give_back(self._subscription)


@dataclasses.dataclass(frozen=True)
class SubscriptionSource(UnboundedSource):
    """One part, of `readers` equal ones, of a subscription, named as projects/P/subscriptions/S."""

    subscription: str
    readers: int = 1
    part: int | None = None  # None: not split yet

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
    """A streaming pull, whose messages wait in a queue."""

    def __init__(self, subscription: str) -> None:
        self._waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._client = _client()
        flow = pubsub_v1.types.FlowControl(max_messages=MOST_HELD, max_lease_duration=LEASE_SECONDS)
        self._pull = self._client.subscribe(subscription, self._receive, flow_control=flow)

    def _receive(self, message: Any) -> None:
        _HELD.add(message)
        self._waiting.put(message)

    def next_message(self) -> Any | None:
        """The next message, or None if none is there now.

        Raises:
          google.api_core.exceptions.GoogleAPICallError: the subscription can't be read.
        """
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            if self._pull.done():
                self._pull.result()  # raises what ended it
            return None

    def close(self) -> None:
        """Ends the pull, and gives back what has come since the last call of `next_message`."""
        self._pull.cancel()
        self._pull.result()
        while not self._waiting.empty():
            _give_back([self._waiting.get().ack_id])
        self._client.close()


_connections: Shared[_Connection] = Shared(_Connection.close)


class _Held:
    """The messages that this process has and has not acknowledged, by their ids."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._messages: dict[str, Any] = {}

    def add(self, message: Any) -> None:
        with self._lock:
            self._messages[message.ack_id] = message

    def take(self, ack_id: str) -> Any | None:
        with self._lock:
            return self._messages.pop(ack_id, None)


_HELD = _Held()


def _client() -> Any:
    return pubsub_v1.SubscriberClient()


def _give_back(ids: Sequence[str]) -> None:
    """Lets messages be delivered again, at once."""
    for ack_id in ids:
        message = _HELD.take(ack_id)
        if message is not None:
            message.nack()


def _acknowledge(subscription: str, ids: Sequence[str]) -> None:
    """Acknowledges messages: of this process by the connection that leases them, others by their ids."""
    strange = []
    for ack_id in ids:
        message = _HELD.take(ack_id)
        if message is None:
            strange.append(ack_id)
        else:
            message.ack()
    for start in range(0, len(strange), _IDS_AT_ONCE):
        with _client() as client:
            client.acknowledge(subscription=subscription, ack_ids=strange[start : start + _IDS_AT_ONCE])
