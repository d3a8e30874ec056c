"""Poisoned input of a stream costs only itself: it is judged or rejected, and a restart can read its record.

Each field of messages, of WebDataset sidecars, of rows of `-l`, and of WARC headers gets values that break careless code.
"""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from beam_dedup.core import blocks, tables
from beam_dedup.core.arrivals import Arrival, event_metadata
from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata.json_rows import json_rows
from beam_dedup.core.model import ImageRef, Reason, Rejection, Status, Verdict
from beam_dedup.core.preference import KeepPolicy
from beam_dedup.core.rank import ranks_of
from beam_dedup.core.reading.reader import read_images
from beam_dedup.core.stream.protocol import exact_plan
from beam_dedup.options import checks, parser
from beam_dedup.stream.resume import parse_record, resume
from tests.core.archives.made_archives import PNG, record, response, tar, warc
from transforms.batching import verdicts_in
from transforms.place import placements
from transforms.read import list_rows
from transforms.storage.prefetch import fetched
from transforms.stream.publish import attributes_of, message_data
from transforms.stream.pubsub import parsed_arrivals
from transforms.stream.record import RecordPaths, latencies, write_files
from transforms.stream.skip_judged import SkipJudgedFn

SETTINGS = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
OVERFLOWING = "0001-01-01T00:00:00+23:59"  # in UTC, before year 1
POISON: tuple[Any, ...] = (
    OVERFLOWING,
    "9999-12-31T23:59:59-23:59",
    "\ud800",
    "\udcff",
    "\0",
    "",
    "..",
    "../../etc/passwd",
    "C:\\x",
    "\x1b[2J\n",
    "x" * 5000,
    "hdfs://name/a.png",
    "azfs://account/a.png",
    "gs://",
    "s3:///",
    -1,
    10**400,
    1 << 63,
    1e300,
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    {},
    [[[[]]]],
    {"generation": "7"},
)
VALUES = st.sampled_from(POISON) | st.text(max_size=5) | st.integers() | st.floats()
FIELDS = ("generation", "event_time", "url", "__path__", "time", "uri", "\ud800", "")
OBJECTS = st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), VALUES, max_size=4)


class Stream:
    """The path of images from reference to record, and a restart that reads the records."""

    def __init__(self, folder: Path) -> None:
        self.records = folder / "records"
        self.state = self.records / ".state"
        self.state.mkdir(parents=True, exist_ok=True)
        self.scratch = folder
        self.path = folder / "file"

    def verdicts(self, reference: ImageRef, data: bytes) -> list[Verdict]:
        """Reads a reference whose bytes are `data`; records all images as kept, or as rejected."""
        self.path.write_bytes(data)
        found = list(read_images(reference, str(self.path), None, lambda _: None))
        fingerprints = [one for one in found if not isinstance(one, Rejection) and hasattr(one, "digest")]
        table = tables.fingerprints_table(fingerprints)  # type: ignore[arg-type]
        ranks_of(table, KeepPolicy.FIRST)
        verdicts = [
            Verdict(image.ref, Status.KEPT, digest=image.digest, size_bytes=image.size_bytes)
            for image in tables.fingerprints_of(table)
        ]
        verdicts += [Verdict.of_rejection(one) for one in found if isinstance(one, Rejection)]
        return self.recorded(verdicts)

    def recorded(self, verdicts: list[Verdict]) -> list[Verdict]:
        """Records verdicts, and does what follows a record. Returns the verdicts as the next step gets them."""
        block = blocks.dump(tables.verdicts_table(verdicts))
        list(placements(block, "out", True, False, generations=True))
        list(latencies(block))
        skip = SkipJudgedFn(blocks.VERDICTS, str(self.no_identities()))
        skip.setup()
        list(skip.process(block))
        write_files(RecordPaths("run", str(self.records)), "1", block)
        for line in (self.records / "records-1.jsonl").read_bytes().splitlines():
            json.loads(line, parse_constant=pytest.fail)
        passed = list(verdicts_in(block))
        for verdict in passed:
            message_data(verdict)
            attributes_of(verdict)
        assert self.judged() == len(verdicts)
        return passed

    def no_identities(self) -> Path:
        path = self.scratch / "none.npy"
        np.save(path, np.array([], "S16"))
        return path

    def judged(self) -> int:
        """Restarts. Returns how many images were judged before."""
        arguments = ["-e", "--watch", "-i", "in", "--records", str(self.records)]
        config = checks.configure(parser.parse(arguments)[0])
        folders = RecordPaths("run", config.records, config.counts, str(self.state))
        return resume(config, folders, exact_plan(1), 1_769_860_800_000, str(self.scratch)).judged


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(tmp_path)


