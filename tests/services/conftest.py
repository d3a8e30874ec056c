"""Provides services as fixtures, started when a test first requests one. Without the service, the test is skipped; in CI it fails."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.services import servers
from tests.services.buckets import Bucket, amazon_bucket, google_bucket
from tests.services.crawling import Crawl, crawling, new_topic
from tests.services.processes import end_of
from tests.services.pubsub_proxy import pubsub_proxy
from tests.services.require_service import required
from tests.services.servers import Service
from tests.services.test_pubsub import Clients


@pytest.fixture(scope="session")
def gcs() -> Iterator[Service]:
    with required(servers.gcs()) as service:
        yield service


@pytest.fixture(scope="session")
def s3() -> Iterator[Service]:
    with required(servers.s3()) as service:
        yield service


@pytest.fixture(scope="session")
def pubsub() -> Iterator[Service]:
    with required(servers.pubsub()) as service:
        yield service


@pytest.fixture
def proxied(pubsub: Service) -> Iterator[Service]:
    """The emulator, for runs after a first one has ended."""
    with pubsub_proxy(pubsub) as service:
        yield service


@pytest.fixture(scope="session")
def flink() -> Iterator[Service]:
    with required(servers.flink()) as service:
        yield service


@pytest.fixture(scope="session")
def prism() -> Iterator[Service]:
    with required(servers.prism()) as service:
        yield service


@pytest.fixture(params=["gs", "s3"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """An empty bucket; each test runs once with each store."""
    if request.param == "gs":
        return google_bucket(request.getfixturevalue("gcs"))
    return amazon_bucket(request.getfixturevalue("s3"))


@pytest.fixture
def crawl(pubsub: Service) -> Iterator[Crawl]:
    """An empty bucket that publishes notifications of new objects."""
    with crawling(pubsub) as made:
        yield made


@pytest.fixture
def verdicts(pubsub: Service) -> Iterator[Clients]:
    """A topic for verdicts, with a subscription."""
    with new_topic(pubsub) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: "pytest.CallInfo[None]") -> Any:
    """Adds the logs of its services to the report of a failed test."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            service = value.service if isinstance(value, Bucket) else value
            if isinstance(service, Service):
                report.sections.append((f"end of the log of {name}", end_of(service.log)))
    return report
