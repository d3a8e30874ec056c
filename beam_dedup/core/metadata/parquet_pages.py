"""Reads the headers of the pages of a Parquet column, which say what decompressing them takes.

pyarrow decompresses a page to the size in its header, and does not return headers. The sizes in the footer of
the file may differ from them. A header is a struct in the compact protocol of Thrift.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_HEADER_BYTES = 1 << 16  # of one page header; statistics are the only part that can be long
_SHORT_HEADER_BYTES = 1 << 8  # read first; most headers are shorter
_DEEPEST = 16  # structs and lists in each other

_BOOLEANS = (1, 2)  # types of the compact protocol
_BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)

PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8  # encodings of values
_DICTIONARY_PAGE = 2

Struct = dict[int, "int | bytes | Struct"]  # by the numbers of the fields; other types are left out


class Page(NamedTuple):
    """The header of a page."""

    is_dictionary: bool
    size: int  # bytes, decompressed
    compressed_size: int  # bytes
    values: int  # including missing ones
    encoding: int  # `PLAIN`, or another number of the format


def pages(stream: BinaryIO, begin: int, end: int) -> Iterator[Page]:
    """Yields the headers of the pages between two positions of a file.

    Raises:
      ValueError: a header is malformed.
      OSError: from reading the stream.
    """
    while begin < end:
        page, header_bytes = _page_at(stream, begin)
        yield page
        begin += header_bytes + page.compressed_size


def _page_at(stream: BinaryIO, at: int) -> tuple[Page, int]:
    for size in (_SHORT_HEADER_BYTES, _HEADER_BYTES):
        stream.seek(at)
        data = stream.read(size)
        try:
            fields, header_bytes = _struct(data, 0, 0)
        except IndexError:  # the header is longer
            continue
        return _page(fields), header_bytes
    raise ValueError("the header of a page is truncated")


def _page(fields: Struct) -> Page:
    kind, size, compressed_size = (_integer(fields, number) for number in (1, 2, 3))
    # Fields 5, 7 and 8 are the headers of the kinds of pages. A page has one of them.
    header = next((one for number in (5, 7, 8) if isinstance(one := fields.get(number), dict)), {})
    values = _integer(header, 1)
    encoding = _integer(header, 4 if 8 in fields else 2)
    if min(size, compressed_size, values) < 0:
        raise ValueError("the header of a page has a negative size")
    return Page(kind == _DICTIONARY_PAGE, size, compressed_size, values, encoding)


def _integer(fields: Struct, number: int) -> int:
    value = fields.get(number, 0)
    return value if isinstance(value, int) else 0


def _struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    """Parses a struct; returns its fields, and the position after it. Raises IndexError if data is missing."""
    if depth > _DEEPEST:
        raise ValueError("the header of a page is nested too deep")
    fields: Struct = {}
    number = 0
    while head := data[at]:
        at += 1
        kind, difference = head & 15, head >> 4
        if difference:
            number += difference
        else:
            number, at = _number(data, at)
        if kind in _BOOLEANS:
            continue
        value, at = _value(data, at, kind, depth)
        if value is not None:
            fields[number] = value
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[int | bytes | Struct | None, int]:
    if kind in _INTEGERS:
        return _number(data, at)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)
    if kind == _BINARY:
        size, at = _size(data, at)
        return None, at + size
    if kind in (_BYTE, _DOUBLE):
        return None, at + (1 if kind == _BYTE else 8)
    if kind in (_LIST, _SET):
        return None, _after_list(data, at, depth + 1)
    if kind == _MAP:
        return None, _after_map(data, at)
    raise ValueError("the header of a page is malformed")


def _after_list(data: bytes, at: int, depth: int) -> int:
    """Returns the position after a list."""
    if depth > _DEEPEST:
        raise ValueError("the header of a page is nested too deep")
    kind, size = data[at] & 15, data[at] >> 4
    at += 1
    if size == 15:
        size, at = _size(data, at)
    for _ in range(size):
        at = at + 1 if kind in _BOOLEANS else _value(data, at, kind, depth)[1]
        data[at - 1]  # raises IndexError, before the loop goes on without data
    return at


def _after_map(data: bytes, at: int) -> int:
    size, at = _size(data, at)
    if size:
        raise ValueError("the header of a page has a map")  # no version of the format has one
    return at


def _size(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("the header of a page has a number of more than 64 bits")


def _number(data: bytes, at: int) -> tuple[int, int]:
    value, at = _size(data, at)
    return (value >> 1) ^ -(value & 1), at
