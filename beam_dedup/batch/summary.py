"""Writes the summary that a batch run prints at its end: first what happened, then the counts, then where the outputs are."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from beam_dedup.batch import leakage
from beam_dedup.batch.other_files import MAX_COUNTED
from beam_dedup.batch.rejected import kinds_text, sources
from beam_dedup.core.model import REJECT_REASONS
from beam_dedup.core.names import shown
from beam_dedup.core.overview import Overview
from beam_dedup.core.paths import DUPLICATES_FOLDER, is_remote
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.suggest import pasteable
from beam_dedup.texts import counted, excluded_text, size_text
from transforms import metrics


def text(
    config: DedupConfig,
    counts: Mapping[str, Any],
    overview: Overview | None,
    seconds: float,
    other_files: int = 0,
    *,
    local: bool = True,
) -> str:
    """Returns the summary.

    Args:
      config: the options of the run.
      counts: by counter, as `--counts` writes them.
      overview: what the counts do not say; None if it is not known, as of workers elsewhere.
      seconds: duration of the run.
      other_files: number of files in the output directory that are not of this run.
      local: whether the local runner was used, for which -j counts.
    """
    lines = [
        *_overview(config, counts, overview),
        *_not_read(counts),
        "",
        *_table(list(_rows(config, counts))),
    ]
    if counts["Plan"] and config.verbose:
        lines.append(f"Plan: {counts['Plan']}")
    initial = counts[metrics.INITIAL]
    rate = f", {initial / seconds:,.0f} images/s" if initial else ""
    jobs = f" (-j {config.jobs})" if local else ""
    lines.append(f"Total time: {seconds:.1f} s{rate}{jobs}")
    lines += [f"{name}: {shown(path)}" for name, path in _outputs(config)]
    if initial > counts[metrics.FINAL] + counts[metrics.REJECTED]:
        lines += _next_step(config)
    if other_files:
        lines.append(
            f"Not of this run: {'at least ' if other_files >= MAX_COUNTED else ''}{counted(other_files, 'file')} "
            f"in {shown(config.output_dir)}, from other inputs, options or programs"
        )
    return "\n".join(lines)


def _next_step(config: DedupConfig) -> Iterator[str]:
    """Yields the commands that show the duplicates, and which could be removed, if they can read the records."""
    if config.records and not is_remote(config.records) and (path := pasteable(config.records)):
        if not config.report:
            yield f"To look through the duplicates: dedup report {path} -o review"
        yield f"To see which duplicates can be removed: dedup clean {path}"


def _overview(config: DedupConfig, counts: Mapping[str, Any], overview: Overview | None) -> Iterator[str]:
    """Yields the lines for people."""
    initial, kept, rejected = (counts[name] for name in (metrics.INITIAL, metrics.FINAL, metrics.REJECTED))
    duplicates = initial - kept - rejected
    yield (
        f"{counted(initial, 'image')}: {kept:,} kept, {counted(duplicates, 'duplicate')}, {rejected:,} rejected"
    )
    if overview is None:
        return
    if duplicates:
        yield f"{counted(overview.groups, 'group')} of duplicates{_freed(overview)}"
    if overview.bytes_only:
        total = sum(overview.bytes_only.values())
        yield f"Compared by bytes only: {counted(total, 'image')}"
        for (image_format, cause), count in sorted(
            overview.bytes_only.items(), key=lambda item: (-item[1], item[0])
        ):
            yield f"  {count:,} {image_format}: {cause}"
    if rejected:
        is_placing = config.output_dir and not config.preview
        yield f"Rejected{' and not copied' if is_placing else ''}: {kinds_text(overview.rejected)}"


def _not_read(counts: Mapping[str, Any]) -> Iterator[str]:
    """Yields the line about what was left out of the inputs, if anything was."""
    if excluded := excluded_text(excluded_causes(counts)):
        yield f"Not read: {excluded}"


def excluded_causes(counts: Mapping[str, Any]) -> dict[str, Mapping[str, int]]:
    """Returns the numbers of directories and of files that were left out, by cause; by "" if the causes are not known."""
    causes = counts.get("Excluded", {})
    return {
        kind: causes.get(kind, {}) or {"": counts.get(name, 0)}
        for kind, name in (("directories", metrics.EXCLUDED_DIRECTORIES), ("files", metrics.EXCLUDED))
    }


def _freed(overview: Overview) -> str:
    """Returns what deleting the duplicates would free, as the end of a sentence; "" if that is nothing."""
    if not overview.duplicate_bytes:
        return ""
    members = f" (without {overview.duplicate_members:,} in archives)" if overview.duplicate_members else ""
    return f"; deleting the duplicates{members} would free {size_text(overview.duplicate_bytes)}"


def _table(rows: list[tuple[str, str, str]]) -> list[str]:
    name_width, count_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return [f"{name:{name_width}}  {count:>{count_width}}  {note}".rstrip() for name, count, note in rows]


def _rows(config: DedupConfig, counts: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields the name, the count and the explanation of each counter."""

    def row(name: str, note: str) -> tuple[str, str, str]:
        return name, f"{counts[name]:,}", note

    left_out = " but those not read" if excluded_text(excluded_causes(counts)) else ""
    yield row(metrics.INITIAL, "" if counts[metrics.INITIAL] else f"no {_source(config)}{left_out}")
    yield row(metrics.FINAL, "kept")
    yield row(metrics.EXACT_DUPLICATES, "the same bytes as a kept image")
    if config.near:
        yield row(metrics.NEAR_DUPLICATES, f"within {config.thresholds.k} bits of a kept image")
    if metrics.PINNED in counts:
        yield row(metrics.PINNED, "pairs that would match, but that you declared different")
    yield row(metrics.REJECTED, "by reason:" if counts[metrics.REJECTED] else "")
    for reason in REJECT_REASONS:
        if count := counts["Rejected"].get(reason.value, 0):
            yield f"  {reason}", f"{count:,}", reason.meaning.removeprefix("rejected: ")
    if config.keep.protect:
        protected = counts.get(metrics.PROTECTED, 0)
        note = "kept because of --protect" if protected else "no image matches --protect"
        yield metrics.PROTECTED, f"{protected:,}", note
    yield from leakage.table(config, counts)
    yield from leakage.assigned(counts)
    if counts.get(metrics.DESCRIBED):
        yield row(metrics.DESCRIBED, "could not be opened: compared by their metadata, not copied")
    if counts.get(metrics.OUT_OF_MEMORY):
        yield row(
            metrics.OUT_OF_MEMORY,
            "could not be decoded, and were compared by their bytes alone: allow each process 1 GiB (ulimit -d)",
        )
    if counts.get(metrics.SKIPPED):
        yield row(metrics.SKIPPED, "crawl records that are not images and do not claim to be")
    if counts.get(metrics.COMPANIONS):
        yield row(metrics.COMPANIONS, "files that belong to images, and go where these go")


def _source(config: DedupConfig) -> str:
    return f"{'rows' if config.json_metadata else 'files'} in {sources(config)}"


def _outputs(config: DedupConfig) -> list[tuple[str, str]]:
    """Returns the name and the path of each output that was written."""
    placed = "" if config.preview else config.output_dir
    outputs = [
        ("Kept images", placed),
        ("Duplicates", os.path.join(placed, DUPLICATES_FOLDER) if placed and config.show_duplicates else ""),
        ("Records", config.records),
        ("Counts", config.counts),
        ("Drop list", config.drop_list),
        ("Pairs", config.pairs),
        ("Groups", config.output_json),
        ("Review page", config.report and os.path.join(config.report, "index.html")),
    ]
    return [(name, path) for name, path in outputs if path]
