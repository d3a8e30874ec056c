"""Records as JSON and Avro, and pickling of the model's classes."""

import dataclasses
import inspect
import io
import itertools
import json
import pickle
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core import codes, errors, model, thresholds
from beam_dedup.core.matching import near_pairs, plan, selection
from beam_dedup.core.model import (
    AVRO_SCHEMA,
    DUPLICATE_REASONS,
    RECORD_FIELDS,
    REJECT_REASONS,
    Code,
    CodeKind,
    Fingerprint,
    Flag,
    ImageRef,
    Placement,
    Reason,
    Rejection,
    StandIn,
    Status,
    Unplaced,
    Verdict,
    Witness,
    avro_record,
    json_text,
    printable,
)

DIGEST = bytes(range(32))
REF = ImageRef("file:///in/å.jpg", "å.jpg")
NOT_UTF8 = ImageRef("file:///in/\udce5.jpg", "\udce5.jpg", json_text({"path": "\udce5", "n": [1, None]}))

KEPT = Verdict(
    ref=REF,
    status=Status.KEPT,
    digest=DIGEST,
    fingerprint=DIGEST[::-1],
    algorithm="dct/2",
    width=320,
    height=240,
    format="JPEG",
    size_bytes=5_000_000_000,
)
NEAR = dataclasses.replace(
    KEPT,
    ref=ImageRef("b", "b", '{"tika": {"a": [1, 2.5, "x"]}}', companions=("c.xmp", "d!.mov")),
    status=Status.DUPLICATE,
    reason=Reason.NEAR,
    witness=Witness(REF.uri, b"\xab" * 32, 3, 17, "trim"),
    kept_by="path:å",
    component=b"\n" * 32,
    split="train",
    assigned="test",
)
EXACT = dataclasses.replace(
    NEAR,
    reason=Reason.EXACT,
    witness=Witness(NOT_UTF8.uri, DIGEST, 0, None, "base"),
    flags=(Flag.TINY, Flag.FLAT),
)
UNDECODABLE = Verdict(
    NOT_UTF8,
    Status.KEPT,
    digest=DIGEST,
    format="EPS",
    size_bytes=7,
    flags=(Flag.UNDECODABLE,),
    detail="no \udcff decoder",
)
REJECTED = Verdict.of_rejection(Rejection(NOT_UTF8, Reason.UNREADABLE, "Permission denied: '\udce5'"))
UNITED = dataclasses.replace(
    KEPT,
    union=json_text(
        {
            "also": {
                "count": 2,
                "images": [
                    {
                        "uri": "\udce5",
                        "url": None,
                        "caption": "å",
                        "label": "1",
                        "date": None,
                        "position": [1.5, -2.0],
                    }
                ],
            },
            "label_conflict": False,
        }
    ),
)
VERDICTS = {
    "kept": KEPT,
    "united": UNITED,
    "near": NEAR,
    "exact": EXACT,
    "undecodable": UNDECODABLE,
    "rejected": REJECTED,
}


@pytest.mark.parametrize("name", VERDICTS)
def test_record_has_all_fields_in_order(name: str) -> None:
    assert tuple(VERDICTS[name].record()) == RECORD_FIELDS
    assert tuple(json.loads(VERDICTS[name].json_line())) == RECORD_FIELDS
    assert tuple(avro_record(VERDICTS[name].record())) == RECORD_FIELDS


