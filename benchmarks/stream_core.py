"""Measures the steps of the streaming protocol by themselves: without a runner and without pictures, in one process.

    .venv/bin/python -m benchmarks.stream_core [--remembered 100000 1000000] [-k 4 8] [--block 256 1000] [--prefix 0 1]

Images arrive in blocks; each block goes through all steps before the next one. Codes are made from a seed: each bit is set as
often as in photos, and one image in five is a near duplicate of an earlier one. First judges the images to remember, then
times further ones.

Prints a table for benchmarks/README.md: images per second on one core; the time and the bytes of state per image, by step;
the calls of steps per block.
"""

import argparse
import collections
import time
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from beam_dedup.core import blocks
from beam_dedup.core.matching.plan import plan_for
from beam_dedup.core.model import CodeKind
from beam_dedup.core.stream import messages
from beam_dedup.core.stream.admit import arrival_messages
from beam_dedup.core.stream.originals import fingerprint_messages
from beam_dedup.core.stream.protocol import Message, Step, StreamPlan
from beam_dedup.core.stream.state_cells import Cells
from beam_dedup.core.stream.steps import STEPS
from beam_dedup.core.thresholds import Thresholds

NEAR = 5  # one image in 5 is a near duplicate
FILLED_IN = 20_000  # images per block while the state is filled
TIMED = 8  # blocks per measurement


class Process:
    """Runs all steps in one process, and sums up the seconds that each takes."""

    def __init__(self, plan: StreamPlan) -> None:
        self.plan = plan
        self.state: dict[tuple[Step, bytes], Cells] = collections.defaultdict(Cells)
        self.seconds: dict[Step, float] = collections.defaultdict(float)
        self.verdicts = self.calls = 0

    def judge(self, start: int, codes: np.ndarray) -> None:
        """Judges a block of images."""
        identities = [b"%016d" % number for number in range(start, start + len(codes))]
        self._run(arrival_messages(self.plan, identities, [b""] * len(codes)))
        self._run(fingerprint_messages(self.plan, fingerprints(start, codes)))

    def _run(self, sent: Sequence[Message]) -> None:
        for step in STEPS:  # messages go to later steps only
            todo = [message for message in messages.join_messages(sent) if message.to == step]
            sent = [message for message in sent if message.to != step]
            begin = time.process_time()
            for _, key, body in todo:
                cells = self.state[step, key]
                result = STEPS[step](self.plan, key, cells, [body])
                self.state[step, key] = result.change.applied(cells)
                sent += result.messages
            self.seconds[step] += time.process_time() - begin
            self.calls += len(todo)
        self.verdicts += sum(
            len(blocks.load([message.body[:-1]], blocks.VERDICTS))
            for message in sent
            if message.to == Step.VERDICTS
        )

    def bytes_of(self, step: Step) -> int:
        """Returns the size of the state of a step."""
        return sum(cells.size for (owner, _), cells in self.state.items() if owner == step)


class Source:
    """Makes the codes of arriving images: (n, 4) words of 64 bits."""

    def __init__(self, most: int) -> None:
        self.rng = np.random.default_rng(7)
        self.share = self.rng.uniform(0.35, 0.5, 256)
        self.codes = np.zeros((most, 4), np.uint64)
        self.count = 0

    def next(self, n: int) -> np.ndarray:
        new = self._words(self.rng.random((n, 256)) < self.share)
        if self.count:
            near = self.rng.random(n) < 1 / NEAR
            originals = self.rng.integers(0, self.count, near.sum())
            new[near] = self.codes[originals] ^ self._words(self.rng.random((len(originals), 256)) < 0.02)
        self.codes[self.count : self.count + n] = new
        self.count += n
        return new

    @staticmethod
    def _words(bits: np.ndarray) -> np.ndarray:
        return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