ALLOWED = ("gs://b", "gs://bucket")


def arrived(data: bytes, attributes: dict[str, str]) -> Iterator[Arrival]:
    message = SimpleNamespace(data=data, attributes=attributes, message_id="1")
    yield from map(Arrival.unpacked, parsed_arrivals(message, "projects/p/subscriptions/s", (), ALLOWED))


@pytest.mark.parametrize(
    "fields",
    [
        {"time": OVERFLOWING},
        {"time": "9999-12-31T23:59:59-23:59"},
        {"generation": "\ud800"},
        {"generation": "7\udcff"},
        {"generation": "x" * 1025},
        {"metadata": {"size": float("nan")}},
        {"metadata": {"size": [float("inf")]}},
        {"metadata": {"text": "x" * (1 << 20)}},
    ],
    ids=repr,
)
def test_poisoned_message_is_rejected_with_a_reason(fields: dict[str, Any], stream: Stream) -> None:
    [arrival] = arrived(json.dumps({"uri": "gs://bucket/a.png", **fields}).encode(), {})
    [verdict] = stream.verdicts(arrival.reference(), PNG)
    assert (verdict.status, verdict.reason) == (Status.REJECTED, Reason.BAD_NOTIFICATION)
    assert verdict.detail
    assert verdict.ref.uri == "projects/p/subscriptions/s/1"


@pytest.mark.parametrize(("field", "value"), [("eventTime", OVERFLOWING), ("objectGeneration", "x" * 1025)])
def test_poisoned_storage_event_is_rejected_with_a_reason(field: str, value: str, stream: Stream) -> None:
    attributes = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "a.png", field: value}
    [arrival] = arrived(b"", attributes)
    [verdict] = stream.verdicts(arrival.reference(), PNG)
    assert (verdict.status, verdict.reason) == (Status.REJECTED, Reason.BAD_NOTIFICATION)


@SETTINGS
@given(
    st.dictionaries(st.sampled_from(["uri", "generation", "time", "metadata"]), VALUES | OBJECTS, max_size=4),
    st.booleans(),
)
def test_any_message_gets_a_record_that_a_restart_can_read(
    tmp_path: Path, fields: dict[str, Any], with_uri: bool
) -> None:
    message = {**fields, **({"uri": "gs://bucket/a.png"} if with_uri else {})}
    for arrival in arrived(json.dumps(message).encode(), {}):
        Stream(tmp_path).verdicts(arrival.reference(), PNG)


@SETTINGS
@given(
    st.dictionaries(
        st.sampled_from(["bucketId", "objectId", "objectGeneration", "eventTime"]),
        st.sampled_from([value for value in POISON if isinstance(value, str)]) | st.text(max_size=5),
        max_size=4,
    )
)
def test_any_storage_event_gets_a_record_that_a_restart_can_read(
    tmp_path: Path, attributes: dict[str, str]
) -> None:
    named = {"eventType": "OBJECT_FINALIZE", "bucketId": "b", "objectId": "a.png", **attributes}
    for arrival in arrived(b"", named):
        Stream(tmp_path).verdicts(arrival.reference(), PNG)


@SETTINGS
@given(OBJECTS, st.text(max_size=5), st.booleans())
def test_any_sidecar_gets_a_record_that_a_restart_can_read(
    tmp_path: Path, metadata: dict[str, Any], text: str, is_stream: bool
) -> None:
    members = {
        "a.png": PNG,
        "a.json": json.dumps(metadata).encode(),
        "a.txt": text.encode("utf-8", "replace"),
    }
    reference = Arrival("gs://bucket/a.tar").reference() if is_stream else ImageRef("a.tar", "a.tar")
    [verdict] = Stream(tmp_path).verdicts(reference, tar(members))
    assert verdict.status == Status.KEPT


@SETTINGS
@given(
    st.dictionaries(
        st.sampled_from(
            ["WARC_Date", "WARC_Record_ID", "WARC_Truncated", "WARC_Segment_Number", "generation"]
        ),
        st.sampled_from([value for value in POISON if isinstance(value, str)]),
        max_size=4,
    ),
    st.sampled_from([value for value in POISON if isinstance(value, str)]),
)
def test_any_warc_header_gets_a_record_that_a_restart_can_read(
    tmp_path: Path, fields: dict[str, str], url: str
) -> None:
    fields = {name: re.sub("[\ud800-\udfff]", "?", value) for name, value in fields.items()}
    url = re.sub("[\ud800-\udfff]", "?", url)
    data = warc(record(url, response(PNG), **fields))
    Stream(tmp_path).verdicts(Arrival("gs://bucket/a.warc").reference(), data)


