"""Names and updates Beam's counters and gauges. Runners show them on their dashboards; no result is computed from them.

`transforms.count.CountImages` computes the counts of a run from its verdicts.
"""

from collections.abc import Mapping

import pyarrow.compute as pc
from apache_beam.metrics import Metrics

from beam_dedup.core import blocks
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import REASONS, Flag, Reason, Status
from beam_dedup.core.reading.selection import Exclusions

NAMESPACE = "beam_dedup"

INITIAL = "Initial_Image_Count"
FINAL = "Final_Image_Count"
EXACT_DUPLICATES = "Exact_Duplicate_Count"
NEAR_DUPLICATES = "Near_Duplicate_Count"
REJECTED = "Rejected_Count"
BYTES_READ = "Read_Byte_Count"
REFERENCES_READ = "Read_Reference_Count"  # files and archives that were read
IMAGES_FOUND = "Found_Image_Count"  # images in them: an archive has several, or none
KNOWN_REJECTED = "Known_Rejected_Count"
DESCRIBED = "Described_Image_Count"
PROTECTED = "Protected_Image_Count"
SKIPPED = "Skipped_Page_Count"
COMPANIONS = "Companion_Count"  # files that belong to images, and are not judged
OUT_OF_MEMORY = "Out_Of_Memory_Count"
PINNED = "Pinned_Count"  # pairs that a person declared different, and whose codes are within k
LEAKING = "Leaking_Image_Count"  # images whose content another split has too
EXCLUDED = "Excluded_Count"  # files that options leave out
EXCLUDED_DIRECTORIES = "Excluded_Directory_Count"  # not walked: their files are not counted
COPIES = "Placed_Copy_Count"
UNPLACED = "Unplaced_Copy_Count"

# Counters of streams.
ADMITTED = "Admitted_Count"  # new arrivals
REDELIVERED = "Redelivered_Count"
OTHER_EVENTS = "Other_Event_Count"
LATE = "Late_Count"  # arrivals whose event was long ago; they are judged as if it had happened now
EXPIRED = "Expired_Message_Count"  # should be 0: each of them lost an image
LATENCY = "Verdict_Latency_ms"
PUBLISHED = "Published_Verdict_Count"

# Gauges of streams: numbers, as monitoring systems need them. Each worker process reports its own.
LATENCY_P50 = "Verdict_Latency_p50_ms"  # of the verdicts of the last minute
LATENCY_P95 = "Verdict_Latency_p95_ms"
LAG = "Admission_Lag_ms"  # from the event to the admission, of the oldest image in the last bundle
CACHED_STATE = "Cached_State_Bytes"

_DUPLICATE_COUNTERS = {Reason.EXACT: EXACT_DUPLICATES, Reason.NEAR: NEAR_DUPLICATES}


def rejected_for(reason: Reason) -> str:
    """Returns the counter of one reason of rejection."""
    return f"Rejected_{reason}_Count"


def names_for(status: Status, reason: Reason | None) -> tuple[str, ...]:
    """Returns the counters that go up by one with a verdict."""
    if status == Status.KEPT:
        return INITIAL, FINAL
    assert reason is not None
    if status == Status.DUPLICATE:
        return INITIAL, _DUPLICATE_COUNTERS[reason]
    return INITIAL, REJECTED, rejected_for(reason)


def counts_of(block: VerdictBlock) -> dict[str, int]:
    """Returns by how much each counter goes up with a block of verdicts."""
    verdicts = blocks.load([block], blocks.VERDICTS).select(["status", "reason", "flags"])
    counts: dict[str, int] = {}
    if described := pc.sum(pc.match_substring(verdicts["flags"], Flag.DESCRIBED.value)).as_py():
        counts[DESCRIBED] = described
    if protected := pc.sum(pc.match_substring(verdicts["flags"], Flag.PROTECTED.value)).as_py():
        counts[PROTECTED] = protected
    if short := pc.sum(pc.match_substring(verdicts["flags"], Flag.OUT_OF_MEMORY.value)).as_py():
        counts[OUT_OF_MEMORY] = short
    for row in verdicts.group_by(["status", "reason"]).aggregate([([], "count_all")]).to_pylist():
        reason = row["reason"] and REASONS[blocks.to_text(row["reason"])]
        for name in names_for(Status(blocks.to_text(row["status"])), reason):
            counts[name] = counts.get(name, 0) + row["count_all"]
    return counts


def count(block: VerdictBlock) -> VerdictBlock:
    """Counts the verdicts of a block with Beam's counters, and returns the block."""
    add(counts_of(block))
    return block


def excluded_counts(exclusions: Exclusions) -> dict[str, int]:
    """Returns by how much each counter goes up with what was left out; no zeros."""
    files, directories = sum(exclusions.files.values()), sum(exclusions.directories.values())
    counts = {EXCLUDED: files, EXCLUDED_DIRECTORIES: directories}
    return {name: count for name, count in counts.items() if count}


def set_gauge(name: str, value: int) -> None:
    """Sets a gauge of Beam, by name."""
    Metrics.gauge(NAMESPACE, name).set(value)


def add(counts: Mapping[str, int]) -> None:
    """Adds to Beam's counters, by name."""
    for name, number in counts.items():
        Metrics.counter(NAMESPACE, name).inc(number)
