"""Builds the pipeline of a batch run.

inputs -> references -> fingerprints -> verdicts -> records, groups, counts, copies
                    \\-> rejections ---/
"""

from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection

from beam_dedup.core.blocks import ComponentBlock, FingerprintBlock, PairBlock
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.overview import to_json
from beam_dedup.core.reading import input_paths
from beam_dedup.core.shards.contents import ShardFormat
from beam_dedup.options.config import DedupConfig
from transforms import (
    CheckConservation,
    CountImages,
    DeduplicateImages,
    PlaceCopies,
    ReadImages,
    ReadMetadata,
    WriteGroups,
    WritePlacements,
    WriteRecords,
    WriteUnplaced,
)
from transforms.assign import AssignSplits
from transforms.companion_copies import ChooseCompanionCopies
from transforms.count import write_json
from transforms.overview import SumUpImages
from transforms.pair_outputs import AddComponents, WritePairs
from transforms.pairs import ConnectComponents, FindComponents, FindPairs, PairsFound
from transforms.place import wanted_copies
from transforms.read import DECODED_AT_ONCE, DIGESTED_AT_ONCE, ListImages
from transforms.read_settings import ReadSettings
from transforms.shards import WriteShards
from transforms.split_pairs import PairSplits
from transforms.storage.placing import PlaceMode
from transforms.union import AddUnions
from transforms.write import WriteDropList, is_nul_list, unlisted

COUNT = "count"  # the only key of `Reports.companions` and `Reports.unlisted`


class Reports(NamedTuple):
    """Paths of the files that the command line reads at the end of a run; "" for a file that is not needed.

    Attributes:
      counts: the counts as JSON.
      preview: one line per copy that would be made, for `--preview`.
      unplaced: one line per image that could not be copied.
      overview: the `Overview` of all verdicts as JSON.
      records: directory of the records for `--report`; ends in `/`.
      companions: how many copies of companions were to be made, as JSON.
      unlisted: how many names are missing in the list of `--drop_list`, as JSON.
    """

    counts: str
    preview: str = ""
    unplaced: str = ""
    overview: str = ""
    records: str = ""
    companions: str = ""
    unlisted: str = ""


