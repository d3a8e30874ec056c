"""Reads a metadata file (`-l`): for each image its path (field `__path__`) and its metadata.

The file is JSON Lines, a JSON array or CSV, all of which may be compressed by gzip and in UTF-16 or UTF-32, or
Avro, or Parquet. It is recognised by its first bytes; CSV by a header that names the path. A row that names no image is returned as a `BadRow` with its number and a
reason, and reading continues. If the file cannot be read further, a `BadRow` is the last item.

A file is read in bounded steps: it never takes much more memory than one of its largest rows.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from beam_dedup.core.metadata.avro_rows import AVRO_MAGIC, avro_rows
from beam_dedup.core.metadata.csv_rows import MAX_HEADER_BYTES, csv_header, csv_rows
from beam_dedup.core.metadata.json_elements import Lines
from beam_dedup.core.metadata.json_rows import json_rows
from beam_dedup.core.metadata.parquet_rows import PARQUET_MAGIC, parquet_rows
from beam_dedup.core.metadata.row import PATH_KEY, BadRow, Row, absolute_row, most_rows
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import name_hash

__all__ = ["BadRow", "Row", "rows"]

_RECODED_BYTES = 1 << 16  # read at a time, of text in UTF-16 or UTF-32
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_COMPRESSIONS = {
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PK\x03\x04": "zip",
}


def rows(stream: BinaryIO, directory: str = "", path_key: str = PATH_KEY) -> Iterator[Row | BadRow]:
    """Yields the rows of a file in their order. A row with the path of an earlier row is a BadRow.

    Args:
      stream: at its beginning, and seekable.
      directory: makes relative paths absolute; "" leaves them as they are.
      path_key: the field with the path of an image.
    Raises:
      OSError: from reading the stream. No other exception: an error in the file is a BadRow.
    """
    magic = stream.read(4)
    stream.seek(0)
    if magic == AVRO_MAGIC:
        items = avro_rows(stream, path_key)
    elif magic == PARQUET_MAGIC:
        items = parquet_rows(stream, path_key)
    elif magic.startswith(_GZIP_MAGIC):
        items = _gzip_rows(stream, path_key)
    elif kind := next((kind for start, kind in _OTHER_COMPRESSIONS.items() if magic.startswith(start)), ""):
        items = iter(
            [BadRow(1, Reason.UNSUPPORTED, f"compressed with {kind}: decompress the file, or use gzip")]
        )
    else:
        items = _text_rows(_in_utf8(stream, magic), path_key)
    absolute = (absolute_row(row, directory) for row in items) if directory else items
    return first_of_each_path(absolute, path_key)


def first_of_each_path(items: Iterable[Row | BadRow], path_key: str = PATH_KEY) -> Iterator[Row | BadRow]:
    """Yields the same items, with each Row whose path an earlier Row has replaced by a BadRow."""
    seen: set[int] = set()
    for item in items:
        key = name_hash(item.path) if isinstance(item, Row) else None
        if isinstance(item, Row) and key in seen:
            yield BadRow(
                item.number, Reason.MALFORMED, f"an earlier row has the same {path_key}: {item.path[:200]}"
            )
        else:
            if key is not None:
                seen.add(key)
            yield item


def _gzip_rows(stream: BinaryIO, path_key: str) -> Iterator[Row | BadRow]:
    """Yields the rows of a text that is compressed by gzip."""
    number = 0
    with gzip.GzipFile(fileobj=stream) as content:
        try:
            magic = content.peek(4)[:4]
            if magic in (AVRO_MAGIC, PARQUET_MAGIC):
                kind = "Avro" if magic == AVRO_MAGIC else "Parquet"
                yield BadRow(1, Reason.UNSUPPORTED, f"{kind} compressed with gzip: decompress the file")
                return
            for item in _text_rows(_in_utf8(content, magic), path_key):
                number = item.number
                if number > most_rows(stream.tell()):
                    detail = f"{number} rows in {stream.tell()} bytes of gzip data"
                    yield BadRow(number, Reason.TOO_LARGE, detail)
                    return
                yield item
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            detail = f"the gzip data cannot be read further: {error}"
            yield BadRow(number + 1, Reason.DAMAGED, detail)


def _text_rows(stream: Lines, path_key: str) -> Iterator[Row | BadRow]:
    """Yields the rows of a text: CSV if its first line is a header with the path, else JSON."""
    first = stream.readline(MAX_HEADER_BYTES)
    header = csv_header(first, path_key)
    return csv_rows(stream, header, path_key) if header else json_rows(_Again(first, stream), path_key)


class _Again:
    """A stream of which the beginning was read already, and is read again."""

    def __init__(self, begin: bytes, stream: Lines) -> None:
        self._begin = begin
        self._stream = stream

    def readline(self, size: int, /) -> bytes:
        begin, self._begin = self._begin[:size], self._begin[size:]
        if begin.endswith(b"\n") or len(begin) == size:
            return begin
        return begin + self._stream.readline(size - len(begin))


def _in_utf8(stream: BinaryIO | gzip.GzipFile, begin: bytes) -> Lines:
    """Returns the stream, recoded if its first bytes are UTF-16 or UTF-32."""
    encoding = json.detect_encoding(begin)
    return stream if encoding.startswith("utf-8") else io.BufferedReader(_Recoded(stream, encoding))


class _Recoded(io.RawIOBase):
    """A stream of text in UTF-8, from one in another encoding. Malformed characters are replaced."""

    def __init__(self, stream: BinaryIO | gzip.GzipFile, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        while not self._rest and not self._ended:
            data = self._stream.read(_RECODED_BYTES)
            self._ended = not data
            self._rest = self._decoder.decode(data, final=self._ended).encode("utf-8", "replace")
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
