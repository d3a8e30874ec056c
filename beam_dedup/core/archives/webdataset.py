"""Reads WebDataset sidecars: in a tar, `key.json` next to `key.jpg` is metadata of the image.

The key of a member is its path up to the first dot of its last part. Members of one key are adjacent in the
tar. The content of `key.json` becomes the metadata of the image; `key.txt` and `key.cls` are added under
`txt` and `cls`. Sidecars of a key without an image are ordinary members. So are sidecars that come too
late, when the buffer for the members of their key (at most 32 members, and the bytes of one member) has
been emptied.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from beam_dedup.core import strict_json
from beam_dedup.core.archives.members import WHOLE, BadMember, Member, Skipped
from beam_dedup.core.imaging.formats import HEAD_BYTES, sniff
from beam_dedup.core.limits import Limits

_SIDECARS = ("json", "txt", "cls")
_SIDECAR_BYTES = 1 << 20  # a larger file is no sidecar
_MOST_BUFFERED = 32  # members of one key


def with_sidecars(
    items: Iterable[Member | BadMember | Skipped], limits: Limits
) -> Iterator[Member | BadMember | Skipped]:
    """Yields the same items, with sidecars turned into metadata of the images of their key.

    Buffers the members of one key, together at most `limits.max_member_bytes`, and one more member.
    """
    buffered: list[Member] = []
    for item in items:
        if not isinstance(item, Member) or not _belongs(buffered, item, limits):
            yield from _joined(buffered)
            buffered = []
        if isinstance(item, Member):
            buffered.append(item)
        else:
            yield item
    yield from _joined(buffered)


def split_key(name: str) -> tuple[str, str]:
    """Splits the name of a member into key and extension.

    >>> split_key("a.b/c.seg.png"), split_key("a/.hidden"), split_key("a/c")
    (('a.b/c', 'seg.png'), ('a/', 'hidden'), ('a/c', ''))
    """
    directory, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{directory}{slash}{stem}", extension


def keys_of(
    items: Iterable[Member | BadMember | Skipped], limits: Limits
) -> Iterator[tuple[str, list[Member | BadMember]]]:
    """Yields each key with its adjacent members; a key with more members than the buffer holds, several times.

    Args:
      items: members as they were found. An archive that can't be read further is left out.
      limits: the members have together at most `max_member_bytes`, unless it is one member.
    """
    key, size = "", 0
    buffered: list[Member | BadMember] = []
    for item in items:
        if isinstance(item, Skipped) or item.name == WHOLE:
            continue
        own_key = split_key(item.name)[0]
        own_size = len(item.data) if isinstance(item, Member) else 0
        is_full = len(buffered) == _MOST_BUFFERED or size + own_size > limits.max_member_bytes
        if buffered and (own_key != key or is_full):
            yield key, buffered
            buffered, size = [], 0
        key = own_key
        buffered.append(item)
        size += own_size
    if buffered:
        yield key, buffered


def _belongs(buffered: list[Member], item: Member, limits: Limits) -> bool:
    """Returns whether a member has the key of the buffered ones and fits into the buffer."""
    if not buffered or split_key(buffered[0].name)[0] != split_key(item.name)[0]:
        return False
    size = sum(len(member.data) for member in buffered) + len(item.data)
    return len(buffered) < _MOST_BUFFERED and size <= limits.max_member_bytes


def _joined(buffered: list[Member]) -> list[Member]:
    """Turns the sidecars among the members of one key into metadata of the images among them."""
    sidecars = [member for member in buffered if _is_sidecar(member)]
    images = {member.name for member in buffered if sniff(member.data[:HEAD_BYTES]) is not None}
    if not sidecars or not images:
        return buffered
    metadata: dict[str, Any] = {}
    for sidecar in sidecars:
        metadata |= _sidecar_metadata(split_key(sidecar.name)[1].lower(), sidecar.data)
    return [
        replace(member, metadata=member.metadata | metadata) if member.name in images else member
        for member in buffered
        if not _is_sidecar(member)
    ]


def _is_sidecar(member: Member) -> bool:
    return split_key(member.name)[1].lower() in _SIDECARS and len(member.data) <= _SIDECAR_BYTES


def _sidecar_metadata(extension: str, data: bytes) -> dict[str, Any]:
    """Returns the metadata in a sidecar; JSON that is no object, or cannot be stored again, under `json`."""
    text = data.decode("utf-8", "replace").strip()
    if extension == "json":
        try:
            value = strict_json.parse(text)
        except ValueError:
            return {"json": text}
        return value if isinstance(value, dict) else {"json": value}
    return {extension: text}
