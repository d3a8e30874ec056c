"""WARC files, as crawlers write them: the images among their records, with what the crawl knows of each.

The reader is FastWARC: it is compiled, and holds no more than it is asked for. It is given plain bytes: gzip is undone
here, so that one damaged record does not cost those after it, and HTTP too, so that lies in its headers stay in their
record.

An image is a response (or resource, or conversion) whose bytes are of an image format we know, or whose Content-Type says
`image/...`. All other records, the pages of the crawl above all, are counted as skipped.

The name of a record is the host of its URL, then the path: `example.com/a/b.jpg`. Where the URL has a query, twelve
digits of its SHA-256 stand before the extension, so that `b.jpg?w=1` and `b.jpg?w=2` are `b~....jpg`, each its own. A path
without a last part gets `index`.
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
from beam_dedup.core.archives.decompress import After, Counted, Unpacked, exactly
from beam_dedup.core.archives.members import WHOLE, BadMember, Entry, Names, Skipped, too_large
from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.imaging import formats
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason

MAGIC = b"WARC/"

_HOLD_IMAGES = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
_TOLD = _HOLD_IMAGES | WarcRecordType.revisit | WarcRecordType.continuation | WarcRecordType.unknown
_HEAD_BYTES = 1 << 16  # of a record: its HTTP header, and enough of the payload to know it
_HEADER_BYTES = 1 << 20  # of a record's own header
_SLACK_BYTES = 64  # by which our estimate of a header's length may err


def entries(stream: Unpacked, limits: Limits) -> Iterator[Entry | BadMember | Skipped]:
    """The images of a WARC file, in the order of its records; at the end how many records were none.

    Damage is told as a BadMember, and reading goes on after it where it can.

    Raises:
      ArchiveError: it ends within a record, or can't be read further.
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
                detail = f"{source.damage.detail}; read on behind that"
                yield BadMember(WHOLE, Reason.DAMAGED, detail)
            else:
                failure = source.damage
    if skipped:
        yield Skipped(skipped)
    if failure:
        raise failure


class _Source:
    """What FastWARC reads from. It ends at damage, which is kept here; as is the error of a file that can't be read."""

    def __init__(self, stream: Unpacked) -> None:
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
        raise io.UnsupportedOperation("read once and forwards")

    def close(self) -> None:
        """What was lent is not closed."""


def _records(source: _Source, names: Names, limits: Limits) -> Iterator[Entry | BadMember | None]:
    """The images among the records; None for a record that is none.

    FastWARC passes over what is no record, and does not tell a record that is cut short. So it is reckoned up where
    each should end.
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
        elif record.record_type & _TOLD:
            yield _told(record, names, limits)
    if source.damage:
        return
    if source.count < end - _SLACK_BYTES:
        raise ArchiveError(Reason.DAMAGED, f"cut short after {source.count} of at least {end} bytes")
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
        raise ArchiveError(Reason.DAMAGED, f"not to be read further: {error}") from error
    except BaseException as error:
        if (
            type(error).__name__ == "PanicException"
        ):  # FastWARC's own assertion: this file's fault, not the run's
            raise ArchiveError(Reason.DAMAGED, f"not to be read further: {error}") from error
        raise


def _header_bytes(record: WarcRecord) -> int:
    """About how many bytes a record has besides its content: the version, its fields, and three empty lines."""
    return 18 + sum(len(name) + len(value) + 4 for name, value in record.headers.items_bytes())


def _told(record: WarcRecord, names: Names, limits: Limits) -> Entry | BadMember | None:
    if not record.record_type & _HOLD_IMAGES:
        return None
    url = _header(record, WarcHeader.WARC_TARGET_URI).strip("<>")
    content_type = _header(record, WarcHeader.CONTENT_TYPE).lower()
    block = Counted(record.reader)
    begin = exactly(block, _HEAD_BYTES)
    is_http = content_type.startswith("application/http") or begin.startswith(b"HTTP/")
    head = http_body.head_of(begin) if is_http else None
    body = http_body.Body(After(begin[head.size if head else 0 :], block), head, limits)
    first = exactly(body, formats.HEAD_BYTES)
    claimed = head.content_type if head else content_type
    if not claimed.startswith("image/") and formats.sniff(first) is None:
        return None
    if not first and head and head.status != 200:
        return None  # a redirection, or "not modified"
    name = names.unique(name_of(url))
    if body.unknown and formats.sniff(first) is None:
        return BadMember(name, Reason.UNSUPPORTED, f"packed by {body.unknown}", record.content_length)
    if _header(record, WarcHeader.WARC_SEGMENT_NUMBER):
        return BadMember(name, Reason.UNSUPPORTED, "a record in several segments", record.content_length)
    image = _Image(block, record.content_length, first, body, _metadata(record, url, claimed, head), limits)
    return Entry(
        name, image.read, record.content_length, _milliseconds(image.metadata["date"]), image.metadata
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Image:
    """A record whose payload is yet to be read."""

    block: Counted
    size: int  # of the block, as the record says
    first: bytes  # of the payload
    body: http_body.Body
    metadata: dict[str, Any]
    limits: Limits

    def read(self) -> bytes:
        data = exactly(After(self.first, self.body), self.limits.max_member_bytes + 1)
        if len(data) > self.limits.max_member_bytes:
            raise too_large(self.size, self.limits)
        if self.block.count < self.size and not self.block.read(1):
            raise ImageError(Reason.DAMAGED, f"cut short after {self.block.count} of {self.size} bytes")
        if self.body.cut:
            self.metadata.setdefault("truncated", "http")
        return data


def _metadata(record: WarcRecord, url: str, content_type: str, head: http_body.Head | None) -> dict[str, Any]:
    """What a record says of its image; `truncated` only where it is, by WARC-Truncated, or "http" if the body ends early."""
    told: dict[str, Any] = {
        "url": url,
        "date": _header(record, WarcHeader.WARC_DATE),
        "record_id": _header(record, WarcHeader.WARC_RECORD_ID),
        "content_type": content_type,
    }
    if truncated := _header(record, WarcHeader.WARC_TRUNCATED):
        told["truncated"] = truncated
    if head and head.status != 200:
        told["status"] = head.status
    return told


def _header(record: WarcRecord, name: WarcHeader) -> str:
    return (record.headers.get_bytes(name) or b"").decode("utf-8", "replace")


def _milliseconds(date: str) -> int:
    try:
        return max(int(datetime.datetime.fromisoformat(date).timestamp() * 1000), 0)
    except (ValueError, OverflowError):
        return 0


def name_of(url: str) -> str:
    """The name of a record; two URLs may have the same, so it is yet to be numbered.

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
    folder, _, base = path.rpartition("/")
    base = base or "index"
    if query:
        stem, dot, extension = base.rpartition(".")
        mark = "~" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        base = f"{stem}{mark}{dot}{extension}" if stem else base + mark
    return "/".join(part for part in (host, folder.strip("/"), base) if part)
