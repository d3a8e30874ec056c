"""Images in a column of a Parquet file: rows as members, names, metadata, errors and limits."""

import io
import random
import tracemalloc
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core.archives import parquet_images
from beam_dedup.core.archives.containers import Container, container_of, members, read_members
from beam_dedup.core.archives.members import BadMember, Member
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata import parquet_rows
from beam_dedup.core.model import Reason
from tests.core.archives.made_archives import GIF, JPEG, PNG, zipped

DATA = [GIF, JPEG, PNG, b"no image", b""]


def parquet(table: dict[str, Any] | pa.Table, **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.table(table), out, **options)
    return out.getvalue()


def read(data: bytes, column: str = "image", limits: Limits | None = None) -> list[Any]:
    container = container_of(data[:4096], column)
    assert container == Container("parquet", column=column)
    return list(members(io.BytesIO(data), container, limits))


def test_empty_table_has_no_images() -> None:
    data = parquet({"image": pa.array([], pa.binary())})
    assert read(data) == []
    assert read_again(data, "0") == []


def read_again(data: bytes, *names: str) -> list[tuple[str, bytes]]:
    return list(read_members(io.BytesIO(data), Container("parquet", column="image"), names))


def only_error(data: bytes, column: str = "image", limits: Limits | None = None) -> BadMember:
    [bad] = read(data, column, limits)
    assert isinstance(bad, BadMember)
    assert bad.name == ""
    return bad


def test_file_is_an_archive_only_if_a_column_is_named() -> None:
    head = parquet({"image": DATA})[:4096]
    assert container_of(head) is None
    assert container_of(head, "image") == Container("parquet", column="image")
    assert container_of(PNG, "image") is None


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("options", [{}, {"use_dictionary": False}, {"compression": "zstd"}])
def test_rows_are_members_by_number(kind: pa.DataType, size: int, options: dict[str, Any]) -> None:
    data = parquet({"image": pa.array(DATA, kind)}, row_group_size=size, **options)
    suffixes = [".gif", ".jpg", ".png", "", ""]
    assert read(data) == [
        Member(str(row), one, copy_name=f"{row}{suffix}")
        for row, (one, suffix) in enumerate(zip(DATA, suffixes, strict=True))
    ]
    assert read_again(data, "3", "1", "9", "x") == [("1", JPEG), ("3", b"no image")]


def test_bytes_of_a_fixed_size_are_read() -> None:
    data = parquet({"image": pa.array([b"GIF89a", b"abcdef"], pa.binary(6))})
    assert [(one.data, one.copy_name) for one in read(data)] == [(b"GIF89a", "0.gif"), (b"abcdef", "1")]


def test_structs_of_hugging_face_name_the_copies() -> None:
    paths = ["a.jpg", None, "gs://b/c.png", "a.jpg", "/d/" + "e" * 5000, ""]
    images = [{"bytes": PNG, "path": path} for path in paths]
    data = parquet({"image": images}, row_group_size=2)
    names = ["a.jpg", "1.png", "gs/b/c.png", "a#2.jpg", "4.png", "5.png"]
    assert [one.copy_name for one in read(data)] == names
    assert [one.data for one in read(data)] == [PNG] * 6
    assert read_again(data, "5") == [("5", PNG)]


def test_rows_without_bytes_are_empty() -> None:
    images = [
        None,
        {"bytes": None, "path": "x.jpg"},
        {"bytes": GIF, "path": None},
        {"bytes": None, "path": None},
    ]
    for data in (parquet({"image": images}), parquet({"image": images}, use_dictionary=False)):
        found = read(data)
        assert [type(one) for one in found] == [BadMember, BadMember, Member, BadMember]
        assert {one.reason for one in found if isinstance(one, BadMember)} == {Reason.EMPTY}
        assert found[1] == BadMember("1", Reason.EMPTY, "no bytes, only the path 'x.jpg'")
        assert found[2].copy_name == "2.gif"
        assert read_again(data, "0", "1", "2") == [("2", GIF)]
    plain = parquet({"image": [None, PNG]})
    assert read(plain) == [BadMember("0", Reason.EMPTY, "no bytes"), Member("1", PNG, copy_name="1.png")]


