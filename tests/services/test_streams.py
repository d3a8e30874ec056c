"""Runs a stream on a subscription: the storage server publishes objects in gs://, the test publishes invalid messages.

Compares what was published with the records, the published verdicts, and the output bucket.
"""

import random
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import stream_files
from tests.app.stream_process import StreamProcess, check_counts, check_summary, running_stream
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

IMAGES = 2000
BEFORE = 500  # images that exist before the run starts
OVERWRITTEN = 30  # images overwritten before the run reads them; as many during the run, and at its end


def test_stream_of_notifications_is_judged_completely(
    crawl: Crawl, verdicts: Clients, pubsub: Service, tmp_path: Path
) -> None:
    """Each (URI, generation) has one record and at least one equal message; each kept image has one copy, and no other
    copy exists; no two kept images are within k, and each duplicate has a witness; all messages are acknowledged. The run
    writes counts beside the records, and prints their sums at the end.
    """
    rng = random.Random(3)
    out = google_bucket(crawl.bucket.service)
    files = list({**stream_files.files(IMAGES, seed=3), **stream_files.hostile()}.items())
    rng.shuffle(files)
    _write_before_run(crawl, files[:BEFORE], files[-OVERWRITTEN:])
    arguments: tuple[str, ...] = (
        "-n",
        "--subscription",
        crawl.clients.subscription,
        "--allow",
        crawl.bucket.uri,
        "-d",
        f"{out.uri}/unique",
    )
    arguments += ("--verdict_topic", verdicts.topic, *crawl.bucket.service.flags)
    environment = environment_of(crawl, pubsub)
    with running_stream(tmp_path, *arguments, frequent_records=False, quiet=False, env=environment) as run:
        _publish_during_run(crawl, files[BEFORE:], rng)
        run.wait_for(len(crawl.expected), 120)
        _write_at_end(crawl, [name for name, _ in files[BEFORE : BEFORE + OVERWRITTEN]], files[:OVERWRITTEN])
        run.wait_for(len(crawl.expected))
        code = run.drain()
    check_acknowledged(crawl, out)
    records = run.records()
    check_each_once(records, crawl.expected)
    unplaced = check_copies(records, out.files("unique"), crawl.changed)
    assert code == 130, run.log_tail()
    assert ("could not be placed" in run.log_tail()) == bool(unplaced), run.log_tail()
    assert set(out.client.names()) == {f"unique/{name}" for name in out.files("unique")}
    Outside(crawl.expected.values()).check(records)
    check_counts(run.folder)
    assert check_summary(run.log_tail(), records) >= crawl.redelivered
    _check_rejected(crawl, run)
    check_published(records, verdicts)


def _write_before_run(crawl: Crawl, files: list[tuple[str, bytes]], others: list[tuple[str, bytes]]) -> None:
    """Writes files; overwrites some and deletes others, so that the run cannot read the first generation."""
    for name, data in files:
        crawl.upload(name, data)
    for (name, _), (_, data) in zip(files[:OVERWRITTEN], others, strict=False):
        crawl.overwrite(name, data)
    for name, _ in files[OVERWRITTEN : 2 * OVERWRITTEN]:
        crawl.delete(name)


def _publish_during_run(crawl: Crawl, files: list[tuple[str, bytes]], rng: random.Random) -> None:
    """Publishes invalid messages; uploads objects in 4 threads, redelivers every 10th, and overwrites and deletes some."""
    invalid: list[tuple[bytes, dict[str, str]]] = [
        (b"junk \xff", {}),
        (b"", {"some": "attribute"}),
        (b"[1, 2]", {}),
        (b'{"url": "gs://no/uri.jpg"}', {}),
        (b'{"uri": "/etc/passwd"}', {}),
        (b'{"uri": "file:///etc/passwd"}', {}),
        (b'{"uri": "gs://a/b.jpg", "time": "yesterday"}', {}),
        (b"", {"eventType": "OBJECT_FINALIZE", "bucketId": "no-name"}),
    ]
    for data, attributes in invalid:
        crawl.publish_invalid(data, **attributes)
    for event in ("OBJECT_DELETE", "OBJECT_METADATA_UPDATE", "OBJECT_ARCHIVE"):
        crawl.publish(b"{}", eventType=event, bucketId="some", objectId="deleted.jpg", objectGeneration="1")
    with ThreadPoolExecutor(4) as pool:
        for number, key in enumerate(pool.map(lambda file: crawl.upload(*file), files)):
            if number % 10 == 0:
                crawl.redeliver(key)
    for name, _ in files[:OVERWRITTEN]:
        crawl.overwrite(name, rng.choice(files)[1])
    for name, _ in files[OVERWRITTEN : 2 * OVERWRITTEN]:
        crawl.delete(name)


def _write_at_end(crawl: Crawl, names: list[str], others: list[tuple[str, bytes]]) -> None:
    """Redelivers every 40th notification after all images are judged, and writes new generations."""
    for key in list(crawl.expected)[::40]:
        if key.uri.startswith("gs://") and "!" not in key.uri and "%" not in key.uri:
            crawl.redeliver(key)
    for name, (_, data) in zip(names, others, strict=True):
        crawl.overwrite(name, data)


def _check_rejected(crawl: Crawl, run: StreamProcess) -> None:
    reasons: dict[str, set[str]] = defaultdict(set)
    for record in by_status(run.records(), "rejected"):
        reasons[record["reason"]].add(record["uri"])
        assert record["detail"] or record["reason"] == "empty", record
    assert reasons.pop("bad_notification") == crawl.invalid
    assert reasons.pop("not_found") <= crawl.changed
    odd = {reason: {uri.rpartition("/")[2] for uri in uris} for reason, uris in reasons.items()}
    assert odd == {"empty": {"empty.jpg"}, "not_an_image": {"page.jpg"}}
