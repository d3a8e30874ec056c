"""Reads the images in a feature of a TFRecord file of `tf.train.Example`: each record is a member, named by its number from 0.

The feature holds bytes: the content of an image file. Other features are metadata: numbers, and bytes that are text in
UTF-8. A feature with one value is that value, one with several a list. Needs no TensorFlow: the few messages of an
`Example` are read here.

    record    length (8 bytes), checksum of the length, data, checksum of the data
    Example   1: Features; its 1: repeated pairs of 1: name and 2: Feature
    Feature   1: list of bytes, 2: of floats, 3: of integers; the 1 of each: repeated values

The checksum of the length is checked; that of the data is not, as for images in other archives.
"""

import functools
import itertools
import struct
from collections.abc import Collection, Iterator
from typing import Any, BinaryIO

from beam_dedup.core.archives.decompress import read_exactly
from beam_dedup.core.archives.members import BadMember, Budget, Entry, too_large
from beam_dedup.core.archives.table_rows import suffix_of
from beam_dedup.core.errors import ArchiveError
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.row import plain_fields
from beam_dedup.core.model import Reason

_HEADER = struct.Struct("<QI")  # length and its checksum
_CHECKSUM_BYTES = 4
_RECORD_BYTES = 1 << 28
_METADATA_BYTES = 1 << 20  # of a record, as Python objects
_OBJECT_BYTES = 64  # that a value takes, besides its content
_MOST_FEATURES = 10_000
_MOST_FIELDS = 1_000_000  # of a message
_MOST_NAMED = 10  # features in a message

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_BYTES_LIST, _FLOAT_LIST, _INTEGER_LIST = 1, 2, 3


def looks_like_tfrecord(head: bytes) -> bool:
    """Returns whether a file is a TFRecord file, by its first 12 bytes: the checksum of the length must be right."""
    if len(head) < _HEADER.size:
        return False
    length, checksum = _HEADER.unpack_from(head)
    return bool(length <= _RECORD_BYTES and checksum == _masked_checksum(head[:8]))


def records(
    stream: BinaryIO, feature: str, limits: Limits, wanted: Collection[str] | None = None
) -> Iterator[Entry | BadMember]:
    """Yields the records of a file in their order.

    Args:
      stream: at its beginning; seekable.
      feature: the name of the feature with the images.
      limits: of the images and of the number of records.
      wanted: names of records; the data of others are skipped, and metadata are not read. None wants all records.
    Raises:
      ArchiveError: the file is damaged, or its first record has no such feature.
      OSError: from reading the stream.
    """
    size_bytes = stream.seek(0, 2)
    stream.seek(0)
    budget = Budget(limits, size_bytes)
    number = 0
    while header := read_exactly(stream, _HEADER.size):
        if number == limits.max_members:
            raise ArchiveError(Reason.TOO_LARGE, f"more than {limits.max_members} records")
        length = _checked_length(header, size_bytes - stream.tell())
        name = str(number)
        if wanted is not None and name not in wanted:
            stream.seek(length + _CHECKSUM_BYTES, 1)
        elif length > _RECORD_BYTES:
            yield BadMember(
                name, Reason.TOO_LARGE, f"a record of {length} bytes; the limit is {_RECORD_BYTES}", length
            )
            stream.seek(length + _CHECKSUM_BYTES, 1)
        else:
            data = read_exactly(stream, length)
            stream.seek(_CHECKSUM_BYTES, 1)
            yield _entry(data, name, feature, limits, budget, wanted is None)
        number += 1


def _checked_length(header: bytes, left: int) -> int:
    if len(header) < _HEADER.size:
        raise ArchiveError(Reason.DAMAGED, "truncated")
    length, checksum = _HEADER.unpack(header)
    if checksum != _masked_checksum(header[:8]):
        raise ArchiveError(Reason.DAMAGED, "the length of a record has another checksum")
    if length + _CHECKSUM_BYTES > left:
        raise ArchiveError(
            Reason.DAMAGED, f"truncated: a record has {length} bytes; the file has {left} more"
        )
    return int(length)


