"""`--allow` and `--links`: which values are refused, what a run rejects, and that it does not read that."""

import json
import random
import string
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that

from beam_dedup.cli import main
from beam_dedup.core import blocks, tables
from beam_dedup.core.allowed import is_allowed
from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.model import ACCESS_REASONS, Fingerprint, ImageRef, Reason, Rejection, Verdict
from beam_dedup.options import checks, parser
from beam_dedup.options.config import DedupConfig
from beam_dedup.stream.resume import parse_record
from tests.app.cli_runs import dedup, dedup_apart, records_in, tree
from tests.app.stream_process import running_stream
from tests.transforms.files import encoded, write
from tests.transforms.object_store import Store, uri
from transforms import FingerprintImages, ReadSettings
from transforms.batching import verdicts_in
from transforms.stream.pubsub import parsed_arrivals
from transforms.stream.skip_judged import SkipJudgedFn

SUBSCRIPTION = "projects/p/subscriptions/s"
SUBSCRIBE = ["--subscription", SUBSCRIPTION]
ALLOW = ("gs://b/in/",)
A, B, SECRET = encoded(1), encoded(2), encoded(3)


def configured(*arguments: str) -> DedupConfig:
    return checks.configure(parser.parse(arguments)[0])


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (SUBSCRIBE, "--subscription requires --allow, the buckets that messages may name"),
            ([*SUBSCRIBE, "--allow", ""], '--allow must name a bucket or a directory; got ""'),
            ([*SUBSCRIBE, "--allow", "gs://"], '--allow must name a bucket; got "gs://"'),
            ([*SUBSCRIBE, "--allow", "gs://b", "--allow", "gs://b/*"], '--allow must be a prefix, not a pattern; got "gs://b/*"'),
            ([*SUBSCRIBE, "--allow", "gs://b/../c"], "--allow must have no empty part and no '.', '..' or backslash; got \"gs://b/../c\""),
            ([*SUBSCRIBE, "--allow", "in"], '--allow must be in an object store with --subscription; got "in". Try --allow gs://BUCKET'),
            ([*SUBSCRIBE, "--allow", "http://b"], "--allow must be a directory, or in an object store"),
            (["-i", "in", "--allow", "gs://b"], "--allow applies only with --subscription or -l"),
            (["--watch", "-i", "in", "--allow", "gs://b"], "--allow applies only with --subscription or -l"),
            (["-l", "rows.jsonl", "--links", "inside"], "--links applies only with -i; with -l, --allow limits where links lead. Remove --links"),
            ([*SUBSCRIBE, "--allow", "gs://b", "--links", "inside"], "--links applies only with -i. Remove --links"),
            (["-i", "in", "--links", "outside"], '--links: must be one of follow, inside; got "outside"'),
            (["-i", "in", "--links"], "--links: expected one argument"),
            ([*SUBSCRIBE, "--allow"], "--allow: expected one argument"),
        ],
    )  # fmt: skip
    def test_wrong_use_is_refused(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(arguments) == 2
        assert message in capsys.readouterr().err

    def test_missing_directory_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "rows.jsonl").write_text("")
        (tmp_path / "crawl").mkdir()
        assert main(["-l", f"{tmp_path}/rows.jsonl", "--allow", f"{tmp_path}/crawls"]) == 2
        error = capsys.readouterr().err
        assert f'--allow must name an existing directory or file; got "{tmp_path}/crawls"' in error
        assert f"Did you mean --allow {tmp_path}/crawl?" in error

    def test_values(self) -> None:
        config = configured(*SUBSCRIBE, "--allow", "GS://b", "--allow=gs://c/in/", "--allow", "gs://b")
        assert config.allow == ("gs://b", "gs://c/in/")
        assert not config.links_inside
        assert not config.read_limits.roots
        assert configured("-l", "rows.jsonl").allow == ()
        config = configured("-l", "rows.jsonl", "--allow", "/data", "--allow", "gs://b")
        assert (config.read_limits.roots, config.read_limits.outside) == (("/data",), "not_allowed")
        for how, inside in (("inside", True), ("follow", False)):
            assert configured("-i", "/data", "--links", how).links_inside == inside
        limits = configured("-i", "/data", "-i", "gs://b", "--links=inside").read_limits
        assert (limits.roots, limits.outside) == (("/data",), "link_outside")


