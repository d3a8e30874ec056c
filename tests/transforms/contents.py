"""Makes contents with random codes, views, known images and further copies, and the pairs of them by the definition."""

import hashlib
import itertools
import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

from beam_dedup.core.codes import VIEWS
from beam_dedup.core.model import Code, CodeKind, Fingerprint, ImageRef
from tests import oracle, random_sets
from tests.random_sets import RandomSet, random_set
from tests.transforms.batches import union

# distance, long distance, view; None where there is none
Match = tuple[int | None, int | None, int]
Pair = tuple[bytes, bytes]


class Contents(NamedTuple):
    fingerprints: list[Fingerprint]  # shuffled
    pairs: dict[Pair, Match]  # by digest, the lower one first
    names: dict[bytes, tuple[str, bool]]  # the first image of each content, and whether it is known


def random_contents(
    seed: str,
    k: int,
    verify: int,
    views: int = 0,
    sets: int = 3,
    known_share: float = 0.0,
    algorithm: str = "dct",
) -> Contents:
    """Returns the contents of some random sets; a share of the images is known."""
    rng = random.Random(seed)
    cases = [random_set(f"{seed} {number}", k, views, algorithm=algorithm) for number in range(sets)]
    return contents(union(cases, rng)._replace(verify=verify), seed, known_share)


def digest_of(seed: str, content: int) -> bytes:
    """Returns the digest of a content of the set for which `contents` is called with this seed."""
    return hashlib.sha256(f"{seed} {content}".encode()).digest()


def contents(
    case: RandomSet,
    seed: str,
    known_share: float = 0.0,
    different: oracle.Pairs = (),
    same: oracle.Pairs = (),
) -> Contents:
    """Returns the images of a set as contents, some of which have several images."""
    rng = random.Random(seed)
    codes_of = [sorted(code for code in case.codes if code.image == i) for i in range(case.images)]
    fingerprints, names, only_known = [], {}, []
    for content, codes in enumerate(codes_of):
        digest = digest_of(seed, content)
        images = [
            _image(f"/{rng.random()} {copy}", rng.random() < known_share, digest, codes)
            for copy in range(rng.choice([1, 1, 1, 2, 3]))
        ]
        fingerprints += images
        first = min(images, key=lambda image: (not image.ref.known, image.ref.uri))
        names[digest] = (first.ref.uri, first.ref.known)
        if all(image.ref.known for image in images):
            only_known.append(content)
    pairs = {}
    for one, other in itertools.combinations(range(case.images), 2):
        match = best_match(codes_of[one], codes_of[other], case, frozenset((one, other)), different, same)
        if match and not {one, other} <= set(only_known):
            a, b = sorted((digest_of(seed, one), digest_of(seed, other)))
            pairs[a, b] = match
    rng.shuffle(fingerprints)
    return Contents(fingerprints, pairs, names)


def best_match(
    one: Sequence[oracle.Code],
    other: Sequence[oracle.Code],
    case: RandomSet,
    pair: frozenset[int],
    different: oracle.Pairs,
    same: oracle.Pairs,
) -> Match | None:
    """Returns how two contents match best; None if they are no pair."""
    if pair in same:
        found: Collection[oracle.Match] = oracle.as_declared_same(one, other, 0)
    else:
        found = [] if pair in different else oracle.matches(one, other, case.k, case.verify)
    if not found:
        return None
    best = min(found, key=lambda match: (match.distance, match.view, match.long_distance))
    distance = None if best.distance == oracle.UNMEASURED else best.distance
    return distance, None if best.long_distance == oracle.NONE else best.long_distance, best.view


def _image(uri: str, known: bool, digest: bytes, codes: Sequence[oracle.Code]) -> Fingerprint:
    return Fingerprint(
        ref=ImageRef(uri, uri[1:], known=known),
        digest=digest,
        size_bytes=1,
        modified_ms=0,
        format="JPEG",
        width=100,
        height=100,
        algorithm="dct/1",
        codes=tuple(Code(CodeKind(code.kind), random_sets.data(code), VIEWS[code.view]) for code in codes),
    )


def components(pairs: Collection[Pair]) -> dict[bytes, bytes]:
    """Returns the lowest digest in the component of each digest, by joining the sets of one pair after the other."""
    members: dict[bytes, set[bytes]] = {}
    for a, b in pairs:
        joined = members.get(a, {a}) | members.get(b, {b})
        members.update(dict.fromkeys(joined, joined))
    return {digest: min(component) for digest, component in members.items()}
