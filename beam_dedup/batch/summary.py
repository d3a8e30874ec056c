"""Writes the summary that a batch run prints at its end."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from beam_dedup.core.model import REJECT_REASONS
from beam_dedup.core.paths import DUPLICATES_FOLDER
from beam_dedup.options.config import DedupConfig
from transforms import metrics


def text(config: DedupConfig, counts: Mapping[str, Any], seconds: float) -> str:
    """Returns the summary: the counts, the plan, the time, and where the outputs are.

    Args:
      config: the options of the run.
      counts: by counter, as `--counts` writes them.
      seconds: duration of the run.
    """
    rows = list(_rows(config, counts))
    name_width, count_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = [f"{name:{name_width}}  {count:>{count_width}}  {note}".rstrip() for name, count, note in rows]
    if counts["Plan"]:
        lines.append(f"Plan: {counts['Plan']}")
    initial = counts[metrics.INITIAL]
    rate = f", {initial / seconds:,.0f} images/s" if initial else ""
    lines.append(f"Total time: {seconds:.1f} s{rate} (-j {config.jobs})")
    lines += [f"{name}: {path}" for name, path in _outputs(config)]
    return "\n".join(lines)


def _rows(config: DedupConfig, counts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields the name, the count and the explanation of each row."""

    def row(name: str, note: str) -> tuple[str, str, str]:
        return name, f"{counts[name]:,}", note

    yield row(metrics.INITIAL, "" if counts[metrics.INITIAL] else f"no {_source(config)}")
    yield row(metrics.FINAL, "kept")
    yield row(metrics.EXACT_DUPLICATES, "the same bytes as a kept image")
    if config.near:
        yield row(metrics.NEAR_DUPLICATES, f"within {config.thresholds.k} bits of a kept image")
    yield row(metrics.REJECTED, "by reason:" if counts[metrics.REJECTED] else "")
    for reason in REJECT_REASONS:
        if count := counts["Rejected"].get(reason.value, 0):
            yield f"  {reason}", f"{count:,}", reason.meaning.removeprefix("rejected: ")
    if counts.get(metrics.DESCRIBED):
        yield row(metrics.DESCRIBED, "could not be opened: compared by their metadata, not copied")
    if counts.get(metrics.SKIPPED):
        yield row(metrics.SKIPPED, "crawl records that are not images and do not claim to be")


def _source(config: DedupConfig) -> str:
    if config.json_metadata:
        return f"rows in {config.json_metadata}"
    return f"files in {', '.join(config.inputs)}"


def _outputs(config: DedupConfig) -> list[tuple[str, str]]:
    """Returns the name and the path of each output that was written."""
    placed = "" if config.preview else config.output_dir
    outputs = [
        ("Kept images", placed),
        ("Duplicates", os.path.join(placed, DUPLICATES_FOLDER) if placed and config.show_duplicates else ""),
        ("Records", config.records),
        ("Counts", config.counts),
        ("Groups", config.output_json),
    ]
    return [(name, path) for name, path in outputs if path]
