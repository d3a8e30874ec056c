"""A small runner for the steps of a stream.

It may cut, mix and delay blocks at random; it neither loses nor repeats one.
"""

import collections
import random
from collections.abc import Sequence

import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.model import Fingerprint, Verdict
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.admit import arrival_messages
from beam_dedup.core.stream.messages import ANSWER_ROWS, PROFILE_ROWS, QUESTION_ROWS, code_rows
from beam_dedup.core.stream.originals import fingerprint_messages
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan, Topic, blocks_by_topic
from beam_dedup.core.stream.state_cells import Cells
from beam_dedup.core.stream.steps import CELLS, STEPS
from beam_dedup.core.tables import fingerprints_table, verdicts_of

Bag = list[bytes]


class ToyRunner:
    """Runs all steps in this process.

    Attributes:
      plan: of the stream.
      rng: source of all random choices.
      mixed: probability that a block is cut in two, or waits while others overtake it; 0 processes all blocks
        in order.
      state: of all keys.
      pending: bodies of messages that are not processed yet, by step and key.
      received: bodies of all messages so far, by receiving step.
    """

    def __init__(self, plan: StreamPlan, rng: random.Random, mixed: float = 0.0) -> None:
        self.plan, self.rng, self.mixed = plan, rng, mixed
        self.state: dict[tuple[Step, bytes], Cells] = collections.defaultdict(Cells)
        self.pending: dict[tuple[Step, bytes], Bag] = {}
        self.received: dict[Step, Bag] = collections.defaultdict(list)

    def deliver(self, identities: Sequence[bytes], numbers: Sequence[int]) -> None:
        """Delivers arrivals. numbers: of the images that they refer to."""
        self._send(arrival_messages(self.plan, identities, [b"%d" % number for number in numbers]))

    def read(self, images: Sequence[Fingerprint]) -> None:
        """Sends images that were read to `originals`."""
        if images:
            self._send(fingerprint_messages(self.plan, fingerprints_table(images)))

    def admitted(self) -> list[int]:
        """Returns the numbers of the images admitted since the last call."""
        return self._references(Step.ADMITTED)

    def redelivered(self) -> list[int]:
        """Returns the numbers of the images redelivered since the last call."""
        return self._references(Step.REDELIVERED)

    def verdicts(self) -> list[Verdict]:
        """Returns all verdicts so far, in the order in which they were issued."""
        parts = blocks_by_topic(self.received[Step.VERDICTS])[Topic.VERDICTS]
        return [v for part in parts for v in verdicts_of(blocks.load([part], blocks.VERDICTS))]

    def messages_to(self, step: Step, topic: Topic, schema: pa.Schema) -> pa.Table:
        """Returns the rows of all messages so far of one topic to one step."""
        return blocks.load(blocks_by_topic(self.received[step])[topic], schema)

    def run(self, steps: int = 1 << 30) -> None:
        """Processes messages a number of times, or until none are pending."""
        while self.pending and steps:
            self._step()
            steps -= 1

    def _step(self) -> None:
        target = self.rng.choice(list(self.pending)) if self.mixed else next(iter(self.pending))
        waiting = self.pending.pop(target)
        if self.rng.random() < self.mixed:
            self.rng.shuffle(waiting)
            later = self.rng.randrange(len(waiting))
            waiting, left = waiting[later:], waiting[:later]
            for at in range(len(waiting)):
                if self.rng.random() < self.mixed / 2:
                    waiting[at], rest = self._cut(waiting[at])
                    left += rest
            if left:
                self.pending[target] = left
        self.process(target, waiting)

    def process(self, target: tuple[Step, bytes], bodies: Bag) -> None:
        """Runs a step for one key on some messages."""
        step, key = target
        result = STEPS[step](self.plan, key, self.state[target], bodies)
        self.state[target] = result.change.applied(self.state[target])
        for cell in ("settled", "recent", "waiting"):
            assert cell in CELLS[step] or not getattr(self.state[target], cell)
        self._send(result.messages)

    def run_only(self, *steps: Step) -> None:
        """Runs only some steps until they have no pending messages; messages to other steps stay pending."""
        while targets := [target for target in self.pending if target[0] in steps]:
            self.process(targets[0], self.pending.pop(targets[0]))

    def _send(self, sent: Sequence[Message]) -> None:
        if self.rng.random() < 0.5:
            sent = messages.join_messages(sent)
        for to, key, body in sent:
            self.received[to].append(body)
            if to in STEPS:
                self.pending.setdefault((to, key), []).append(body)

    def _cut(self, body: bytes) -> tuple[bytes, Bag]:
        """Cuts a block in two, unless it has only one row."""
        ((topic, (part,)),) = blocks_by_topic([body]).items()
        rows = _rows(self.plan, topic, part)
        if len(rows) < 2:
            return body, []
        at = self.rng.randrange(1, len(rows))
        first, second = messages.message_bodies((topic, rows[:at]), (topic, rows[at:]))
        return first, [second]

    def _references(self, step: Step) -> list[int]:
        parts = blocks_by_topic(self.received.pop(step, []))[Topic.ARRIVALS]
        return [
            int(reference) for reference in blocks.load(parts, messages.ARRIVALS)["reference"].to_pylist()
        ]


def _rows(plan: StreamPlan, topic: Topic, part: bytes | memoryview) -> messages.Rows | pa.Table:
    dtypes = {
        Topic.CODES: code_rows(plan.words),
        Topic.PROFILES: PROFILE_ROWS,
        Topic.ANSWERS: ANSWER_ROWS,
        Topic.QUESTIONS: QUESTION_ROWS,
    }
    if topic in dtypes:
        return messages.load_rows([part], dtypes[topic])
    return blocks.load([part], messages.SCHEMAS[topic])
