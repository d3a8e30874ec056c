"""The whole data flow on one page.

folder -> references -> fingerprints -> verdicts -> records, groups, counts, copies
                    \\-> rejections ---/
"""

import apache_beam as beam

from beam_dedup.options import DedupConfig
from transforms import (
    CheckConservation,
    CountImages,
    DeduplicateImages,
    PlaceCopies,
    ReadImages,
    WriteGroups,
    WriteRecords,
)
from transforms.count import write_json
from transforms.progress import Tally


def build(pipeline: beam.Pipeline, config: DedupConfig, counts: str, tally: Tally | None = None) -> None:
    """Adds all steps of a run to a pipeline.

    counts: where the counts go, or "". tally: how workers on this machine report progress.
    """
    # PCollection[ImageRef], one per file
    images = pipeline | "Read" >> ReadImages(config.folder, config.outputs, tally)
    # PCollection[Verdict], one per image; PCollection[(Plan, int)], the one plan of near mode
    verdicts, plan = images | "Deduplicate" >> DeduplicateImages(config.near, config.within, tally=tally)
    images | "Check" >> CheckConservation(verdicts)
    if config.records:
        verdicts | "Records" >> WriteRecords(config.records)
    if config.output_json:
        verdicts | "Groups" >> WriteGroups(config.output_json)
    if config.output_dir:
        verdicts | "Place" >> PlaceCopies(config.output_dir, config.show_duplicates, tally)
    if counts:
        # PCollection[dict], one
        verdicts | "Counts" >> CountImages(plan) | "WriteCounts" >> beam.Map(write_json, counts)