def fingerprints(start: int, words: np.ndarray) -> pa.Table:
    """Returns fingerprints with the given codes, numbered from `start`, as a table of `blocks.FINGERPRINTS`."""
    n = len(words)
    uris = [b"gs://bucket/crawl/2026/%012d.jpg" % number for number in range(start, start + n)]
    raw = words.astype(">u8").tobytes()
    codes = pa.StructArray.from_arrays(
        [
            pa.array(np.zeros(n, np.uint8)),
            pa.array(np.full(n, int(CodeKind.FULL), np.uint8)),
            pa.array([raw[at : at + 32] for at in range(0, len(raw), 32)], pa.binary()),
        ],
        fields=list(blocks.FINGERPRINTS.field("codes").type.value_type),
    )
    columns = {
        "uri": pa.array(uris),
        "name": pa.array(uris),
        "known": pa.array(np.zeros(n, bool)),
        "digest": pa.array(
            [np.random.default_rng(number).bytes(32) for number in range(start, start + n)], pa.binary(32)
        ),
        "format": pa.array([b"JPEG"] * n),
        "algorithm": pa.array([b"dct/2"] * n),
        **{name: pa.array(np.full(n, 500), pa.int32()) for name in ("width", "height")},
        **{name: pa.array(np.full(n, 55_000), pa.int64()) for name in ("size_bytes", "modified_ms")},
        "codes": pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), codes),
    }
    for field in blocks.FINGERPRINTS:
        if field.name not in columns:
            columns[field.name] = pa.array([b"" if pa.types.is_binary(field.type) else 0] * n, field.type)
    return pa.table([columns[name] for name in blocks.FINGERPRINTS.names], schema=blocks.FINGERPRINTS)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--remembered", type=int, nargs="+", default=[100_000, 1_000_000], help="images to remember"
    )
    parser.add_argument("-k", type=int, nargs="+", default=[4, 8], help="distances in bits")
    parser.add_argument("--block", type=int, nargs="+", default=[256, 1000], help="images per block")
    parser.add_argument(
        "--prefix",
        type=int,
        nargs="+",
        default=[0, 1],
        help="bands in a prefix; with 0, all codes are in one shard",
    )
    parser.add_argument("--shards", type=int, default=1, help="code shards per prefix")
    parser.add_argument("--digest-shards", type=int, default=4, help="digest shards")
    options = parser.parse_args(arguments)
    print(
        f"| k | prefix | remembered | block | images/s | {', '.join(STEPS)}: us per image | bytes per image | calls per block |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for k in options.k:
        for prefix in options.prefix:
            pairs = plan_for(Thresholds(k), 1, prefix, options.shards if prefix else 1)
            measure(
                StreamPlan(Thresholds(k), pairs, options.digest_shards), options.remembered, options.block
            )


def measure(plan: StreamPlan, remembered: Sequence[int], sizes: Sequence[int]) -> None:
    """Prints a row for each number of remembered images and each size of block."""
    source = Source(max(remembered) + len(remembered) * TIMED * sum(sizes))
    process = Process(plan)
    for count in sorted(remembered):
        while source.count < count:
            start = source.count
            process.judge(start, source.next(min(FILLED_IN, count - start)))
        for size in sizes:
            process.seconds.clear()
            process.calls = 0
            for _ in range(TIMED):
                start = source.count
                process.judge(start, source.next(size))
            assert process.verdicts == source.count
            print_row(process, plan, count, size, source.count)


def print_row(process: Process, plan: StreamPlan, remembered: int, size: int, images: int) -> None:
    timed = TIMED * size
    costs = [f"{process.seconds[step] / timed * 1e6:.0f}" for step in STEPS]
    state = [f"{process.bytes_of(step) / images:.0f}" for step in STEPS]
    cells = (
        plan.thresholds.k,
        plan.pairs.prefix,
        f"{remembered:,}",
        f"{size:,}",
        f"{timed / sum(process.seconds.values()):,.0f}",
        ", ".join(costs),
        f"{sum(map(int, state))} ({', '.join(state)})",
        f"{process.calls / TIMED:.0f}",
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
