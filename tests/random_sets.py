"""Makes random sets of codes that test the edges of the relation "within k".

The sets contain chains, cliques, equal codes, ties, tiny and flat codes. Their codes have a long code to
verify with, or none: hashes of at most 64 bits, and wide codes of 256 bits.

A set is a number of images and their codes, in the oracle's form; `arrays` converts codes to the core's
form. The same seed always gives the same set, also with other versions of Python (`random.Random`
guarantees that for the methods used here).
"""

import itertools
import random
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from beam_dedup.core.codes import Codes, from_columns
from tests.oracle import DETAILED, FLAT, FULL, HASH, METADATA, PICTURES, TINY, WIDE, Code

VERIFY = (0, 8, 48, 100, 255, 256)  # 256 turns verification off
_SHORT = range(192, 256)  # positions of the short code's bits in a full code
_REST = range(192)
ALGORITHM_BITS = {"dct": 64, "phash": 64, "colorhash": 42, "pdq": 256}


class RandomSet(NamedTuple):
    k: int
    verify: int
    images: int
    codes: list[Code]
    bits: int = 64  # length of the code that k applies to


def random_set(
    seed: str,
    k: int,
    views: int = 0,
    shapes: Iterable[str] = (),
    algorithm: str = "dct",
    verify: int | None = None,
) -> RandomSet:
    """Returns a random set of codes.

    Images are in random order of rank, each with up to `views` views besides its base. Codes are in random order.

    Args:
      seed: any text.
      k: maximum distance, in bits.
      views: maximum number of views per image.
      shapes: names in `SHAPES` from which the set is mixed; all if empty.
      algorithm: a name in `ALGORITHM_BITS`, which determines the kinds of the codes.
      verify: maximum distance of long codes, in bits; random if not given.
    """
    rng = random.Random(f"{seed} {k} {views} {algorithm}")
    any_verify = rng.choice(VERIFY)
    make = _Maker(rng, k, any_verify if verify is None else verify, algorithm)
    chosen = [rng.choice(sorted(shapes) or sorted(SHAPES)) for _ in range(rng.randint(1, 3))]
    bases = list(itertools.chain.from_iterable(SHAPES[name](make) for name in chosen))
    rng.shuffle(bases)
    codes = [base._replace(image=image) for image, base in enumerate(bases)]
    for view in range(1, views + 1):
        codes += [
            make.view(codes, bases)._replace(image=i, view=view)
            for i in range(len(bases))
            if rng.random() < 0.4
        ]
    undecodable = {image for image in range(len(bases)) if rng.random() < 0.03}
    codes = [code for code in codes if code.image not in undecodable]
    rng.shuffle(codes)
    return RandomSet(k, make.verify, len(bases), codes, ALGORITHM_BITS[algorithm])


