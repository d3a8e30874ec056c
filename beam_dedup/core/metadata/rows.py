"""Reads a metadata file (`-l`): for each image its `__path__` and the metadata that Tika found.

The file is JSON Lines, which may be compressed by gzip and in UTF-16 or UTF-32, or Avro, or Parquet. It is
recognised by its first bytes. A row that names no image is returned as a `BadRow` with its number and a
reason, and reading continues. If the file cannot be read further, a `BadRow` is the last item.

A file is read in bounded steps: it never takes much more memory than one of its largest rows.
"""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from beam_dedup.core import strict_json
from beam_dedup.core.metadata.avro_rows import AVRO_MAGIC, avro_rows
from beam_dedup.core.metadata.parquet_rows import PARQUET_MAGIC, parquet_rows
from beam_dedup.core.metadata.row import PATH_KEY, BadRow, Row, absolute_row, most_rows, row_of
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import name_hash

__all__ = ["BadRow", "Row", "json_rows", "rows"]

MAX_LINE_BYTES = 1 << 24  # a longer line is a BadRow

_SKIP_BYTES = 1 << 20  # read at a time, of the rest of a line that is too long
_RECODED_BYTES = 1 << 16  # read at a time, of text in UTF-16 or UTF-32
_BOM = b"\xef\xbb\xbf"
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_COMPRESSIONS = {
    b"BZh": "bzip2",
    b"\xfd7zX": "xz",
    b"\x28\xb5\x2f\xfd": "zstandard",
    b"PK\x03\x04": "zip",
}

_ARRAY = "a JSON array, but each line must be one JSON object: convert it, for example with jq -c '.[]'"


class _Lines(Protocol):
    """A stream that is read line by line."""

    def readline(self, size: int, /) -> bytes: ...


def rows(stream: BinaryIO, directory: str = "") -> Iterator[Row | BadRow]:
    """Yields the rows of a file in their order. A row with the path of an earlier row is a BadRow.

    Args:
      stream: at its beginning, and seekable.
      directory: makes relative paths absolute; "" leaves them as they are.
    Raises:
      OSError: from reading the stream. No other exception: an error in the file is a BadRow.
    """
    magic = stream.read(4)
    stream.seek(0)
    if magic == AVRO_MAGIC:
        items = avro_rows(stream)
    elif magic == PARQUET_MAGIC:
        items = parquet_rows(stream)
    elif magic.startswith(_GZIP_MAGIC):
        items = _gzip_rows(stream)
    elif kind := next((kind for start, kind in _OTHER_COMPRESSIONS.items() if magic.startswith(start)), ""):
        items = iter(
            [BadRow(1, Reason.UNSUPPORTED, f"compressed with {kind}: decompress the file, or use gzip")]
        )
    else:
        items = json_rows(_in_utf8(stream, magic))
    return first_of_each_path((absolute_row(row, directory) for row in items) if directory else items)


def json_rows(
    stream: _Lines, max_line_bytes: int = MAX_LINE_BYTES, skip_bytes: int = _SKIP_BYTES
) -> Iterator[Row | BadRow]:
    """Yields the lines of a JSON Lines file; empty lines are skipped but counted.

    A JSON array over several lines is refused: a BadRow is the only item.

    Args:
      stream: at its beginning, in UTF-8.
      max_line_bytes: a longer line is a BadRow and is not held in memory.
      skip_bytes: how many bytes of the rest of such a line are read at a time.
    """
    items = _json_rows(stream, max_line_bytes, skip_bytes)
    first = next(items, None)
    if first is None:
        return
    row, begin = first
    if not begin.startswith(b"["):
        yield row
    else:
        # In an array over several lines, the second line ends in a comma, or is not complete either.
        second = next(items, None)
        is_array = begin.endswith(b"]") or second is None or isinstance(second[0], BadRow)
        yield BadRow(row.number, Reason.MALFORMED, _ARRAY) if is_array else row
        if second is None or (is_array and not begin.endswith(b"]")):
            return
        yield second[0]
    for row, _ in items:
        yield row


def _json_rows(stream: _Lines, max_line_bytes: int, skip_bytes: int) -> Iterator[tuple[Row | BadRow, bytes]]:
    """Yields the row of each line that is not empty, and the line; of a line that is too long its beginning."""
    number = 0
    while line := stream.readline(max_line_bytes + 1):
        number += 1
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if len(line) > max_line_bytes:
            while line and not line.endswith(b"\n"):
                line = stream.readline(skip_bytes)
            detail = f"a line of more than {max_line_bytes} bytes"
            yield BadRow(number, Reason.MALFORMED, detail), text[:1]
        elif text:
            yield _json_row(number, text), text


def first_of_each_path(items: Iterable[Row | BadRow]) -> Iterator[Row | BadRow]:
    """Yields the same items, with each Row whose path an earlier Row has replaced by a BadRow."""
    seen: set[int] = set()
    for item in items:
        key = name_hash(item.path) if isinstance(item, Row) else None
        if isinstance(item, Row) and key in seen:
            yield BadRow(
                item.number, Reason.MALFORMED, f"an earlier row has the same {PATH_KEY}: {item.path[:200]}"
            )
        else:
            if key is not None:
                seen.add(key)
            yield item


def _gzip_rows(stream: BinaryIO) -> Iterator[Row | BadRow]:
    """Yields the lines of a JSON Lines file that is compressed by gzip."""
    number = 0
    with gzip.GzipFile(fileobj=stream) as content:
        try:
            magic = content.peek(4)[:4]
            if magic in (AVRO_MAGIC, PARQUET_MAGIC):
                kind = "Avro" if magic == AVRO_MAGIC else "Parquet"
                yield BadRow(1, Reason.UNSUPPORTED, f"{kind} compressed with gzip: decompress the file")
                return
            for item in json_rows(_in_utf8(content, magic)):
                number = item.number
                if number > most_rows(stream.tell()):
                    detail = f"{number} lines in {stream.tell()} bytes of gzip data"
                    yield BadRow(number, Reason.TOO_LARGE, detail)
                    return
                yield item
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            detail = f"the gzip data cannot be read further: {error}"
            yield BadRow(number + 1, Reason.DAMAGED, detail)


def _json_row(number: int, line: bytes) -> Row | BadRow:
    try:
        value = strict_json.parse(line.decode("utf-8"), replace_unbounded=True)
    except UnicodeDecodeError as error:
        return BadRow(number, Reason.MALFORMED, f"not UTF-8: byte {error.start}")
    except ValueError as error:
        return BadRow(number, Reason.MALFORMED, f"not JSON: {error}"[:200])
    return row_of(number, value)


def _in_utf8(stream: BinaryIO | gzip.GzipFile, begin: bytes) -> _Lines:
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
