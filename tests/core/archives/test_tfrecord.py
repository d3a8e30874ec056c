"""Images in TFRecord files: records as members, against the protobuf library and Beam's writer; damage and limits."""

import io
import random
import struct
import tracemalloc
from typing import Any

import pytest
from apache_beam.io.tfrecordio import _TFRecordUtil
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from beam_dedup.core.archives import tfrecord
from beam_dedup.core.archives.containers import TFRECORD, Container, container_of, members, read_members
from beam_dedup.core.archives.members import BadMember, Member
from beam_dedup.core.archives.tfrecord import looks_like_tfrecord
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import GIF, JPEG, PNG

Field = descriptor_pb2.FieldDescriptorProto


def example_class() -> Any:
    """Returns the message `tf.train.Example`, as TensorFlow declares it."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="t", syntax="proto3")

    def message(name: str, *fields: tuple[str, int, int, bool, str], parent: Any = None) -> Any:
        made = (parent.nested_type if parent else file.message_type).add(name=name)
        for field, number, kind, is_repeated, type_name in fields:
            label = Field.LABEL_REPEATED if is_repeated else Field.LABEL_OPTIONAL
            made.field.add(name=field, number=number, type=kind, label=label, type_name=type_name or None)
        return made

    message("BytesList", ("value", 1, Field.TYPE_BYTES, True, ""))
    message("FloatList", ("value", 1, Field.TYPE_FLOAT, True, ""))
    message("Int64List", ("value", 1, Field.TYPE_INT64, True, ""))
    message(
        "Feature",
        ("bytes_list", 1, Field.TYPE_MESSAGE, False, ".t.BytesList"),
        ("float_list", 2, Field.TYPE_MESSAGE, False, ".t.FloatList"),
        ("int64_list", 3, Field.TYPE_MESSAGE, False, ".t.Int64List"),
    )
    features = message("Features", ("feature", 1, Field.TYPE_MESSAGE, True, ".t.Features.FeatureEntry"))
    entry = message(
        "FeatureEntry",
        ("key", 1, Field.TYPE_STRING, False, ""),
        ("value", 2, Field.TYPE_MESSAGE, False, ".t.Feature"),
        parent=features,
    )
    entry.options.map_entry = True
    message("Example", ("features", 1, Field.TYPE_MESSAGE, False, ".t.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Example"))


EXAMPLE = example_class()


def example(**features: Any) -> bytes:
    made = EXAMPLE()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = made.features.feature[name]
        if values and isinstance(values[0], bytes):
            feature.bytes_list.value.extend(values)
        elif values and isinstance(values[0], float):
            feature.float_list.value.extend(values)
        else:
            feature.int64_list.value.extend(values)
    data: bytes = made.SerializeToString(deterministic=True)
    return data


def tfrecords(*records: bytes) -> bytes:
    out = io.BytesIO()
    for record in records:
        _TFRecordUtil.write_record(out, record)
    return out.getvalue()


def read(data: bytes, limits: Limits | None = None) -> list[Any]:
    return list(members(io.BytesIO(data), Container(TFRECORD, column="image"), limits))


def read_again(data: bytes, *names: str) -> list[tuple[str, bytes]]:
    return list(read_members(io.BytesIO(data), Container(TFRECORD, column="image"), names))


def test_file_is_recognised_by_the_checksum_of_a_length() -> None:
    head = tfrecords(example(image=PNG))[:4096]
    assert container_of(head) is None
    assert container_of(head, "image") == Container(TFRECORD, column="image")
    assert container_of(head[:8] + b"\0" + head[9:], "image") is None
    for other in (b"", head[:11], bytes(100), b"\xff" * 100, PNG, JPEG):
        assert not looks_like_tfrecord(other)


def test_records_are_members_by_number_with_their_features() -> None:
    data = tfrecords(
        example(
            image=JPEG, label=3, name="é".encode(), box=[0.5, 1.0, 2.0, 4.0], ids=[-1, 1 << 62], raw=b"\xff"
        ),
        example(image=GIF, label=-7),
        example(image=b"no image", none=[]),
        example(label=1),
    )
    assert read(data) == [
        Member(
            "0",
            JPEG,
            metadata={"label": 3, "name": "é", "box": [0.5, 1.0, 2.0, 4.0], "ids": [-1, 1 << 62]},
            copy_name="0.jpg",
        ),
        Member("1", GIF, metadata={"label": -7}, copy_name="1.gif"),
        Member("2", b"no image", copy_name="2"),
        BadMember("3", Reason.EMPTY, "no bytes"),
    ]
    assert read_again(data, "2", "0", "9", "x") == [("0", JPEG), ("2", b"no image")]


def test_random_examples_equal_those_of_protobuf() -> None:
    chance = random.Random(4)
    for _ in range(200):
        features: dict[str, Any] = {"image": chance.randbytes(chance.randrange(1, 300))}
        for number in range(chance.randrange(6)):
            kind = chance.randrange(3)
            count = chance.randrange(1, 5)
            features[f"f{number}"] = [
                (float(chance.randrange(99)), chance.randrange(-(1 << 63), 1 << 63), b"text %d" % number)[
                    kind
                ]
                for _ in range(count)
            ]
        [found] = read(tfrecords(example(**features)))
        expected: dict[str, Any] = {}
        for name, values in features.items():
            if name != "image":
                plain = [one.decode() if isinstance(one, bytes) else one for one in values]
                expected[name] = plain[0] if len(plain) == 1 else plain
        assert (found.data, found.metadata) == (features["image"], expected)


def test_values_that_are_not_packed_are_read() -> None:
    """Writers of protobuf 2 write each number as a field of its own."""
    floats = b"".join(b"\x0d" + struct.pack("<f", value) for value in (0.5, 1.5))
    feature = b"\x12" + bytes([len(floats)]) + floats
    pair = b"\x0a\x01f\x12" + bytes([len(feature)]) + feature
    whole = example(image=PNG) + b"\x0a" + bytes([len(pair) + 2]) + b"\x0a" + bytes([len(pair)]) + pair
    [found] = read(tfrecords(whole))
    assert found.metadata == {"f": [0.5, 1.5]}


class TestErrors:
    def test_missing_feature_names_those_there_are(self) -> None:
        [bad] = read(tfrecords(example(img=PNG, label=1), example(image=PNG)))
        assert (bad.name, bad.reason) == ("", Reason.UNSUPPORTED)
        assert bad.detail.startswith("no feature is named 'image'; the first record has img, label")

    def test_bad_records_do_not_affect_others(self) -> None:
        found = read(
            tfrecords(example(image=PNG), b"\x0a\xff", b"\x0b", example(image=[PNG, GIF]), example(image=GIF))
        )
        assert [type(one) for one in found] == [Member, BadMember, BadMember, BadMember, Member]
        assert [one.reason for one in found[1:4]] == [Reason.DAMAGED, Reason.DAMAGED, Reason.UNSUPPORTED]

    def test_records_before_the_end_of_a_truncated_file_are_read(self) -> None:
        data = tfrecords(*(example(image=PNG) for _ in range(4)))
        *found, bad = read(data[: len(data) * 5 // 8])
        assert [one.name for one in found] == ["0", "1"]
        assert (bad.name, bad.reason) == ("", Reason.DAMAGED)
        assert "truncated" in bad.detail

    def test_any_damage_gives_members_and_one_error_at_most(self) -> None:
        whole = tfrecords(*(example(image=bytes([row]) * 50, n=[row] * 3, t=b"x", f=1.5) for row in range(8)))
        chance = random.Random(5)
        for _ in range(2000):
            data = bytearray(whole)
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            names = [one.name for one in read(bytes(data))]
            assert len(set(names)) == len(names)
            assert "" not in names[:-1]
            read_again(bytes(data), "0", "7")


class TestLimits:
    def test_too_many_records_and_too_large_images_are_refused(self) -> None:
        data = tfrecords(example(image=PNG), example(image=b"x" * 5000), example(image=GIF))
        found = read(data, Limits(max_member_bytes=4000))
        assert [one.name for one in found] == ["0", "1", "2"]
        assert found[1].reason == Reason.TOO_LARGE
        *_, bad = read(data, Limits(max_members=2))
        assert bad == BadMember("", Reason.TOO_LARGE, "more than 2 records; at or after member '1'")

    def test_too_large_a_record_does_not_affect_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = tfrecords(example(image=PNG), example(image=PNG, other=b"x" * 5000), example(image=GIF))
        monkeypatch.setattr(tfrecord, "_RECORD_BYTES", 4000)
        assert [type(one) for one in read(data)] == [Member, BadMember, Member]

    def test_metadata_are_bounded(self) -> None:
        numbers = example(image=PNG, ids=[1] * 30_000, label=1)
        long = example(image=PNG, text=b"x" * 2_000_000, label=1)
        assert [one.metadata for one in read(tfrecords(numbers, long))] == [{}, {"label": 1}]

    def test_millions_of_values_take_little_memory(self) -> None:
        many = tfrecords(example(image=[b""] * 400_000), example(image=PNG, ids=[1] * 5_000_000))
        tracemalloc.start()
        found = read(many)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [type(one) for one in found] == [BadMember, Member]
        assert peak < 30 << 20

    def test_message_with_very_many_fields_is_damaged(self) -> None:
        [bad] = read(tfrecords(b"\x10\x01" * 1_000_001))
        assert "more than 1000000 fields" in bad.detail