def test_values_of_records() -> None:
    assert NEAR.record() == {
        "uri": "b",
        "status": "duplicate",
        "reason": "near",
        "digest": DIGEST.hex(),
        "fingerprint": DIGEST[::-1].hex(),
        "algorithm": "dct/2",
        "duplicate_of": "file:///in/å.jpg",
        "distance": 3,
        "long_distance": 17,
        "view": "trim",
        "width": 320,
        "height": 240,
        "format": "JPEG",
        "size_bytes": 5_000_000_000,
        "flags": [],
        "detail": None,
        "metadata": {"tika": {"a": [1, 2.5, "x"]}},
        "kept_by": "path:å",
        "companions": ["c.xmp", "d%21.mov"],
        "also": None,
        "label_conflict": None,
        "group": "ab" * 32,
        "group_size": None,
        "component": "0a" * 32,
        "split": "train",
        "assigned": "test",
    }
    unknown = dict.fromkeys(RECORD_FIELDS)
    assert REJECTED.record() == unknown | {
        "uri": NOT_UTF8.uri,
        "status": "rejected",
        "reason": "unreadable",
        "flags": [],
        "detail": "Permission denied: '\udce5'",
        "metadata": {"path": "\udce5", "n": [1, None]},
        "companions": [],
    }
    equal = dataclasses.replace(NEAR, witness=Witness("a", DIGEST, 0, 0, "base")).record()
    assert (equal["distance"], equal["long_distance"]) == (0, 0), "a distance of 0 became None"
    exact = EXACT.record()
    assert (exact["distance"], exact["long_distance"], exact["flags"]) == (0, None, ["tiny", "flat"])


def test_verdict_of_a_rejection_has_all_its_fields() -> None:
    rejection = Rejection(REF, Reason.TOO_LARGE, "2000000000 bytes", 2_000_000_000, DIGEST, "MP4")
    verdict = Verdict.of_rejection(rejection)
    assert verdict == Verdict(
        REF,
        Status.REJECTED,
        Reason.TOO_LARGE,
        DIGEST,
        format="MP4",
        size_bytes=2_000_000_000,
        detail="2000000000 bytes",
    )


def test_group_is_the_digest_of_the_kept_image() -> None:
    assert KEPT.group == DIGEST.hex()
    assert NEAR.group == "ab" * 32


@pytest.mark.parametrize("name", VERDICTS)
def test_avro_round_trip(name: str) -> None:
    verdict = VERDICTS[name]
    stream = io.BytesIO()
    record = verdict.record()
    fastavro.writer(stream, fastavro.parse_schema(AVRO_SCHEMA), [avro_record(record)], validator=True)
    stream.seek(0)
    (read,) = fastavro.reader(stream)
    assert isinstance(read, dict)
    assert read == avro_record(record)
    metadata = read.pop("metadata")
    assert (json.loads(metadata) if metadata else None) == record.pop("metadata")
    also = json.dumps(record.pop("also")).replace("\\udce5", "\\\\udce5")
    assert read.pop("also") == json.loads(also)
    assert read == {field: printable(value) for field, value in record.items()}


@pytest.mark.parametrize("name", VERDICTS)
def test_json_line_restores_the_record(name: str) -> None:
    line = VERDICTS[name].json_line()
    assert json.loads(line.encode("utf-8")) == VERDICTS[name].record()
    assert "\n" not in line


@settings(derandomize=True, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(st.characters()),
        lambda x: st.lists(x) | st.dictionaries(st.text(st.characters()), x),
    )
)
def test_json_text_restores_any_value(value: Any) -> None:
    """Including lone surrogates, which names that are not UTF-8 contain."""
    text = json_text(value)
    text.encode("utf-8")
    assert "\n" not in text
    if not any(
        "\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff" for a, b in pairs_of_characters(value)
    ):
        assert json.loads(text) == value


def pairs_of_characters(value: Any) -> list[tuple[str, str]]:
    """Returns all adjacent characters in a value: JSON joins adjacent surrogates, of which file names never
    contain the first.
    """
    text = repr(value) if not isinstance(value, str) else value
    found = list(itertools.pairwise(text))
    if isinstance(value, list):
        found += [pair for item in value for pair in pairs_of_characters(item)]
    if isinstance(value, dict):
        found += [pair for item in value.items() for part in item for pair in pairs_of_characters(part)]
    return found


def test_readable_names_stay_readable() -> None:
    assert json_text("日本 å") == '"日本 å"'
    assert json_text("å\udce5") == '"\\u00e5\\udce5"'
    assert printable("å\udce5") == "å\\udce5"
    assert printable(["\udce5"]) == ["\udce5"], "only text is changed"
    assert printable(5) == 5


