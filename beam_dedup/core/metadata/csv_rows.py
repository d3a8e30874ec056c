"""Reads the rows of a metadata file in CSV, in bounded steps.

The first line names the fields. All values are texts; empty ones are left out.
"""

import codecs
import csv
from collections.abc import Iterator
from typing import NamedTuple

from beam_dedup.core.metadata.json_elements import Lines
from beam_dedup.core.metadata.row import PATH_KEY, BadRow, Row, row_of
from beam_dedup.core.model import Reason

MAX_HEADER_BYTES = 1 << 16

_MAX_ROW_BYTES = 1 << 24  # of the lines of a row; the csv module limits a field to 128 KiB
_DELIMITERS = ",;\t"
_JSON = (b"{", b"[")


class Header(NamedTuple):
    """The first line of a CSV file."""

    names: list[str]
    delimiter: str


def csv_header(line: bytes, path_key: str = PATH_KEY) -> Header | None:
    """Returns the header that a first line is; None if it does not name the field with the path.

    >>> csv_header(b"file_name;label\\r\\n", "file_name"), csv_header(b'{"file_name": "a.jpg"}', "file_name")
    (Header(names=['file_name', 'label'], delimiter=';'), None)
    """
    line = line.removeprefix(codecs.BOM_UTF8)
    if line.lstrip().startswith(_JSON):
        return None
    text = _text(line)
    for delimiter in _DELIMITERS:
        try:
            names = next(csv.reader([text], delimiter=delimiter), [])
        except csv.Error:
            continue
        if path_key in names:
            return Header(names, delimiter)
    return None


def csv_rows(
    stream: Lines, header: Header, path_key: str = PATH_KEY, max_row_bytes: int = _MAX_ROW_BYTES
) -> Iterator[Row | BadRow]:
    """Yields the rows after the header, numbered from 1.

    Args:
      stream: after the header, in UTF-8.
      header: of the file.
      path_key: the field with the path of an image.
      max_row_bytes: the file is not read beyond a row of more bytes.
    """
    lines = _Texts(stream, max_row_bytes)
    reader = csv.reader(lines, delimiter=header.delimiter)
    number = 0
    while True:
        lines.begin_row()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            number += 1
            yield BadRow(number, Reason.MALFORMED, f"not CSV: {error}"[:200])
            if lines.is_too_long:
                return
            continue
        if cells is None:
            return
        if not cells:
            continue
        number += 1
        if len(cells) > len(header.names):
            detail = f"{len(cells)} values; the header has {len(header.names)} names"
            yield BadRow(number, Reason.MALFORMED, detail)
        else:
            values = {name: cell for name, cell in zip(header.names, cells, strict=False) if cell}
            yield row_of(number, values, path_key)


class _Texts:
    """The lines of a stream as text. Raises csv.Error if the lines of a row have too many bytes."""

    def __init__(self, stream: Lines, max_row_bytes: int) -> None:
        self._stream = stream
        self._max_row_bytes = max_row_bytes
        self.begin_row()

    def begin_row(self) -> None:
        self._left = self._max_row_bytes
        self.is_too_long = False

    def __iter__(self) -> "_Texts":
        return self

    def __next__(self) -> str:
        line = self._stream.readline(self._left + 1)
        if not line:
            raise StopIteration
        self._left -= len(line)
        if self._left < 0:
            self.is_too_long = True
            raise csv.Error(f"a row of more than {self._max_row_bytes} bytes")
        return _text(line)


def _text(line: bytes) -> str:
    # Paths may have bytes that are not UTF-8.
    return line.decode("utf-8", "surrogateescape")
