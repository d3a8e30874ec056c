"""What a run says at its end."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from beam_dedup.core.model import REJECT_REASONS
from beam_dedup.core.paths import DUPLICATES_FOLDER
from beam_dedup.options import DedupConfig
from transforms import metrics


def show(config: DedupConfig, counts: Mapping[str, Any], seconds: float, console: Console) -> None:
    """Prints the counts, how long it took, and where the outputs are."""
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    initial, rejected = counts[metrics.INITIAL], counts[metrics.REJECTED]
    _count(table, metrics.INITIAL, initial, "" if initial else f"there are no files in {config.folder}")
    _count(table, metrics.FINAL, counts[metrics.FINAL], "kept")
    _count(
        table, metrics.EXACT_DUPLICATES, counts[metrics.EXACT_DUPLICATES], "the same bytes as a kept image"
    )
    if config.near:
        note = f"a picture within {config.within.k} bits of a kept one"
        _count(table, metrics.NEAR_DUPLICATES, counts[metrics.NEAR_DUPLICATES], note)
    _count(table, metrics.REJECTED, rejected, "")
    for reason in REJECT_REASONS:
        if count := counts["Rejected"].get(reason.value, 0):
            _count(table, f"  {reason}", count, reason.meaning.removeprefix("rejected: "))
    console.print(table)
    if counts["Plan"]:
        console.print(Text(f"Plan: {counts['Plan']}"), soft_wrap=True)
    rate = f", {initial / seconds:,.0f} images a second" if initial else ""
    console.print(Text(f"Took {seconds:.1f} s{rate}, {config.jobs} at a time"), soft_wrap=True)
    for what, path in _outputs(config):
        console.print(Text(f"{what}: {path}"), soft_wrap=True)


def _count(table: Table, name: str, count: int, note: str) -> None:
    table.add_row(Text(name), Text(f"{count:,}"), Text(note, style="dim"))


def _outputs(config: DedupConfig) -> list[tuple[str, str]]:
    placed = "" if config.preview else config.output_dir
    outputs = [
        ("Kept images", placed),
        ("Duplicates", f"{placed}/{DUPLICATES_FOLDER}" if placed and config.show_duplicates else ""),
        ("Records", config.records),
        ("Counts", config.counts),
        ("Groups", config.output_json),
    ]
    return [(what, path) for what, path in outputs if path]
