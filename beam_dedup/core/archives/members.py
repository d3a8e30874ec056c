"""The nouns of archives: what comes out of one, and what its members are called."""

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Reason
from beam_dedup.core.paths import name_hash

SEPARATOR = "!"  # between an archive and its member in a URI
WHOLE = ""  # the name of the archive itself, where not a member of it is meant

_LOOKS_ESCAPED = re.compile("%(?=21|25)")
_ESCAPED = re.compile("%21|%25(?=21|25)")


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One member, unpacked. Its `metadata` are JSON types: what the archive says of it beyond its bytes."""

    name: str  # unique in its archive; bytes that are not UTF-8 as surrogates
    data: bytes
    modified_ms: int = 0  # since the epoch; 0 where the archive does not tell
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class BadMember:
    """A member that can't be had, or, with the name `WHOLE`, the archive from some point on."""

    name: str
    reason: Reason
    detail: str = ""
    size_bytes: int = 0  # what the archive says


@dataclasses.dataclass(frozen=True, slots=True)
class Skipped:
    """How many records of a crawl are no images and claim not to be: counted, but no input items."""

    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A member that is yet to be read; `read` works until the next entry is asked for.

    `read` raises ImageError for this member alone, ArchiveError if the archive can't be read further.
    """

    name: str
    read: Callable[[], bytes]
    size_bytes: int = 0
    modified_ms: int = 0
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


def numbered(name: str, number: int) -> str:
    """The name of the `number`-th member of one name: numbered before its extension.

    >>> numbered("a/b.jpg", 2), numbered("a.b/c", 3)
    ('a/b#2.jpg', 'a.b/c#3')
    """
    folder, slash, base = name.rpartition("/")
    stem, dot, extension = base.rpartition(".")
    return f"{folder}{slash}{stem}#{number}{dot}{extension}" if stem else f"{name}#{number}"


def too_large(size: int, limits: Limits) -> ImageError:
    return ImageError(
        Reason.TOO_LARGE, f"{size} bytes; a member of an archive may have {limits.max_member_bytes}"
    )


class Names:
    """The names given so far in one archive, by their hashes: millions of them in some hundred megabytes."""

    def __init__(self) -> None:
        self._given = {name_hash(WHOLE)}  # a member without a name is not the archive
        self._next: dict[int, int] = {}

    def unique(self, name: str) -> str:
        """The name itself, the first time; then numbered. The same names in the same order give the same answers."""
        key = name_hash(name)
        if key not in self._given:
            self._given.add(key)
            return name
        # From where the last search ended, or a million members of one name would take for ever.
        number = self._next.get(key, 2)
        while (other := name_hash(numbered(name, number))) in self._given:
            number += 1
        self._next[key] = number + 1
        self._given.add(other)
        return numbered(name, number)


def file_uri(path: str) -> str:
    """The URI of a file that is no member: its path, unless that holds a `!`, which would read as a separator.

    >>> file_uri("/a/b.jpg"), file_uri("/wow!/50%.jpg"), file_uri("/%21")
    ('/a/b.jpg', '/wow%21/50%.jpg', '/%2521')
    """
    if SEPARATOR not in path and "%2" not in path:
        return path
    return _LOOKS_ESCAPED.sub("%25", path).replace(SEPARATOR, "%21")


def member_uri(archive: str, name: str) -> str:
    """The URI of a member, or of the archive itself for the name `WHOLE`.

    >>> member_uri("/a/b.zip", "c!.jpg"), member_uri("/a!/b.zip", "c.jpg"), member_uri("b.zip", WHOLE)
    ('/a/b.zip!c!.jpg', '/a%21/b.zip!c.jpg', 'b.zip')
    """
    return f"{file_uri(archive)}{SEPARATOR}{name}" if name else file_uri(archive)


def split_uri(uri: str) -> tuple[str, str]:
    """The path and the member's name of a URI that `file_uri` or `member_uri` made; no name if it is a file's.

    >>> split_uri("/a%21/b.zip!c!.jpg"), split_uri("/a%21b.jpg"), split_uri("/100%.jpg")
    (('/a!/b.zip', 'c!.jpg'), ('/a!b.jpg', ''), ('/100%.jpg', ''))
    """
    archive, _, name = uri.partition(SEPARATOR)
    return _ESCAPED.sub(lambda match: "!" if match[0] == "%21" else "%", archive), name
