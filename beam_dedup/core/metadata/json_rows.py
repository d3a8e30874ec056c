"""Reads the rows of a metadata file in JSON: one object per line, or one array of objects."""

import codecs
import itertools
from collections.abc import Generator, Iterator

from beam_dedup.core import strict_json
from beam_dedup.core.metadata.json_elements import Lines, elements
from beam_dedup.core.metadata.row import PATH_KEY, BadRow, Row, row_of
from beam_dedup.core.model import Reason

MAX_LINE_BYTES = 1 << 24  # a longer line or element of an array is a BadRow

_SKIP_BYTES = 1 << 20  # read at a time, of the rest of a line that is too long


def json_rows(
    stream: Lines,
    path_key: str = PATH_KEY,
    max_line_bytes: int = MAX_LINE_BYTES,
    skip_bytes: int = _SKIP_BYTES,
) -> Iterator[Row | BadRow]:
    """Yields the lines of a JSON Lines file, or the elements of an array of objects.

    Lines are numbered from 1, empty ones included, and so are elements. A first line that looks like an array of
    something else is a BadRow.

    Args:
      stream: at its beginning, in UTF-8.
      path_key: the field with the path of an image.
      max_line_bytes: a longer line, or element, is a BadRow and is not held in memory.
      skip_bytes: how many bytes of the rest of such a line are read at a time.
    """
    lines = _numbered(stream, max_line_bytes)
    held: list[tuple[int, bytes]] = []  # what was read to see whether the text is an array
    for number, line in lines:
        text = line.lstrip()
        if not text:
            continue
        if not held and not text.startswith(b"["):
            held.append((number, line))
            break
        text = text if held else text[1:].lstrip()
        held.append((number, line))
        if text.startswith((b"{", b"]")):
            count = yield from _array_rows(stream, text, path_key, max_line_bytes)
            held, lines = [], _numbered(stream, max_line_bytes, count)
        if text:
            break
    for number, line in itertools.chain(held, lines):
        if len(line) > max_line_bytes:
            _skip(stream, line, skip_bytes)
            yield BadRow(number, Reason.MALFORMED, f"a line of more than {max_line_bytes} bytes")
        elif text := line.strip():
            yield _row(number, text, path_key)


def _array_rows(
    stream: Lines, begin: bytes, path_key: str, max_bytes: int
) -> Generator[Row | BadRow, None, int]:
    """Yields the elements of an array. Returns the number of the last row.

    Args:
      stream: the rest of the text.
      begin: the text after the opening bracket, as far as it is read.
      path_key: the field with the path of an image.
      max_bytes: a longer element is a BadRow.
    """
    number = 0
    texts = elements(stream, begin, max_bytes)
    while True:
        try:
            text = next(texts)
        except StopIteration as stop:
            rest: bytes | None = stop.value
            break
        number += 1
        if text is None:
            detail = f"an element of more than {max_bytes} bytes"
            yield BadRow(number, Reason.MALFORMED, detail)
        else:
            yield _row(number, text, path_key)
    if rest is None:
        number += 1
        yield BadRow(number, Reason.DAMAGED, "truncated: the array has no closing bracket")
    elif rest.strip():
        number += 1
        _skip(stream, rest, _SKIP_BYTES)
        yield BadRow(number, Reason.MALFORMED, "text after the closing bracket of the array")
    return number


def _numbered(stream: Lines, max_bytes: int, number: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yields the number and the text of each line, and at most one byte more than `max_bytes` of it."""
    while line := stream.readline(max_bytes + 1):
        number += 1
        yield number, line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _skip(stream: Lines, line: bytes, skip_bytes: int) -> None:
    """Reads the rest of a line."""
    while line and not line.endswith(b"\n"):
        line = stream.readline(skip_bytes)


def _row(number: int, line: bytes, path_key: str) -> Row | BadRow:
    try:
        value = strict_json.parse(line.decode("utf-8"), replace_unbounded=True)
    except UnicodeDecodeError as error:
        return BadRow(number, Reason.MALFORMED, f"not UTF-8: byte {error.start}")
    except ValueError as error:
        return BadRow(number, Reason.MALFORMED, f"not JSON: {error}"[:200])
    return row_of(number, value, path_key)