def arrival(data: bytes = b"", **attributes: str) -> Arrival:
    message = SimpleNamespace(data=data, attributes=attributes, message_id="1")
    [packed] = parsed_arrivals(message, SUBSCRIPTION, ("gs://out/unique",), ALLOW)
    return Arrival.unpacked(packed)


def message_of(path: str, **more: Any) -> Arrival:
    return arrival(json.dumps({"uri": path, **more}).encode())


def notification_of(bucket_id: str, name: str, **more: str) -> Arrival:
    return arrival(b"", eventType="OBJECT_FINALIZE", bucketId=bucket_id, objectId=name, **more)


class TestMessages:
    def test_object_outside_is_not_allowed(self) -> None:
        for found in (
            message_of("gs://b/x", generation="7", metadata={"a": 1}),
            notification_of("b", "x", objectGeneration="7"),
            notification_of("c", "in/x", objectGeneration="7"),
            notification_of("b", "in/../x", objectGeneration="7"),
            notification_of("b", "/in/x", objectGeneration="7"),
        ):
            reference = found.reference()
            assert reference.refused == ("not_allowed", "not below gs://b/in/")
            assert reference.uri.startswith("gs://")
            assert reference.generation == "7"

    def test_object_inside_is_allowed(self) -> None:
        for found in (message_of("gs://b/in/x"), notification_of("b", "in/x")):
            assert found == Arrival("gs://b/in/x")

    def test_attributes_of_the_publisher_prove_nothing(self) -> None:
        forged = notification_of(
            "c",
            "x",
            notificationConfig="projects/_/buckets/b/notificationConfigs/1",
            bucket="b",
            payloadFormat="JSON_API_V1",
        )
        assert forged.reason == "not_allowed"
        forged = arrival(b'{"uri": "gs://c/x"}', bucketId="b", objectId="in/x", bucket="b")
        assert (forged.uri, forged.reason) == ("gs://c/x", "not_allowed")

    @pytest.mark.parametrize("path", ["GS://b/in/x", "/b/in/x", "file:///b/in/x", "in/x", "http://b/in/x"])
    def test_path_outside_of_stores_stays_a_bad_notification(self, path: str) -> None:
        reference = message_of(path).reference()
        assert reference.refused
        assert reference.refused[0] == "bad_notification"

    def test_nothing_is_allowed_without_prefixes(self) -> None:
        message = SimpleNamespace(data=b'{"uri": "gs://b/x"}', attributes={}, message_id="1")
        [packed] = parsed_arrivals(message, SUBSCRIPTION, (), ())
        assert Arrival.unpacked(packed).reason == "not_allowed"

    def test_random_messages(self) -> None:
        """Every message that is not refused names an allowed object, and names it as the message does."""
        rng = random.Random(3)
        parts = [
            "gs://",
            "s3://",
            "b",
            "in",
            "/",
            "..",
            "%2e",
            "%2f",
            "\\",
            ";",
            "x",
            "c",
            "@",
            ":",
            "?",
            "#",
            " ",
        ]
        parts += list(string.printable)
        accepted = 0
        for _ in range(5_000):
            tail = "".join(rng.choices(parts, k=rng.randrange(6)))
            path = rng.choice(["gs://b/in/", "gs://b/in", "gs://b/", "gs://b", "gs://", ""]) + tail
            bucket, _, name = path.removeprefix("gs://").partition("/")
            for found in (message_of(path), notification_of(bucket, name)):
                if not found.refused:
                    accepted += 1
                    assert is_allowed(found.uri, ALLOW)
                    assert found.uri.startswith("gs://b/in/")
                    assert found.uri == path
                else:
                    assert found.reason in ("not_allowed", "bad_notification")
        assert accepted > 500


