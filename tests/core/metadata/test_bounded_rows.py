"""Metadata files that claim or decompress to much more than they have, and forms that are refused."""

import bz2
import decimal
import gzip
import io
import json
import lzma
import random
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from beam_dedup.core.metadata import parquet_rows
from beam_dedup.core.metadata.json_elements import elements
from beam_dedup.core.metadata.json_rows import json_rows
from beam_dedup.core.metadata.parquet_pages import pages
from beam_dedup.core.metadata.rows import BadRow, Row, rows
from beam_dedup.core.model import Reason

LINES = b'{"__path__": "/a.jpg", "title": "\xc3\xa9"}\n{"__path__": "/b.jpg"}\n'
WANTED = [Row(1, "/a.jpg", {"title": "é"}), Row(2, "/b.jpg", {})]


def read(data: bytes) -> list[Row | BadRow]:
    return list(rows(io.BytesIO(data)))


def refused(data: bytes) -> BadRow:
    """Returns the only item of a file. Checks that it took little memory."""
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    [bad] = read(data)
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert isinstance(bad, BadRow)
    return bad


class TestJson:
    @pytest.mark.parametrize(
        "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8-sig"]
    )
    def test_other_encodings_of_unicode_are_read(self, encoding: str) -> None:
        assert read(LINES.decode().encode(encoding)) == WANTED
        assert read(gzip.compress(LINES.decode().encode(encoding))) == WANTED
        assert read(LINES.decode().encode(encoding)[:-1])[0] == WANTED[0]

    def test_long_lines_in_utf16_are_read(self) -> None:
        line = json.dumps({"__path__": "/a.jpg", "text": "é" * 300_000}, ensure_ascii=False)
        [row] = read(line.encode("utf-16"))
        assert row == Row(1, "/a.jpg", {"text": "é" * 300_000})

    def test_gzip_is_read(self) -> None:
        assert read(gzip.compress(LINES)) == WANTED
        assert read(gzip.compress(LINES[:30]) + gzip.compress(LINES[30:])) == WANTED

    def test_damaged_gzip_is_read_up_to_the_damage(self) -> None:
        lines = b"".join(b'{"__path__": "/%d.jpg"}\n' % number for number in range(1000))
        data = gzip.compress(lines)
        *found, bad = read(data[:-300])
        assert found == [Row(number, f"/{number - 1}.jpg", {}) for number in range(1, len(found) + 1)]
        assert isinstance(bad, BadRow)
        assert (bad.number, bad.reason) == (len(found) + 1, Reason.DAMAGED)
        assert refused(data[:2] + b"?" + data[3:]).reason == Reason.DAMAGED

    def test_error_of_the_system_in_gzip_is_raised(self) -> None:
        class Failing(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                if self.tell() > 100:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        with pytest.raises(OSError, match="Input/output"):
            list(rows(Failing(gzip.compress(json.dumps(list(range(5000))).encode()))))

    def test_gzip_of_too_many_lines_is_refused(self) -> None:
        found = read(gzip.compress(b"{}\n" * 300_000))
        assert found[-1] == BadRow(len(found), Reason.TOO_LARGE, found[-1].detail)  # type: ignore[union-attr]
        assert len(found) == 100_001

    @pytest.mark.parametrize(
        ("compress", "kind"),
        [(bz2.compress, "bzip2"), (lzma.compress, "xz"), (zstandard.compress, "zstandard")],
    )
    def test_other_compression_is_refused_in_one_sentence(
        self, compress: Callable[[bytes], bytes], kind: str
    ) -> None:
        detail = f"compressed with {kind}: decompress the file, or use gzip"
        assert refused(compress(LINES)) == BadRow(1, Reason.UNSUPPORTED, detail)

    @pytest.mark.parametrize("data", [b"PAR1abcd", b"Obj\x01abcd"])
    def test_avro_and_parquet_in_gzip_are_refused(self, data: bytes) -> None:
        assert refused(gzip.compress(data)).reason == Reason.UNSUPPORTED

    @pytest.mark.parametrize("indent", [None, 1])
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_array_of_objects_is_read(self, indent: int | None, count: int) -> None:
        objects = [{"__path__": f"/{number}.jpg", "tags": ["],", '"}']} for number in range(count)]
        data = b"\n \n" + json.dumps(objects, indent=indent).encode()
        wanted = [Row(number + 1, f"/{number}.jpg", {"tags": ["],", '"}']}) for number in range(count)]
        assert read(data) == wanted
        assert read(data.replace(b"}, ", b"},\n") + b"\n\n") == wanted
        assert read(gzip.compress(data.decode().encode("utf-16"))) == wanted

    def test_bad_element_does_not_affect_other_elements(self) -> None:
        data = (
            b'[{"__path__": "/a.jpg", "title": "\xc3\xa9"}, {"a": NaN}, 1, {broken}, {"__path__": "/b.jpg"}]'
        )
        first, *bad, last = read(data)
        assert first == WANTED[0]
        details = ["no __path__; it has a", "not an object", "not JSON: "]
        for number, (one, detail) in enumerate(zip(bad, details, strict=True), 2):
            assert isinstance(one, BadRow)
            assert (one.number, one.reason) == (number, Reason.MALFORMED)
            assert one.detail.startswith(detail)
        assert last == Row(5, "/b.jpg", {})

    def test_element_that_is_too_long_is_a_bad_row(self) -> None:
        data = b'[{"__path__": "x"}, {"__path__": "y", "a": "%s"}, {"__path__": "z"}]' % (b"]" * 100)
        found = list(json_rows(io.BytesIO(data), max_line_bytes=50))
        too_long = BadRow(2, Reason.MALFORMED, "an element of more than 50 bytes")
        assert found == [Row(1, "x", {}), too_long, Row(3, "z", {})]

    def test_array_of_one_huge_element_takes_little_memory(self) -> None:
        text = b'[{"__path__": "x"}, "' + b"x" * 80_000_000
        data = gzip.compress(text, 1)
        del text
        tracemalloc.start()
        found = read(data)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
        tracemalloc.stop()
        assert [type(one) for one in found] == [Row, BadRow, BadRow]

    def test_array_that_is_not_closed_is_damaged(self) -> None:
        damaged = BadRow(3, Reason.DAMAGED, "truncated: the array has no closing bracket")
        objects = b'[{"__path__": "/b.jpg"}, {"__path__": "/c.jpg"'
        assert read(objects + b"}") == [Row(1, "/b.jpg", {}), Row(2, "/c.jpg", {}), damaged]
        first, bad, last = read(objects)
        assert isinstance(bad, BadRow)
        assert bad.detail.startswith("not JSON")
        assert (first, last) == (Row(1, "/b.jpg", {}), damaged)

    def test_lines_after_an_array_are_read(self) -> None:
        assert read(b'[{"__path__": "/x.jpg"}]\n' + LINES) == [
            Row(1, "/x.jpg", {}),
            *(Row(row.number + 1, row.path, row.metadata) for row in WANTED),
        ]
        found = read(b'[{"__path__": "/x.jpg"}] x\n' + LINES)
        assert found[1] == BadRow(2, Reason.MALFORMED, "text after the closing bracket of the array")
        assert len(found) == 4

    def test_elements_are_those_of_the_parser_wherever_chunks_end(self) -> None:
        chance = random.Random(3)
        letters = '"\\[]{},: aé\n'

        def value(depth: int) -> Any:
            kind = chance.randrange(4 if depth < 3 else 2)
            if kind == 0:
                return "".join(chance.choices(letters, k=chance.randrange(6)))
            if kind == 1:
                return chance.choice([1, -2.5, None, True])
            items = [value(depth + 1) for _ in range(chance.randrange(4))]
            return items if kind == 2 else {f"{key}{letters[key]}": one for key, one in enumerate(items)}

        for _ in range(500):
            array = [value(0) for _ in range(chance.randrange(5))]
            data = json.dumps(array, indent=chance.choice([None, 1]), ensure_ascii=False).encode()
            stream = io.BytesIO(data[1:])
            found = list(elements(stream, stream.readline(chance.randint(1, 9)), 10**6, chance.randint(1, 9)))
            assert [json.loads(one or b"") for one in found] == array

    def test_first_line_like_an_array_does_not_affect_other_lines(self) -> None:
        bad, *rest = read(b"[broken\n" + LINES)
        assert isinstance(bad, BadRow)
        assert bad.detail.startswith("not JSON")
        assert rest == [Row(row.number + 1, row.path, row.metadata) for row in WANTED]
        assert read(b"[1, 2]\n" + LINES) == [BadRow(1, Reason.MALFORMED, "not an object"), *rest]
        assert len(read(b"[\n\nbroken\n" + LINES)) == 4

    @pytest.mark.parametrize(
        ("uri", "path"),
        [
            ("file:///a/b%20c.jpg", "/a/b c.jpg"),
            ("file:/a/b.jpg", "/a/b.jpg"),
            ("FILE://localhost/a/%C3%A9.jpg", "/a/é.jpg"),
            ("file:///a/../b%FF.jpg", "/b\udcff.jpg"),
            ("file:///100%.jpg", "/100%.jpg"),
            ("file://server/share/a.jpg", "file://server/share/a.jpg"),
            ("file:a.jpg", "file:a.jpg"),
        ],
    )
    def test_file_uris_are_paths(self, uri: str, path: str) -> None:
        line = json.dumps({"__path__": uri}).encode() + b"\n"
        assert read(line) == [Row(1, path, {})]
        again = read(line + json.dumps({"__path__": path}).encode())[1]
        assert isinstance(again, BadRow), "the same file under its path"


def long(number: int) -> bytes:
    """Encodes a number like Avro."""
    number = (number << 1) ^ (number >> 63)
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def text(data: bytes) -> bytes:
    return long(len(data)) + data


def record_of(*fields: tuple[str, Any], name: str = "Image") -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": field, "type": kind} for field, kind in fields],
    }


