"""Images in a column of Arrow files and streams: rows as members, damage, and claims of huge sizes."""

import io
import random
import struct
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from beam_dedup.core.archives import arrow_images, arrow_messages
from beam_dedup.core.archives.arrow_messages import BODY_BYTES, looks_like_arrow
from beam_dedup.core.archives.containers import Container, container_of, members, read_members, row_batches
from beam_dedup.core.archives.members import BadMember, Member
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import GIF, JPEG, PNG

DATA = [GIF, JPEG, PNG, b"no image", b""]
FORMS = ("file", "stream")


def arrow(
    table: dict[str, Any] | pa.Table, form: str = "file", size: int | None = None, **options: Any
) -> bytes:
    out = io.BytesIO()
    table = table if isinstance(table, pa.Table) else pa.table(table)
    new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with new(out, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, size)
    return out.getvalue()


def read(data: bytes, column: str = "image", limits: Limits | None = None) -> list[Any]:
    return list(members(io.BytesIO(data), Container("arrow", column=column), limits))


def read_again(data: bytes, *names: str) -> list[tuple[str, bytes]]:
    return list(read_members(io.BytesIO(data), Container("arrow", column="image"), names))


def only_error(data: bytes, limits: Limits | None = None) -> BadMember:
    [bad] = read(data, limits=limits)
    assert isinstance(bad, BadMember)
    assert bad.name == ""
    return bad


@pytest.mark.parametrize("form", FORMS)
def test_file_is_an_archive_only_if_a_column_is_named(form: str) -> None:
    table = pa.table({"image": DATA}).replace_schema_metadata({"x": "y" * 100_000})
    for one in (table, pa.table({"image": DATA})):
        head = arrow(one, form)[:4096]
        assert looks_like_arrow(head)
        assert container_of(head) is None
        assert container_of(head, "image") == Container("arrow", column="image")


@pytest.mark.parametrize(
    "head", [b"\xff" * 64, b"\xff" * 4 + bytes(60), b"\xff\xff\xff\xff", PNG, b"\xff\xfe" * 40]
)
def test_other_files_are_none(head: bytes) -> None:
    assert not looks_like_arrow(head)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_rows_are_members_by_number(form: str, kind: pa.DataType, size: int, compression: str | None) -> None:
    data = arrow({"image": pa.array(DATA, kind), "n": range(5)}, form, size, compression=compression)
    suffixes = [".gif", ".jpg", ".png", "", ""]
    assert read(data) == [
        Member(str(row), one, metadata={"n": row}, copy_name=f"{row}{suffix}")
        for row, (one, suffix) in enumerate(zip(DATA, suffixes, strict=True))
    ]
    assert read_again(data, "3", "1", "9", "x") == [("1", JPEG), ("3", b"no image")]


@pytest.mark.parametrize("form", FORMS)
def test_structs_name_the_copies_and_columns_are_metadata(form: str) -> None:
    table = pa.table(
        {
            "image": [{"bytes": PNG, "path": "a.png"}, None, {"bytes": GIF, "path": "a.png"}],
            "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
            "number": pa.array([7, 8, 7]).dictionary_encode(),
            "raw": [b"raw"] * 3,
            "tags": [["a"], [], None],
        }
    )
    first, second, third = read(arrow(table, form, 2))
    assert first == Member("0", PNG, metadata={"kind": "x", "number": 7, "tags": ["a"]}, copy_name="a.png")
    assert second == BadMember("1", Reason.EMPTY, "no bytes")
    assert third == Member("2", GIF, metadata={"kind": "x", "number": 7}, copy_name="a#2.png")


def test_types_that_repeat_values_in_memory_are_no_metadata() -> None:
    """A run of a million rows, or views of one value, take little here, but a million values as Python objects."""
    ends = pa.array([3], pa.int32())
    columns = {
        "image": [PNG] * 3,
        "run": pa.RunEndEncodedArray.from_arrays(ends, pa.array(["x" * 1000])),
        "view": pa.array(["x" * 100] * 3, pa.string_view()),
        "lists": pa.array([["x"]] * 3, pa.list_view(pa.string())),
        "kinds": pa.DictionaryArray.from_arrays(pa.array([0, 0, 0]), pa.array([["x" * 1000]])),
        "n": [1, 2, 3],
    }
    data = arrow(columns)
    assert [one.metadata for one in read(data)] == [{"n": 1}, {"n": 2}, {"n": 3}]
    with pytest.raises(ImageError, match=r"the column 'run' holds .* which shards can't hold"):
        row_batches(io.BytesIO(data), Container("arrow", column="image"), Limits(), [0])


def test_all_columns_of_wanted_batches_are_read() -> None:
    table = pa.table({"image": DATA, "raw": [b"%d" % row for row in range(5)]}).replace_schema_metadata(
        {"a": "b"}
    )
    container = Container("arrow", column="image")
    schema, batches = row_batches(io.BytesIO(arrow(table, size=2)), container, Limits(), [3])
    assert schema.equals(table.schema, check_metadata=True)
    [(first, batch)] = batches
    assert (first, batch.to_pydict()) == (2, {"image": DATA[2:4], "raw": [b"2", b"3"]})


