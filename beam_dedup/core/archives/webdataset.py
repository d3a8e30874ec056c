"""WebDataset: in a tar, `key.json` beside `key.jpg` says something of the image, and is no input item itself.

The key of a member is its path up to the first dot of its last part. Members of one key stand next to each other. What
`key.json` holds becomes the metadata of the image, `key.txt` and `key.cls` are put under `txt` and `cls`. Side-cars of
a key without an image are members like others, and so are those that come too late, after more than is held back.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from beam_dedup.core import strict_json
from beam_dedup.core.archives.members import BadMember, Member, Skipped
from beam_dedup.core.imaging.formats import HEAD_BYTES, sniff
from beam_dedup.core.limits import Limits

_SIDECARS = ("json", "txt", "cls")
_SIDECAR_BYTES = 1 << 20
_MOST_HELD = 32  # members of one key


def with_sidecars(
    items: Iterable[Member | BadMember | Skipped], limits: Limits
) -> Iterator[Member | BadMember | Skipped]:
    """The same items, side-cars made metadata; at most the bytes of one member are held back, besides one member."""
    held: list[Member] = []
    for item in items:
        if not isinstance(item, Member) or not _belongs(held, item, limits):
            yield from _joined(held)
            held = []
        if isinstance(item, Member):
            held.append(item)
        else:
            yield item
    yield from _joined(held)


def split_key(name: str) -> tuple[str, str]:
    """Key and extension.

    >>> split_key("a.b/c.seg.png"), split_key("a/.hidden"), split_key("a/c")
    (('a.b/c', 'seg.png'), ('a/', 'hidden'), ('a/c', ''))
    """
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return f"{folder}{slash}{stem}", extension


def _belongs(held: list[Member], item: Member, limits: Limits) -> bool:
    if not held or split_key(held[0].name)[0] != split_key(item.name)[0]:
        return False
    size = sum(len(one.data) for one in held) + len(item.data)
    return len(held) < _MOST_HELD and size <= limits.max_member_bytes


def _joined(held: list[Member]) -> list[Member]:
    sidecars = [one for one in held if _is_sidecar(one)]
    images = {one.name for one in held if sniff(one.data[:HEAD_BYTES]) is not None}
    if not sidecars or not images:
        return held
    said: dict[str, Any] = {}
    for one in sidecars:
        said |= _said(split_key(one.name)[1].lower(), one.data)
    return [
        replace(one, metadata=one.metadata | said) if one.name in images else one
        for one in held
        if not _is_sidecar(one)
    ]


def _is_sidecar(member: Member) -> bool:
    return split_key(member.name)[1].lower() in _SIDECARS and len(member.data) <= _SIDECAR_BYTES


def _said(extension: str, data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8", "replace").strip()
    if extension == "json":
        try:
            value = strict_json.parse(text)
        except ValueError:
            return {"json": text}
        return value if isinstance(value, dict) else {"json": value}
    return {extension: text}
