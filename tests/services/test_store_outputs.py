"""Runs `dedup` with copies and output files in object stores."""

import re
from pathlib import Path

import pytest

from tests.app.cli_runs import dedup_apart
from tests.core.archives.made_archives import zipped
from tests.services.buckets import Bucket, amazon_bucket, files_of
from tests.services.servers import Service
from tests.transforms.files import encoded, write

pytestmark = pytest.mark.service


@pytest.mark.slow
def test_copies_equal_those_of_a_local_run(bucket: Bucket, samples: Path, tmp_path: Path) -> None:
    """Copies from a local directory to the store, within the store, and back. A second run changes nothing."""
    assert dedup_apart("-n", "-i", samples, "-d", tmp_path / "local", "-s", "-o", "").returncode == 0
    expected = files_of(tmp_path / "local")
    bucket.fill({f"in/{name}": data for name, data in files_of(samples).items()})
    for source, target in ((samples, "{b}/up"), ("{b}/in", "{b}/within"), ("{b}/in", tmp_path / "down")):
        for _ in range(2):
            ended = bucket.dedup("-n", "-i", source, "-d", target, "-s", "--quiet")
            assert (ended.returncode, ended.stderr) == (0, "")
    assert bucket.files("up") == bucket.files("within") == files_of(tmp_path / "down") == expected


def test_archive_members_are_copied_once(bucket: Bucket) -> None:
    bucket.fill({"in/a.zip": zipped({"b.png": encoded(1), "c/d.png": encoded(2)})})
    for _ in range(2):
        ended = bucket.dedup("-i", "{b}/in", "-d", "{b}/out", "--quiet")
        assert (ended.returncode, ended.stderr) == (0, "")
    assert bucket.files("out") == {"a.zip/b.png": encoded(1), "a.zip/c/d.png": encoded(2)}


@pytest.mark.parametrize("source", ["local", "store", "archive"])
def test_object_with_other_content_is_never_replaced(bucket: Bucket, tmp_path: Path, source: str) -> None:
    pictures = {"a.png": encoded(1), "b.png": encoded(2)}
    bucket.fill({f"in/{name}": data for name, data in pictures.items()} | {"x.zip": zipped(pictures)})
    bucket.fill({"out/a.png": b"something else", "out/x.zip/a.png": b"something else"})
    for name, data in pictures.items():
        write(tmp_path / "in" / name, data)
    given = {"local": tmp_path / "in", "store": "{b}/in", "archive": "{b}/x.zip"}[source]
    ended = bucket.dedup("-i", given, "-d", "{b}/out", "--quiet")
    assert ended.returncode == 1
    assert "1 image could not be placed" in ended.stderr
    assert "exists with other content; existing files are never replaced" in ended.stderr
    folder = "out/x.zip" if source == "archive" else "out"
    placed = bucket.files(folder)
    assert placed["a.png"] == b"something else"
    assert placed["b.png"] == pictures["b.png"]


def test_names_too_long_for_a_store_are_not_placed(bucket: Bucket, tmp_path: Path) -> None:
    long = "/".join(["x" * 250] * 4) + "/name-of-it.png"
    assert len(long) < 1024 < len(f"out/{long}") + 20
    members = {"a/" + long + "x" * 30: encoded(1), "fine.png": encoded(2)}
    write(tmp_path / "in/a.zip", zipped(members))
    write(tmp_path / "in" / "bytes-\udcff.png", encoded(3))
    ended = bucket.dedup("-i", tmp_path / "in", "-d", "{b}/out", "--quiet")
    assert ended.returncode == 1
    assert "1 image could not be placed" in ended.stderr
    assert "the name of an object has at most 1024 bytes" in ended.stderr
    assert bucket.files("out").keys() == {"a.zip/fine.png", "bytes-%FF.png"}


@pytest.mark.slow
def test_output_files_equal_local_ones(bucket: Bucket, samples: Path, tmp_path: Path) -> None:
    files = {"--records": "r.avro", "-o": "groups.json", "--counts": "counts.json"}
    for folder in ("{b}/out", tmp_path):
        named = [part for flag, name in files.items() for part in (flag, f"{folder}/{name}")]
        for _ in range(2):
            ended = bucket.dedup("-n", "-i", samples, *named)
            assert ended.returncode == 0
            assert re.fullmatch(
                r"(dedup: (loading|listing) .*\n)*(.* files read, .* elapsed\n)*", ended.stderr
            )
            assert "Initial_Image_Count    42" in ended.stdout
    stored = bucket.files("out")
    assert stored.keys() == set(files.values())
    for name in ("groups.json", "counts.json"):
        assert stored[name] == (tmp_path / name).read_bytes()
    assert len(stored["r.avro"]) == len((tmp_path / "r.avro").read_bytes())


def test_sharded_records_equal_those_of_one_file(s3: Service, samples: Path, tmp_path: Path) -> None:
    """Tested with s3:// only: fake-gcs-server does not support the batch requests with which Beam renames files in gs://."""
    bucket = amazon_bucket(s3)
    ended = bucket.dedup("-i", samples, "--records", "{b}/r/", "--quiet")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert dedup_apart("-i", samples, "--records", tmp_path / "r.jsonl", "-o", "").returncode == 0
    shards = bucket.files("r")
    assert all(name.startswith("records-") and name.endswith(".jsonl") for name in shards)
    lines = [line for data in shards.values() for line in data.decode().splitlines()]
    # Only records in one file have the sizes of their groups.
    expected = re.sub('"group_size": [0-9]+', '"group_size": null', (tmp_path / "r.jsonl").read_text("utf-8"))
    assert sorted(lines) == sorted(expected.splitlines())
