"""What a message may say, and that nothing it says can stop the stream."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.stream.notifications import BadNotificationError, OtherEvent, parse

SETTINGS = settings(derandomize=True, deadline=None, max_examples=400)
FINALIZED = {
    "eventType": "OBJECT_FINALIZE",
    "bucketId": "crawl",
    "objectId": "2026/a b.jpg",
    "objectGeneration": "1785",
    "eventTime": "2026-01-31T12:00:00.250Z",
}


def test_an_object_of_cloud_storage() -> None:
    assert parse(b"whatever", FINALIZED) == Arrival("gs://crawl/2026/a b.jpg", "1785", 1769860800250)


@pytest.mark.parametrize("event", ["OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE", "NEW_KIND"])
def test_other_events(event: str) -> None:
    assert parse(b"", {**FINALIZED, "eventType": event}) == OtherEvent(event)


def test_json() -> None:
    assert parse(b'{"uri": "s3://b/a.jpg"}', {}) == Arrival("s3://b/a.jpg")
    said = {
        "uri": "s3://b/a.jpg",
        "generation": 7,
        "time": "1970-01-01T00:00:01+00:00",
        "metadata": {"z": 1, "a": "x"},
    }
    assert parse(json.dumps(said).encode(), {"other": "x"}) == Arrival(
        "s3://b/a.jpg", "7", 1000, '{"a": "x", "z": 1}'
    )
    assert parse(b'{"uri": "gs://a/b", "time": "1969-12-31T23:59:59"}', {}).event_ms == -1000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "attributes", "why"),
    [
        (b"", {}, "no JSON"),
        (b"\xff\xfe", {}, "no JSON"),
        (b"[" * 100_000, {}, "no JSON"),
        (b"[]", {}, "no uri"),
        (b"{}", {}, "no uri"),
        (b'{"uri": 7}', {}, "no uri"),
        (b'{"uri": ""}', {}, "empty, too long"),
        (b'{"uri": "a\\u0000b"}', {}, "zero byte"),
        (b'{"uri": "\\ud800"}', {}, "no text"),
        (json.dumps({"uri": "a" * 5000}).encode(), {}, "too long"),
        (b'{"uri": "/etc/passwd"}', {}, "no object store"),
        (b'{"uri": "file:///etc/passwd"}', {}, "no object store"),
        (b'{"uri": "gs://a/b", "metadata": []}', {}, "metadata"),
        (b'{"uri": "gs://a/b", "generation": [1]}', {}, "generation"),
        (b'{"uri": "gs://a/b", "generation": true}', {}, "generation"),
        (b'{"uri": "gs://a/b", "time": "yesterday"}', {}, "its time"),
        (b'{"uri": "gs://a/b", "time": 12}', {}, "its time"),
        (b"", {**FINALIZED, "bucketId": ""}, "bucketId or objectId"),
        (b"", {**FINALIZED, "bucketId": "a/b"}, "slash"),
        (b"", {"eventType": "OBJECT_FINALIZE"}, "bucketId or objectId"),
        (b"", {**FINALIZED, "eventTime": "soon"}, "its time"),
    ],
)
def test_what_makes_no_sense_is_told(data: bytes, attributes: dict[str, str], why: str) -> None:
    with pytest.raises(BadNotificationError, match=why) as refused:
        parse(data, attributes)
    sentence = str(refused.value)
    assert len(sentence) < 500
    sentence.encode()


@SETTINGS
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["uri", "generation", "time", "metadata", "x"]), inner, max_size=5
                )
            ),
            max_leaves=8,
        ).map(lambda said: json.dumps(said).encode()),
    ),
    st.dictionaries(st.sampled_from([*FINALIZED, "x"]), st.text(max_size=12), max_size=4),
)
def test_any_message_is_understood_or_refused(data: bytes, attributes: dict[str, str]) -> None:
    try:
        found = parse(data, attributes)
    except BadNotificationError:
        return
    if isinstance(found, Arrival):
        assert found.uri
        found.uri.encode()
        assert isinstance(found.generation, str)
