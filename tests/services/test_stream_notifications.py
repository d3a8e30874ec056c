"""Judges the notifications of a bucket on Flink.

Checks the records, the published messages, the output bucket, and that no message is left in the subscription.
"""

import random
import time
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.stream_process import running_stream
from tests.services.buckets import google_bucket
from tests.services.crawling import Crawl, check_acknowledged, check_published, environment_of
from tests.services.servers import Service
from tests.services.test_pubsub import Clients
from tests.verdicts_outside import Outside, by_status, check_copies, check_each_once

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The return_immediately flag"),  # the only way to see an empty queue
]

PATIENCE = 180.0
CHECKPOINT_SECONDS = 1


def test_notifications_are_judged_completely_on_flink(
    crawl: Crawl, verdicts: Clients, pubsub: Service, flink: Service, tmp_path: Path
) -> None:
    rng = random.Random(6)
    out = google_bucket(crawl.bucket.service)
    files = list({**stream_files.files(240, seed=6), **stream_files.hostile()}.items())
    rng.shuffle(files)
    for name, data in files[:80]:
        crawl.upload(name, data)
    arguments: tuple[str, ...] = (
        "-n",
        "--subscription",
        crawl.clients.subscription,
        "--allow",
        crawl.bucket.uri,
        "-d",
        f"{out.uri}/unique",
    )
    arguments += ("--verdict_topic", verdicts.topic, *crawl.bucket.service.flags, *flink.flags)
    arguments += (f"--checkpointing_interval={1000 * CHECKPOINT_SECONDS}",)
    with running_stream(tmp_path, *arguments, env=environment_of(crawl, pubsub)) as run:
        run.wait_for(len(crawl.expected), PATIENCE)
        for name, data in files[80:]:
            key = crawl.upload(name, data)
            if rng.random() < 0.2:
                crawl.redeliver(key)
        crawl.publish_invalid(b"junk \xff")
        crawl.publish(
            b"{}", eventType="OBJECT_DELETE", bucketId="some", objectId="gone", objectGeneration="1"
        )
        for name, _ in files[:20]:
            crawl.overwrite(name, rng.choice(files)[1])
        for name, _ in files[20:30]:
            crawl.delete(name)
        run.wait_for(len(crawl.expected), PATIENCE)
        may_be_missing = len(crawl.changed)
        run.wait_until(
            lambda: len(out.files("unique")) >= len(by_status(run.records(), "kept")) - may_be_missing,
            PATIENCE,
        )
        time.sleep(5 * CHECKPOINT_SECONDS)  # Flink acknowledges messages at the next checkpoint
        assert run.drain() == 130, run.log_tail()
    check_acknowledged(crawl, out)
    records = run.records()
    check_each_once(records, crawl.expected)
    Outside(crawl.expected.values()).check(records)
    check_copies(records, out.files("unique"), crawl.changed)
    check_published(records, verdicts)
    assert {record["uri"] for record in records if record["reason"] == "bad_notification"} == crawl.invalid
