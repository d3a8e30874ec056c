"""Messages that name objects outside of `--allow`, forged ones too, are rejected; the store is not even asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.app.stream_process import running_stream
from tests.pictures import encoded, photo
from tests.services.buckets import google_bucket
from tests.services.crawling import Crawl, check_acknowledged, environment_of
from tests.services.servers import Service

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The return_immediately flag"),  # the only way to see an empty queue
]

SECRET = "secret-of-the-test.png"


def test_only_allowed_objects_are_read(crawl: Crawl, proxied: Service, tmp_path: Path) -> None:
    """After a restart with a wider prefix, objects that were not allowed are judged when they are published again."""
    store = crawl.bucket.service
    other, out = google_bucket(store), google_bucket(store)
    for name in (SECRET, f"in/{SECRET}"):
        other.client.put(name, encoded(photo(1)))
    crawl.upload("in/a.png", encoded(photo(2)))
    crawl.upload(f"private/{SECRET}", encoded(photo(3)))  # its own notification is not allowed either
    crawl.bucket.client.put(f"in/../private/{SECRET}", encoded(photo(4)))
    uris = [
        f"{other.uri}/{SECRET}",
        f"{crawl.bucket.uri}/in/%2e%2e/private/{SECRET}",
        f"{crawl.bucket.uri}x/in/{SECRET}",
        f"s3://{crawl.bucket.uri.removeprefix('gs://')}/in/{SECRET}",
    ]
    for uri in uris:
        crawl.publish(json.dumps({"uri": uri, "generation": "7"}).encode())
    name = other.uri.removeprefix("gs://")
    crawl.publish(
        b"",
        eventType="OBJECT_FINALIZE",
        bucketId=name,
        objectId=f"in/{SECRET}",
        objectGeneration="7",
        notificationConfig=f"projects/_/buckets/{name}/notificationConfigs/1",
    )
    forged = [*uris, f"{other.uri}/in/{SECRET}"]
    # The bucket publishes these three itself, and the other bucket publishes its two.
    refused = {f"{crawl.bucket.uri}/private/{SECRET}", f"{crawl.bucket.uri}/in/../private/{SECRET}", *forged}
    arguments = ["-n", "--subscription", crawl.clients.subscription, "-d", f"{out.uri}/unique", *store.flags]
    environment = environment_of(crawl, proxied)

    def is_complete(records: list[dict[str, Any]]) -> bool:
        return {record["uri"] for record in records} >= {*refused, f"{crawl.bucket.uri}/in/a.png"}

    with running_stream(tmp_path, *arguments, "--allow", f"{crawl.bucket.uri}/in", env=environment) as run:
        run.wait_until(lambda: is_complete(run.records()), 120)
        run.wait_until(lambda: bool(out.files("unique")))
        assert run.drain() == 130, run.log_tail()
    records = run.records()
    kept = [record["uri"] for record in records if record["status"] == "kept"]
    assert kept == [f"{crawl.bucket.uri}/in/a.png"]
    rejected = [record for record in records if record["status"] == "rejected"]
    assert {record["uri"] for record in rejected} == refused
    for record in rejected:
        assert (record["reason"], record["digest"]) == ("not_allowed", None)
        assert record["detail"] == f"not below {crawl.bucket.uri}/in"
    assert list(out.files("unique").values()) == [encoded(photo(2))]
    reads = [line for line in store.log.read_text("utf-8", "replace").splitlines() if "GET" in line]
    assert [line for line in reads if "a.png" in line], "the log shows what is read"
    assert [line for line in reads if SECRET in line or "secret" in line] == []

    crawl.publish(json.dumps({"uri": f"{other.uri}/{SECRET}"}).encode())
    allowed = ("--allow", f"{crawl.bucket.uri}/in", "--allow", other.uri)
    with running_stream(tmp_path, *arguments, *allowed, env=environment) as run:
        run.wait_for(len(records) + 1)
        run.wait_until(lambda: len(out.files("unique")) == 2)
        assert run.drain() == 130, run.log_tail()
    [new] = [record for record in run.records() if record not in records]
    assert (new["uri"], new["status"]) == (f"{other.uri}/{SECRET}", "kept")
    check_acknowledged(crawl, out)
