"""Defines the members of archives, and their names and URIs."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from beam_dedup.core.errors import ArchiveError, ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import SEPARATOR, escaped_path, name_hash

WHOLE = ""  # the member name that means the archive itself

_ESCAPED = re.compile("%21|%25(?=21|25)")


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One member that was read. `metadata` holds its other properties in the archive, as JSON types."""

    name: str  # unique in its archive; bytes that are not UTF-8 are surrogates
    data: bytes  # decompressed
    modified_ms: int = 0  # since the epoch; 0 if the archive does not record it
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    copy_name: str = ""  # name of a copy, if that is another one


@dataclasses.dataclass(frozen=True, slots=True)
class BadMember:
    """A member that cannot be read, or, with the name `WHOLE`, an archive that is damaged or too large."""

    name: str
    reason: Reason
    detail: str = ""
    size_bytes: int = 0  # as the archive states it


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """The number of records of a crawl that are neither images nor claim to be.

    They are counted, but they are no input items.
    """

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A member that has not been read yet. `read` may be called until the next entry is requested.

    `read` raises ImageError if this member cannot be read, and ArchiveError if the archive cannot be read
    further.
    """

    name: str
    read: Callable[[], bytes]
    size_bytes: int = 0
    modified_ms: int = 0
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    copy_name: str = ""


def numbered(name: str, number: int) -> str:
    """Returns the name of the `number`-th member with the same name: the number is put before the extension.

    >>> numbered("a/b.jpg", 2), numbered("a.b/c", 3)
    ('a/b#2.jpg', 'a.b/c#3')
    """
    directory, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    return f"{directory}{slash}{stem}#{number}{dot}{extension}" if stem else f"{name}#{number}"


def too_large(size: int, limits: Limits) -> ImageError:
    """Returns the error for a member of `size` bytes, which is more than the limits allow."""
    return ImageError(
        Reason.TOO_LARGE, f"{size} bytes; a member of an archive may have {limits.max_member_bytes}"
    )


class Names:
    """Makes the names of one archive unique. Holds their hashes, some hundred megabytes for millions."""

    def __init__(self) -> None:
        self._given = {name_hash(WHOLE)}  # so that a member without a name is not taken for the archive
        self._next: dict[int, int] = {}

    def unique(self, name: str) -> str:
        """Returns the name itself the first time, then numbered names.

        The results depend only on the names given so far and their order.
        """
        key = name_hash(name)
        if key not in self._given:
            self._given.add(key)
            return name
        # Start where the last search ended, or a million members of one name would take quadratic time.
        number = self._next.get(key, 2)
        while (other := name_hash(numbered(name, number))) in self._given:
            number += 1
        self._next[key] = number + 1
        self._given.add(other)
        return numbered(name, number)

    def latest(self, name: str) -> str | None:
        """Returns the name that the last member called `name` got; None if there is no such member."""
        key = name_hash(name)
        if key not in self._given:
            return None
        return numbered(name, self._next[key] - 1) if key in self._next else name


class Budget:
    """The limit on the bytes of members that may share bytes of the archive.

    Entries of a zip may overlap in the file, and many hard links of a tar may name one file, so a limit per
    member is not enough.
    """

    def __init__(self, limits: Limits, archive_bytes: int) -> None:
        by_ratio = max(limits.free_bytes, limits.max_ratio * archive_bytes)
        self._left = min(limits.max_decompressed_bytes, by_ratio)
        self._detail = (
            f"its members decompress to more than {self._left} bytes; the archive has {archive_bytes} bytes"
        )

    @property
    def is_spent(self) -> bool:
        return self._left < 0

    def spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ArchiveError(Reason.TOO_LARGE, self._detail)


def file_uri(path: str) -> str:
    """Returns the URI of a file: its path, with `!` escaped, since that separates an archive from its member.

    >>> file_uri("/a/b.jpg"), file_uri("/wow!/50%.jpg"), file_uri("/%21")
    ('/a/b.jpg', '/wow%21/50%.jpg', '/%2521')
    """
    return escaped_path(path)


def member_uri(archive: str, name: str) -> str:
    """Returns the URI of a member, or of the archive itself for the name `WHOLE`.

    >>> member_uri("/a/b.zip", "c!.jpg"), member_uri("/a!/b.zip", "c.jpg"), member_uri("b.zip", WHOLE)
    ('/a/b.zip!c!.jpg', '/a%21/b.zip!c.jpg', 'b.zip')
    """
    return f"{file_uri(archive)}{SEPARATOR}{name}" if name else file_uri(archive)


def split_uri(uri: str) -> tuple[str, str]:
    """Splits a URI of `file_uri` or `member_uri` into path and member name; the name of a file's URI is "".

    >>> split_uri("/a%21/b.zip!c!.jpg"), split_uri("/a%21b.jpg"), split_uri("/100%.jpg")
    (('/a!/b.zip', 'c!.jpg'), ('/a!b.jpg', ''), ('/100%.jpg', ''))
    """
    archive, _, name = uri.partition(SEPARATOR)
    return _ESCAPED.sub(lambda match: "!" if match[0] == "%21" else "%", archive), name
