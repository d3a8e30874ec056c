"""Measures time and memory from codes to connected components, with one long chain among many images.

    .venv/bin/python -m benchmarks.components [--images 1000000] [--chain 100000] [-k 8] [--shards] [--pairs]

Each image of the chain is within k of the next one, and of no other by design. All other codes are random bits. No picture is
read. `--shards` searches in code shards, as for more than 4,000,000 codes; `--pairs` lists the pairs first. Prints one
row of a table for benchmarks/README.md.
"""

import argparse
import collections
import functools
import resource
import tempfile
import time
from pathlib import Path

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_dedup.core import blocks
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import CodeKind
from beam_dedup.core.thresholds import Thresholds
from benchmarks.pairs import BLOCK, rows, to_block
from transforms.pairs import ConnectComponents, FindComponents, FindPairs

STEP_BITS = (
    5  # by which the short codes of neighbours in the chain differ; twice as many exceed the default k
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1_000_000, help="number of images")
    parser.add_argument("--chain", type=int, default=100_000, help="number of them in the chain")
    parser.add_argument("-k", type=int, default=8, help="distance in bits")
    parser.add_argument("--shards", action="store_true", help="search in code shards")
    parser.add_argument("--pairs", action="store_true", help="list the pairs first")
    options = parser.parse_args()
    start = time.perf_counter()
    sizes = component_sizes(options.images, options.chain, options.k, options.shards, options.pairs)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    print("| images | chain | k | searched | largest component | components | s | peak, GB |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {options.images:,} | {options.chain:,} | {options.k} | {'in code shards' if options.shards else 'at once'}"
        f"{', pairs listed' if options.pairs else ''} | {max(sizes, default=0):,} | {len(sizes):,} | {seconds:.1f} | "
        f"{peak:.2f} |"
    )


def component_sizes(images: int, chain: int, k: int, shards: bool, pairs: bool) -> list[int]:
    """Returns the size of each component of more than one image."""
    planning = PlanSettings(gathered=images // 4) if shards else PlanSettings(spread=False)
    with tempfile.TemporaryDirectory() as scratch:
        with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
            fingerprints = (
                pipeline
                | "Starts" >> beam.Create(range(0, images, BLOCK))
                | "Spread" >> beam.Reshuffle()
                | "Make" >> beam.Map(make_block, images, chain)
            )
            if pairs:
                found = (fingerprints | "Pairs" >> FindPairs(Thresholds(k), planning)).pairs
                components = found | "Connect" >> ConnectComponents()
            else:
                components = fingerprints | "Components" >> FindComponents(Thresholds(k), planning)
            _ = components | "Write" >> beam.Map(write, scratch)
        counted: collections.Counter[bytes] = collections.Counter()
        for path in Path(scratch).iterdir():
            table = blocks.load([path.read_bytes()], blocks.COMPONENTS)
            counted.update(table["component"].to_pylist())
    return list(counted.values())


def write(block: bytes, folder: str) -> None:
    """Writes a block to a new file."""
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(block)


def make_block(start: int, images: int, chain: int) -> bytes:
    """Returns the fingerprints of up to `BLOCK` images from number `start` on, as a block. The first images are the chain."""
    n = min(BLOCK, images - start)
    words = np.random.default_rng([start, 1]).integers(0, 1 << 64, (n, 4), dtype=np.uint64)
    of_chain = chain_words(chain)[start : start + n]
    words[: len(of_chain), 0] = of_chain
    words[: len(of_chain), 1:] = np.arange(1, 4)
    kinds = np.full(n, int(CodeKind.FULL), np.uint8)
    return to_block(np.arange(start, start + n), kinds, rows(words))


@functools.cache
def chain_words(chain: int) -> np.ndarray:
    """Returns the short codes of the chain."""
    rng = np.random.default_rng(5)
    bits = rng.random((chain, 64)).argsort(axis=1)[:, :STEP_BITS].astype(np.uint64)
    steps: np.ndarray = np.bitwise_or.reduce(np.uint64(1) << bits, axis=1)
    return np.bitwise_xor.accumulate(steps)


if __name__ == "__main__":
    main()
