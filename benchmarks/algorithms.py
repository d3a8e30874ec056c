"""Measures precision and recall of each algorithm at several distances, and of each setting of views, by kind of edit.

    .venv/bin/python benchmarks/algorithms.py CORPUS LOOKALIKES [--only NAME ...]

CORPUS has the layout that benchmarks/quality.py describes. LOOKALIKES is a directory of pictures that look alike and are
all different. Compares all pairs one by one, and prints tables for benchmarks/README.md. *Recall* is the share of edits
that are near their original. *Precision* is the share of pairs of one group among all near pairs of the corpus. *Wrong
look-alikes* are near pairs of look-alikes.
"""

import argparse
import collections
import csv
import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from beam_dedup.core.algorithms import ALGORITHMS, DCT, Recipe, Views
from beam_dedup.core.imaging.fingerprint import fingerprint, prepare_decoders
from beam_dedup.core.model import BASE_VIEW, Code, CodeKind, ImageRef
from beam_dedup.core.thresholds import (
    DEFAULT_VERIFY,
    DETAIL_DISTANCE,
    FLAT_LEVELS,
    TINY_BITS,
    VIEW_DETAIL_DISTANCE,
)

LEVELS = ("pixel", "near", "hard", "geo")  # of edits, the easiest first; copies of equal bytes are left out
UNLIKE = 1000  # greater than any k

Distances = npt.NDArray[np.int64]  # (n, n)

DISTANCES = {
    "dct": (4, 6, 8, 10, 12),
    "phash": (0, 2, 4, 6, 8, 10),
    "dhash": (0, 1, 2, 3, 4, 6, 8),
    "ahash": (0, 1, 2, 4),
    "whash": (0, 1, 2, 4),
    "colorhash": (0, 1, 2, 4),
    "pdq": (16, 24, 31, 40, 48, 64),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """A recipe, and the distances at which it is measured."""

    name: str
    recipe: Recipe
    ks: tuple[int, ...]


def settings() -> list[Setting]:
    """Returns all settings to measure: dct with each setting of views, then the other algorithms without views."""
    of_dct = [Setting(f"dct, {views}", Recipe(DCT, views), (8,)) for views in Views]
    of_dct[0] = dataclasses.replace(of_dct[0], ks=DISTANCES[DCT])
    turns = [
        Setting(f"dct, {views}, turns", Recipe(DCT, views, True), (8,)) for views in (Views.TRIM, Views.CROPS)
    ]
    others = [Setting(name, Recipe(name, Views.NONE), DISTANCES[name]) for name in DISTANCES if name != DCT]
    return [*of_dct, *turns, *others]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", type=Path, help="directory with images/ and truth.csv")
    parser.add_argument("lookalikes", type=Path, help="directory of different pictures that look alike")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="measure these algorithms only")
    options = parser.parse_args()
    prepare_decoders()
    with open(options.corpus / "truth.csv", newline="") as file:
        truth = [row for row in csv.DictReader(file) if row["level"] != "exact"]
    files = [options.corpus / "images" / row["file"] for row in truth]
    alike = sorted(options.lookalikes.iterdir())
    print(f"| recipe | k | {' | '.join(LEVELS)} | precision | wrong look-alikes | codes | us |")
    print(f"|{'---|' * (len(LEVELS) + 6)}")
    by_edit = {}
    for setting in settings():
        if options.only and setting.recipe.algorithm not in options.only:
            continue
        codes, cost = codes_of(files, setting.recipe)
        apart = distances(codes)
        apart_alike = distances(codes_of(alike, setting.recipe)[0])
        count = np.mean([len(of_image) for of_image in codes])
        for k in setting.ks:
            shares = [f"{recall:.4f}" for recall in recalls(apart <= k, truth).values()]
            wrong = np.count_nonzero(np.triu(apart_alike <= k, 1))
            right = precision(apart <= k, truth)
            line = f"{' | '.join(shares)} | {right:.4f} | {wrong} | {count:.1f} | {cost:.0f}"
            print(f"| {setting.name} | {k} | {line} |", flush=True)
        if setting.recipe.views in (Views.NONE, Views.CROPS):
            k = ALGORITHMS[setting.recipe.algorithm].default_k
            by_edit[f"{setting.name}, {k}"] = edits(apart <= k, truth)
    print("\n" + table_of_edits(by_edit))


def codes_of(files: Sequence[Path], recipe: Recipe) -> tuple[list[tuple[Code, ...]], float]:
    """Returns the codes of each file, and the microseconds of processor time per file."""
    started = time.process_time()
    codes = []
    for path in files:
        with open(path, "rb") as stream:
            ref = ImageRef(str(path), path.name)
            codes.append(fingerprint(ref, stream, os.fstat(stream.fileno()).st_size, recipe=recipe).codes)
    return codes, (time.process_time() - started) / len(files) * 1e6


