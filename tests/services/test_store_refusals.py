"""Runs `dedup` with stores and options that it must refuse, with one line and before any work."""

import pytest

from beam_dedup.cli import main
from tests.services.buckets import Bucket
from tests.services.servers import Service
from tests.transforms.files import encoded

pytestmark = pytest.mark.service


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-i", "{b}/nosuch"], "-i: there is no file at {b}/nosuch"),
        (["-i", "{b}/in/*.gif"], "-i: there is no file at {b}/in/*.gif"),
        (["-i", "{b}-nosuch/in"], "-i: {b}-nosuch/in can't be read: there is no such bucket"),
        (["-i", "{b}/in", "--reference", "{b}/old"], "--reference: there is no file at {b}/old"),
        (
            ["-i", "{b}/in", "-d", "{b}-nosuch/x"],
            "-d: {b}-nosuch/x can't be written: there is no such bucket",
        ),
        (["-i", "{b}/in", "-d", "{b}"], "-d: the input {b}/in lies in {b}"),
        (["-i", "{b}/in", "-d", "{b}/in"], '-i and -d must name different paths; both name "{b}/in"'),
        (
            ["-i", "{b}/in", "-i", "{b}/in/a.png"],
            '-i must not name a file twice; "{b}/in" and "{b}/in/a.png" overlap. Remove one of them',
        ),
        (
            ["-i", "{b}/in", "-d", "{b}/x", "--place", "symlink"],
            "--place symlink works only with local files, but -d is {b}/x",
        ),
        (
            ["-i", "{b}/in", "-d", "out", "--place", "hardlink"],
            "--place hardlink works only with local files, but -i is {b}/in",
        ),
        (
            ["-i", "{b}/in", "--records", "{b}/in/a.png"],
            '--records must end in .jsonl, .ndjson, .json, .avro, .parquet or .csv, or in / for a directory; got "{b}/in/a.png"',
        ),
        (["-i", "{b}/in", "-o", "{b}/counts.json"], "-o: {b}/counts.json already exists"),
        (["-i", "{b}/in", "--records", "{b}/r/"], "--records: {b}/r/ already contains records"),
    ],
)
def test_wrong_usage_is_refused_and_changes_nothing(
    bucket: Bucket,
    arguments: list[str],
    sentence: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {"in/a.png": encoded(1), "counts.json": b'{"Initial_Image_Count": 1}', "r/records-0.jsonl": b""}
    bucket.fill(files)
    error = refused(bucket, arguments, capfd, monkeypatch)
    assert sentence.replace("{b}", bucket.uri) in error
    assert bucket.files() == files


def test_missing_credentials_are_reported_at_once(
    s3: Service, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beam itself would retry for hours."""
    flags = tuple(flag for flag in s3.flags if "key" not in flag)
    bucket = Bucket("s3://any", s3._replace(flags=flags), client=None)  # type: ignore[arg-type]
    error = refused(bucket, ["-i", "{b}/in"], capfd, monkeypatch)
    assert error.startswith("dedup: -i: s3://any/in can't be read: Unable to locate credentials")


def refused(
    bucket: Bucket, arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """Returns the one line that `dedup` prints, and checks that it exits with 2."""
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    assert main([*bucket.arguments(arguments), *bucket.service.flags]) == 2
    out, error = capfd.readouterr()
    error = error.removeprefix("dedup: loading Apache Beam\n")  # printed if that takes long
    assert (out, error.count("\n")) == ("", 1)
    return error
