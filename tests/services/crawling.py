"""Creates a bucket that publishes its new objects to Pub/Sub; publishes further messages, and checks what was delivered."""

import contextlib
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from tests import stream_files
from tests.services import servers
from tests.services.buckets import Bucket, google_bucket
from tests.services.require_service import required
from tests.services.servers import Service, Topic
from tests.services.test_pubsub import PROJECT, Clients
from tests.verdicts_outside import Key, key_of

_numbers = itertools.count(1)


class Crawl:
    """A bucket to which a test writes, with a record of everything that a run must have judged."""

    def __init__(self, bucket: Bucket, clients: Clients) -> None:
        self.bucket = bucket
        self.clients = clients
        self.expected: dict[Key, bytes] = {}
        self.changed: set[str] = set()  # URIs that were overwritten or deleted
        self.invalid: set[str] = set()  # URIs in the records of messages that name no image
        self.redelivered = 0  # how many notifications were published again

    def upload(self, name: str, data: bytes) -> Key:
        """Writes an object, of which the store publishes a notification. Returns the key of its record."""
        uri, generation = f"{self.bucket.uri}/{name}", self.bucket.client.put(name, data)
        self.expected |= stream_files.expected_of(uri, generation, data)
        return Key(uri, generation)

    def overwrite(self, name: str, data: bytes) -> None:
        self.changed.add(f"{self.bucket.uri}/{name}")
        self.upload(name, data)

    def delete(self, name: str) -> None:
        self.changed.add(f"{self.bucket.uri}/{name}")
        self.bucket.client.delete(name)

    def publish(self, data: bytes, **attributes: str) -> str:
        """Publishes a message to the topic of the bucket. Returns its id."""
        published = self.clients.publisher.publish(self.clients.topic, data, **attributes)
        return str(published.result(timeout=30))

    def redeliver(self, key: Key) -> None:
        """Publishes a second notification of an object."""
        self.redelivered += 1
        self.publish(json.dumps({"uri": key.uri, "generation": key.generation}).encode())

    def publish_invalid(self, data: bytes, **attributes: str) -> None:
        """Publishes a message that a run must reject."""
        uri = f"{self.clients.subscription}/{self.publish(data, **attributes)}"
        self.expected[Key(uri, "")] = b""
        self.invalid.add(uri)


@contextlib.contextmanager
def crawling(pubsub: Service) -> Iterator[Crawl]:
    """Runs a storage server that publishes to a new topic, for as long as the block lasts."""
    with new_topic(pubsub) as clients:
        topic = Topic(pubsub, PROJECT, clients.topic.rpartition("/")[2])
        with required(servers.gcs(topic)) as store:
            yield Crawl(google_bucket(store), clients)


@contextlib.contextmanager
def new_topic(pubsub: Service) -> Iterator[Clients]:
    """Creates a topic with a subscription."""
    clients = Clients(pubsub, f"topic-{next(_numbers)}")
    yield clients
    clients.channel.close()


def environment_of(crawl: Crawl, pubsub: Service) -> dict[str, str]:
    """Returns the environment variables of a run that reads the bucket and its subscription."""
    return {**crawl.bucket.environment(), **pubsub.environment}


def pull_available(clients: Clients) -> list[Any]:
    """Returns up to 1000 messages that are available now, and acknowledges them."""
    answer = clients.subscriber.pull(
        subscription=clients.subscription, max_messages=1000, return_immediately=True, timeout=20
    )
    if ids := [received.ack_id for received in answer.received_messages]:
        clients.subscriber.acknowledge(subscription=clients.subscription, ack_ids=ids)
    return [received.message for received in answer.received_messages]


def deliver_again(clients: Clients) -> None:
    """Makes all unacknowledged messages available at once, which the emulator otherwise does after a minute."""
    snapshot = f"{clients.subscription.replace('/subscriptions/', '/snapshots/')}-{next(_numbers)}"
    clients.subscriber.create_snapshot(name=snapshot, subscription=clients.subscription)
    clients.subscriber.seek(request={"subscription": clients.subscription, "snapshot": snapshot})


def unacknowledged(clients: Clients) -> list[Any]:
    """Returns all messages that no subscriber has acknowledged, and acknowledges them."""
    deliver_again(clients)
    return pull_available(clients)


def check_acknowledged(crawl: Crawl, out: Bucket) -> None:
    """Checks that a run has acknowledged all messages.

    Notifications of the last copies, in the bucket `out`, may be left: the run reads no more when they arrive.
    """
    left = [dict(message.attributes) for message in unacknowledged(crawl.clients)]
    assert [fields for fields in left if fields.get("bucketId") != out.uri.removeprefix("gs://")] == []


def check_published(records: list[dict[str, Any]], verdicts: Clients) -> None:
    """Checks that each record was published at least once, unchanged, with attributes that agree with it."""
    published: dict[Key, list[Any]] = defaultdict(list)
    while messages := pull_available(verdicts):
        for message in messages:
            record = json.loads(message.data)
            published[key_of(record)].append(record)
            attributes = dict(message.attributes)
            assert (attributes["uri"], attributes["status"]) == (record["uri"], record["status"])
            assert attributes.get("generation", "") == key_of(record).generation
    assert set(published) == set(map(key_of, records))
    for record in records:
        assert all(message == record for message in published[key_of(record)])
