"""Lists the algorithms that compute codes, and defines the recipe of a run: algorithm, views and turns.

`dct` is our own (`beam_dedup.core.imaging.dct`) and the only one with views and turns. `simhash` hashes the
metadata instead of the picture (`beam_dedup.core.metadata.simhash`). The others return the codes of the
libraries imagehash and pdqhash, bit for bit.

Codes of different recipes are never compared. The default k of an algorithm is the largest k at which its
table in benchmarks/README.md has no wrong pair, with two exceptions: colorhash has wrong pairs at every k,
and for pdq it is the k that its authors recommend.
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
    """One way to compute the codes of an image."""

    name: str
    recipe: str  # name and version, as stored beside every code
    bits: int  # length of a code; k counts how many of these bits differ
    default_k: int
    max_k: int  # with a larger k, unrelated pictures match by chance
    kind: CodeKind  # of the codes of ordinary pictures
    is_heavy: bool = False  # allocates arrays of numbers as large as the picture
    is_of_metadata: bool = False  # reads the metadata only, no pixels


class Views(enum.StrEnum):
    """Which parts of a picture get codes besides the whole picture. Each value includes those before it."""

    NONE = "none"
    TRIM = "trim"
    CENTRE = "centre"
    CROPS = "crops"


DCT, SIMHASH = "dct", "simhash"
DEFAULT_VIEWS = Views.TRIM

# The settings of imagehash are its defaults: hash_size 8, highfreq_factor 4, the haar wavelet, binbits 3.
ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (
        Algorithm(DCT, "dct/2", SHORT_BITS, DEFAULT_BIT_DISTANCE, MAX_BIT_DISTANCE, CodeKind.FULL),
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
    """Which codes are computed for a picture.

    Args:
      algorithm: a name in `ALGORITHMS`.
      views: a value of `Views`; "none" with every algorithm but dct.
      turns: whether the seven other orientations get codes too; False with every algorithm but dct.
      facts: whether the time at which a picture was taken, and its kinds of metadata, are read too. Codes do not depend
        on it, nor does the name of the recipe.

    Raises:
      ValueError: a value is unknown, or the algorithm does not support it.
    """

    algorithm: str = DCT
    views: str = DEFAULT_VIEWS.value
    turns: bool = False
    facts: bool = False

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {', '.join(ALGORITHMS)}, got {self.algorithm}")
        if self.views not in list(Views):
            raise ValueError(f"views must be one of {', '.join(Views)}, got {self.views}")
        if self.algorithm != DCT and self.views != Views.NONE:
            raise ValueError(
                f"views must be none with {self.algorithm}, got {self.views}: only {DCT} supports views"
            )
        if self.algorithm != DCT and self.turns:
            raise ValueError(f"turns must be off with {self.algorithm}: only {DCT} supports turns")

    @property
    def name(self) -> str:
        """Name and version of the recipe, as stored beside every code.

        Views and turns are not part of it.
        """
        return ALGORITHMS[self.algorithm].recipe


def missing_library(algorithm: Algorithm) -> str:
    """Returns how to install the library that an algorithm needs if it is missing; "" if nothing is missing."""
    if algorithm.name == "pdq" and importlib.util.find_spec("pdqhash") is None:
        return f"pdq needs the pdqhash library: run {install_command('pdq')}"
    return ""
