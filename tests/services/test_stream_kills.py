"""Kills a streaming run that reads a subscription, as a failing machine would, and starts it again.

The subscription redelivers the messages that the killed run has not acknowledged.
"""

import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests import stream_files
from tests.app.stream_process import check_counts, running_stream
from tests.services.buckets import google_bucket
from tests.services.crawling import (
    Crawl,
    check_acknowledged,
    check_published,
    deliver_again,
    environment_of,
    unacknowledged,
)
from tests.services.servers import Service
from tests.services.test_pubsub import Clients
from tests.verdicts_outside import Outside, check_copies, check_each_once

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The return_immediately flag"),  # the only way to see an empty queue
]

KILLS = 5
FILES = 900
WINDOW_SECONDS = 4
BEFORE = 60  # objects that exist when the first run starts


def test_stream_killed_five_times_records_each_image_once(
    crawl: Crawl, verdicts: Clients, proxied: Service, tmp_path: Path
) -> None:
    """The run is killed at random times while objects arrive.

    In the end, each generation has one record and at least one equal message, each kept image one copy, and no other copy
    exists; no two kept images are within k; all messages are acknowledged.
    """
    rng = random.Random(12)
    out = google_bucket(crawl.bucket.service)
    arguments = [
        "-n",
        "--subscription",
        crawl.clients.subscription,
        "--allow",
        crawl.bucket.uri,
        "-d",
        f"{out.uri}/unique",
    ]
    arguments += ["--verdict_topic", verdicts.topic, *crawl.bucket.service.flags]
    environment = environment_of(crawl, proxied)
    files = iter({**stream_files.files(FILES, seed=5), **stream_files.hostile()}.items())
    recorded = []

    def feed(seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for name, data in itertools.islice(files, 1):
                crawl.upload(name, data)
            time.sleep(rng.random() * 0.1)

    for name, data in stream_files.hostile().items():
        crawl.upload(f"before/{name}", data)
    for name, data in itertools.islice(files, BEFORE):
        crawl.upload(name, data)
    for number in rng.sample(range(KILLS), KILLS):
        with running_stream(tmp_path, *arguments, env=environment) as run:

            def has_begun(run: Any = run) -> bool:
                feed(0.1)
                return bool(run.has_begun())

            def has_more_records(run: Any = run, before: int = len(run.records())) -> bool:
                feed(0.1)
                return len(run.records()) > before

            run.wait_until(has_begun)
            if number >= KILLS // 2:
                run.wait_until(has_more_records)
            feed(2 * (number + rng.random()) / KILLS)
            run.kill()
        deliver_again(crawl.clients)
        crawl.publish_invalid(b"junk")
        recorded.append(len(run.records()))
    assert len(set(recorded)) > KILLS // 2, "most kills came before or after the work"
    for name, data in files:
        crawl.upload(name, data)
    with running_stream(tmp_path, *arguments, env=environment) as run:
        run.wait_for(len(crawl.expected))
        time.sleep(1)  # redelivered messages arrive after the last record too
        assert run.drain() == 130, run.log_tail()
    check_acknowledged(crawl, out)
    records = run.records()
    check_each_once(records, crawl.expected)
    check_copies(records, out.files("unique"))
    check_counts(run.folder)
    Outside(crawl.expected.values()).check(records)
    check_published(records, verdicts)


def test_windowed_stream_killed_four_times_records_each_image_once(
    crawl: Crawl, proxied: Service, tmp_path: Path
) -> None:
    """A message is acknowledged after its record is written: each image has one record, each window is judged by itself."""
    arguments = [
        "-n",
        "--subscription",
        crawl.clients.subscription,
        "--allow",
        crawl.bucket.uri,
        *crawl.bucket.service.flags,
    ]
    arguments += ["--window", f"{WINDOW_SECONDS}s"]
    environment = environment_of(crawl, proxied)
    files = iter(stream_files.files(150, seed=6).items())
    for number in range(4):
        for name, data in itertools.islice(files, 30):
            crawl.upload(name, data)
        with running_stream(tmp_path, *arguments, env=environment) as run:
            time.sleep(5 + number * WINDOW_SECONDS / 3)
            run.kill()
        deliver_again(crawl.clients)
    for name, data in files:
        crawl.upload(name, data)
    with running_stream(tmp_path, *arguments, env=environment) as run:
        run.wait_for(len(crawl.expected))
        time.sleep(1)
        assert run.drain() == 130, run.log_tail()
    assert unacknowledged(crawl.clients) == []
    check_each_once(run.records(), crawl.expected)
    check_counts(run.folder)
    codes = Outside(crawl.expected.values())
    for path in (run.folder / "records").glob("records-*-window-*.jsonl"):
        codes.check([json.loads(line) for line in path.read_bytes().splitlines()])