class TestMetadata:
    def test_other_columns_are_metadata_without_bytes(self) -> None:
        table = pa.table(
            {
                "label": [1, None],
                "image": [PNG, GIF],
                "tags": [["x", "y"], []],
                "box": [{"x": 1.5, "y": float("nan")}, None],
                "raw": [b"abc", b"def"],
                "inner": [{"thumbnail": b"abc"}, None],
                "image.x": ["a", "b"],
                "kind": pa.array(["cat", "dog"]).dictionary_encode(),
            }
        )
        first, second = (one.metadata for one in read(parquet(table, row_group_size=1)))
        assert first == {
            "label": 1,
            "tags": ["x", "y"],
            "box": {"x": 1.5, "y": None},
            "image.x": "a",
            "kind": "cat",
        }
        assert second == {"tags": [], "image.x": "b", "kind": "dog"}

    def test_too_many_metadata_of_a_row_are_left_out(self) -> None:
        texts = ["a", "b" * 2_000_000, "c"]
        found = read(parquet({"image": [PNG] * 3, "text": texts}))
        assert [one.metadata for one in found] == [{"text": "a"}, {}, {"text": "c"}]

    def test_text_that_is_not_utf8_is_left_out(self) -> None:
        texts = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
        data = parquet({"image": [PNG] * 3, "text": texts})
        assert [one.metadata for one in read(data)] == [{"text": "a"}, {}, {"text": "c"}]

    def test_columns_of_one_name_are_left_out(self) -> None:
        table = pa.table([[PNG], [1], [2], [3]], names=["image", "a", "a", "b"])
        assert [one.metadata for one in read(parquet(table))] == [{"b": 3}]


class TestErrors:
    @pytest.mark.parametrize(
        ("table", "detail"),
        [
            ({"img": [PNG], "label": [1]}, "no column is named 'image'; the file has img, label"),
            ({"image": ["a.png"]}, "the column 'image' holds string, neither bytes nor structs"),
            ({"image": [[PNG]]}, "the column 'image' holds list<element: binary>"),
            ({"image": [{"path": "a.png"}]}, "the column 'image' holds struct<path: string>"),
            ({"image": [{"bytes": "a"}]}, "the column 'image' holds struct<bytes: string>"),
            (pa.table([[PNG], [PNG]], names=["image"] * 2), "2 columns are named 'image'"),
        ],
        ids=lambda value: value[:30] if isinstance(value, str) else "",
    )
    def test_column_of_another_type_is_unsupported(self, table: Any, detail: str) -> None:
        bad = only_error(parquet(table))
        assert bad.reason == Reason.UNSUPPORTED
        assert bad.detail.startswith(detail)

    def test_archive_in_a_row_is_not_opened(self) -> None:
        [bad, good] = read(parquet({"image": [zipped({"a.png": PNG}), PNG]}))
        assert (bad.name, bad.reason) == ("0", Reason.NESTED_ARCHIVE)
        assert good.data == PNG

    def test_damage_to_a_row_group_does_not_end_the_next_one(self) -> None:
        images = [bytes([row]) * 50 for row in range(6)]
        data = bytearray(parquet({"image": images}, row_group_size=2, use_dictionary=False))
        begin = pq.read_metadata(io.BytesIO(data)).row_group(1).column(0).data_page_offset
        data[begin] ^= 0xFF
        *found, bad = read(bytes(data))
        assert [one.name for one in found] == ["0", "1", "4", "5"]
        assert (bad.name, bad.reason) == ("", Reason.DAMAGED)
        assert "at or after member '1'" in bad.detail

    def test_truncated_file_is_damaged(self) -> None:
        data = parquet({"image": DATA})
        for size in (4, 8, 12, len(data) // 2, len(data) - 1):
            assert only_error(data[:size]).reason == Reason.DAMAGED

    def test_any_damage_gives_members_and_one_error_at_most(self) -> None:
        images = [{"bytes": bytes([row]) * 300, "path": f"{row}.png"} for row in range(20)]
        table = {"image": images, "label": [f"cat {row}" for row in range(20)]}
        files = [parquet(table, row_group_size=7), parquet(table, use_dictionary=False, compression="none")]
        chance = random.Random(2)
        for _ in range(300):
            data = bytearray(chance.choice(files))
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(4, len(data))] ^= 1 << chance.randrange(8)
            if data[:4] != b"PAR1":
                continue
            found = read(bytes(data))
            names = [one.name for one in found]
            assert len(set(names)) == len(names)
            assert "" not in names[:-1]
            read_again(bytes(data), "0", "19")

    def test_error_of_the_system_is_raised(self) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if 1000 < self.tell() < 30_000:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        data = parquet({"image": [random.Random(1).randbytes(5000) for _ in range(10)]}, use_dictionary=False)
        with pytest.raises(OSError, match="Input/output"):
            list(members(Failing(data), Container("parquet", column="image")))


