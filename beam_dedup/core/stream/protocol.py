"""Judging images as they arrive, without a clock: who says what to whom.

    arrivals ------> admit ----> what is new is read and fingerprinted; what was here before is counted as redelivered

    fingerprints --> originals
                       |  |  +--codes----> band         where codes within k meet: who was here before whom
                       |  |                  | answers
                       |  +-----opened---> gather       all keys have answered: without predecessors an anchor, kept
                       |                     |   |
                       |           undecided |   +--statuses, questions--> confirm     is the one you ask about an anchor?
                       |                     v                                |
                       |                   decide <---------replies-----------+        near an anchor: its duplicate
                       |                     | orphans
                       |                   finish       none is: judged one after the other, against those kept before
                       | details             |
                     settle <----fates-------+          (of gather, decide, finish) the verdict; on copies of its bytes too

Every step is a function of the state of one key and some blocks of messages. It returns what changes in that state, and
messages for others. Blocks may be cut and mixed in any way, and messages may overtake each other: nothing below depends
on it. What a message must not do is get lost or come twice, and that is what an engine's state gives.

An image *arrives* at a key when its codes do; within a block in the order of the block. Its *predecessors* are the images
within k of it that had arrived before it at some key. An image without any is an *anchor*; one that has some, of which
none is an anchor, an *orphan*.

Why it is safe, however messages race:

- Two images within k meet at one key at least, which takes one block at a time: one of them is a predecessor of the
  other, or each of the other. (Or neither is an anchor: what `band` need not remember.) So no two anchors are within k.
- No orphan is within k of an anchor: an anchor has no predecessors, so it would be one of the orphan's. So it is enough
  to judge orphans among each other, which is done at one key. No two kept images are within k of each other.
- A duplicate has a witness, an anchor or a kept orphan, and these stay kept for ever.
- Each code is answered by each of its keys, with predecessors or without, so every image gets all its answers. Then it
  says what it is, so every question is answered. What has been answered leaves the state.
- Images of equal bytes go one way: the first to arrive stands for all, and the others wait for its fate. They need not be
  where codes meet, since whatever is within k of them is within k of it.
- What is delivered again is told by its URI and generation before anything else is done, so it is never judged again.

What is up to the engine:

- *Generations.* State belongs to a generation, what arrived within one stretch of event time (a window): its keys are
  those of no other. So it can be cleared all together, and no question is left unanswered. Images of different
  generations are not compared: of two copies on either side of a border both are kept.
- *Known images*, those kept beforehand, count for the images that come after them; so they must come first.
- *Rejections.* What cannot be read has its verdict where it was read. It passes none of this.

Of images that come one by one, those are kept that the definition (`beam_dedup.core.matching.selection`) keeps in the order of
arrival. A witness is chosen when the duplicate is judged, and stays when a nearer one arrives later. It is the nearest
anchor there is; for an orphan, which has none, the nearest kept orphan, those of its own block among them. Of equally near
ones it is that with the smaller number; each home gives numbers in the order of arrival.
"""

import dataclasses
import enum
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.matching.plan import Plan, plan_for
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream.state_cells import Change
from beam_dedup.core.thresholds import Thresholds

Block = bytes | memoryview


class Step(enum.StrEnum):
    """Who a message goes to. The last three are where they leave."""

    ADMIT = "admit"
    ORIGINALS = "originals"
    BAND = "band"
    GATHER = "gather"
    CONFIRM = "confirm"
    DECIDE = "decide"
    FINISH = "finish"
    SETTLE = "settle"
    ADMITTED = "admitted"
    REDELIVERED = "redelivered"
    VERDICTS = "verdicts"


class Topic(enum.IntEnum):
    """What a message is about; how its block is packed is in `beam_dedup.core.stream.messages`."""

    ARRIVALS = 0
    FINGERPRINTS = 1
    CODES = 2
    PROFILES = 3
    OPENED = 4
    ANSWERS = 5
    STATUSES = 6
    QUESTIONS = 7
    REPLIES = 8
    UNDECIDED = 9
    ORPHANS = 10
    DETAILS = 11
    OUTCOMES = 12
    VERDICTS = 13


class Message(NamedTuple):
    """A block for one key of one step."""

    to: Step
    key: bytes
    body: bytes  # the block, and its topic in the last byte


class Result(NamedTuple):
    """What becomes of the state of the key, and what is said to others."""

    change: Change
    messages: list[Message]


@dataclasses.dataclass(frozen=True, slots=True)
class StreamPlan:
    """How images are judged as they arrive; the same for every worker, and for as long as there is state.

    pairs: the keys at which codes meet. homes: shards of the steps that know images by their number. words: of 64 bits
    that a code has; 1 or 4. exact: compare bytes alone.
    """

    thresholds: Thresholds
    pairs: Plan
    digest_shards: int = 4
    words: int = 4
    exact: bool = False

    def __post_init__(self) -> None:
        if self.digest_shards < 1:
            raise ValueError(f"digest_shards must be at least 1, got {self.digest_shards}")
        if self.words not in (1, 4) or self.words < self.thresholds.words:
            raise ValueError(f"a code has 1 or 4 words, all that are searched among them, got {self.words}")
        found = (self.pairs.k, self.pairs.bits, self.pairs.words)
        wanted = (self.thresholds.word_k, self.thresholds.word_bits, self.thresholds.words)
        if found != wanted:
            raise ValueError(f"the keys are for k, bits and words of {found}, the thresholds have {wanted}")


def exact_plan(digest_shards: int = 4) -> StreamPlan:
    """The plan that compares bytes alone."""
    return StreamPlan(Thresholds(), plan_for(Thresholds(), 0), digest_shards, exact=True)


def words_of(algorithm: str) -> int:
    """How many words the codes of an algorithm have."""
    return 4 if ALGORITHMS[algorithm].kind in (CodeKind.FULL, CodeKind.WIDE) else 1


def body_of(topic: Topic, block: Block) -> bytes:
    return bytes(block) + bytes([topic])


def by_topic(bodies: Iterable[bytes]) -> dict[Topic, list[Block]]:
    """The blocks of some messages, in their order; none for a topic that is not among them."""
    found: dict[Topic, list[Block]] = defaultdict(list)
    for body in bodies:
        found[Topic(body[-1])].append(memoryview(body)[:-1])
    return found


def digest_shard_key(number: int) -> bytes:
    """The key of the steps that know images by their numbers: those of an image are all of one home."""
    return b"%d" % number
