"""Judging images as they arrive, without a clock: who says what to whom.

    identities --admit--> what was never seen before is read and fingerprinted; what was is counted as redelivered

    fingerprints --originals--> codes     --band-----> answers     "so many of your codes are in, and these were here before"
        |            |                                    |
        |            +--------> opened -----------> gather         nobody was before it at any key: an anchor, kept
        |                                             |  |
        |                          statuses, questions|  |undecided
        |                                             v  |
        |                                     confirm    |         "the one you ask about is (or is not) an anchor"
        |                                          |     v
        |                                   replies+-> decide      an anchor among them: a duplicate of the nearest one
        |                                                |orphans
        |                                             finish       judged one after the other against those kept before
        v                                                |
      details --------------- fates -------------------->settle    the verdict, on an image and on the copies of its bytes

Every step is a function of the state of one key and some blocks of messages; it returns what changes of the state, and
messages. Blocks may be cut and mixed in any way, and the messages of different senders may overtake each other: nothing
below depends on it. What each message must not is come twice or get lost, which an engine's state gives.

Words: an image *arrives* at a key when its codes do; those of a block in the order of the block. Its *predecessors* are the images within k that had arrived
at some key before it. An image without any is an *anchor*; one with predecessors none of which is an anchor, an *orphan*.

Why it is safe, however messages race:

- Two images within k meet at one key at least, which takes one block at a time, so that one of them is a predecessor of
  the other (perhaps each of the other). So of two anchors neither is within k of the other.
- A duplicate has an anchor, or an orphan that was kept, within k of it; and these stay kept for ever.
- No orphan is within k of an anchor. One of the two is a predecessor of the other: the anchor has none, so it is the
  orphan's, which would then have found it. So orphans need only be judged among each other, which is done at one key.
- Everybody gets an answer. A key answers each code, with or without predecessors, so that all images get complete; then
  each says what it is, so that all questions are answered, since the state of a whole generation is cleared together.
- Images with the same bytes go one way: the first that arrives stands for all, and the others wait for its fate.

What an engine must see to:

- *Generations.* State is kept by a generation: what arrived within one stretch of event time, a window. Its keys are those of no
  other, so that clearing it can leave no question unanswered. Images of different generations are not compared: of two copies
  on either side of a border both are kept.
- *Known images*, those kept beforehand, come before all others or count only for those who come after them.

Verdicts are those of the definition (`beam_dedup.core.judging`), in the order of arrival, if images arrive one by one. A witness is
chosen when the duplicate is judged: the nearest anchor there was (or for an orphan the nearest kept orphan, those of its own block included), of
equally near ones the one with the smaller number; numbers are given in the order of arrival within a home. A kept image that arrives later may
be nearer.
"""

import dataclasses
import enum
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.model import Kind
from beam_dedup.core.plan import Plan, plan_for
from beam_dedup.core.stream.cells import Change
from beam_dedup.core.within import Within

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
    FATES = 12
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

    within: Within
    pairs: Plan
    homes: int = 4
    words: int = 4
    exact: bool = False

    def __post_init__(self) -> None:
        if self.homes < 1:
            raise ValueError(f"homes must be at least 1, got {self.homes}")
        if self.words not in (1, 4) or self.words < self.within.words:
            raise ValueError(f"a code has 1 or 4 words, all that are searched among them, got {self.words}")
        found = (self.pairs.k, self.pairs.bits, self.pairs.words)
        wanted = (self.within.word_k, self.within.word_bits, self.within.words)
        if found != wanted:
            raise ValueError(f"the keys are for k, bits and words of {found}, the thresholds have {wanted}")


def exact_plan(homes: int = 4) -> StreamPlan:
    """The plan that compares bytes alone."""
    return StreamPlan(Within(), plan_for(Within(), 0), homes, exact=True)


def words_of(algorithm: str) -> int:
    """How many words the codes of an algorithm have."""
    return 4 if ALGORITHMS[algorithm].kind in (Kind.FULL, Kind.WIDE) else 1


def body_of(topic: Topic, block: Block) -> bytes:
    return bytes(block) + bytes([topic])


def by_topic(bodies: Iterable[bytes]) -> dict[Topic, list[Block]]:
    """The blocks of some messages, in their order; none for a topic that is not among them."""
    found: dict[Topic, list[Block]] = defaultdict(list)
    for body in bodies:
        found[Topic(body[-1])].append(memoryview(body)[:-1])
    return found


def home_key(number: int) -> bytes:
    """The key of the steps that know images by their numbers: those of an image are all of one home."""
    return b"%d" % number