class TestErrors:
    @pytest.mark.parametrize("form", FORMS)
    def test_column_of_another_type_is_unsupported(self, form: str) -> None:
        bad = only_error(arrow({"image": ["a.png"]}, form))
        assert bad.reason == Reason.UNSUPPORTED
        assert bad.detail.startswith("the column 'image' holds string")

    @pytest.mark.parametrize("form", FORMS)
    def test_rows_before_the_end_of_a_truncated_file_are_read(self, form: str) -> None:
        data = arrow({"image": DATA * 4}, form, 5)
        *found, bad = read(data[: len(data) // 2])
        assert len(found) in (5, 10)
        assert (bad.name, bad.reason) == ("", Reason.DAMAGED)
        assert "the file has" in bad.detail
        for size in (8, 12, 20, 100):
            assert only_error(data[:size]).reason == Reason.DAMAGED

    def test_offsets_outside_of_the_buffers_are_damage(self) -> None:
        """pyarrow itself would read there."""
        data = arrow({"image": [b"x" * 40] * 3})
        offsets = struct.pack("<4i", 0, 40, 80, 120)
        assert data.count(offsets) == 1
        bad = only_error(data.replace(offsets, struct.pack("<4i", 0, 40, 1 << 30, 120)))
        assert bad.reason == Reason.DAMAGED

    @pytest.mark.parametrize("form", FORMS)
    def test_any_damage_gives_members_and_one_error_at_most(self, form: str) -> None:
        table = pa.table(
            {
                "image": [{"bytes": bytes([row]) * 300, "path": f"{row}.png"} for row in range(20)],
                "label": pa.array([f"cat {row % 3}" for row in range(20)]).dictionary_encode(),
                "tags": [["a"] * (row % 4) for row in range(20)],
            }
        )
        files = [arrow(table, form, 7), arrow(table, form, compression="zstd")]
        chance = random.Random(3)
        for _ in range(400):
            data = bytearray(chance.choice(files))
            for _ in range(chance.randint(1, 3)):
                # Half of the damage is in the headers, which are small.
                data[chance.randrange(8, chance.choice([900, len(data)]))] = chance.randrange(256)
            found = read(bytes(data))
            names = [one.name for one in found]
            assert len(set(names)) == len(names)
            assert "" not in names[:-1]
            read_again(bytes(data), "0", "19")

    def test_error_of_the_system_is_raised(self) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() > 20_000:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        data = arrow({"image": [random.Random(1).randbytes(5000) for _ in range(10)]}, size=2)
        with pytest.raises(OSError, match="Input/output"):
            list(members(Failing(data), Container("arrow", column="image")))


def memory_taken(data: bytes) -> Iterator[int]:
    """Yields the bytes that Python and pyarrow allocate at most while a file is read, after the result of reading."""
    tracemalloc.start()
    pool = pa.system_memory_pool()
    before = pool.bytes_allocated()
    only_error(data)
    yield tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    yield pool.bytes_allocated() - before


def with_claim(data: bytes, old: int, new: int, form: str = "<q") -> bytes:
    """Returns a file in which each number of one value is replaced."""
    before = struct.pack(form, old)
    assert before in data
    return data.replace(before, struct.pack(form, new))


class TestLimits:
    def test_too_many_rows_are_refused(self) -> None:
        bad = only_error(arrow({"image": [PNG] * 11}), limits=Limits(max_members=10))
        assert bad == BadMember("", Reason.TOO_LARGE, "11 rows; the limit is 10")
        many = arrow({"image": pa.nulls(1_000_000, pa.binary())}, compression="zstd")
        assert only_error(many).reason == Reason.TOO_LARGE

    def test_buffer_that_claims_gigabytes_is_refused_before_it_is_decompressed(self) -> None:
        image = bytes(50_000_001)
        data = arrow({"image": [image]}, compression="zstd")
        assert len(data) < 100_000
        bad = only_error(with_claim(data, len(image), 1 << 40))
        assert bad.reason == Reason.TOO_LARGE
        assert bad.detail == (
            f"a record batch takes more memory; the limit is {BODY_BYTES}: write smaller record batches"
        )
        assert max(memory_taken(with_claim(data, len(image), 1 << 40))) < 10 << 20

    def test_batch_larger_than_the_limit_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = arrow({"image": [b"x" * 10_000] * 20}, size=10)
        monkeypatch.setattr(arrow_messages, "BODY_BYTES", 50_000)
        bad = only_error(data)
        assert bad.reason == Reason.TOO_LARGE
        assert "write smaller record batches" in bad.detail

    def test_header_that_claims_gigabytes_is_damage(self) -> None:
        data = arrow({"image": [PNG]}, "stream")
        size = int.from_bytes(data[4:8], "little")
        bad = only_error(with_claim(data, size, 1 << 30, "<i"))
        assert bad.reason == Reason.DAMAGED
        assert max(memory_taken(with_claim(data, size, 1 << 30, "<i"))) < 10 << 20

    def test_long_value_of_many_rows_is_left_out(self) -> None:
        kinds = pa.DictionaryArray.from_arrays(pa.array([0] * 500), pa.array(["x" * 10_000_000]))
        found = read(arrow({"image": [PNG] * 500, "kind": kinds}))
        assert len(found) == 500
        assert {str(one.metadata) for one in found} == {"{}"}

    def test_dictionaries_are_bounded_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arrow_messages, "_DICTIONARY_BYTES", 10_000)
        columns = {str(n): pa.array(["x" * 3000]).dictionary_encode() for n in range(4)}
        bad = only_error(arrow({"image": [PNG], **columns}))
        assert (bad.reason, bad.detail) == (Reason.TOO_LARGE, "dictionaries of more than 10000 bytes")


@pytest.mark.parametrize("form", FORMS)
def test_advice_names_the_likely_column(form: str) -> None:
    advice = arrow_images.advice
    assert (
        advice(io.BytesIO(arrow({"x": [PNG], "image": [PNG]}, form)))
        == "an Arrow file with bytes in the column 'image'"
    )
    assert advice(io.BytesIO(arrow({"x": ["a"]}, form))) == "an Arrow file without a column of bytes"
    assert advice(io.BytesIO(arrow({"x": ["a"]}, form)[:40])) == ""