class TestRestart:
    def record(self, found: Arrival) -> dict[str, Any]:
        reference = found.reference()
        assert reference.refused
        reason, detail = reference.refused
        verdict = Verdict.of_rejection(Rejection(reference, Reason(reason), detail))
        record: dict[str, Any] = json.loads(verdict.json_line())
        return record

    @pytest.mark.parametrize("name", ["a.jpg", "a!b.tar", "a.tar!!x"])
    @pytest.mark.parametrize("reason", ACCESS_REASONS)
    def test_image_that_may_be_read_now_is_new(self, name: str, reason: Reason, tmp_path: Path) -> None:
        refused = Arrival(f"gs://b/{name}", "7", refused="why", reason=reason.value)
        known = parse_record(self.record(refused))
        np.save(tmp_path / "judged.npy", np.array([known.identity], "S16"))
        skips = {
            schema: SkipJudgedFn(schema, str(tmp_path / "judged.npy"))
            for schema in (blocks.FINGERPRINTS, blocks.VERDICTS)
        }
        for skip in skips.values():
            skip.setup()
        reference = Arrival(f"gs://b/{name}", "7").reference()
        image = Fingerprint(reference, b"1" * 32, 1, 0, "", 0, 0, "", ())
        block = blocks.dump(tables.fingerprints_table([image]))
        assert list(skips[blocks.FINGERPRINTS].process(block)) == [block]
        other = Verdict.of_rejection(Rejection(reference, Reason.EMPTY))
        again = Verdict.of_rejection(Rejection(refused.reference(), reason))
        [left] = skips[blocks.VERDICTS].process(blocks.dump(tables.verdicts_table([other, again])))
        assert [one.reason for one in verdicts_in(left)] == [Reason.EMPTY]

    def test_refused_arrival_does_not_hide_the_object(self) -> None:
        assert message_of("gs://b/x", generation="7").identity != Arrival("gs://b/x", "7").identity
        assert message_of("gs://b/x").identity == notification_of("b", "x").identity

    def test_arrivals_of_older_versions_are_read(self) -> None:
        old = json.dumps(["projects/p/subscriptions/s/1", "", None, "", "", "no uri: {}", False, None])
        found = Arrival.unpacked(old.encode())
        assert found.reference().refused == ("bad_notification", "no uri: {}")