def build(
    pipeline: beam.Pipeline,
    config: DedupConfig,
    reports: Reports,
    planning: PlanSettings,
    *,
    settings: ReadSettings,
) -> None:
    """Adds all steps of a batch run to a pipeline.

    Args:
      pipeline: the pipeline to add them to.
      config: the options of the run.
      reports: the files to write for the end of the run.
      planning: how the plan of near matching is chosen.
      settings: how images are read.
    """
    batch = DECODED_AT_ONCE if config.near else DIGESTED_AT_ONCE
    # PCollection[list[ImageRef]], one reference per file or row
    # PCollection[Exclusions], what was left out
    images, exclusions = pipeline | "Read" >> ListImages(_read_new(config, batch))
    known = None
    if config.reference:
        read_known = ReadImages(
            config.reference, config.outputs, known=True, batch=batch, selection=config.selection
        )
        known, known_exclusions = pipeline | "ReadKnown" >> ListImages(read_known)
        exclusions = (exclusions, known_exclusions) | "AllExclusions" >> beam.Flatten()
    # PCollection[bytes], blocks with one verdict per image
    # PCollection[Estimate], one: the plan of near mode
    # PCollection[ReadTally], counts of what was read
    # PCollection[int], one: how many pairs were declared different
    # PCollection[bytes], blocks of fingerprints
    # SplitLeaks, which images leak to other splits; None without splits
    verdicts, plan, read_tally, pinned, fingerprints, leaks = images | "Deduplicate" >> DeduplicateImages(
        settings=settings,
        thresholds=config.thresholds,
        planning=planning,
        keep=config.keep,
        known=known,
        decisions=config.decisions,
        across=input_paths.labels(config.inputs) if config.across else (),
        splits=config.data_splits,
        drop_from=config.drop_from,
    )
    images | "Check" >> CheckConservation(verdicts, read_tally)
    pairs = None
    if config.pairs:
        found = _find_pairs(leaks.fingerprints if leaks else fingerprints, config, planning)
        # Components are those of the images that were judged, which are fewer with drop_from.
        pairs = None if config.drop_from else found.pairs
        splits = config.data_splits.all if config.data_splits else ()
        if leaks:
            found = found.pairs | "PairSplits" >> PairSplits(leaks.contents, len(splits))
        found | "WritePairs" >> WritePairs(config.pairs, splits=splits)
    assigned = None
    if config.records:
        recorded = verdicts | "Unions" >> AddUnions() if config.union else verdicts
        if config.components or config.assignment:
            connected = _connect(fingerprints, config, planning, pairs)
            recorded = recorded | "Components" >> AddComponents(connected)
        if config.assignment:
            # PCollection[bytes]; PCollection[dict], one
            recorded, assigned = recorded | "Assign" >> AssignSplits(config.assignment)
        recorded | "Records" >> WriteRecords(config.records, own_only=True)
    if reports.records:
        verdicts | "ReportRecords" >> WriteRecords(reports.records)
    if config.drop_list:
        verdicts | "DropList" >> WriteDropList(config.drop_list)
    if reports.unlisted:
        # PCollection[int], one
        (
            verdicts
            | "Unlisted" >> beam.Map(unlisted, is_nul_list(config.drop_list))
            | "CountUnlisted" >> beam.CombineGlobally(sum)
            | "UnlistedFields" >> beam.Map(_as_count)
            | "WriteUnlisted" >> beam.Map(write_json, reports.unlisted)
        )
    if config.output_json:
        verdicts | "Groups" >> WriteGroups(config.output_json, own_only=True)
    companions = None
    if config.companions and config.output_dir and not config.shards:
        # PCollection[Placement], PCollection[Unplaced]
        companions = verdicts | "Companions" >> ChooseCompanionCopies(
            config.output_dir, config.show_duplicates, config.portable_names, config.read_limits.roots
        )
        if reports.companions:
            # PCollection[int], one
            (
                companions
                | "AllCompanions" >> beam.Flatten()
                | "CountCompanions" >> beam.combiners.Count.Globally()
                | "CompanionCount" >> beam.Map(_as_count)
                | "WriteCompanionCount" >> beam.Map(write_json, reports.companions)
            )
    if config.preview:
        wanted = wanted_copies(verdicts, config.output_dir, config.show_duplicates, config.portable_names)
        if companions:
            wanted = (wanted, companions.wanted) | "WithCompanions" >> beam.Flatten()
        wanted | "Preview" >> WritePlacements(reports.preview)
    elif config.output_dir:
        place: PlaceCopies | WriteShards = PlaceCopies(
            config.output_dir,
            config.show_duplicates,
            settings.tally,
            PlaceMode(config.place),
            config.portable_names,
            image_column=config.limits.image_column,
            companions=companions,
        )
        if config.shards:
            place = WriteShards(
                config.output_dir,
                ShardFormat(config.shards),
                settings.tally,
                config.portable_names,
                config.limits.image_column,
                config.read_limits.roots,
            )
        # PCollection[Placement], PCollection[Unplaced]
        _, unplaced = verdicts | "Place" >> place
        if reports.unplaced:
            unplaced | "Unplaced" >> WriteUnplaced(reports.unplaced)
    if reports.counts:
        # PCollection[dict], one
        (
            verdicts
            | "Counts"
            >> CountImages(
                plan, read_tally, pinned, exclusions, leaks and leaks.leakage, assigned, config.assignment
            )
            | "WriteCounts" >> beam.Map(write_json, reports.counts, "--counts")
        )
    if reports.overview:
        # PCollection[Overview], one
        (
            verdicts
            | "Overview" >> SumUpImages(config.near)
            | "OverviewFields" >> beam.Map(to_json)
            | "WriteOverview" >> beam.Map(write_json, reports.overview)
        )


def _read_new(config: DedupConfig, batch: int) -> ReadImages | ReadMetadata:
    """Returns the transform that names the images to judge."""
    if config.json_metadata:
        return ReadMetadata(
            config.json_metadata,
            config.excluded_paths,
            batch,
            config.allow,
            config.directory,
            config.selection,
            config.path_field,
        )
    return ReadImages(
        config.inputs,
        config.excluded_paths,
        batch=batch,
        links_inside=config.links_inside,
        selection=config.selection,
        companions=config.companions,
        splits=config.splits,
    )


def _find_pairs(
    fingerprints: PCollection[FingerprintBlock], config: DedupConfig, planning: PlanSettings
) -> PairsFound:
    """Returns all pairs; none in exact mode."""
    if config.near:
        find = FindPairs(
            config.thresholds,
            planning,
            keep=config.keep,
            decisions=config.decisions,
            max_pairs=config.max_pairs,
        )
        found: PairsFound = fingerprints | "Pairs" >> find
        return found
    pairs = fingerprints.pipeline | "NoPairs" >> beam.Create([], reshuffle=False).with_output_types(bytes)
    names = pairs | "NoNames" >> beam.Map(lambda block: (b"", block)).with_output_types(tuple[bytes, bytes])
    return PairsFound(pairs, names)


def _connect(
    fingerprints: PCollection[FingerprintBlock],
    config: DedupConfig,
    planning: PlanSettings,
    pairs: PCollection[PairBlock] | None,
) -> PCollection[ComponentBlock] | None:
    """Returns the components of pairs that were found, or else finds them; None in exact mode."""
    if not config.near:
        return None
    connected: PCollection[ComponentBlock]
    if pairs is not None:
        connected = pairs | "ConnectPairs" >> ConnectComponents()
    else:
        find = FindComponents(config.thresholds, planning, keep=config.keep, decisions=config.decisions)
        connected = fingerprints | "FindComponents" >> find
    return connected


def _as_count(count: int) -> dict[str, int]:
    return {COUNT: count}
