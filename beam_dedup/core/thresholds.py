"""Defines when two codes are "within k", and validates the thresholds k and verify.

Two codes of different images, at least one of them a base view, are within k if, depending on their kinds:

    full, full          short distance <= k and long distance <= verify
    hash, hash          distance <= k: codes of other algorithms have no long code to verify with
    wide, wide          distance of all 256 bits <= k
    metadata, metadata  distance <= min(k, 3)
    tiny, tiny or full  short distance <= min(k, 4): at least one of them has no long code to verify with
    flat, flat          every cell within min(k, 8) colour levels; two plain colours only if they are equal
    any other kinds     never

The relation is symmetric, but not transitive. `beam_dedup.core.matching.near_pairs` applies it to arrays.
"""

import dataclasses

SHORT_BITS = 64  # length of the short code
LONG_BITS = 256  # length of the long code; as `verify` it turns verification off
MAX_BIT_DISTANCE = 16  # maximum k; with a larger one, unrelated pictures match by chance
TINY_BITS = 4  # maximum distance of tiny codes
SIMHASH_BITS = 64  # length of a simhash
SIMHASH_K = 3  # maximum distance of two simhashes, as in Manku et al.
FLAT_LEVELS = 8  # maximum difference of two cells of colour profiles, of 255
DEFAULT_BIT_DISTANCE = 8
DEFAULT_VERIFY = 48
MAX_PAIRS = 10_000_000  # default of the number of pairs that are listed; one worker holds them, in about 2 GB


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of the relation.

    Args:
      k: maximum distance of two short codes, 0 to 16 bits; of two codes of 256 bits that are compared as a
        whole, 0 to 64 bits.
      verify: maximum distance of two long codes, 0 to 256 bits; 256 turns verification off.
      bits: length of the code that k applies to: `Algorithm.bits`.

    Raises:
      ValueError: a value is out of range.
    """

    k: int = DEFAULT_BIT_DISTANCE
    verify: int = DEFAULT_VERIFY
    bits: int = SHORT_BITS

    def __post_init__(self) -> None:
        if self.bits != LONG_BITS and not 0 < self.bits <= SHORT_BITS:
            raise ValueError(f"bits of a code must be 1 to {SHORT_BITS}, or {LONG_BITS}, got {self.bits}")
        if not 0 <= self.k <= MAX_BIT_DISTANCE * self.words:
            raise ValueError(
                f"bit distance must be between 0 and {MAX_BIT_DISTANCE * self.words}, got {self.k}"
            )
        if not 0 <= self.verify <= LONG_BITS:
            raise ValueError(f"verify must be between 0 and {LONG_BITS} bits, got {self.verify}")

    @property
    def words(self) -> int:
        """Number of 64-bit words of a code that are searched: 1, or 4 for codes of 256 bits."""
        return max(1, self.bits // SHORT_BITS)

    @property
    def word_bits(self) -> int:
        """Number of bits of a word that belong to the code."""
        return min(self.bits, SHORT_BITS)

    @property
    def word_k(self) -> int:
        """Distance within which two codes within k must be in at least one of their words."""
        return self.k // self.words

    @property
    def tiny_bits(self) -> int:
        """Maximum distance of a tiny code and a tiny or full code, in bits."""
        return min(self.k, TINY_BITS)

    @property
    def metadata_bits(self) -> int:
        """Maximum distance of two codes of metadata, in bits."""
        return min(self.k, SIMHASH_K)

    @property
    def flat_levels(self) -> int:
        """Maximum difference of two cells of colour profiles, in levels of 255."""
        return min(self.k, FLAT_LEVELS)