def _entry(
    data: bytes, name: str, feature: str, limits: Limits, budget: Budget, with_metadata: bool
) -> Entry | BadMember:
    try:
        features = _features(memoryview(data))
        found = features.pop(feature, None)
        if found is None and name == "0":
            known = ", ".join(list(features)[:_MOST_NAMED])[:200]
            detail = f"no feature is named {feature!r}; the first record has {known}"
            raise ArchiveError(Reason.UNSUPPORTED, detail)
        images = [] if found is None else list(itertools.islice(_contents(found), 2))
        metadata = _metadata(features) if with_metadata else {}
    except (ValueError, struct.error) as error:
        return BadMember(name, Reason.DAMAGED, f"no tf.train.Example: {error}"[:300], len(data))
    if not images:
        return BadMember(name, Reason.EMPTY, "no bytes")
    if len(images) > 1:
        return BadMember(name, Reason.UNSUPPORTED, f"the feature {feature!r} holds several images")
    [image] = images
    read = functools.partial(_bytes, image, limits, budget)
    return Entry(name, read, len(image), metadata=metadata, copy_name=name + suffix_of(image))


def _bytes(image: memoryview, limits: Limits, budget: Budget) -> bytes:
    if len(image) > limits.max_member_bytes:
        raise too_large(len(image), limits)
    budget.spend(len(image))
    return bytes(image)


def _features(example: memoryview) -> dict[str, memoryview]:
    """Returns the features of an Example, not yet parsed, by their names."""
    found: dict[str, memoryview] = {}
    for features in _messages(example, 1):
        for pair in _messages(features, 1):
            name = b"".join(list(_messages(pair, 1))[-1:]).decode("utf-8", "replace")
            found[name] = next(reversed(list(_messages(pair, 2))), memoryview(b""))
            if len(found) > _MOST_FEATURES:
                raise ValueError(f"more than {_MOST_FEATURES} features")
    return found


def _contents(feature: memoryview) -> Iterator[memoryview]:
    """Yields the values of a feature that are bytes."""
    for values in _messages(feature, _BYTES_LIST):
        yield from _messages(values, 1)


def _values(feature: memoryview) -> list[Any]:
    """Returns the values of a feature: memoryviews, floats or integers."""
    values: list[Any] = []
    for kind, _, content in _fields(feature):
        if not isinstance(content, memoryview):
            continue
        for number, wire, value in _fields(content):
            if number != 1:
                continue
            if kind == _BYTES_LIST and wire == _BYTES:
                values.append(value)
            elif kind == _FLOAT_LIST and isinstance(value, memoryview):
                values += struct.unpack(f"<{len(value) // 4}f", value[: len(value) // 4 * 4])
            elif kind == _INTEGER_LIST and isinstance(value, int):
                values.append(_signed(value))
            elif kind == _INTEGER_LIST and isinstance(value, memoryview):
                values += _integers(value)
    return values


def _integers(packed: memoryview) -> Iterator[int]:
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield _signed(value)


def _metadata(features: dict[str, memoryview]) -> dict[str, Any]:
    """Returns the values of features as JSON types, without very long ones; none if they take too much memory together."""
    found: dict[str, Any] = {}
    left = _METADATA_BYTES
    for name, feature in features.items():
        if len(feature) > _METADATA_BYTES:
            continue
        try:
            plain = [
                str(value, "utf-8") if isinstance(value, memoryview) else value for value in _values(feature)
            ]
        except UnicodeDecodeError:
            continue  # bytes that are no text
        left -= sum(_OBJECT_BYTES + (len(value) if isinstance(value, str) else 0) for value in plain)
        if left < 0:
            return {}
        if plain:
            found[name] = plain[0] if len(plain) == 1 else plain
    return plain_fields(found)


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yields the contents of one field of a message."""
    for number, _, value in _fields(message):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Yields the fields of a message: number, wire type and value. Raises ValueError if it is malformed."""
    at = count = 0
    while at < len(message):
        count += 1
        if count > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields in a message")
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("a field is longer than its message")
        yield number, wire, message[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Returns an integer of up to 64 bits, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("truncated")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise ValueError("an integer of more than 64 bits")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _checksum_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # the polynomial of CRC-32C, reversed
        table.append(value)
    return table


_TABLE = _checksum_table()


def _masked_checksum(data: bytes) -> int:
    """Returns the checksum that TFRecord stores: CRC-32C, rotated and shifted by a constant."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 255] ^ value >> 8
    value ^= 0xFFFFFFFF
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF
