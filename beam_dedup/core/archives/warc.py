"""Reads the images among the records of a WARC file, with the metadata of the crawl.

Records are parsed by FastWARC, which is compiled and reads only as much as it is asked for. It is given
uncompressed bytes. Gzip is decompressed here, so that the records after a damaged one can still be read.
HTTP is parsed here, so that wrong headers affect only their own record.

An image is a response (or resource, or conversion) whose bytes are of a known image format, or whose
Content-Type is `image/...`. All other records, above all the pages of the crawl, are counted as skipped.

The name of a record is the host of its URL, then the path: `example.com/a/b.jpg`. If the URL has a query,
twelve digits of its SHA-256 are put before the extension, so that `b.jpg?w=1` and `b.jpg?w=2` have
different names `b~....jpg`. A path without a last part gets `index`.
"""

import dataclasses
import datetime
import hashlib
import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from fastwarc.warc import ArchiveIterator, WarcHeader, WarcRecord, WarcRecordType

from beam_dedup.core.archives import http_body
from beam_dedup.core.archives.decompress import (
    CountingStream,
    DecompressedStream,
    PrefixedStream,
    read_exactly,
)
from beam_dedup.core.archives.members import WHOLE, BadMember, Entry, Names, Skipped, too_large
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging import formats
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

MAGIC = b"WARC/"

_HOLD_IMAGES = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
_COUNTED = _HOLD_IMAGES | WarcRecordType.revisit | WarcRecordType.continuation | WarcRecordType.unknown
_HEAD_BYTES = 1 << 16  # of a record: its HTTP header, and enough of the payload to recognise its format
_HEADER_BYTES = 1 << 20  # of a record's own header
_SLACK_BYTES = 64  # the largest error of the estimated length of a header


def entries(stream: DecompressedStream, limits: Limits) -> Iterator[Entry | BadMember | Skipped]:
    """Yields the images of a WARC file in the order of its records, then the number of other records.

    Damage is reported as a BadMember, and reading continues after it if possible.

    Raises:
      ArchiveError: the file ends within a record, cannot be read further, or exceeds a limit.
      OSError: from reading the stream.
    """
    names = Names()
    count = skipped = 0
    failure: ArchiveError | None = None
    while failure is None:
        source = _Source(stream)
        try:
            for item in _records(source, names, limits):
                if item is None:
                    skipped += 1
                    continue
                count += 1
                if count > limits.max_members:
                    raise ArchiveError(Reason.TOO_LARGE, f"more than {limits.max_members} members")
                yield item
        except ArchiveError as error:
            failure = error
        else:
            if source.damage is None:
                break
            if source.damage.reason == Reason.DAMAGED and stream.resume(MAGIC):
                detail = f"{source.damage.detail}; reading continued after that"
                yield BadMember(WHOLE, Reason.DAMAGED, detail)
            else:
                failure = source.damage
    if skipped:
        yield Skipped(skipped)
    if failure:
        raise failure


class _Source:
    """The stream that FastWARC reads from.

    At damage the stream ends, and the error is kept in `damage`. An OSError is raised, and kept in `error`.
    """

    def __init__(self, stream: DecompressedStream) -> None:
        self._stream = stream
        self.count = 0
        self.damage: ArchiveError | None = None
        self.error: OSError | None = None

    def read(self, size: int = _HEAD_BYTES) -> bytes:
        try:
            data = self._stream.read(size)
        except ArchiveError as error:
            self.damage = error
            return b""
        except OSError as error:
            self.error = error
            raise
        self.count += len(data)
        return data

    def tell(self) -> int:
        return self.count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: ARG002
        raise io.UnsupportedOperation("a WARC file is read once and forwards")

    def close(self) -> None:
        """Does nothing: the caller closes the stream."""


def _records(source: _Source, names: Names, limits: Limits) -> Iterator[Entry | BadMember | None]:
    """Yields the images among the records, and None for each other record.

    FastWARC skips bytes that are no record, and does not report a truncated record. So the end of each
    record is computed here from its length, and compared with the beginning of the next.
    """
    records = ArchiveIterator(
        source,
        parse_http=False,
        quirks_mode=True,
        stream_detect=False,
        max_header_len=_HEADER_BYTES,
        fsspec_args=False,
    )
    end = 0
    while (record := _next(records, source)) is not None:
        begin, size = record.stream_pos, record.content_length
        if begin > end + _SLACK_BYTES:
            detail = f"{begin - end} bytes before byte {begin} are no record"
            yield BadMember(WHOLE, Reason.DAMAGED, detail)
        end = begin + _header_bytes(record) + size
        if record.headers.get_bytes(WarcHeader.CONTENT_LENGTH) is None:
            yield BadMember(WHOLE, Reason.DAMAGED, f"the record at byte {begin} has no length")
        elif record.record_type & _COUNTED:
            yield _entry(record, names, limits)
    if source.damage:
        return
    if source.count < end - _SLACK_BYTES:
        raise ArchiveError(Reason.DAMAGED, f"truncated after {source.count} of at least {end} bytes")
    if source.count > end + _SLACK_BYTES:
        raise ArchiveError(Reason.DAMAGED, f"{source.count - end} bytes at the end are no record")


def _next(records: ArchiveIterator, source: _Source) -> WarcRecord | None:
    try:
        return next(records)
    except StopIteration:
        return None
    except OSError as error:
        if source.error:
            raise
        raise ArchiveError(Reason.DAMAGED, f"cannot be read further: {error}") from error
    except BaseException as error:
        # An assertion in FastWARC failed: an error of this file, which must not stop the run.
        if type(error).__name__ == "PanicException":
            raise ArchiveError(Reason.DAMAGED, f"cannot be read further: {error}") from error
        raise


def _header_bytes(record: WarcRecord) -> int:
    """Estimates the bytes of a record besides its content: the version, its fields, and three empty lines."""
    return 18 + sum(len(name) + len(value) + 4 for name, value in record.headers.items_bytes())


def _entry(record: WarcRecord, names: Names, limits: Limits) -> Entry | BadMember | None:
    """Returns the image in a record; None if it is no image."""
    if not record.record_type & _HOLD_IMAGES:
        return None
    url = _header(record, WarcHeader.WARC_TARGET_URI).strip("<>")
    content_type = _header(record, WarcHeader.CONTENT_TYPE).lower()
    block = CountingStream(record.reader)
    begin = read_exactly(block, _HEAD_BYTES)
    is_http = content_type.startswith("application/http") or begin.startswith(b"HTTP/")
    head = http_body.head_of(begin) if is_http else None
    payload = PrefixedStream(begin[head.size if head else 0 :], block)
    body = http_body.Body(payload, head, limits)
    first = read_exactly(body, formats.HEAD_BYTES)
    claimed = head.content_type if head else content_type
    if not claimed.startswith("image/") and formats.sniff(first) is None:
        return None
    if not first and head and head.status != 200:
        return None  # a redirect, or "not modified"
    name = names.unique(name_of(url))
    if body.unsupported and formats.sniff(first) is None:
        detail = f"compressed with {body.unsupported}"
        return BadMember(name, Reason.UNSUPPORTED, detail, record.content_length)
    if _header(record, WarcHeader.WARC_SEGMENT_NUMBER):
        return BadMember(name, Reason.UNSUPPORTED, "a record in several segments", record.content_length)
    image = _Image(block, record.content_length, first, body, _metadata(record, url, claimed, head), limits)
    return Entry(
        name, image.read, record.content_length, _milliseconds(image.metadata["date"]), image.metadata
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Image:
    """A record whose payload has not been read completely."""

    block: CountingStream
    size: int  # of the block, as the record states it
    first: bytes  # of the payload
    body: http_body.Body
    metadata: dict[str, Any]
    limits: Limits

    def read(self) -> bytes:
        data = read_exactly(PrefixedStream(self.first, self.body), self.limits.max_member_bytes + 1)
        if len(data) > self.limits.max_member_bytes:
            raise too_large(self.size, self.limits)
        if self.block.count < self.size and not self.block.read(1):
            raise ImageError(Reason.DAMAGED, f"truncated after {self.block.count} of {self.size} bytes")
        if self.body.truncated:
            self.metadata.setdefault("truncated", "http")
        return data


def _metadata(record: WarcRecord, url: str, content_type: str, head: http_body.Head | None) -> dict[str, Any]:
    """Returns the metadata of the image in a record.

    `truncated` is present only if the record has WARC-Truncated. `_Image.read` adds it, as "http", if the
    body ends early. `status` is present only if it is not 200.
    """
    metadata: dict[str, Any] = {
        "url": url,
        "date": _header(record, WarcHeader.WARC_DATE),
        "record_id": _header(record, WarcHeader.WARC_RECORD_ID),
        "content_type": content_type,
    }
    if truncated := _header(record, WarcHeader.WARC_TRUNCATED):
        metadata["truncated"] = truncated
    if head and head.status != 200:
        metadata["status"] = head.status
    return metadata


def _header(record: WarcRecord, name: WarcHeader) -> str:
    return (record.headers.get_bytes(name) or b"").decode("utf-8", "replace")


def _milliseconds(date: str) -> int:
    try:
        return max(int(datetime.datetime.fromisoformat(date).timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        return 0


def name_of(url: str) -> str:
    """Returns the name of a record. Two URLs may have one name, so `Names.unique` must number it.

    >>> (
    ...     name_of("https://example.com/a/b.jpg"),
    ...     name_of("http://example.com/"),
    ...     name_of("http://e.org/b.jpg?w=1"),
    ... )
    ('example.com/a/b.jpg', 'example.com/index', 'e.org/b~c8d9840b26e5.jpg')
    """
    try:
        parts = urlsplit(url)
        host, path, query = parts.netloc.rpartition("@")[2], parts.path, parts.query
    except ValueError:  # brackets that are no IPv6 address
        host, path, query = "", url, ""
    directory, _, base = path.rpartition("/")
    base = base or "index"
    if query:
        stem, dot, extension = base.rpartition(".")
        mark = "~" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        base = f"{stem}{mark}{dot}{extension}" if stem else base + mark
    return "/".join(part for part in (host, directory.strip("/"), base) if part)