def test_reasons_and_schema_list_the_same_values() -> None:
    assert {*DUPLICATE_REASONS, *REJECT_REASONS} == set(Reason)
    assert not set(DUPLICATE_REASONS) & set(REJECT_REASONS)
    for reason in Reason:
        kind = "duplicate" if reason in DUPLICATE_REASONS else "rejected"
        assert reason.meaning.startswith(f"{kind}: ")
        assert reason == str(reason) == reason.value == Reason(reason.value)
    schema = {field["name"]: field for field in AVRO_SCHEMA["fields"]}
    assert schema["reason"]["doc"].split(" | ") == [reason.value for reason in Reason]
    assert schema["status"]["doc"].split(" | ") == ["kept", "duplicate", "rejected"]
    assert schema["flags"]["doc"].split(" | ") == [flag.value for flag in Flag]


FINGERPRINT = Fingerprint(
    NOT_UTF8,
    DIGEST,
    5,
    6,
    "PNG",
    7,
    8,
    "dct/2",
    (Code(CodeKind.FULL, DIGEST), Code(CodeKind.TINY, DIGEST[:8], "trim")),
    (Flag.TINY,),
    "d",
)
PICKLED = [
    *VERDICTS.values(),
    FINGERPRINT,
    FINGERPRINT.codes[1],
    Rejection(NOT_UTF8, Reason.EMPTY, "x", 1, DIGEST),
    NEAR.witness,
    NOT_UTF8,
    Placement(NOT_UTF8.uri, NOT_UTF8.name, DIGEST),
    StandIn(NOT_UTF8.uri, "7"),
    Unplaced(Placement(NOT_UTF8.uri, NOT_UTF8.name, DIGEST), "why"),
    thresholds.Thresholds(3, 4),
    plan.Plan(8, 3, 2, 50),
    *Status,
    *Reason,
    *CodeKind,
    *Flag,
]


@pytest.mark.parametrize("thing", PICKLED, ids=lambda thing: type(thing).__name__)
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_values_pickle(thing: object, protocol: int) -> None:
    copy = pickle.loads(pickle.dumps(thing, protocol))
    assert copy == thing
    assert type(copy) is type(thing)
    if isinstance(thing, Reason):
        assert copy is thing
        assert copy.meaning == thing.meaning


def test_every_class_of_the_model_is_pickled_above() -> None:
    """A new class has to be added to PICKLED."""
    classes = {
        value for _, value in inspect.getmembers(model, inspect.isclass) if value.__module__ == model.__name__
    }
    assert classes == {type(thing) for thing in PICKLED} & classes


def test_values_cannot_be_changed() -> None:
    for thing in (KEPT, FINGERPRINT, FINGERPRINT.codes[0], NEAR.witness, NOT_UTF8, thresholds.Thresholds()):
        name = dataclasses.fields(thing)[0].name  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, name, None)
        assert not hasattr(thing, "__dict__")


def test_arrays_pickle() -> None:
    arrays = codes.from_codes([[Code(CodeKind.FLAT, b"\1" * 96)], [FINGERPRINT.codes[0]]])
    found = selection.nearest_kept(arrays, np.array([True, False]), thresholds.Thresholds())
    (pairs,) = near_pairs.near_pairs(codes.from_codes([[FINGERPRINT.codes[0]]] * 2), thresholds.Thresholds())
    for thing in (arrays, found, pairs):
        copy = pickle.loads(pickle.dumps(thing))
        assert_equal_columns(copy, thing)


def assert_equal_columns(copy: Any, thing: Any) -> None:
    for field in dataclasses.fields(thing):
        one, other = getattr(copy, field.name), getattr(thing, field.name)
        if dataclasses.is_dataclass(other):
            assert_equal_columns(one, other)
        else:
            assert np.array_equal(one, other)


@pytest.mark.parametrize(
    "error",
    [
        errors.ImageError(Reason.EMPTY, "nothing"),
        errors.DecodeError("damaged"),
        errors.DedupError("a"),
        errors.UsageError("b"),
        errors.ConservationError("c"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_pickle(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
