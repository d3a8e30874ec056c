"""A bucket that tells of its objects by Pub/Sub, and what tests do with the topic besides."""

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
    """A bucket that is written to, and what has been told of it."""

    def __init__(self, bucket: Bucket, clients: Clients) -> None:
        self.bucket = bucket
        self.clients = clients
        self.expected: dict[Key, bytes] = {}
        self.changed: set[str] = set()  # overwritten or deleted at some time
        self.nonsense: set[str] = set()  # identities of what names no image
        self.told_again = 0  # times

    def upload(self, name: str, data: bytes) -> Key:
        blob = self.bucket.client.bucket.blob(name)
        blob.upload_from_string(data, "application/octet-stream")
        uri, generation = f"{self.bucket.uri}/{name}", str(blob.generation)
        self.expected |= stream_files.expected_of(uri, generation, data)
        return Key(uri, generation)

    def overwrite(self, name: str, data: bytes) -> None:
        self.changed.add(f"{self.bucket.uri}/{name}")
        self.upload(name, data)

    def delete(self, name: str) -> None:
        self.changed.add(f"{self.bucket.uri}/{name}")
        self.bucket.client.bucket.blob(name).delete()

    def tell(self, said: bytes, **attributes: str) -> str:
        """The id of a message."""
        published = self.clients.publisher.publish(self.clients.topic, said, **attributes)
        return str(published.result(timeout=30))

    def tell_again(self, key: Key) -> None:
        self.told_again += 1
        self.tell(json.dumps({"uri": key.uri, "generation": key.generation}).encode())

    def tell_nonsense(self, said: bytes, **attributes: str) -> None:
        uri = f"{self.clients.subscription}/{self.tell(said, **attributes)}"
        self.expected[Key(uri, "")] = b""
        self.nonsense.add(uri)


@contextlib.contextmanager
def crawling(pubsub: Service) -> Iterator[Crawl]:
    with new_topic(pubsub) as clients:
        topic = Topic(pubsub, PROJECT, clients.topic.rpartition("/")[2])
        with required(servers.gcs(topic)) as store:
            yield Crawl(google_bucket(store), clients)


@contextlib.contextmanager
def new_topic(pubsub: Service) -> Iterator[Clients]:
    clients = Clients(pubsub, f"topic-{next(_numbers)}")
    yield clients
    clients.channel.close()


def environment_of(crawl: Crawl, pubsub: Service) -> dict[str, str]:
    return {**crawl.bucket.environment(), **pubsub.environment}


def pulled(clients: Clients) -> list[Any]:
    """Messages that can be had now, some at a time; they are acknowledged."""
    answer = clients.subscriber.pull(
        subscription=clients.subscription, max_messages=1000, return_immediately=True, timeout=20
    )
    if ids := [received.ack_id for received in answer.received_messages]:
        clients.subscriber.acknowledge(subscription=clients.subscription, ack_ids=ids)
    return [received.message for received in answer.received_messages]


def deliver_again(clients: Clients) -> None:
    """Ends the leases of all that is not acknowledged, of which nobody could see for a minute that it is there."""
    snapshot = f"{clients.subscription.replace('/subscriptions/', '/snapshots/')}-{next(_numbers)}"
    clients.subscriber.create_snapshot(name=snapshot, subscription=clients.subscription)
    clients.subscriber.seek(request={"subscription": clients.subscription, "snapshot": snapshot})


def unacknowledged(clients: Clients) -> list[Any]:
    """What is not acknowledged: whoever had it."""
    deliver_again(clients)
    return pulled(clients)


def check_acknowledged(crawl: Crawl, out: Bucket) -> None:
    """Nothing is left to deliver, but what the bucket of the copies told of the last ones, when the run read no more."""
    left = [dict(message.attributes) for message in unacknowledged(crawl.clients)]
    assert [said for said in left if said.get("bucketId") != out.uri.removeprefix("gs://")] == []


def check_published(records: list[dict[str, Any]], verdicts: Clients) -> None:
    """Each record is a message, once or more often, and says the same."""
    told: dict[Key, list[Any]] = defaultdict(list)
    while messages := pulled(verdicts):
        for message in messages:
            record = json.loads(message.data)
            told[key_of(record)].append(record)
            said = dict(message.attributes)
            assert (said["uri"], said["status"]) == (record["uri"], record["status"])
            assert said.get("generation", "") == key_of(record).generation
    assert set(told) == set(map(key_of, records))
    for record in records:
        assert all(one == record for one in told[key_of(record)])
