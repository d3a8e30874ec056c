"""Chooses the plan of a stream, and estimates its cost once its state holds as many images as expected.

The plan and the estimate are printed before the stream starts.
"""

import dataclasses

from beam_dedup.core.codes import LONG_WORDS
from beam_dedup.core.matching.plan import Plan, plan_for
from beam_dedup.core.stream.protocol import DETAILED_WORDS, StreamPlan
from beam_dedup.core.thresholds import Thresholds

# Costs in nanoseconds and microseconds of one core, measured by benchmarks/stream_core.py.
_NS_PER_CANDIDATE = 1.0
_NS_PER_KEY = 20.0  # one stored code in a code shard with several keys: it is sorted for each block
_US_PER_COPY = 4.0  # one code in one code shard: it is answered and stored
_US_PER_IMAGE = 60.0  # all other steps
_BLOCK = 500  # images per block

_CODE_BYTES = 11  # of a stored code, beside its words
_DETAILED_SHARE = 0.1  # of the codes have a detail code, in a crawl of photos and some graphics
_NAME_BYTES = 230  # per image, with a URI of about 40 letters: identity, digest, status, outcome
_MAX_SUBSET = 2  # bands per key: more cost more copies of each code than they save comparisons
SHARD_CODES = 1_000_000  # codes per code shard: with more, a prefix gets several code shards


@dataclasses.dataclass(frozen=True, slots=True)
class Sizing:
    """A plan and its expected cost.

    Attributes:
      plan: of the stream.
      images: number of images in the state.
      codes: codes per image, on average.
    """

    plan: StreamPlan
    images: int
    codes: float = 1.0

    @property
    def candidates(self) -> float:
        """Comparisons per new image once `images` are stored, if codes are uniformly distributed."""
        pairs = self.plan.pairs
        # The base of the image is compared with all codes, its views with base views.
        compared = self.images * (2 * self.codes - 1)
        if not pairs.subset:
            return compared * pairs.words
        return compared * pairs.key_count / 2 ** (pairs.bits * pairs.subset / (pairs.k + pairs.subset))

    @property
    def microseconds(self) -> float:
        """Microseconds of one core per new image once `images` are stored, in a block of `_BLOCK` images."""
        pairs = self.plan.pairs
        search = pairs.copies * self.codes * _US_PER_COPY
        if not pairs.prefix:
            search = _US_PER_COPY + pairs.key_count * self.images * self.codes * _NS_PER_KEY / _BLOCK / 1000
        return _US_PER_IMAGE + search + self.candidates * _NS_PER_CANDIDATE / 1000

    @property
    def state_bytes(self) -> float:
        """Bytes of state per image."""
        copies = self.plan.pairs.copies if self.plan.pairs.prefix else 1
        words = min(self.plan.words, LONG_WORDS)
        details = _DETAILED_SHARE * (self.plan.words - words)
        return _NAME_BYTES + self.codes * copies * (8 * (words + details) + _CODE_BYTES + 1)

    def describe(self) -> str:
        """Returns the plan and its cost in one line of text."""
        pairs = self.plan.pairs
        where = f"{pairs.copies} x {pairs.shards} code shards" if pairs.prefix else "one code shard"
        return (
            f"{self.images:,} images remembered, within {self.plan.thresholds.k} bits: {pairs.key_count} keys in {where}, about "
            f"{self.candidates:,.0f} comparisons and {self.microseconds:,.0f} us of one core per image, "
            f"{self.state_bytes:,.0f} bytes of state each, {self.state_bytes * self.images / 1e9:,.2f} GB in all"
        )

    def alternatives(self) -> list["Sizing"]:
        """Returns two cheaper sizings: with half of k, and with a tenth of the images."""
        thresholds, words, spread = self.plan.thresholds, self.plan.words, bool(self.plan.pairs.prefix)
        nearer = dataclasses.replace(thresholds, k=thresholds.k // 2)
        return [
            choose(nearer, self.images, self.codes, words, self.plan.digest_shards, spread),
            choose(thresholds, self.images // 10, self.codes, words, self.plan.digest_shards, spread),
        ]


def choose(
    thresholds: Thresholds,
    images: int,
    codes: float = 1.0,
    words: int = DETAILED_WORDS,
    digest_shards: int = 4,
    spread: bool = True,
) -> Sizing:
    """Returns the plan that costs least once `images` are stored, with its cost.

    Args:
      thresholds: when two codes match.
      images: expected number of images in the state.
      codes: codes per image, on average.
      words: 64-bit words per code.
      digest_shards: as in `StreamPlan`.
      spread: spread the codes over code shards, which different workers may process; otherwise there is one
        code shard.
    """
    most = min(_MAX_SUBSET, thresholds.word_bits - thresholds.word_k)
    plans = [_plan(thresholds, subset, images * codes, spread) for subset in range(int(spread), most + 1)]
    found = [Sizing(StreamPlan(thresholds, pairs, digest_shards, words), images, codes) for pairs in plans]
    return min(found, key=lambda sizing: sizing.microseconds)


def _plan(thresholds: Thresholds, subset: int, codes: float, spread: bool) -> Plan:
    """Returns the plan with keys of `subset` bands. If codes are spread, the prefix is the whole key.

    A code shard then has exactly one key, and its codes stay sorted by it.
    """
    shards = max(1, round(codes / SHARD_CODES))
    return plan_for(thresholds, subset, subset, shards) if spread else plan_for(thresholds, subset)
