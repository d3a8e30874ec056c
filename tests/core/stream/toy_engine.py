"""An engine in small for the steps of a stream: it may cut, mix and delay blocks as it likes, and loses and doubles none."""

import collections
import random
from collections.abc import Sequence

import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.model import Fingerprint, Verdict
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.admit import arrivals
from beam_dedup.core.stream.messages import ANSWER_ROWS, PROFILE_ROWS, QUESTION_ROWS, code_rows
from beam_dedup.core.stream.originals import fingerprinted
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan, Topic, by_topic
from beam_dedup.core.stream.state_cells import Cells
from beam_dedup.core.stream.steps import CELLS, STEPS
from beam_dedup.core.tables import fingerprints_table, verdicts_of

Bag = list[bytes]


class Engine:
    """Runs all steps.

    mixed: how often a block is cut in two, or waits for others to overtake it; 0 is in order, block by block.
    """

    def __init__(self, plan: StreamPlan, rng: random.Random, mixed: float = 0.0) -> None:
        self.plan, self.rng, self.mixed = plan, rng, mixed
        self.state: dict[tuple[Step, bytes], Cells] = collections.defaultdict(Cells)
        self.pending: dict[tuple[Step, bytes], Bag] = {}
        self.heard: dict[Step, Bag] = collections.defaultdict(list)  # all messages there were
        self.told = 0  # verdicts that were handed out

    def deliver(self, identities: Sequence[bytes], numbers: Sequence[int]) -> None:
        """Delivers notifications; numbers tell what is to be read."""
        self._send(arrivals(self.plan, identities, [b"%d" % number for number in numbers]))

    def read(self, images: Sequence[Fingerprint]) -> None:
        if images:
            self._send(fingerprinted(self.plan, fingerprints_table(images)))

    def admitted(self) -> list[int]:
        """Numbers of what is to be read now."""
        return self._references(Step.ADMITTED)

    def redelivered(self) -> list[int]:
        return self._references(Step.REDELIVERED)

    def verdicts(self) -> list[Verdict]:
        """All so far, in the order in which they came."""
        parts = by_topic(self.heard[Step.VERDICTS])[Topic.VERDICTS]
        return [v for part in parts for v in verdicts_of(blocks.load([part], blocks.VERDICTS))]

    def heard_of(self, step: Step, topic: Topic, schema: pa.Schema) -> pa.Table:
        """All messages of one topic to one step."""
        return blocks.load(by_topic(self.heard[step])[topic], schema)

    def run(self, steps: int = 1 << 30) -> None:
        """Takes so many steps, or until there is nothing to do."""
        while self.pending and steps:
            self._step()
            steps -= 1

    def _step(self) -> None:
        place = self.rng.choice(list(self.pending)) if self.mixed else next(iter(self.pending))
        waiting = self.pending.pop(place)
        if self.rng.random() < self.mixed:
            self.rng.shuffle(waiting)
            later = self.rng.randrange(len(waiting))
            waiting, left = waiting[later:], waiting[:later]
            for at in range(len(waiting)):
                if self.rng.random() < self.mixed / 2:
                    waiting[at], rest = self._cut(waiting[at])
                    left += rest
            if left:
                self.pending[place] = left
        self.take(place, waiting)

    def take(self, place: tuple[Step, bytes], bodies: Bag) -> None:
        """Hands a step some messages."""
        step, key = place
        result = STEPS[step](self.plan, key, self.state[place], bodies)
        self.state[place] = result.change.applied(self.state[place])
        for cell in ("settled", "recent", "waiting"):
            assert cell in CELLS[step] or not getattr(self.state[place], cell)
        self._send(result.messages)

    def run_only(self, *steps: Step) -> None:
        """Lets some steps take all there is, and holds the messages to others."""
        while places := [place for place in self.pending if place[0] in steps]:
            self.take(places[0], self.pending.pop(places[0]))

    def _send(self, sent: Sequence[Message]) -> None:
        if self.rng.random() < 0.5:
            sent = messages.joined(sent)
        for to, key, body in sent:
            self.heard[to].append(body)
            if to in STEPS:
                self.pending.setdefault((to, key), []).append(body)

    def _cut(self, body: bytes) -> tuple[bytes, Bag]:
        """A block in two, if it has two rows."""
        ((topic, (part,)),) = by_topic([body]).items()
        rows = _rows(self.plan, topic, part)
        if len(rows) < 2:
            return body, []
        at = self.rng.randrange(1, len(rows))
        first, second = messages.bodies_of((topic, rows[:at]), (topic, rows[at:]))
        return first, [second]

    def _references(self, step: Step) -> list[int]:
        parts = by_topic(self.heard.pop(step, []))[Topic.ARRIVALS]
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
        return messages.rows_of([part], dtypes[topic])
    return blocks.load([part], messages.SCHEMAS[topic])
