"""Judges images as they arrive, without a clock: the steps, their messages, and why the result is safe.

    arrivals ------> admit ----> new images are read and fingerprinted; redelivered images are only counted

    fingerprints --> originals                          numbers the first image of each digest
                       |  |  +--codes----> band         compares codes: which images within k arrived earlier?
                       |  |                  | answers
                       |  +-----opened---> gather       waits for all answers; no predecessors: an anchor, kept
                       |                     |   |
                       |           undecided |   +--statuses, questions--> confirm     replies: is that image an anchor?
                       |                     v                                |
                       |                   decide <---------replies-----------+        near an anchor: its duplicate
                       |                     | orphans
                       |                   finish       judges orphans one after the other, against the orphans kept so far
                       | details             |
                     settle <---outcomes-----+          issues the verdicts, also those on copies of the same bytes
                                                        (outcomes come from gather, decide and finish;
                                                        in exact mode from originals)

Each step (`beam_dedup.core.stream.steps`) is a pure function of the state of one key and some blocks of
messages. It returns the change of that state and messages to other steps. Blocks may be split and merged in
any way, and messages may overtake each other: nothing below depends on their order. A message must be neither
lost nor processed twice. A runner's keyed state guarantees that.

Definitions:

- Two images are *within k* of each other if a view of one matches the base of the other by the thresholds.
- An image *arrives* at a key when the key processes its codes. Within a block, images arrive in the order of
  the block.
- The *predecessors* of an image are the images within k of it that arrived before it at some key, without
  truncated ones: a truncated image has predecessors but is never one, so 1 to 4 hold for whole images.
- An *anchor* is an image without predecessors. It is kept.
- An *orphan* is an image that has predecessors, none of which is an anchor.

Why the result is safe, however messages race:

1. No two anchors are within k of each other. Two images within k share at least one key. That key processes
   one block at a time, so one of the two is a predecessor of the other there. (At another key the order may
   be reversed; then each is a predecessor of the other.) An image with a predecessor is no anchor. The one
   case in which `band` does not store a code does not break this: its module shows that then neither of the
   two images is an anchor.
2. No orphan is within k of an anchor. If it were, the two would share a key. The anchor has no predecessors,
   so the anchor would be a predecessor of the orphan. But an orphan has no anchor among its predecessors.
3. No two kept images are within k of each other. Kept images are anchors and kept orphans. By 1 and 2 only
   two orphans could be too close, and `finish` compares all orphans with each other, one after the other, at
   a single key.
4. Every duplicate has a witness that is kept. The witness is an anchor or a kept orphan, and neither verdict
   ever changes.
5. Every image gets a verdict. Each key answers each code, whether it found predecessors or not, so each image
   gets all its answers. Then `gather` publishes the status of the image, so every question about it gets a
   reply. Images, answers and questions leave the state when they are dealt with.
6. Copies of the same bytes are judged once. The first image of a digest represents all of them; the others
   wait for its outcome. Their codes need not be compared: whatever is within k of a copy is within k of the
   first image.
7. A redelivered image is not judged again. `admit` identifies it by its URI and generation before anything
   else is done.

The DoFns around the steps are responsible for three things:

- *Periods.* State belongs to a period: an interval of event time, like a window. Periods share no state, so
  the state of a period can be cleared as a whole, and no question is left without a reply
  (`beam_dedup.core.stream.retention`). Images of different periods are not compared: of two copies on either
  side of a boundary both are kept.
- *Known images*, which are kept beforehand, count only for images that arrive after them, so they must arrive
  first.
- *Protected images* are anchors whatever arrived before them; otherwise the steps treat them like known images. So 1
  to 3 hold for two images unless the one that arrived later is protected: then both are kept.
- *Rejections.* An image that cannot be read gets its verdict where it is read. It passes through none of
  these steps.

If images arrive one by one, the kept ones are those of the definition (`beam_dedup.core.matching.selection`)
for the order of arrival. The witness of a duplicate is chosen when the duplicate is judged, and does not
change when a nearer image arrives later. It is the nearest anchor. An orphan has no anchor, so its witness is
the nearest kept orphan, those of its own block included. Among equally near images it is the one with the
smallest number. Each digest shard numbers its images in the order of arrival.
"""