def test_refused_object_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the thread that fetches ahead."""
    asked = []
    monkeypatch.setattr(Store, "objects", {uri("a.png"): A, uri("b.png"): SECRET})
    real_open = Store.open

    def note_open(self: Store, path: str, *_: Any, **__: Any) -> Any:
        asked.append(path)
        return real_open(self, path)

    monkeypatch.setattr(Store, "open", note_open)
    references = [
        ImageRef(uri("a.png"), "a.png"),
        ImageRef(uri("b.png"), "b.png", refused=("not_allowed", "not below gs://b")),
    ]
    with beam.Pipeline() as pipeline:
        made = pipeline | beam.Create([references])
        read = made | FingerprintImages(settings=ReadSettings())
        verdicts = read.rejections | beam.FlatMap(verdicts_in) | beam.Map(lambda verdict: (verdict.ref.uri, verdict.reason.value))  # fmt: skip

        def check(found: list[Any]) -> None:
            assert found == [(uri("b.png"), "not_allowed")]

        assert_that(verdicts, check)
    assert set(asked) == {uri("a.png")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "in/a.jpg", A)
    write(tmp_path / "in/sub/b.jpg", B)
    write(tmp_path / "out/secret.jpg", SECRET)
    (tmp_path / "in/file.jpg").symlink_to("../out/secret.jpg")
    (tmp_path / "in/directory").symlink_to(tmp_path / "out")
    (tmp_path / "in/copy.jpg").symlink_to("a.jpg")
    return tmp_path


VERDICTS = {
    "a.jpg": ("kept", None),
    "b.jpg": ("kept", None),
    "copy.jpg": ("duplicate", "exact"),
    "file.jpg": ("rejected", "link_outside"),
    "directory": ("rejected", "link_outside"),
}


def verdicts_by_name(records: list[dict[str, Any]]) -> dict[str, tuple[str, str | None]]:
    return {Path(record["uri"]).name: (record["status"], record["reason"]) for record in records}


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("mode", ["-e", "-n"])
def test_batch_rejects_links_that_lead_out(folder: Path, jobs: int, mode: str) -> None:
    records, copies = folder / "r.jsonl", folder / "unique"
    run = dedup_apart(
        mode, "-i", folder / "in", "--links", "inside", "-d", copies, "--records", records, "-j", jobs, "-o", "", "--counts", folder / "c.json"
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert verdicts_by_name(list(records_in(records).values())) == VERDICTS
    assert tree(copies) == {"a.jpg": A, "sub/b.jpg": B}
    counts = json.loads((folder / "c.json").read_text())
    assert (counts["Initial_Image_Count"], counts["Final_Image_Count"]) == (5, 2)


def test_stream_rejects_links_that_lead_out(folder: Path) -> None:
    arguments = ("--watch", "-i", folder / "in", "--links", "inside", "-d", folder / "unique")
    with running_stream(folder, *arguments) as run:
        run.wait_for(5)
        (folder / "in/late.jpg").symlink_to("../out/secret.jpg")
        run.wait_for(6)
        assert run.drain() == 130, run.log_tail()
    expected = {**VERDICTS, "late.jpg": ("rejected", "link_outside")}
    assert verdicts_by_name(run.records()) == expected
    assert tree(folder / "unique") == {"a.jpg": A, "sub/b.jpg": B}
    with running_stream(folder, *arguments) as run:
        (folder / "in/file.jpg").unlink()
        (folder / "in/file.jpg").symlink_to("sub/b.jpg")
        run.wait_for(7)
        assert run.drain() == 130, run.log_tail()
    assert len(run.records()) == 7, "a restart adds no record of what was rejected"
    assert verdicts_by_name(run.records())["file.jpg"] in {
        ("duplicate", "exact"),
        ("rejected", "link_outside"),
    }


def test_records_without_links_are_equal(folder: Path) -> None:
    for name in ("file.jpg", "directory"):
        (folder / "in" / name).unlink()
    for number, more in enumerate(([], ["--links", "inside"], ["--links", "follow"])):
        assert (
            dedup("-n", "-i", folder / "in", *more, "--records", folder / f"{number}.jsonl", "--quiet") == 0
        )
    assert len({(folder / f"{number}.jsonl").read_bytes() for number in range(3)}) == 1


def test_rows_outside_are_rejected(folder: Path) -> None:
    paths = ["in/a.jpg", "in/file.jpg", "in/directory/secret.jpg", "out/secret.jpg", "in/../out/x.jpg", "in/gone.jpg", "/etc/passwd"]  # fmt: skip
    rows = [
        {"__path__": f"{folder}/{path}" if path[0] != "/" else path, "md5": f"{at:032x}"}
        for at, path in enumerate(paths)
    ]
    write(folder / "rows.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode())
    arguments = ("-n", "-l", folder / "rows.jsonl", "-d", folder / "unique", "--quiet")
    assert dedup(*arguments, "--allow", folder / "in", "--records", folder / "r.jsonl") == 0
    found = [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]
    by_path = {record["uri"].removeprefix(f"{folder}/"): record for record in found}
    assert {path for path, record in by_path.items() if record["reason"] == "not_allowed"} == {
        "in/file.jpg", "in/directory/secret.jpg", "out/secret.jpg", "out/x.jpg", "/etc/passwd"
    }  # fmt: skip
    assert by_path["in/a.jpg"]["status"] == "kept"
    assert by_path["in/gone.jpg"]["flags"] == ["described"]
    assert list(tree(folder / "unique").values()) == [A]