class _Maker:
    """Makes codes near the thresholds k and verify."""

    def __init__(self, rng: random.Random, k: int, verify: int, algorithm: str) -> None:
        self.rng, self.k, self.verify = rng, k, verify
        self.levels = min(k, 8)
        bits = self.bits = ALGORITHM_BITS[algorithm]
        self.kind = FULL if algorithm == "dct" else WIDE if bits == 256 else HASH
        # Positions of the bits that k applies to.
        self.positions = (
            _SHORT if self.kind == FULL else range(256) if self.kind == WIDE else range(64 - bits, 64)
        )

    def code(self) -> Code:
        """Returns a code of an ordinary picture."""
        if self.kind == FULL:
            code = Code(0, 0, FULL, self.rng.getrandbits(256))
            return self._detailed(code) if self.rng.random() < 0.3 else code
        return Code(0, 0, self.kind, self.rng.getrandbits(len(self.positions)) << self.positions.start)

    def _detailed(self, code: Code) -> Code:
        """Returns a full code with any detail code."""
        return code._replace(kind=DETAILED, detail=self.rng.getrandbits(512))

    def tiny(self) -> Code:
        """Returns a code of a tiny picture; other algorithms have no such codes."""
        return Code(0, 0, TINY, self.rng.getrandbits(64)) if self.kind == FULL else self.code()

    def metadata(self) -> Code:
        """Returns a code of metadata, for an image that can't be opened; only for algorithms with codes of
        64 bits.
        """
        return Code(0, 0, METADATA, self.rng.getrandbits(64)) if self.bits == 64 else self.code()

    def flat(self) -> Code:
        colour = bytes(self.rng.randrange(256) for _ in range(3))
        if self.rng.random() < 0.5:
            return Code(0, 0, FLAT, cells=colour * 32)
        return Code(0, 0, FLAT, cells=bytes(self.rng.randrange(256) for _ in range(96)))

    def view(self, codes: list[Code], bases: list[Code]) -> Code:
        """Returns a view: similar to a code of some image, or equal to a base, as a view of a cropped copy
        may be.
        """
        return self.rng.choice(bases) if self.rng.random() < 0.2 else self.like(self.rng.choice(codes))

    def about(self, threshold: int) -> int:
        """Returns a number at the threshold, next to it, or anywhere below it."""
        return max(
            0,
            self.rng.choice(
                [threshold, threshold, threshold - 1, threshold + 1, self.rng.randint(0, threshold)]
            ),
        )

    def like(self, code: Code) -> Code:
        """Returns a code of the same kind, or a tiny one for a full one, about as far away as the relation
        allows.
        """
        if code.kind == FLAT:
            return code._replace(cells=self._other_cells(code.cells))
        if code.kind == TINY:
            return code._replace(value=self.flip(code.value, range(64), self.about(min(self.k, 4))))
        if code.kind == METADATA:
            return code._replace(value=self.flip(code.value, range(64), self.about(min(self.k, 3))))
        if code.kind == WIDE:
            return code._replace(value=self._other_words(code.value))
        if code.kind == HASH:
            return code._replace(value=self.flip(code.value, self.positions, self.about(self.k)))
        if self.rng.random() < 0.1:
            return Code(0, 0, TINY, self.flip(code.value >> 192, range(64), self.about(min(self.k, 4))))
        short = self.about(self.k)
        rest = min(max(self.about(self.verify) - short, 0), len(_REST))
        other = code._replace(value=self.flip(self.flip(code.value, _SHORT, short), _REST, rest))
        if self.rng.random() < 0.1:
            return self._detailed(other) if code.kind == FULL else other._replace(kind=FULL, detail=0)
        if code.kind == DETAILED:
            bits = self.about(self.rng.choice([0, 64, 64, 128]))
            return other._replace(detail=self.flip(code.detail, range(512), bits))
        return other

    def flip(self, value: int, positions: range, bits: int) -> int:
        for bit in self.rng.sample(positions, bits):
            value ^= 1 << bit
        return value

    def _other_words(self, value: int) -> int:
        """Returns another wide code. The differing bits are random, or spread evenly over the four words,
        so that no word is nearer than it must be.
        """
        bits = self.about(self.k)
        if self.rng.random() < 0.3:
            return self.flip(value, self.positions, bits)
        for number, word in enumerate(self.rng.sample(range(4), 4)):
            value = self.flip(value, range(64 * word, 64 * word + 64), (bits + number) // 4)
        return value

    def _other_cells(self, cells: bytes) -> bytes:
        by = self.about(self.levels) * self.rng.choice([-1, 1])
        positions = (
            range(96) if self.rng.random() < 0.3 else self.rng.sample(range(96), self.rng.choice([1, 3, 40]))
        )
        other = bytearray(cells)
        for position in positions:
            other[position] = min(max(other[position] + by, 0), 255)
        return bytes(other)


def _chain(make: _Maker) -> list[Code]:
    chain = [make.code()]
    for _ in range(make.rng.randint(2, 7)):
        chain.append(make.like(chain[-1]))
    return chain


def _clique(make: _Maker) -> list[Code]:
    """Codes within k of each other: at most half of k from one centre."""
    centre = make.code()
    radius = (min(make.k, make.verify) if centre.kind in PICTURES else make.k) // 2
    return [
        centre._replace(value=make.flip(centre.value, make.positions, radius))
        for _ in range(make.rng.randint(2, 6))
    ]


def _star(make: _Maker) -> list[Code]:
    """Codes about k from one centre: which are kept depends on the rank of the centre."""
    centre = make.code()
    return [centre, *(make.like(centre) for _ in range(make.rng.randint(2, 6)))]


def _equal(make: _Maker) -> list[Code]:
    """Equal codes, and a code with an equal short code but another long code."""
    code = make.code()
    if code.kind not in PICTURES:
        return [code] * make.rng.randint(2, 5)
    rest = min(make.verify + 1, len(_REST))
    return [code] * make.rng.randint(2, 4) + [code._replace(value=make.flip(code.value, _REST, rest))]


def _tie(make: _Maker) -> list[Code]:
    """A code between two others that are equally far from it, and not within k of each other."""
    middle = make.code()
    bits = make.rng.sample(make.positions, 2 * make.k)
    ends = (sum(1 << bit for bit in half) for half in (bits[: make.k], bits[make.k :]))
    return [middle, middle, *(middle._replace(value=middle.value ^ end) for end in ends)]


def _tinies(make: _Maker) -> list[Code]:
    codes = [make.rng.choice([make.tiny, make.code])()]
    for _ in range(make.rng.randint(1, 5)):
        codes.append(make.like(make.rng.choice(codes)))
        if make.rng.random() < 0.5 and codes[-1].kind == TINY:
            codes.append(Code(0, 0, FULL, codes[-1].value << 192 | make.rng.getrandbits(192)))
    return codes


def _flats(make: _Maker) -> list[Code]:
    codes = [make.flat()]
    for _ in range(make.rng.randint(2, 5)):
        codes.append(make.like(make.rng.choice(codes)))
    return codes


def _described(make: _Maker) -> list[Code]:
    """Codes of metadata about as far from each other as the relation allows, and a full code with one of
    them as short code.
    """
    codes = [make.metadata()]
    for _ in range(make.rng.randint(2, 5)):
        codes.append(make.like(make.rng.choice(codes)))
    if make.kind == FULL:
        codes.append(Code(0, 0, FULL, codes[0].value << 192 | make.rng.getrandbits(192)))
    return codes


def _strangers(make: _Maker) -> list[Code]:
    """Codes that are unrelated."""
    return [make.rng.choice([make.code, make.tiny, make.flat])() for _ in range(make.rng.randint(1, 4))]


SHAPES: dict[str, Callable[[_Maker], list[Code]]] = {
    "chain": _chain,
    "clique": _clique,
    "star": _star,
    "equal": _equal,
    "tie": _tie,
    "tinies": _tinies,
    "flats": _flats,
    "described": _described,
    "strangers": _strangers,
}


def arrays(codes: list[Code]) -> Codes:
    """Returns codes in the core's form."""
    return from_columns(
        np.array([code.image for code in codes], np.int64),
        np.array([code.view for code in codes], np.uint8),
        np.array([code.kind for code in codes], np.uint8),
        b"".join(data(code) for code in codes),
    )


def data(code: Code) -> bytes:
    """Returns the bytes of a code as `beam_dedup.core.model.Code` holds them."""
    if code.kind == FLAT:
        return code.cells
    if code.kind == DETAILED:
        return code.value.to_bytes(32, "big") + code.detail.to_bytes(64, "big")
    return code.value.to_bytes(32 if code.kind in (FULL, WIDE) else 8, "big")


def code_of(image: int, view: int, kind: int, data: bytes) -> Code:
    """Returns a code whose bytes are `data`."""
    if kind == FLAT:
        return Code(image, view, kind, cells=data)
    detail = int.from_bytes(data[32:], "big")
    return Code(image, view, kind, int.from_bytes(data[:32], "big"), detail=detail)
