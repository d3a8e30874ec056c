"""Splits a JSON array into the texts of its elements, in bounded steps."""

import re
from collections.abc import Generator
from typing import Protocol

_MARK = re.compile(rb'\\.?|["\[\]{},]', re.DOTALL)
_CHUNK_BYTES = 1 << 16


class Lines(Protocol):
    """A stream that is read line by line."""

    def readline(self, size: int, /) -> bytes: ...


def elements(
    stream: Lines, begin: bytes, max_bytes: int, chunk_bytes: int = _CHUNK_BYTES
) -> Generator[bytes | None, None, bytes | None]:
    """Yields the text of each element; None for one of more than `max_bytes` bytes, which is not held in memory.

    An element may be malformed: this function finds only where it ends.

    Args:
      stream: the rest of the text, in UTF-8.
      begin: the text after the opening bracket, as far as it is read.
      max_bytes: the most bytes of an element.
      chunk_bytes: how many bytes of a line are read at a time.
    Returns:
      The bytes after the closing bracket that are read already; None if the array is not closed.
    """
    element = _Element(max_bytes)
    depth, in_text, skip = 0, False, 0
    chunk = begin
    while chunk:
        start = 0
        mark = b""
        for match in _MARK.finditer(chunk, skip):
            mark = match[0]
            if mark == b'"':
                in_text = not in_text
            elif in_text:
                continue
            elif mark in (b"{", b"["):
                depth += 1
            elif depth:
                depth -= mark in (b"}", b"]")
            elif mark in (b",", b"]"):
                element.add(chunk[start : match.start()])
                start = match.end()
                text = element.take()
                # A comma after the last element is forgiven.
                if mark == b"," or text is None or text:
                    yield text
                if mark == b"]":
                    return chunk[start:]
        element.add(chunk[start:])
        skip = int(in_text and mark == b"\\" and chunk.endswith(b"\\"))  # it escapes the next byte
        chunk = stream.readline(chunk_bytes)
    if (text := element.take()) is None or text:
        yield text
    return None


class _Element:
    """The text of an element, as far as it is read."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self._max_bytes:
            self._parts.append(part)
        else:
            self._parts.clear()

    def take(self) -> bytes | None:
        """Returns the text without space around it, or None if it is too long, and begins the next element."""
        text = b"".join(self._parts).strip() if self._size <= self._max_bytes else None
        self._parts, self._size = [], 0
        return text
