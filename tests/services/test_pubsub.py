"""Tests the services that other tests use: the Pub/Sub emulator, and the storage server that publishes new objects to it."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.services import servers
from tests.services.buckets import google_bucket
from tests.services.require_service import required
from tests.services.servers import Service, Topic

pytestmark = pytest.mark.service

PROJECT = "dedup-test"


class Clients:
    """Creates a topic with a subscription of the same name, and clients of both."""

    def __init__(self, service: Service, name: str) -> None:
        self.channel = grpc.insecure_channel(service.environment["PUBSUB_EMULATOR_HOST"])
        self.publisher = pubsub_v1.PublisherClient(
            transport=PublisherGrpcTransport(channel=self.channel, credentials=AnonymousCredentials())
        )
        self.subscriber = pubsub_v1.SubscriberClient(
            transport=SubscriberGrpcTransport(channel=self.channel, credentials=AnonymousCredentials())
        )
        self.topic = f"projects/{PROJECT}/topics/{name}"
        self.subscription = f"projects/{PROJECT}/subscriptions/{name}"
        self.publisher.create_topic(name=self.topic)
        self.subscriber.create_subscription(name=self.subscription, topic=self.topic)

    def pull(self, count: int) -> list[Any]:
        """Returns and acknowledges `count` messages; fewer if they do not arrive in 20 pulls."""
        pulled: list[Any] = []
        for _ in range(20):
            answer = self.subscriber.pull(subscription=self.subscription, max_messages=count, timeout=10)
            pulled += [received.message for received in answer.received_messages]
            if ids := [received.ack_id for received in answer.received_messages]:
                self.subscriber.acknowledge(subscription=self.subscription, ack_ids=ids)
            if len(pulled) >= count:
                break
        return pulled


@pytest.fixture
def clients(pubsub: Service, request: pytest.FixtureRequest) -> Iterator[Clients]:
    made = Clients(pubsub, request.node.name.replace("_", "-"))
    yield made
    made.channel.close()


def test_message_arrives(clients: Clients) -> None:
    clients.publisher.publish(clients.topic, b"hello", kind="greeting").result(timeout=30)
    [message] = clients.pull(1)
    assert (message.data, dict(message.attributes)) == (b"hello", {"kind": "greeting"})


def test_new_objects_are_published(clients: Clients, pubsub: Service) -> None:
    topic = Topic(pubsub, PROJECT, clients.topic.rpartition("/")[2])
    with required(servers.gcs(topic)) as store:
        bucket = google_bucket(store)
        bucket.fill({"a b/ü.png": b"first"})
        bucket.fill({"a b/ü.png": b"second"})
        messages = clients.pull(2)
    name = bucket.uri.removeprefix("gs://")
    events = [dict(message.attributes) for message in messages]
    assert [event["eventType"] for event in events] == ["OBJECT_FINALIZE"] * 2
    assert [(event["bucketId"], event["objectId"]) for event in events] == [(name, "a b/ü.png")] * 2
    assert len({event["objectGeneration"] for event in events}) == 2
