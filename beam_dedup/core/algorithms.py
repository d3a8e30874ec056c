"""The algorithms that make codes of pictures, and the recipe a run is made by.

`dct` is our own (`beam_dedup.core.imaging.dct`), the only one with views and turns; `simhash` is of the metadata, not of the picture
(`beam_dedup.core.metadata.simhash`); the others are those of the libraries imagehash and pdqhash, bit for bit.

Codes of different recipes are never compared. The default k of each is the largest at which its table
in benchmarks/README.md has no wrong pair; of colorhash every k has some, and pdq's is the one its authors recommend.
"""

import dataclasses
import enum
import importlib.util

from beam_dedup.core.errors import install_command
from beam_dedup.core.model import CodeKind
from beam_dedup.core.thresholds import (
    DEFAULT_BIT_DISTANCE,
    MAX_BIT_DISTANCE,
    SHORT_BITS,
    SIMHASH_BITS,
    SIMHASH_K,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Algorithm:
    """One way to make codes of pictures."""

    name: str
    recipe: str  # name and version, as stored beside every code
    bits: int  # of a code; what `k` is out of
    default_k: int
    max_k: int  # beyond, unrelated pictures agree by chance
    kind: CodeKind  # of the codes of ordinary pictures
    is_heavy: bool = False  # makes arrays of numbers as large as the picture
    is_of_metadata: bool = False  # looks at no pixels


class Views(enum.StrEnum):
    """Which parts of a picture have codes besides the whole; each has what those before it have."""

    NONE = "none"
    TRIM = "trim"
    CENTRE = "centre"
    CROPS = "crops"


DCT, SIMHASH = "dct", "simhash"
DEFAULT_VIEWS = Views.TRIM

# imagehash's settings are its defaults: hash_size 8, highfreq_factor 4, the haar wavelet, binbits 3.
ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(DCT, "dct/1", SHORT_BITS, DEFAULT_BIT_DISTANCE, MAX_BIT_DISTANCE, CodeKind.FULL),
        Algorithm("phash", "phash/imagehash-4.3", 64, 6, 12, CodeKind.HASH),
        Algorithm("dhash", "dhash/imagehash-4.3", 64, 4, 10, CodeKind.HASH),
        Algorithm("ahash", "ahash/imagehash-4.3", 64, 1, 4, CodeKind.HASH),
        Algorithm("whash", "whash/imagehash-4.3-haar", 64, 1, 4, CodeKind.HASH, is_heavy=True),
        Algorithm("colorhash", "colorhash/imagehash-4.3-3bits", 42, 0, 2, CodeKind.HASH, is_heavy=True),
        Algorithm("pdq", "pdq/pdqhash-0.2", 256, 31, 64, CodeKind.WIDE, is_heavy=True),
        Algorithm(SIMHASH, "simhash/1", SIMHASH_BITS, SIMHASH_K, 8, CodeKind.HASH, is_of_metadata=True),
    )
}


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """What codes of a picture are made.

    algorithm: a name in `ALGORITHMS`. views: a value of `Views`; other than "none" for dct only. turns: codes of the
    seven other orientations as well, for dct only.
    """

    algorithm: str = DCT
    views: str = DEFAULT_VIEWS.value
    turns: bool = False

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {self.algorithm}")
        if self.views not in list(Views):
            raise ValueError(f"views must be one of {', '.join(Views)}, got {self.views}")
        if self.algorithm != DCT and self.views != Views.NONE:
            raise ValueError(
                f"views must be none with {self.algorithm}, got {self.views}: only {DCT} has others"
            )
        if self.algorithm != DCT and self.turns:
            raise ValueError(f"turns must be off with {self.algorithm}: only {DCT} has them")

    @property
    def name(self) -> str:
        """Name and version of the algorithm's recipe, as stored beside every code. Views are no part of it."""
        return ALGORITHMS[self.algorithm].recipe


def missing_library(algorithm: Algorithm) -> str:
    """What to do about a library that the algorithm needs and that is not installed; "" if there is none."""
    if algorithm.name == "pdq" and importlib.util.find_spec("pdqhash") is None:
        return f"pdq needs the pdqhash library: run {install_command('pdq')}"
    return ""