import dataclasses
import enum
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from beam_dedup.core.algorithms import ALGORITHMS
from beam_dedup.core.codes import DETAIL_WORDS, LONG_WORDS
from beam_dedup.core.matching.plan import Plan, plan_for
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream.state_cells import Change
from beam_dedup.core.thresholds import Thresholds

Block = bytes | memoryview

DETAILED_WORDS = LONG_WORDS + DETAIL_WORDS  # 64-bit words of a code with a detail code


class Step(enum.StrEnum):
    """A step that receives messages. The last three are not steps: messages to them leave the protocol."""

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
    """The kind of a message; it determines the layout of the block (`beam_dedup.core.stream.messages`).

    The numbers are part of the messages and of the stored state: they must not change.
    """

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
    """A block of rows for one key of one step."""

    to: Step
    key: bytes
    body: bytes  # the block, followed by one byte: its topic


class Result(NamedTuple):
    """What a step returns: the change of its key's state, and messages to other steps."""

    change: Change
    messages: list[Message]


@dataclasses.dataclass(frozen=True, slots=True)
class StreamPlan:
    """How a stream compares images. All workers use the same plan, and it cannot change while state exists.

    Attributes:
      thresholds: when two codes match.
      pairs: the keys at which matching codes meet (`beam_dedup.core.matching.plan`).
      digest_shards: number of keys of the steps that identify images by number.
      words: 64-bit words per code: 1, 4, or 12 with a detail code.
      exact: compare only bytes; codes are not used.
    """

    thresholds: Thresholds
    pairs: Plan
    digest_shards: int = 4
    words: int = DETAILED_WORDS
    exact: bool = False

    def __post_init__(self) -> None:
        if self.digest_shards < 1:
            raise ValueError(f"digest_shards must be at least 1; got {self.digest_shards}")
        if self.words not in (1, LONG_WORDS, DETAILED_WORDS) or self.words < self.thresholds.words:
            raise ValueError(
                f"words must be 1, {LONG_WORDS} or {DETAILED_WORDS}, and at least the {self.thresholds.words} that the thresholds compare; got {self.words}"
            )
        found = (self.pairs.k, self.pairs.bits, self.pairs.words)
        wanted = (self.thresholds.word_k, self.thresholds.word_bits, self.thresholds.words)
        if found != wanted:
            raise ValueError(
                f"pairs must have the k, bits and words of the thresholds, {wanted}; got {found}"
            )


def exact_plan(digest_shards: int = 4) -> StreamPlan:
    """Returns the plan of exact mode, which compares only bytes."""
    return StreamPlan(Thresholds(), plan_for(Thresholds(), 0), digest_shards, exact=True)


def words_of(algorithm: str) -> int:
    """Returns the largest number of 64-bit words in a code of an algorithm that is not flat: 1, 4, or 12."""
    words = {CodeKind.FULL: DETAILED_WORDS, CodeKind.WIDE: LONG_WORDS}
    return words.get(ALGORITHMS[algorithm].kind, 1)


def message_body(topic: Topic, block: Block) -> bytes:
    """Returns a block with its topic appended."""
    return bytes(block) + bytes([topic])


def blocks_by_topic(bodies: Iterable[bytes]) -> dict[Topic, list[Block]]:
    """Returns the blocks of some message bodies by topic, in their order; an empty list for other topics."""
    found: dict[Topic, list[Block]] = defaultdict(list)
    for body in bodies:
        found[Topic(body[-1])].append(memoryview(body)[:-1])
    return found


def digest_shard_key(number: int) -> bytes:
    """Returns the key of a digest shard, for the steps that identify images by number.

    All messages about one image go to the same digest shard (its number modulo `StreamPlan.digest_shards`).
    """
    return b"%d" % number
