"""What a run says at its end."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from beam_dedup.core.model import REJECT_REASONS
from beam_dedup.core.paths import DUPLICATES_FOLDER
from beam_dedup.options.config import DedupConfig
from transforms import metrics


def text(config: DedupConfig, counts: Mapping[str, Any], seconds: float) -> str:
    """The counts, the plan, how long it took, and where the outputs are."""
    rows = list(_rows(config, counts))
    name_width, count_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{name:{name_width}}  {count:>{count_width}}  {note}".rstrip() for name, count, note in rows]
    if counts["Plan"]:
        lines.append(f"Plan: {counts['Plan']}")
    initial = counts[metrics.INITIAL]
    rate = f", {initial / seconds:,.0f} images a second" if initial else ""
    lines.append(f"Took {seconds:.1f} s{rate}, {config.jobs} at a time")
    lines += [f"{what}: {path}" for what, path in _outputs(config)]
    return "\n".join(lines)


def _rows(config: DedupConfig, counts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    def row(name: str, note: str) -> tuple[str, str, str]:
        return name, f"{counts[name]:,}", note

    yield row(
        metrics.INITIAL,
        "" if counts[metrics.INITIAL] else f"there are no {_source(config)}",
    )
    yield row(metrics.FINAL, "kept")
    yield row(metrics.EXACT_DUPLICATES, "the same bytes as a kept image")
    if config.near:
        yield row(metrics.NEAR_DUPLICATES, f"a picture within {config.thresholds.k} bits of a kept one")
    yield row(metrics.REJECTED, "")
    for reason in REJECT_REASONS:
        if count := counts["Rejected"].get(reason.value, 0):
            yield f"  {reason}", f"{count:,}", reason.meaning.removeprefix("rejected: ")
    if counts.get(metrics.DESCRIBED):
        yield row(metrics.DESCRIBED, "could not be opened: compared by their metadata, and not copied")
    if counts.get(metrics.OUT_OF_MEMORY):
        yield row(
            metrics.OUT_OF_MEMORY,
            "could not be decoded, and were compared by their bytes alone: allow each process 1 GiB (ulimit -d)",
        )
    if counts.get(metrics.SKIPPED):
        yield row(metrics.SKIPPED, "pages of crawls, which are no images and claim to be none")


def _source(config: DedupConfig) -> str:
    return (
        f"rows in {config.json_metadata}" if config.json_metadata else f"files in {', '.join(config.inputs)}"
    )


def _outputs(config: DedupConfig) -> list[tuple[str, str]]:
    placed = "" if config.preview else config.output_dir
    outputs = [
        ("Kept images", placed),
        ("Duplicates", os.path.join(placed, DUPLICATES_FOLDER) if placed and config.show_duplicates else ""),
        ("Records", config.records),
        ("Counts", config.counts),
        ("Groups", config.output_json),
    ]
    return [(what, path) for what, path in outputs if path]
