"""What a stream will cost once it remembers as much as it is allowed to: said before it is started."""

import dataclasses

from beam_dedup.core.matching.plan import Plan, plan_for
from beam_dedup.core.stream.protocol import StreamPlan
from beam_dedup.core.thresholds import Thresholds

# Measured by benchmarks/stream_core.py: nanoseconds and microseconds of one core.
_NS_PER_CANDIDATE = 1.0
_NS_PER_KEY = (
    20.0  # one code that is remembered where several keys are looked at: it is sorted for each block
)
_US_PER_COPY = 4.0  # one code at one place, answered and remembered
_US_PER_IMAGE = 60.0  # all other steps
_BLOCK = 500  # images that arrive together

_CODE_BYTES = 11  # of a remembered code, beside its words
_NAME_BYTES = 230  # of an image, whose URI has some 40 letters: identity, digest, status, fate
_MAX_SUBSET = 2  # more bands in a key: more copies of each code than their candidates are worth
SHARD_CODES = 1_000_000  # beyond, places are parted


@dataclasses.dataclass(frozen=True, slots=True)
class Sizing:
    """A plan and what it is expected to cost.

    images: remembered. codes: of an image, on average.
    """

    plan: StreamPlan
    images: int
    codes: float = 1.0

    @property
    def candidates(self) -> float:
        """Comparisons for an image that arrives when so many are remembered, with codes spread evenly."""
        pairs = self.plan.pairs
        met = self.images * (2 * self.codes - 1)  # its base meets all codes, its views meet bases
        if not pairs.subset:
            return met * pairs.words
        return met * pairs.key_count / 2 ** (pairs.bits * pairs.subset / (pairs.k + pairs.subset))

    @property
    def microseconds(self) -> float:
        """Of one core, for an image that arrives then, among others."""
        pairs = self.plan.pairs
        looking = pairs.copies * self.codes * _US_PER_COPY
        if not pairs.prefix:
            looking = _US_PER_COPY + pairs.key_count * self.images * self.codes * _NS_PER_KEY / _BLOCK / 1000
        return _US_PER_IMAGE + looking + self.candidates * _NS_PER_CANDIDATE / 1000

    @property
    def state_bytes(self) -> float:
        """Of an image."""
        copies = self.plan.pairs.copies if self.plan.pairs.prefix else 1
        return _NAME_BYTES + self.codes * copies * (8 * self.plan.words + _CODE_BYTES + 1)

    def describe(self) -> str:
        """Returns the plan and its expected cost in one line, for the log."""
        pairs = self.plan.pairs
        where = f"{pairs.copies} x {pairs.shards} code shards" if pairs.prefix else "one code shard"
        return (
            f"{self.images:,} images, threshold {self.plan.thresholds.k} bits, {pairs.key_count} keys in {where}: about "
            f"{self.candidates:,.0f} comparisons, {self.microseconds:,.0f} us of one core and {self.state_bytes:,.0f} bytes of "
            f"state per image, {self.state_bytes * self.images / 1e9:,.2f} GB of state in total"
        )

    def alternatives(self) -> list["Sizing"]:
        """The same with a smaller k, and with a tenth of the memory."""
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
    words: int = 4,
    digest_shards: int = 4,
    spread: bool = True,
) -> Sizing:
    """The plan that costs least once so many images are remembered.

    codes: of an image, on average. words: of a code. spread: over places that different workers may have; else all codes
    are in the state of one.
    """
    most = min(_MAX_SUBSET, thresholds.word_bits - thresholds.word_k)
    plans = [_plan(thresholds, subset, images * codes, spread) for subset in range(int(spread), most + 1)]
    found = [Sizing(StreamPlan(thresholds, pairs, digest_shards, words), images, codes) for pairs in plans]
    return min(found, key=lambda sizing: sizing.microseconds)


def _plan(thresholds: Thresholds, subset: int, codes: float, spread: bool) -> Plan:
    """Of a place with one key the codes are sorted for good; so the prefix is the key."""
    shards = max(1, round(codes / SHARD_CODES))
    return plan_for(thresholds, subset, subset, shards) if spread else plan_for(thresholds, subset)
