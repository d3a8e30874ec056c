"""Makes images with random codes, and the verdicts on them by the definition. Judging codes needs no pictures."""

import dataclasses
import hashlib
import random
from collections.abc import Collection, Sequence
from typing import NamedTuple

from beam_dedup.core.model import (
    BASE_VIEW,
    Code,
    CodeKind,
    Fingerprint,
    Flag,
    ImageRef,
    Reason,
    Verdict,
    Witness,
)
from tests import oracle, random_sets
from tests.random_sets import RandomSet, random_set
from tests.verdicts import verdict_on

# Names that are not ASCII, not UTF-8 (as os.fsdecode returns them), or hard to quote. A number before them decides the rank.
_NAMES = ("a.jpg", "å ä.png", "\udcff\udc80.jpg", "new\nline", "-rf *", "日本.webp", "x" * 200, '"\\')


class Batch(NamedTuple):
    fingerprints: list[Fingerprint]  # shuffled
    verdicts: list[Verdict]  # by URI


def union(cases: Sequence[RandomSet], rng: random.Random) -> RandomSet:
    """Joins several sets into one, with the ranks of all images shuffled."""
    images = sum(case.images for case in cases)
    rank = list(range(images))
    rng.shuffle(rank)
    codes = []
    start = 0
    for case in cases:
        codes += [code._replace(image=rank[start + code.image]) for code in case.codes]
        start += case.images
    return RandomSet(cases[0].k, cases[0].verify, images, codes)


class Decided(NamedTuple):
    """What a person decided about the images of a set."""

    different: oracle.Pairs = ()
    same: oracle.Pairs = ()
    keep: Collection[int] = ()


NOTHING_DECIDED = Decided()
SAFE = "safe"  # the directory of protected images


def random_batch(seed: str, k: int, verify: int, sets: int = 1, protected_share: float = 0) -> Batch:
    """Returns images of some random sets, and the verdicts on them for the thresholds (k, verify).

    Some images are in the directory `SAFE`, and expected to be protected.
    """
    rng = random.Random(seed)
    cases = [random_set(f"{seed} {number}", k) for number in range(sets)]
    case = union(cases, rng)._replace(verify=verify)
    return batch(case, seed, int(protected_share * case.images))


def digest_of(seed: str, image: int) -> bytes:
    """Returns the digest of an image of the set for which `batch` is called with this seed."""
    return hashlib.sha256(f"{seed} {image}".encode()).digest()


def batch(case: RandomSet, seed: str, protected: int = 0, decided: Decided = NOTHING_DECIDED) -> Batch:
    """Makes images of a set, some with exact copies, and judges them by the definition.

    The image from the set ranks before its exact copies. A copy has the same witness as that image (or that image itself,
    if it is kept), and is an exact duplicate if the witness has its bytes. The first `protected` images are protected, but
    not their copies.
    """
    rng = random.Random(seed)
    code_of = {code.image: code for code in case.codes}
    known = sorted({*range(protected), *decided.keep})
    kept, found = oracle.judge(
        case.codes, case.images, case.k, case.verify, known, decided.different, decided.same
    )
    first = [_fingerprint(rng, seed, image, code_of.get(image)) for image in range(case.images)]
    batch = Batch([], [])
    for image in range(protected):
        name = f"{SAFE}/{first[image].ref.name}"
        ref = dataclasses.replace(first[image].ref, uri=f"/in/{name}", name=name)
        first[image] = dataclasses.replace(first[image], ref=ref)
    for image, fingerprint in enumerate(first):
        copies = [
            _copy(rng, fingerprint, 10 * image, 10 * case.images) for _ in range(rng.choice([0, 0, 0, 1, 2]))
        ]
        if image in kept:
            flags = (*fingerprint.flags, Flag.PROTECTED) if image < protected else fingerprint.flags
            batch.verdicts.append(verdict_on(dataclasses.replace(fingerprint, flags=flags), None, None))
            of_copies = Witness(fingerprint.ref.uri, fingerprint.digest, 0, None, BASE_VIEW)
            witness, reason = fingerprint, Reason.EXACT
        else:
            match = found[image]
            witness = first[match.kept]
            long_distance = None if match.long_distance == oracle.NONE else match.long_distance
            distance = None if match.distance == oracle.UNMEASURED else match.distance
            of_copies = Witness(witness.ref.uri, witness.digest, distance, long_distance, BASE_VIEW)
            reason = Reason.NEAR
            why = _kept_by(fingerprint, witness, protected, first, decided)
            batch.verdicts.append(verdict_on(fingerprint, reason, of_copies, why))
        batch.verdicts.extend(
            verdict_on(copy, reason, of_copies, _kept_by(copy, witness, protected, first, decided))
            for copy in copies
        )
        batch.fingerprints.extend([fingerprint, *copies])
    rng.shuffle(batch.fingerprints)
    return Batch(batch.fingerprints, in_order(batch.verdicts))


def _kept_by(
    image: Fingerprint, witness: Fingerprint, protected: int, first: Sequence[Fingerprint], decided: Decided
) -> str:
    """Returns why a witness was preferred to an image, neither of which is known."""
    if witness in first[:protected]:
        return "protected"
    if witness.ref.uri < image.ref.uri:
        return "first"
    return "decided" if first.index(witness) in decided.keep else "nearest"


def in_order(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Returns verdicts sorted by URI."""
    return sorted(verdicts, key=lambda verdict: verdict.ref.uri)


def _fingerprint(rng: random.Random, seed: str, image: int, code: oracle.Code | None) -> Fingerprint:
    name = f"{10 * image:06} {rng.choice(_NAMES)}"
    return Fingerprint(
        ref=ImageRef(f"/in/{name}", name, rng.choice(["", '{"key": "å"}'])),
        digest=digest_of(seed, image),
        size_bytes=rng.randint(1, 1 << 40),
        modified_ms=rng.randint(0, 1 << 41),
        format=rng.choice(["JPEG", "PNG"]) if code else "SVG",
        width=rng.randint(1, 9999) if code else 0,
        height=rng.randint(1, 9999) if code else 0,
        algorithm="dct/2" if code else "",
        codes=(Code(CodeKind(code.kind), random_sets.data(code)),) if code else (),
        flags={oracle.TINY: (Flag.TINY,), oracle.FLAT: (Flag.FLAT,)}.get(code.kind, ())
        if code
        else (Flag.UNDECODABLE,),
        detail="" if code else "SVG is not decoded",
    )


def _copy(rng: random.Random, of: Fingerprint, rank: int, ranks: int) -> Fingerprint:
    """Returns an image with the same bytes, under a name that ranks somewhere behind, most often far behind."""
    name = f"{rng.randint(rank + 1, ranks):06} copy {rng.getrandbits(64):x}"
    return dataclasses.replace(of, ref=ImageRef(f"/in/{name}", name), modified_ms=rng.randint(0, 99))
