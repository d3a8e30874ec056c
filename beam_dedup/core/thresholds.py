"""The relation "within k" between two codes.

The relation, on two codes of different images of which at least one is a base view:

    full, full     short distance <= k and long distance <= verify
    hash, hash     distance <= k: codes of other algorithms, which nothing verifies
    wide, wide     distance of all 256 bits <= k
    metadata, metadata  distance <= min(k, 3)
    tiny, any      short distance <= min(k, 4): one of them has no long code to verify with
    flat, flat     every cell of the profiles within min(k, 8) grey levels; two plain colours only if they are equal
    flat, other    never

It is symmetric, and not transitive.

The array form of it is in `beam_dedup.core.matching.near_pairs`.
"""

import dataclasses

SHORT_BITS = 64  # of the short code
LONG_BITS = 256  # of the long code; as a threshold it verifies nothing
MAX_BIT_DISTANCE = 16  # beyond, unrelated pictures agree by chance
TINY_BITS = 4
SIMHASH_BITS = 64
SIMHASH_K = 3  # bits by which two may differ, as in Manku et al.
FLAT_LEVELS = 8
DEFAULT_BIT_DISTANCE = 8
DEFAULT_VERIFY = 48


@dataclasses.dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of the relation.

    k: bits of the short code, 0..16 (of codes that are compared as a whole: of 256). verify: bits of the long code,
    0..256; 256 verifies nothing. bits: of the code that k is about, as a fingerprint's algorithm has it.
    """

    k: int = DEFAULT_BIT_DISTANCE
    verify: int = DEFAULT_VERIFY
    bits: int = SHORT_BITS

    def __post_init__(self) -> None:
        if self.bits != LONG_BITS and not 0 < self.bits <= SHORT_BITS:
            raise ValueError(f"a code has 1 to {SHORT_BITS} bits, or {LONG_BITS}, got {self.bits}")
        if not 0 <= self.k <= MAX_BIT_DISTANCE * self.words:
            raise ValueError(
                f"bit distance must be between 0 and {MAX_BIT_DISTANCE * self.words}, got {self.k}"
            )
        if not 0 <= self.verify <= LONG_BITS:
            raise ValueError(f"verify must be between 0 and {LONG_BITS} bits, got {self.verify}")

    @property
    def words(self) -> int:
        """Words of 64 bits that are searched."""
        return max(1, self.bits // SHORT_BITS)

    @property
    def word_bits(self) -> int:
        return min(self.bits, SHORT_BITS)

    @property
    def word_k(self) -> int:
        """Two codes within k are, in one of their words at least, so many bits apart at most."""
        return self.k // self.words

    @property
    def tiny_bits(self) -> int:
        return min(self.k, TINY_BITS)

    @property
    def metadata_bits(self) -> int:
        return min(self.k, SIMHASH_K)

    @property
    def flat_levels(self) -> int:
        return min(self.k, FLAT_LEVELS)
