"""Reads a metadata file in Avro, in bounded steps.

A file of a few bytes may claim any number of records, and a small block may decompress to terabytes. So the
container is read here: the number of records of a block is compared with its bytes, which are decompressed
within a limit. fastavro decodes the records, of schemas in which each value takes bytes.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple, cast

import fastavro
import zstandard

from beam_dedup.core import strict_json
from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata.row import PATH_KEY, BadRow, Row, most_rows, row_of, unreadable
from beam_dedup.core.model import Reason

AVRO_MAGIC = b"Obj\x01"

_HEADER_BYTES = 1 << 22  # of the schema and the other fields of the header
_BLOCK_BYTES = 1 << 26  # of a block, compressed and decompressed; programs write some ten thousand
_DECODER_BYTES = 1 << 27  # memory that a block may demand for its decompression
_SYNC_BYTES = 16
# Reads per record. Each byte of a number, and each text, is one read.
_MOST_READS = 1 << 17
# The same for a recursive schema: fastavro crashes if it recurses some thousand times.
_MOST_RECURSIVE_READS = 1000
_DECIMAL_BYTES = 1 << 16  # of a value, if the schema has decimals: converting them takes quadratic time
_MOST_VALUES = 100_000  # of a record, without the items of arrays and maps
_MOST_VALUES_PER_BYTE = 16  # of an item of an array, a map or a union
_DEEPEST = strict_json.DEEPEST


class _Weight(NamedTuple):
    """How much a value of a type takes at least."""

    min_bytes: int  # in the file
    values: int  # Python objects, besides the items of arrays, maps and recursive types
    depth: int = 0  # types in each other


def avro_rows(stream: BinaryIO, path_key: str = PATH_KEY) -> Iterator[Row | BadRow]:
    """Yields the records of an Avro file.

    Args:
      stream: at its beginning.
      path_key: the field with the path of an image.
    """
    number = 0
    try:
        for number, record in enumerate(_records(stream), 1):
            yield row_of(number, record, path_key)
    except OSError:
        raise
    except ImageError as error:
        yield BadRow(number + 1, error.reason, f"cannot be read as Avro from here on: {error.detail}")
    except Exception as error:  # noqa: BLE001  fastavro raises almost any exception on damaged bytes
        yield unreadable(number + 1, "Avro", error)


def _records(stream: BinaryIO) -> Iterator[object]:
    fields = _header(stream)
    # Deeply nested JSON would crash fastavro.
    schema = fastavro.parse_schema(strict_json.parse(fields["avro.schema"].decode("utf-8")))
    types = _Types()
    min_bytes = types.check(schema)
    codec = fields.get("avro.codec", b"null").decode("utf-8")
    if codec not in _DECOMPRESSORS:
        raise ImageError(Reason.UNSUPPORTED, f"compressed with {codec[:20]!r}")
    sync = _exactly(stream, _SYNC_BYTES)
    file_bytes = row_count = 0
    while first := stream.read(1):
        count, size = _long(stream, first), _long(stream)
        file_bytes, row_count = file_bytes + size, row_count + count
        if not 0 <= size <= _BLOCK_BYTES:
            raise _too_large(f"a block of {size} bytes; the limit is {_BLOCK_BYTES}")
        data = _decompressed(codec, _exactly(stream, size))
        if not 0 <= count * min_bytes <= len(data):
            raise ValueError(f"a block of {len(data)} bytes claims {count} records")
        if row_count > most_rows(file_bytes):
            raise _too_large(f"{row_count} records in {file_bytes} bytes")
        if _exactly(stream, _SYNC_BYTES) != sync:
            raise ValueError("a block has no end mark")
        block = _Block(data, types)
        for _ in range(count):
            block.begin_record()
            yield fastavro.schemaless_reader(cast(BinaryIO, block), schema, None)


class _Block(io.RawIOBase):
    """The bytes of a block. Limits the number of reads per record."""

    def __init__(self, data: bytes, types: "_Types") -> None:
        self._stream = io.BytesIO(data)
        self._most_reads = _MOST_RECURSIVE_READS if types.is_recursive else _MOST_READS
        self._most_bytes = _DECIMAL_BYTES if types.has_decimals else _BLOCK_BYTES
        self._left = 0

    def begin_record(self) -> None:
        self._left = self._most_reads

    def read(self, size: int = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise _too_large("a record of too many values")
        if size > self._most_bytes:
            raise _too_large(f"a value of {size} bytes; the limit is {self._most_bytes}")
        return self._stream.read(size)


def _header(stream: BinaryIO) -> dict[str, bytes]:
    """Reads the fields of the header."""
    stream.read(len(AVRO_MAGIC))
    fields: dict[str, bytes] = {}
    left = _HEADER_BYTES
    while count := _long(stream):
        if count < 0:  # then the bytes of the fields follow
            count = -count
            _long(stream)
        for _ in range(count):
            pair = []
            for _ in range(2):
                size = _long(stream)
                left -= size + 1
                if size < 0 or left < 0:
                    raise _too_large(f"a header of more than {_HEADER_BYTES} bytes")
                pair.append(_exactly(stream, size))
            fields[pair[0].decode("utf-8")] = pair[1]
    return fields


def _long(stream: BinaryIO, first: bytes = b"") -> int:
    """Reads a number; `first` is its first byte, if that was already read."""
    value = shift = 0
    while shift < 64:
        byte = (first or _exactly(stream, 1))[0]
        first = b""
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1)
        shift += 7
    raise ValueError("a number of more than 64 bits")


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := stream.read(size - len(data))):
        data += more
    if len(data) < size:
        raise ValueError("the file is truncated")
    return data


def _decompressed(codec: str, data: bytes) -> bytes:
    """Decompresses a block within `_BLOCK_BYTES`."""
    try:
        content = _DECOMPRESSORS[codec](data)
    except (OSError, EOFError) as error:  # bz2 raises them for damaged data
        raise ValueError(str(error)) from error
    if len(content) > _BLOCK_BYTES:
        raise _too_large(f"a block decompresses to more than {_BLOCK_BYTES} bytes")
    return content


def _zstd(data: bytes) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_DECODER_BYTES)
    reader = decompressor.stream_reader(io.BytesIO(data), read_across_frames=True)
    return reader.read(_BLOCK_BYTES + 1)


_DECOMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "null": lambda data: data,
    "deflate": lambda data: zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _BLOCK_BYTES + 1),
    "bzip2": lambda data: bz2.BZ2Decompressor().decompress(data, _BLOCK_BYTES + 1),
    "xz": lambda data: lzma.LZMADecompressor(memlimit=_DECODER_BYTES).decompress(data, _BLOCK_BYTES + 1),
    "zstandard": _zstd,
}


class _Types:
    """Checks that the values of a schema take bytes, so that few bytes do not decode to many values."""

    def __init__(self) -> None:
        self.is_recursive = False
        self.has_decimals = False
        self._known: dict[str, _Weight] = {}
        self._open: set[str] = set()  # named types that contain the current one

    def check(self, schema: Any) -> int:
        """Checks the schema of the records of a file; returns how many bytes a record has at least."""
        weight = self._weight(schema, 0)
        if not weight.min_bytes:
            raise ValueError("its records may take no bytes")
        if weight.values > _MOST_VALUES:
            raise _too_large(f"records of more than {_MOST_VALUES} fields")
        return weight.min_bytes

    def _weight(self, schema: Any, depth: int) -> _Weight:
        """Returns the weight of a type that is in `depth` other types."""
        weight = self._weight_of_kind(schema, depth + 1)
        if depth + weight.depth > _DEEPEST:
            raise _too_large(f"types nested more than {_DEEPEST} deep")
        return weight

    def _weight_of_kind(self, schema: Any, depth: int) -> _Weight:
        if isinstance(schema, list):
            return _union([self._item(one, depth, 1) for one in schema])
        if isinstance(schema, str):
            if schema in self._open:
                self.is_recursive = True
                return _Weight(1, 1)
            return self._known.get(schema) or _Weight(_PRIMITIVES.get(schema, 1), 1)
        self.has_decimals |= schema.get("logicalType") == "decimal"
        kind = schema["type"]
        if kind in ("record", "error"):
            return self._record(schema, depth)
        if kind == "array":
            return _Weight(1, 1, 1 + self._item(schema["items"], depth, 0).depth)
        if kind == "map":  # has a key for each value
            return _Weight(1, 1, 1 + self._item(schema["values"], depth, 1).depth)
        if kind == "fixed":
            self._known[schema["name"]] = weight = _Weight(schema["size"], 1)
            return weight
        return _Weight(1, 1) if kind == "enum" else self._weight(kind, depth)

    def _record(self, schema: Any, depth: int) -> _Weight:
        name = schema["name"]
        self._open.add(name)
        fields = [self._weight(field["type"], depth) for field in schema["fields"]]
        self._open.discard(name)
        self._known[name] = weight = _Weight(
            sum(one.min_bytes for one in fields),
            1 + sum(1 + one.values for one in fields),
            1 + max((one.depth for one in fields), default=0),
        )
        return weight

    def _item(self, schema: Any, depth: int, more_bytes: int) -> _Weight:
        """Returns the weight of a type that a value may hold many times, after checking it."""
        weight = self._weight(schema, depth)
        if weight.values > _MOST_VALUES_PER_BYTE * (weight.min_bytes + more_bytes):
            raise ValueError("the items of an array, a map or a union take too few bytes")
        return weight


def _union(branches: list[_Weight]) -> _Weight:
    return _Weight(
        1 + min((one.min_bytes for one in branches), default=0),
        1 + max((one.values for one in branches), default=0),
        1 + max((one.depth for one in branches), default=0),
    )


_PRIMITIVES = {"null": 0, "float": 4, "double": 8}  # and the least bytes of each; the others take 1


def _too_large(detail: str) -> ImageError:
    return ImageError(Reason.TOO_LARGE, detail)