@SETTINGS
@given(OBJECTS, st.sampled_from(["/in/a.png", "gs://b/a.png", "hdfs://n/a.png"]))
def test_any_row_of_metadata_gets_a_verdict(tmp_path: Path, fields: dict[str, Any], path: str) -> None:
    rows = json.dumps({"__path__": path, **fields}).encode() + b"\n" + json.dumps(fields).encode()
    assert len(list(json_rows(io.BytesIO(rows)))) == 2
    (tmp_path / "rows.jsonl").write_bytes(rows)
    for reference in list_rows(str(tmp_path / "rows.jsonl")):
        Stream(tmp_path).verdicts(reference, PNG)


@pytest.mark.parametrize(
    ("uri", "requirement"),
    [("hdfs://name/a.png", "apache-beam[hadoop]"), ("azfs://account/c/a.png", "apache-beam[azure]")],
)
def test_object_of_a_store_that_is_not_installed_is_rejected_with_a_hint(uri: str, requirement: str) -> None:
    with pytest.raises(ImageError) as raised, fetched(uri, 1000):
        pass
    assert raised.value.reason == Reason.UNREADABLE
    assert raised.value.detail.endswith(
        f"needs packages that are not installed: run pip install '{requirement}'"
    )


@pytest.mark.parametrize("uri", ["gs://", "gs:///a", "s3://", "s3:///a", "abfs://a/b", "hdfs://", "azfs://"])
def test_uri_that_names_no_object_is_rejected_with_a_reason(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apache_beam.internal.gcp.auth.get_service_credentials", lambda _: None)
    with pytest.raises(ImageError) as raised, fetched(uri, 1000):
        pass
    assert raised.value.reason == Reason.UNREADABLE
    assert raised.value.detail


def test_generation_of_an_object_comes_from_the_field_of_the_message_alone() -> None:
    """Metadata with the same names are recorded under other names."""
    forged = {"generation": "7", "event_time": "2020-01-01T00:00:00Z", "title": "a"}
    [plain] = arrived(json.dumps({"uri": "gs://b/a.png", "metadata": forged}).encode(), {})
    reference = plain.reference()
    assert (reference.generation, event_metadata(reference.metadata)) == ("", ("", None))
    assert json.loads(reference.metadata) == {
        "source_generation": "7",
        "source_event_time": "2020-01-01T00:00:00Z",
        "title": "a",
    }
    [given_too] = arrived(
        json.dumps({"uri": "gs://b/a.png", "generation": 8, "metadata": forged}).encode(), {}
    )
    reference = given_too.reference()
    assert (reference.generation, event_metadata(reference.metadata)) == ("8", ("8", None))


def test_image_with_forged_generation_is_copied_and_known_after_a_restart(stream: Stream) -> None:
    data = json.dumps({"uri": "gs://b/a.png", "metadata": {"generation": "7"}}).encode()
    [arrival] = arrived(data, {})
    [verdict] = stream.verdicts(arrival.reference(), PNG)
    block = blocks.dump(tables.verdicts_table([verdict]))
    [placement] = placements(block, "out", False, False, generations=True)
    assert (placement.generation, placement.otherwise) == ("", "")
    [record_line] = (stream.records / "records-1.jsonl").read_bytes().splitlines()
    assert parse_record(json.loads(record_line)).identity == arrival.identity


def test_sidecar_cannot_forge_the_generation_of_a_member(stream: Stream) -> None:
    members = {
        "a.png": PNG,
        "a.json": b'{"generation": "7", "event_time": "2020-01-01T00:00:00Z", "title": "a"}',
    }
    arrival = Arrival("gs://b/a.tar", "8")
    [verdict] = stream.verdicts(arrival.reference(), tar(members))
    assert event_metadata(verdict.ref.metadata) == ("8", None)
    assert json.loads(verdict.ref.metadata)["source_generation"] == "7"
    batch = ImageRef("a.tar", "a.tar")
    [verdict] = stream.verdicts(batch, tar(members))
    assert json.loads(verdict.ref.metadata)["generation"] == "7", "unchanged in batch"


def test_message_that_would_exceed_the_limit_of_pubsub_has_no_metadata() -> None:
    verdict = Verdict(ImageRef("gs://b/a", "a", json.dumps({"text": "x" * 1000})), Status.KEPT)
    assert message_data(verdict) == verdict.json_line().encode()
    short = message_data(verdict, most_bytes=1000)
    assert json.loads(short) == {**verdict.record(), "metadata": None}
