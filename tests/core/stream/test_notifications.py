"""Parsing of notification messages: no message can stop the stream."""

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


def test_new_object_of_cloud_storage_is_an_arrival() -> None:
    assert parse(b"whatever", FINALIZED) == Arrival("gs://crawl/2026/a b.jpg", "1785", 1769860800250)


@pytest.mark.parametrize("event", ["OBJECT_DELETE", "OBJECT_ARCHIVE", "OBJECT_METADATA_UPDATE", "NEW_KIND"])
def test_other_event_on_an_object_is_no_arrival(event: str) -> None:
    assert parse(b"", {**FINALIZED, "eventType": event}) == OtherEvent(event)


def test_json_message_is_an_arrival() -> None:
    assert parse(b'{"uri": "s3://b/a.jpg"}', {}) == Arrival("s3://b/a.jpg")
    fields = {
        "uri": "s3://b/a.jpg",
        "generation": 7,
        "time": "1970-01-01T00:00:01+00:00",
        "metadata": {"z": 1, "a": "x"},
    }
    assert parse(json.dumps(fields).encode(), {"other": "x"}) == Arrival(
        "s3://b/a.jpg", "7", 1000, '{"a": "x", "z": 1}'
    )
    assert parse(b'{"uri": "gs://a/b", "time": "1969-12-31T23:59:59"}', {}).event_ms == -1000  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("data", "attributes", "why"),
    [
        (b"", {}, "not JSON"),
        (b"\xff\xfe", {}, "not JSON"),
        (b"[" * 100_000, {}, "not JSON"),
        (b"[]", {}, "no uri"),
        (b"{}", {}, "no uri"),
        (b'{"uri": 7}', {}, "no uri"),
        (b'{"uri": ""}', {}, "uri is empty, longer than 4096 bytes"),
        (b'{"uri": "a\\u0000b"}', {}, "zero byte"),
        (b'{"uri": "\\ud800"}', {}, "uri is not valid Unicode"),
        (json.dumps({"uri": "a" * 5000}).encode(), {}, "longer than 4096 bytes"),
        (b'{"uri": "/etc/passwd"}', {}, "uri must be in an object store"),
        (b'{"uri": "file:///etc/passwd"}', {}, "uri must be in an object store"),
        (b'{"uri": "gs://a/b", "metadata": []}', {}, "metadata is not a JSON object"),
        (b'{"uri": "gs://a/b", "generation": [1]}', {}, "generation is neither text nor an integer"),
        (b'{"uri": "gs://a/b", "generation": true}', {}, "generation is neither text nor an integer"),
        (b'{"uri": "gs://a/b", "time": "yesterday"}', {}, "time must be written as"),
        (b'{"uri": "gs://a/b", "time": 12}', {}, "time must be written as"),
        (b"", {**FINALIZED, "bucketId": ""}, "bucketId or objectId"),
        (b"", {**FINALIZED, "bucketId": "a/b"}, "slash"),
        (b"", {"eventType": "OBJECT_FINALIZE"}, "bucketId or objectId"),
        (b"", {**FINALIZED, "eventTime": "soon"}, "time must be written as"),
    ],
)
def test_bad_message_is_refused_with_a_reason(data: bytes, attributes: dict[str, str], why: str) -> None:
    with pytest.raises(BadNotificationError, match=why) as refused:
        parse(data, attributes)
    message = str(refused.value)
    assert len(message) < 500
    message.encode()


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
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.dictionaries(st.sampled_from([*FINALIZED, "x"]), st.text(max_size=12), max_size=4),
)
def test_any_message_is_parsed_or_refused(data: bytes, attributes: dict[str, str]) -> None:
    try:
        found = parse(data, attributes)
    except BadNotificationError:
        return
    if isinstance(found, Arrival):
        assert found.uri
        found.uri.encode()
        assert isinstance(found.generation, str)
