"""Measures the time from codes to verdicts: finds all pairs within k among N codes, in the local pipeline and in the core.

    .venv/bin/python benchmarks/pairs.py [--codes 100000 1000000] [-k 4 8] [--kind uniform real hot blank] [--core]

Measures each row in a process of its own, so that rows do not share their peak memory. The pipeline's first step makes
the codes from a seed; no picture is read. The kinds of codes:

    uniform  random bits
    real     each bit set as often as in photos; one code in five is a near duplicate of another, some in large groups
    hot      as real, but half of the codes agree in 40 of the 64 bits, as those of one catalogue's pictures may
    blank    N pictures without structure, of 1,000 colours, and 10,000 photos

Prints a table for benchmarks/README.md: wall time of the whole pipeline, of the core alone on one thread, the time that
the plan expected, and the peak memory.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_dedup.core import blocks
from beam_dedup.core.codes import Codes
from beam_dedup.core.matching import selection
from beam_dedup.core.matching.planner import Estimate, PlanSettings, choose
from beam_dedup.core.model import CodeKind
from beam_dedup.core.thresholds import Thresholds
from transforms import CountImages, MarkNearDuplicates
from transforms.count import write_json

KINDS = ("uniform", "real", "hot", "blank")
BLOCK = 4096  # images per block
PHOTOS_AMONG_BLANKS = 10_000
COLOURS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--codes", type=int, nargs="+", default=[100_000, 1_000_000], help="numbers of codes")
    parser.add_argument("-k", type=int, nargs="+", default=[4, 8], help="distances in bits")
    parser.add_argument("--kind", choices=KINDS, nargs="+", default=["uniform"], help="kinds of codes")
    parser.add_argument("--core", action="store_true", help="also time the core alone on one thread")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="threads of the pipeline")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(row(*json.loads(options.row))))
        return
    print(
        "| codes | kind | k | keys | candidates a code | kept | pipeline, s | core, s | expected, s | peak, GB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for kind in options.kind:
        for k in options.k:
            for codes in options.codes:
                arguments = json.dumps([kind, k, codes, options.core, options.jobs])
                command = [sys.executable, __file__, "--row", arguments]
                found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                print(table_row(kind, k, codes, json.loads(found.splitlines()[-1])), flush=True)


def table_row(kind: str, k: int, codes: int, found: dict[str, float]) -> str:
    core = f"{found['core']:.2f}" if found["core"] else "-"
    return (
        f"| {codes:,} | {kind} | {k} | {found['keys']} | {found['candidates']:,.1f} | {found['kept']:,} | "
        f"{found['pipeline']:.2f} | {core} | {found['expected']:.2f} | {found['peak']:.2f} |"
    )


def row(kind: str, k: int, codes: int, core: bool, jobs: int) -> dict[str, float]:
    """Measures one row of the table. Returns its values by name."""
    thresholds = Thresholds(k)
    start = time.perf_counter()
    counts, plan = in_pipeline(kind, codes, thresholds, jobs)
    found = {
        "pipeline": time.perf_counter() - start,
        "kept": counts["Final_Image_Count"],
        **plan,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20),
        "core": 0.0,
    }
    total = codes + (PHOTOS_AMONG_BLANKS if kind == "blank" else 0)
    assert counts["Initial_Image_Count"] == total, counts
    if core:
        found["core"] = in_core(kind, codes, thresholds)
    return found


def in_pipeline(
    kind: str, codes: int, thresholds: Thresholds, jobs: int
) -> tuple[dict[str, int], dict[str, float]]:
    """Runs the composites on the local runner, as the command line does. Returns the counts and the plan."""
    flags = ["--direct_running_mode=multi_threading", f"--direct_num_workers={jobs}"] if jobs > 1 else []
    with tempfile.TemporaryDirectory() as scratch:
        paths = [os.path.join(scratch, name) for name in ("counts", "plan")]
        with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(flags)) as pipeline:
            fingerprints = (
                pipeline
                | "Starts" >> beam.Create(starts(kind, codes))
                | "Spread" >> beam.Reshuffle()
                | "Make" >> beam.Map(make_block, kind, codes)
            )
            marked = fingerprints | "Mark" >> MarkNearDuplicates(thresholds, PlanSettings(spread=False))
            _ = marked.verdicts | "Counts" >> CountImages() | "WriteCounts" >> beam.Map(write_json, paths[0])
            _ = marked.plan | "Plan" >> beam.Map(as_dict) | "WritePlan" >> beam.Map(write_json, paths[1])
        counts, plan = (json.loads(Path(path).read_text()) for path in paths)
    return counts, plan


def as_dict(plan: Estimate) -> dict[str, float]:
    return {"keys": plan.plan.key_count, "candidates": plan.candidates, "expected": plan.seconds}


def in_core(kind: str, codes: int, thresholds: Thresholds) -> float:
    """Returns the seconds of wall time that the core takes to judge the codes."""
    tables = [
        blocks.load([make_block(start, kind, codes)], blocks.FINGERPRINTS) for start in starts(kind, codes)
    ]
    data = np.concatenate(
        [np.frombuffer(blocks.joined(pa.chunked_array([code_data(table)])), np.uint8) for table in tables]
    )
    words = data.reshape(-1, 32).view(">u8").astype(np.uint64)
    n = len(words)
    zeros = np.zeros(n, np.uint8)
    columns = Codes(np.arange(n), zeros, zeros, words[:, 0].copy(), words, np.zeros((0, 96), np.uint8))
    start = time.perf_counter()
    selection.judge(columns, n, thresholds, keys=choose(thresholds, n).plan.all_keys)
    return time.perf_counter() - start


def code_data(table: pa.Table) -> pa.Array:
    return table["codes"].combine_chunks().flatten().field("data")


def starts(kind: str, codes: int) -> Iterator[int]:
    """Returns the number of the first image of each block."""
    total = codes + (PHOTOS_AMONG_BLANKS if kind == "blank" else 0)
    yield from range(0, total, BLOCK)


def make_block(start: int, kind: str, codes: int) -> bytes:
    """Returns the fingerprints of up to BLOCK images from number `start` on, as a block."""
    total = codes + (PHOTOS_AMONG_BLANKS if kind == "blank" else 0)
    n = min(BLOCK, total - start)
    numbers = np.arange(start, start + n)
    is_blank = numbers >= PHOTOS_AMONG_BLANKS if kind == "blank" else np.zeros(n, bool)
    words = make_words(start, n, "real" if kind == "blank" else kind)
    data = [
        bytes(blank_colour(number)) * 32 if blank else word
        for number, blank, word in zip(numbers.tolist(), is_blank.tolist(), rows(words), strict=True)
    ]
    kinds = np.where(is_blank, int(CodeKind.FLAT), int(CodeKind.FULL)).astype(np.uint8)
    return to_block(numbers, kinds, data)


def rows(words: np.ndarray) -> list[bytes]:
    """Returns each code of 4 words as 32 bytes."""
    raw = words.astype(">u8").tobytes()
    return [raw[at : at + 32] for at in range(0, len(raw), 32)]


def blank_colour(number: int) -> tuple[int, int, int]:
    """Returns one of 1,000 colours, the same for the same number."""
    mixed = number * 2654435761 % COLOURS
    return mixed % 10 * 25, mixed // 10 % 10 * 25, mixed // 100 * 25


def make_words(start: int, n: int, kind: str) -> np.ndarray:
    """Returns n codes of a kind as (n, 4) words of 64 bits."""
    rng = np.random.default_rng([start, KINDS.index(kind)])
    words = rng.integers(0, 1 << 64, (n, 4), dtype=np.uint64)
    if kind == "uniform":
        return words
    # Each bit is set in 35 to 50 % of the codes of photos.
    share = np.random.default_rng(7).uniform(0.35, 0.5, 256)
    bits = rng.random((n, 256)) < share
    words = np.packbits(bits, axis=1).view(">u8").astype(np.uint64)
    if kind == "hot":
        words[: n // 2, 0] = (words[: n // 2, 0] & np.uint64((1 << 24) - 1)) | np.uint64(0x5A3C_96F0_1B << 24)
    # Near duplicates of another image of the block differ from it in a few bits.
    copies = rng.choice(n, n // 5, replace=False)
    originals = (rng.random(len(copies)) ** 3 * n).astype(
        np.int64
    )  # some originals have far more copies than others
    flips = np.packbits(rng.random((len(copies), 256)) < 0.02, axis=1).view(">u8").astype(np.uint64)
    words[copies] = words[originals] ^ flips
    return words


def to_block(numbers: np.ndarray, kinds: np.ndarray, data: list[bytes]) -> bytes:
    """Returns fingerprints with these numbers, kinds and codes as a block of `blocks.FINGERPRINTS`."""
    n = len(numbers)
    uris = [b"/crawl/%09d.jpg" % number for number in numbers.tolist()]
    digests = np.random.default_rng([int(numbers[0]), 99]).bytes(32 * n)
    codes = pa.StructArray.from_arrays(
        [pa.array(np.zeros(n, np.uint8)), pa.array(kinds), pa.array(data, pa.binary())],
        fields=list(blocks.FINGERPRINTS.field("codes").type.value_type),
    )
    text = {"uri": uris, "name": uris, "format": [b"JPEG"] * n, "algorithm": [b"dct/1"] * n}
    columns = {
        **{
            name: pa.array([b""] * n, pa.binary())
            for name in ("metadata", "flags", "detail", "identity", "companions")
        },
        **{name: pa.array(values, pa.binary()) for name, values in text.items()},
        **{name: pa.array(np.full(n, 500), pa.int32()) for name in ("width", "height")},
        **{name: pa.array(np.full(n, 55_000), pa.int64()) for name in ("size_bytes", "modified_ms")},
        "known": pa.array(np.zeros(n, bool)),
        "taken": pa.array(np.zeros(n, np.int64)),
        "metadata_kinds": pa.array(np.zeros(n, np.uint8)),
        "digest": pa.Array.from_buffers(pa.binary(32), n, [None, pa.py_buffer(digests)]),
        "codes": pa.ListArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32)), codes),
    }
    return blocks.dump(
        pa.table([columns[name] for name in blocks.FINGERPRINTS.names], schema=blocks.FINGERPRINTS)
    )


if __name__ == "__main__":
    main()