def avro(schema: Any, blocks: list[tuple[int, bytes]], codec: str = "null") -> bytes:
    """Returns an Avro file with these blocks, each a claimed number of records and bytes."""
    header = long(2) + text(b"avro.schema") + text(json.dumps(schema).encode())
    header += text(b"avro.codec") + text(codec.encode()) + long(0)
    sync = b"s" * 16
    return b"Obj\x01" + header + sync + b"".join(long(count) + text(data) + sync for count, data in blocks)


PATH = ("__path__", "string")
A = text(b"/a.jpg")


def deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


CODECS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": deflate,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstandard": zstandard.compress,
}


class TestAvro:
    @pytest.mark.parametrize("codec", CODECS)
    def test_every_codec_is_read(self, codec: str) -> None:
        blocks = [
            (2, CODECS[codec](A + text(b"/b.jpg"))),
            (0, CODECS[codec](b"")),
            (1, CODECS[codec](text(b"c"))),
        ]
        assert read(avro(record_of(PATH), blocks, codec)) == [
            Row(1, "/a.jpg", {}),
            Row(2, "/b.jpg", {}),
            Row(3, "c", {}),
        ]

    def test_files_of_fastavro_are_read(self) -> None:
        node = record_of(("inner", ["null", "Node"]), name="Node")
        schema = record_of(
            PATH,
            ("e", {"type": "enum", "name": "E", "symbols": ["x", "y"]}),
            ("f", {"type": "fixed", "name": "F", "size": 2}),
            ("same", ["null", "F", "E"]),
            ("m", {"type": "map", "values": ["null", "double", {"type": "array", "items": "long"}]}),
            ("d", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
            ("t", {"type": "long", "logicalType": "timestamp-millis"}),
            ("n", node),
        )
        values = {
            "e": "y",
            "f": b"ab",
            "same": "x",
            "m": {"k": [1, 2], "l": 0.5, "n": None},
            "d": decimal.Decimal("1.50"),
            "t": 0,
            "n": {"inner": {"inner": None}},
        }
        out = io.BytesIO()
        images = [{"__path__": f"/{number}", **values} for number in range(5000)]
        fastavro.writer(out, schema, images, sync_interval=1000)
        found = read(out.getvalue())
        assert len(found) == 5000
        wanted = {**values, "f": "ab", "d": "1.50", "t": "1970-01-01T00:00:00+00:00"}
        assert found[-1] == Row(5000, "/4999", wanted)

    @pytest.mark.parametrize(
        ("schema", "count", "data"),
        [
            (record_of(), 1 << 60, b""),
            (record_of(), 100, b"x" * 100),
            ("null", 1 << 60, b""),
            (record_of(PATH), 1 << 60, A),
            (record_of(PATH), -1, A),
            (record_of(("x", "null")), 1 << 40, b""),
            (record_of(PATH, ("a", {"type": "array", "items": "null"})), 1, A + long(1 << 40) + b"\0"),
            (
                record_of(PATH, ("a", {"type": "array", "items": record_of(name="E")})),
                1,
                A + long(1 << 40) + b"\0",
            ),
            (
                record_of(PATH, ("a", {"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}})),
                1,
                A + long(1 << 40) + b"\0",
            ),
        ],
        ids=str,
    )
    def test_records_and_items_that_take_no_bytes_are_refused(
        self, schema: Any, count: int, data: bytes
    ) -> None:
        assert refused(avro(schema, [(count, data)])).reason == Reason.DAMAGED

    @pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "null"])
    def test_block_that_decompresses_to_too_much_is_refused(self, codec: str) -> None:
        data = CODECS[codec](bytes(80 << 20))
        assert len(data) < 1 << 20
        bad = refused(avro(record_of(PATH), [(1, data)], codec))
        assert bad == BadRow(
            1,
            Reason.TOO_LARGE,
            "cannot be read as Avro from here on: a block decompresses to more than 67108864 bytes",
        )

    def test_block_of_very_many_records_is_refused(self) -> None:
        data = zstandard.compress(bytes(1 << 20))
        found = read(avro(record_of(PATH), [(1 << 20, data)] * 2, "zstandard"))
        assert [type(one) for one in found] == [BadRow]
        assert found[0].reason == Reason.TOO_LARGE  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        ("schema", "data"),
        [
            # 60 million empty lists, a million levels, a text of an exabyte
            (record_of(PATH, ("a", {"type": "array", "items": {"type": "array", "items": "long"}})),
             A + long(10_000_000) + bytes(10_000_001)),
            (record_of(PATH, ("n", record_of(("inner", ["null", "Node"]), name="Node"))),
             A + b"\x02" * 1_000_000 + b"\0"),
            (record_of(PATH), long(1 << 60) + b"a"),
            (record_of(PATH, ("d", {"type": "bytes", "logicalType": "decimal", "precision": 9})),
             A + text(b"\x55" * (1 << 20))),
        ],
        ids=["lists", "levels", "text", "decimal"],
    )  # fmt: skip
    def test_record_of_too_many_values_is_refused(self, schema: Any, data: bytes) -> None:
        assert refused(avro(schema, [(1, data)])).reason == Reason.TOO_LARGE

    @pytest.mark.parametrize("width", [1, 10])
    def test_types_that_contain_each_other_are_refused(self, width: int) -> None:
        """Each one contains the type before it: a chain of 500, or 10 of each, which are 10**9 values."""
        fields: list[tuple[str, Any]] = [PATH, ("a0", record_of(name="A0"))]
        for number in range(1, 500 if width == 1 else 10):
            inner = [(f"f{one}", f"A{number - 1}") for one in range(width)]
            fields.append((f"a{number}", record_of(*inner, name=f"A{number}")))
        assert refused(avro(record_of(*fields), [(1, A)])).reason == Reason.TOO_LARGE

    def test_deeply_nested_schema_is_refused(self) -> None:
        deep: Any = "string"
        for _ in range(200):
            deep = {"type": "array", "items": deep}
        assert refused(avro(record_of(PATH, ("a", deep)), [(1, A + b"\0")])).reason == Reason.DAMAGED

    @pytest.mark.parametrize(
        "data",
        [
            b"Obj\x01" + long(1 << 60) + b"\x02a" * 100,
            b"Obj\x01" + long(1) + long(1 << 60) + b"a",
            b"Obj\x01" + b"\xff" * 100,
            avro(record_of(PATH), [])[:-1],
            avro(record_of(PATH), []) + long(1) + long(1 << 60) + b"a",
            avro(record_of(PATH), [(1, A)])[:-1],
            avro(record_of(PATH), []) + long(1) + long(-5),
        ],
    )
    def test_malformed_sizes_are_refused(self, data: bytes) -> None:
        assert refused(data).reason in (Reason.DAMAGED, Reason.TOO_LARGE)

    def test_unknown_codec_is_unsupported(self) -> None:
        assert refused(avro(record_of(PATH), [(1, A)], "snappy")).reason == Reason.UNSUPPORTED

    def test_rows_before_damage_are_returned(self) -> None:
        data = avro(record_of(PATH), [(1, A), (1 << 60, text(b"/b.jpg"))])
        first, bad = read(data)
        assert first == Row(1, "/a.jpg", {})
        assert isinstance(bad, BadRow)
        assert (bad.number, bad.reason) == (2, Reason.DAMAGED)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, compression="zstd", **options)
    return out.getvalue()