class TestLimits:
    def test_too_many_rows_are_refused(self) -> None:
        bad = only_error(parquet({"image": [PNG] * 11}), limits=Limits(max_members=10))
        assert bad == BadMember("", Reason.TOO_LARGE, "11 rows; the limit is 10")
        assert only_error(parquet({"image": pa.nulls(200_001, pa.binary())})).reason == Reason.TOO_LARGE

    def test_too_large_an_image_does_not_affect_others(self) -> None:
        found = read(parquet({"image": [PNG, b"x" * 30_000, GIF]}), limits=Limits(max_member_bytes=29_999))
        assert [one.name for one in found] == ["0", "1", "2"]
        assert found[1].reason == Reason.TOO_LARGE
        assert [one.data for one in (found[0], found[2])] == [PNG, GIF]

    def test_one_image_in_very_many_rows_ends_with_the_budget(self) -> None:
        limits = Limits(free_bytes=10_000, max_ratio=1)
        *found, bad = read(parquet({"image": [b"x" * 1000] * 500}, row_group_size=100), limits=limits)
        assert 5 < len(found) < 50
        assert (bad.name, bad.reason) == ("", Reason.TOO_LARGE)

    def test_huge_page_is_refused_before_it_is_decompressed(self) -> None:
        data = parquet(
            {"image": [bytes(parquet_rows.IMAGE_PAGE_BYTES + 1)]}, compression="zstd", use_dictionary=False
        )
        assert len(data) < 1 << 20
        tracemalloc.start()
        before = pa.total_allocated_bytes()
        bad = only_error(data)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - before < 1 << 20
        assert bad.reason == Reason.TOO_LARGE
        assert bad.detail.startswith(
            "a page of images decompresses to more than 268435456 bytes: write smaller"
        )

    def test_large_image_in_many_rows_is_read_one_at_a_time(self) -> None:
        image = bytes(24 << 20)
        data = parquet({"image": [image] * 14, "text": ["x" * 500_000] * 14}, compression="zstd")
        del image
        container = Container("parquet", column="image")
        most = count = 0
        for one in members(io.BytesIO(data), container):
            assert isinstance(one, Member)
            most, count = max(most, pa.total_allocated_bytes()), count + 1
        assert count == 14
        assert most < 150 << 20


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"x": [PNG], "image": [{"bytes": PNG, "path": "a"}]}, "with bytes in the column 'image'"),
        ({"x": [PNG], "y": [1]}, "with bytes in the column 'x'"),
        ({"image": ["a"]}, "without a column of bytes"),
    ],
)
def test_advice_names_the_likely_column(table: dict[str, Any], text: str) -> None:
    assert parquet_images.advice(io.BytesIO(parquet(table))) == f"a Parquet file {text}"
    assert parquet_images.advice(io.BytesIO(parquet(table)[:-9])) == ""
