"""Implements the definition of a duplicate (DESIGN section 2) by brute force, on integers.

It shares no code with the core.

Images are numbers in order of rank, the preferred image first.
"""

import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

FULL, TINY, FLAT, HASH, WIDE, METADATA, DETAILED = range(7)
PICTURES = (FULL, DETAILED)  # kinds with a long code
NONE = -1  # the long distance of a pair that has none
UNMEASURED = 512  # the distance of a pair that was declared the same, and has none


class Code(NamedTuple):
    image: int
    view: int  # 0 is the base
    kind: int
    # full, detailed: 256 bits, of which the upper 64 are the short code; wide: 256 bits; all other kinds: 64 bits
    value: int = 0
    cells: bytes = b""  # flat: 32 colours of 3 bytes
    detail: int = 0  # detailed: 512 bits


class Match(NamedTuple):
    """One way in which an image duplicates a kept one. The smallest match is reported: by distance, then
    rank, then view.
    """

    distance: int
    kept: int
    view: int
    long_distance: int


def within(a: Code, b: Code, k: int, verify: int) -> tuple[int, int] | None:
    """Returns the short and the long distance of two codes; None if they are not within k."""
    if a.image == b.image or (a.view and b.view):
        return None
    if FLAT in (a.kind, b.kind):
        levels = max(abs(x - y) for x, y in zip(a.cells, b.cells, strict=True)) if a.kind == b.kind else 256
        two_plain_colours = all(code.cells == code.cells[:3] * 32 for code in (a, b))
        return (levels, NONE) if levels <= min(k, 8) and not (two_plain_colours and levels) else None
    if {HASH, WIDE, METADATA} & {a.kind, b.kind}:
        bits = (a.value ^ b.value).bit_count() if a.kind == b.kind else 1 << 10
        return (bits, NONE) if bits <= (min(k, 3) if a.kind == METADATA else k) else None
    short_a, short_b = (code.value >> 192 if code.kind in PICTURES else code.value for code in (a, b))
    short = (short_a ^ short_b).bit_count()
    if TINY in (a.kind, b.kind):
        return (short, NONE) if short <= min(k, 4) else None
    if a.kind == b.kind == DETAILED and (a.detail ^ b.detail).bit_count() > (128 if a.view or b.view else 64):
        return None
    long = (a.value ^ b.value).bit_count()
    return (short, long) if short <= k and long <= verify else None


def matches(one: Sequence[Code], other: Sequence[Code], k: int, verify: int) -> list[Match]:
    """Returns all ways in which an image lies within k of another, given the codes of both."""
    pairs = (
        (a, b, within(a, b, k, verify)) for a, b in itertools.product(one, other) if not (a.view and b.view)
    )
    return [Match(found[0], b.image, max(a.view, b.view), found[1]) for a, b, found in pairs if found]


def as_declared_same(image: Sequence[Code], other: Sequence[Code], kept: int) -> list[Match]:
    """Returns all ways in which an image lies near another that a person declared the same, however far apart."""
    found = []
    pairs = ((a, b) for a, b in itertools.product(image, other) if not (a.view and b.view))
    for a, b in pairs:
        kinds = {FULL if code.kind == DETAILED else code.kind for code in (a, b)}
        distance, long = UNMEASURED, NONE
        if kinds == {FLAT}:
            distance = max(abs(x - y) for x, y in zip(a.cells, b.cells, strict=True))
        elif len(kinds) == 1 or kinds == {FULL, TINY}:
            short_a, short_b = (code.value >> 192 if code.kind in PICTURES else code.value for code in (a, b))
            distance = (short_a ^ short_b).bit_count()
            long = (a.value ^ b.value).bit_count() if kinds == {FULL} else NONE
        found.append(Match(distance, kept, max(a.view, b.view), long))
    return found or [Match(UNMEASURED, kept, 0, NONE)]


Pairs = Collection[frozenset[int]]  # of images


def judge(
    codes: Sequence[Code],
    images: int,
    k: int,
    verify: int,
    known: Sequence[int] = (),
    different: Pairs = (),
    same: Pairs = (),
) -> tuple[list[int], dict[int, Match]]:
    """Returns the kept images, including the known ones, and the witness of every other image.

    Two images are within k if their codes are and nobody declared them different, or if somebody declared them the same.
    """
    codes_of = [[code for code in codes if code.image == image] for image in range(images)]

    def found(image: int, other: int) -> list[Match]:
        if frozenset((image, other)) in same:
            return as_declared_same(codes_of[image], codes_of[other], other)
        if frozenset((image, other)) in different:
            return []
        return matches(codes_of[image], codes_of[other], k, verify)

    kept = list(known)
    for image in range(images):
        if not any(found(image, other) for other in kept) and image not in known:
            kept.append(image)
    kept.sort()
    duplicates = [image for image in range(images) if image not in kept]
    return kept, {
        image: min(match for other in kept for match in found(image, other)) for image in duplicates
    }