def paths(count: int) -> list[str]:
    return [f"/{number}.jpg" for number in range(count)]


def repeated(value: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), [value])


def lists(values: pa.Array, count: int) -> pa.Array:
    size = len(values) // count
    return pa.ListArray.from_arrays(list(range(0, (count + 1) * size, size)), values)


class TestParquet:
    def test_page_that_decompresses_to_too_much_is_refused(self) -> None:
        data = parquet(
            {"__path__": ["a"], "v": [bytes(130 << 20)]}, use_dictionary=False, write_statistics=False
        )
        assert len(data) < 1 << 16
        bad = refused(data)
        assert bad.reason == Reason.TOO_LARGE
        assert "decompress to more than 134217728 bytes at a time" in bad.detail

    def test_sizes_of_the_pages_count_and_not_those_of_the_footer(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Pages of 40 MB in a row group that decompresses to 400 MB are read one after the other."""
        data = parquet(
            {"__path__": paths(10), "v": [bytes(40_000_000)] * 10},
            use_dictionary=False,
            data_page_size=1,
            write_batch_size=1,
        )
        stream = io.BytesIO(data)
        group = pq.read_metadata(stream).row_group(0)
        assert group.total_byte_size > 400_000_000
        column = group.column(1)
        begin = column.data_page_offset
        found = list(pages(stream, begin, begin + column.total_compressed_size))
        assert sum(page.values for page in found) == 10
        assert max(page.size for page in found) < 50_000_000
        monkeypatch.setattr(parquet_rows, "_BATCH_ROWS", 1)
        assert [type(one) for one in rows(io.BytesIO(data))] == [Row] * 10

    def test_value_that_every_row_repeats_is_not_copied_for_all_rows(self) -> None:
        columns = {"__path__": paths(300), "v": repeated("x" * (1 << 20), 300)}
        data = parquet(columns, dictionary_pagesize_limit=1 << 30)
        count = 0
        tracemalloc.start()
        for row in rows(io.BytesIO(data)):
            count += 1
            assert isinstance(row, Row)
            assert len(row.metadata["v"]) == 1 << 20
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
        tracemalloc.stop()
        assert count == 300

    def test_row_that_takes_too_much_memory_is_a_bad_row(self) -> None:
        values = lists(repeated("x" * (1 << 20), 2000), 2)
        found = read(parquet({"__path__": paths(2), "v": values}, dictionary_pagesize_limit=1 << 30))
        detail = "a row of more than 67108864 bytes"
        assert found == [BadRow(number, Reason.TOO_LARGE, detail) for number in (1, 2)]

    def test_values_that_share_bytes_are_read_a_few_at_a_time(self) -> None:
        encodings = {"v": "DELTA_BYTE_ARRAY", "__path__": "PLAIN"}
        columns = {"__path__": paths(300), "v": ["x" * (1 << 20)] * 300}
        data = parquet(columns, use_dictionary=False, column_encoding=encodings)
        assert len(data) < 2000
        assert sum(isinstance(row, Row) for row in rows(io.BytesIO(data))) == 300

    def test_very_many_rows_are_refused(self) -> None:
        data = parquet({"__path__": pa.nulls(1 << 24, pa.string())}, row_group_size=1 << 24)
        bad = refused(data)
        assert (bad.reason, bad.number) == (Reason.TOO_LARGE, 1)
        assert f"16777216 rows in {len(data)} bytes" in bad.detail

    def test_very_many_values_in_lists_are_refused(self) -> None:
        data = parquet({"__path__": ["a"], "v": lists(pa.nulls(20_000_000, pa.int8()), 1)})
        assert "a column of 20000000 values" in refused(data).detail

    def test_very_many_columns_are_refused(self) -> None:
        bad = refused(parquet({f"c{number}": [1] for number in range(10_001)}))
        assert "10001 columns" in bad.detail

    def test_values_of_a_large_fixed_size_are_refused(self) -> None:
        bad = refused(parquet({"__path__": ["a"], "v": pa.array([bytes(70_000)], pa.binary(70_000))}))
        assert "values of 70000 bytes" in bad.detail

    def test_footer_that_claims_too_much_is_refused(self) -> None:
        data = parquet({"__path__": ["a"]})
        assert refused(data[:-8] + b"\xff\xff\xff\xff" + data[-4:]).reason == Reason.TOO_LARGE

    def test_all_types_are_read(self) -> None:
        columns = {
            "__path__": ["a", "b"],
            "category": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array([7, 9])),
            "map": pa.array([[("k", "v"), ("l", "w")], []], pa.map_(pa.string(), pa.string())),
            "fixed": pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
            "struct": [{"q": "z", "r": [{"s": 1}]}, None],
            "large": pa.array(["x", None], pa.large_string()),
            "decimal": [decimal.Decimal("1.5"), None],
            "null": pa.nulls(2),
            "flag": [True, False],
        }
        for options in ({}, {"use_dictionary": False}, {"data_page_version": "2.0"}):
            found = read(parquet(columns, row_group_size=1, **options))
            assert found == [
                Row(
                    1,
                    "a",
                    {
                        "category": 7,
                        "map": [["k", "v"], ["l", "w"]],
                        "fixed": [1, 2],
                        "struct": {"q": "z", "r": [{"s": 1}]},
                        "large": "x",
                        "decimal": "1.5",
                        "flag": True,
                    },
                ),
                Row(2, "b", {"category": 9, "map": [], "fixed": [3, 4], "flag": False}),
            ]

    def test_headers_of_pages_with_long_statistics_are_parsed(self) -> None:
        values = [f"{number}" * 2000 for number in range(9)]
        data = parquet({"v": values}, use_dictionary=False, write_batch_size=3, data_page_size=1)
        stream = io.BytesIO(data)
        column = pq.read_metadata(stream).row_group(0).column(0)
        found = list(
            pages(stream, column.data_page_offset, column.data_page_offset + column.total_compressed_size)
        )
        assert sum(page.values for page in found) == 9

    @pytest.mark.parametrize(
        "data", [b"", b"\x15", b"\xff" * 70_000, b"\x1c" * 70_000, b"\x19" * 70_000, b"\x15\x01" * 3 + b"\0"]
    )
    def test_malformed_header_of_a_page_raises(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="header of a page"):
            list(pages(io.BytesIO(data), 0, 1))