def distances(codes: Sequence[tuple[Code, ...]], verify: int = DEFAULT_VERIFY) -> Distances:
    """Returns, for each pair of images, the least k at which they are near, or UNLIKE: (n, n)."""
    count = len(codes)
    apart = np.full((count, count), UNLIKE, np.int64)
    kinds = np.array([of_image[0].kind if of_image else -1 for of_image in codes])
    hashed = np.flatnonzero((kinds >= 0) & (kinds != CodeKind.FLAT))
    bases = np.stack([words(codes[image][0]) for image in hashed.tolist()])
    details = np.stack([detail_words(codes[image][0]) for image in hashed.tolist()])
    tiny, wide = kinds[hashed] == CodeKind.TINY, kinds[hashed] == CodeKind.WIDE
    for image in hashed.tolist():
        for code in codes[image]:
            bits = np.bitwise_count(bases ^ words(code)).astype(np.int64)
            short, long = bits[:, 0], bits.sum(axis=1)
            if code.kind in (CodeKind.FULL, CodeKind.DETAILED):
                short = np.where(~tiny & (long > verify), UNLIKE, short)
            if code.kind == CodeKind.DETAILED:
                detail = np.bitwise_count(details ^ detail_words(code)).sum(axis=1, dtype=np.int64)
                both = kinds[hashed] == CodeKind.DETAILED
                limit = DETAIL_DISTANCE if code.view == BASE_VIEW else VIEW_DETAIL_DISTANCE
                short = np.where(both & (detail > limit), UNLIKE, short)
            if code.kind == CodeKind.TINY or tiny.any():
                unsure = tiny | (code.kind == CodeKind.TINY)
                short = np.where(unsure & (bits[:, 0] > TINY_BITS), UNLIKE, short)
            found = np.where(wide, long, short)
            apart[image, hashed] = np.minimum(apart[image, hashed], found)
    flat = np.flatnonzero(kinds == CodeKind.FLAT)
    if len(flat):
        profiles = np.stack(
            [np.frombuffer(codes[image][0].data, np.uint8) for image in flat.tolist()]
        ).astype(int)
        levels = np.abs(profiles[:, None] - profiles[None]).max(axis=2)
        apart[np.ix_(flat, flat)] = np.where(levels <= FLAT_LEVELS, levels, UNLIKE)
    apart = np.minimum(apart, apart.T)
    np.fill_diagonal(apart, UNLIKE)
    return apart


def words(code: Code) -> npt.NDArray[np.uint64]:
    """Returns the first 256 bits of a code as 4 words, the first 64 bits first."""
    return np.frombuffer(code.data[:32].ljust(32, b"\0"), ">u8").astype(np.uint64)


def detail_words(code: Code) -> npt.NDArray[np.uint64]:
    """Returns the detail code of a code as 8 words of 64 bits; 0 if it has none."""
    detail = code.data[32:] if code.kind == CodeKind.DETAILED else b""
    return np.frombuffer(detail.ljust(64, b"\0"), ">u8").astype(np.uint64)


def edits(
    near: npt.NDArray[np.bool_], truth: Sequence[dict[str, str]]
) -> dict[tuple[int, str], tuple[int, int]]:
    """Returns, by level and kind of edit: (copies near their original, copies)."""
    original = {row["group"]: number for number, row in enumerate(truth) if row["role"] == "original"}
    found: dict[tuple[int, str], list[bool]] = collections.defaultdict(list)
    for number, row in enumerate(truth):
        if row["role"] == "variant":
            key = LEVELS.index(row["level"]), row["transform"]
            found[key].append(bool(near[number, original[row["group"]]]))
    return {key: (sum(of_kind), len(of_kind)) for key, of_kind in sorted(found.items())}


def recalls(near: npt.NDArray[np.bool_], truth: Sequence[dict[str, str]]) -> dict[str, float]:
    """Returns the share of copies near their original, by level."""
    found, all_copies = collections.Counter[str](), collections.Counter[str]()
    for (level, _), (hits, copies) in edits(near, truth).items():
        found[LEVELS[level]] += hits
        all_copies[LEVELS[level]] += copies
    return {level: found[level] / max(all_copies[level], 1) for level in LEVELS}


def precision(near: npt.NDArray[np.bool_], truth: Sequence[dict[str, str]]) -> float:
    """Returns the share of pairs of one group among all near pairs."""
    group = np.array([row["group"] for row in truth])
    pairs = np.triu(near, 1)
    right = int(np.count_nonzero(pairs & (group[:, None] == group[None])))
    return right / max(int(np.count_nonzero(pairs)), 1)


def table_of_edits(by_setting: dict[str, dict[tuple[int, str], tuple[int, int]]]) -> str:
    """Returns a table of the kinds of edit of which a setting misses a copy, with the number of copies each setting finds."""
    lines = [f"| level | edit | copies | {' | '.join(by_setting)} |", f"|{'---|' * (len(by_setting) + 3)}"]
    for level, edit in next(iter(by_setting.values()), {}):
        found = [of_setting[level, edit] for of_setting in by_setting.values()]
        copies = found[0][1]
        if any(hits < copies for hits, _ in found):
            counts = " | ".join(str(hits) for hits, _ in found)
            lines.append(f"| {LEVELS[level]} | {edit} | {copies} | {counts} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
