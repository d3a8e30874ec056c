"""Finds duplicate images, exact and near, with Apache Beam.

`dedup("pictures")` judges images in one call, as in a notebook, and returns tables (docs/guides/clean-training-set.md).

Everything that a pipeline needs is imported from here. This pipeline lists the images below `pictures/`, judges each,
writes one record per image, copies every kept image once into `unique/`, and prints the counts:

    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from beam_dedup import (
        CheckConservation,
        CountImages,
        DeduplicateImages,
        PlaceCopies,
        ReadImages,
        ReadSettings,
        Recipe,
        Thresholds,
        WriteRecords,
    )

    with beam.Pipeline(options=PipelineOptions(["--runner=FnApiRunner"])) as pipeline:
        images = pipeline | "Read" >> ReadImages("pictures")
        result = images | "Deduplicate" >> DeduplicateImages(
            settings=ReadSettings(recipe=Recipe()), thresholds=Thresholds(k=8)
        )
        images | "Check" >> CheckConservation(result.verdicts, result.read_tally)
        result.verdicts | "Write" >> WriteRecords("records.jsonl")
        result.verdicts | "Place" >> PlaceCopies("unique")
        result.verdicts | "Count" >> CountImages(result.plan, result.read_tally) | "Print" >> beam.Map(print)

Without a recipe (`ReadSettings()`), only images with equal bytes are duplicates. PCollections carry blocks, Arrow record
batches of many images each, as bytes: a runner pays per element. `BatchReferences` and `UnbatchVerdicts` convert
between single values and blocks.

A stream judges each image as it arrives, and remembers those of the last day:

    from apache_beam.io.unbounded_source import ReadFromUnboundedSource
    from beam_dedup import (
        AdmitArrivals,
        JudgeArrivals,
        ReadSettings,
        Recipe,
        RecordPaths,
        RecordVerdicts,
        StreamSettings,
        Thresholds,
        WatchedSource,
        choose_stream_plan,
    )

    recipe = Recipe()
    streaming = StreamSettings(
        plan=choose_stream_plan(recipe, Thresholds(k=8)), remember_micros=24 * 3600 * 10**6, origin_micros=0
    )

    def add_stream(pipeline):
        arrivals = pipeline | "Read" >> ReadFromUnboundedSource(WatchedSource(("pictures",), exclude=("records",)))
        images = arrivals | "Admit" >> AdmitArrivals(streaming)
        verdicts = images | "Judge" >> JudgeArrivals(streaming, settings=ReadSettings(recipe=recipe))
        return verdicts | "Record" >> RecordVerdicts(RecordPaths(run="first", records="records"))

Importing this package imports neither Beam nor numpy: each name is imported from its module when it is first used.
The command line, whose help must appear at once, and the core, which works without Beam, depend on that.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from beam_dedup.core.algorithms import Recipe, Views
    from beam_dedup.core.arrivals import Arrival
    from beam_dedup.core.blocks import FINGERPRINTS, VERDICTS, FingerprintBlock, VerdictBlock
    from beam_dedup.core.conservation import ReadTally
    from beam_dedup.core.decisions import Decisions, read_decisions
    from beam_dedup.core.errors import ConservationError, DedupError, PlanError, UsageError
    from beam_dedup.core.limits import Limits
    from beam_dedup.core.matching.plan import Plan
    from beam_dedup.core.matching.planner import Estimate, PlanSettings
    from beam_dedup.core.model import (
        AVRO_SCHEMA,
        RECORD_FIELDS,
        Code,
        CodeKind,
        Fingerprint,
        Flag,
        ImageRef,
        Placement,
        Reason,
        Status,
        Unplaced,
        Verdict,
        Witness,
    )
    from beam_dedup.core.preference import KeepPolicy, Preference, parse_rules
    from beam_dedup.core.reading.selection import Exclusions, Selection
    from beam_dedup.core.stream.protocol import StreamPlan
    from beam_dedup.core.thresholds import Thresholds
    from beam_dedup.notebook.api import dedup
    from beam_dedup.notebook.contact_sheet import ContactSheet
    from beam_dedup.notebook.result import DedupResult
    from transforms.batching import BatchFingerprints, BatchReferences, UnbatchVerdicts
    from transforms.count import CheckConservation, CountImages
    from transforms.deduplicate import Deduplicated, DeduplicateImages
    from transforms.exact import MarkExactDuplicates
    from transforms.fingerprint import Fingerprinted, FingerprintImages
    from transforms.near import MarkNearDuplicates, NearMarked
    from transforms.place import PlaceCopies, Placed
    from transforms.read import ListedImages, ListImages, ReadImages, ReadMetadata
    from transforms.read_settings import ReadSettings
    from transforms.rows import DeduplicateRows, FingerprintRows
    from transforms.storage.placing import PlaceMode
    from transforms.stream.judge import AdmitArrivals, JudgeArrivals
    from transforms.stream.plan import choose_stream_plan
    from transforms.stream.publish import PublishVerdicts
    from transforms.stream.pubsub import ParseNotifications, SubscriptionSource
    from transforms.stream.record import RecordPaths, RecordVerdicts
    from transforms.stream.steps import StreamSettings
    from transforms.stream.watch import WatchedSource
    from transforms.stream.windows import DeduplicateWindows, IntoWindows, RecordWindows
    from transforms.tally import Tally
    from transforms.write import WriteGroups, WritePlacements, WriteRecords, WriteUnplaced

__version__ = "0.1.0"

# The module that defines each public name. The block above repeats it for type checkers and editors; tests compare the two.
_MODULES = {
    "dedup": "beam_dedup.notebook.api",
    "DedupResult": "beam_dedup.notebook.result",
    "ContactSheet": "beam_dedup.notebook.contact_sheet",
    "ReadImages": "transforms.read",
    "ReadMetadata": "transforms.read",
    "ListImages": "transforms.read",
    "ListedImages": "transforms.read",
    "ReadSettings": "transforms.read_settings",
    "DeduplicateRows": "transforms.rows",
    "FingerprintRows": "transforms.rows",
    "Tally": "transforms.tally",
    "BatchReferences": "transforms.batching",
    "BatchFingerprints": "transforms.batching",
    "UnbatchVerdicts": "transforms.batching",
    "FingerprintImages": "transforms.fingerprint",
    "Fingerprinted": "transforms.fingerprint",
    "MarkExactDuplicates": "transforms.exact",
    "MarkNearDuplicates": "transforms.near",
    "NearMarked": "transforms.near",
    "DeduplicateImages": "transforms.deduplicate",
    "Deduplicated": "transforms.deduplicate",
    "CheckConservation": "transforms.count",
    "CountImages": "transforms.count",
    "WriteRecords": "transforms.write",
    "WriteGroups": "transforms.write",
    "WritePlacements": "transforms.write",
    "WriteUnplaced": "transforms.write",
    "PlaceCopies": "transforms.place",
    "Placed": "transforms.place",
    "PlaceMode": "transforms.storage.placing",
    "WatchedSource": "transforms.stream.watch",
    "ParseNotifications": "transforms.stream.pubsub",
    "SubscriptionSource": "transforms.stream.pubsub",
    "choose_stream_plan": "transforms.stream.plan",
    "StreamSettings": "transforms.stream.steps",
    "AdmitArrivals": "transforms.stream.judge",
    "JudgeArrivals": "transforms.stream.judge",
    "IntoWindows": "transforms.stream.windows",
    "DeduplicateWindows": "transforms.stream.windows",
    "RecordWindows": "transforms.stream.windows",
    "RecordPaths": "transforms.stream.record",
    "RecordVerdicts": "transforms.stream.record",
    "PublishVerdicts": "transforms.stream.publish",
    "Recipe": "beam_dedup.core.algorithms",
    "Views": "beam_dedup.core.algorithms",
    "Arrival": "beam_dedup.core.arrivals",
    "FINGERPRINTS": "beam_dedup.core.blocks",
    "VERDICTS": "beam_dedup.core.blocks",
    "FingerprintBlock": "beam_dedup.core.blocks",
    "VerdictBlock": "beam_dedup.core.blocks",
    "ReadTally": "beam_dedup.core.conservation",
    "Decisions": "beam_dedup.core.decisions",
    "read_decisions": "beam_dedup.core.decisions",
    "DedupError": "beam_dedup.core.errors",
    "UsageError": "beam_dedup.core.errors",
    "PlanError": "beam_dedup.core.errors",
    "ConservationError": "beam_dedup.core.errors",
    "Limits": "beam_dedup.core.limits",
    "Plan": "beam_dedup.core.matching.plan",
    "Estimate": "beam_dedup.core.matching.planner",
    "PlanSettings": "beam_dedup.core.matching.planner",
    "AVRO_SCHEMA": "beam_dedup.core.model",
    "RECORD_FIELDS": "beam_dedup.core.model",
    "Code": "beam_dedup.core.model",
    "CodeKind": "beam_dedup.core.model",
    "Fingerprint": "beam_dedup.core.model",
    "Flag": "beam_dedup.core.model",
    "ImageRef": "beam_dedup.core.model",
    "Placement": "beam_dedup.core.model",
    "Reason": "beam_dedup.core.model",
    "Status": "beam_dedup.core.model",
    "Unplaced": "beam_dedup.core.model",
    "Verdict": "beam_dedup.core.model",
    "Witness": "beam_dedup.core.model",
    "KeepPolicy": "beam_dedup.core.preference",
    "Preference": "beam_dedup.core.preference",
    "parse_rules": "beam_dedup.core.preference",
    "Exclusions": "beam_dedup.core.reading.selection",
    "Selection": "beam_dedup.core.reading.selection",
    "StreamPlan": "beam_dedup.core.stream.protocol",
    "Thresholds": "beam_dedup.core.thresholds",
}

__all__ = [
    "AVRO_SCHEMA",
    "FINGERPRINTS",
    "RECORD_FIELDS",
    "VERDICTS",
    "AdmitArrivals",
    "Arrival",
    "BatchFingerprints",
    "BatchReferences",
    "CheckConservation",
    "Code",
    "CodeKind",
    "ConservationError",
    "ContactSheet",
    "CountImages",
    "Decisions",
    "DedupError",
    "DedupResult",
    "DeduplicateImages",
    "DeduplicateRows",
    "DeduplicateWindows",
    "Deduplicated",
    "Estimate",
    "Exclusions",
    "Fingerprint",
    "FingerprintBlock",
    "FingerprintImages",
    "FingerprintRows",
    "Fingerprinted",
    "Flag",
    "ImageRef",
    "IntoWindows",
    "JudgeArrivals",
    "KeepPolicy",
    "Limits",
    "ListImages",
    "ListedImages",
    "MarkExactDuplicates",
    "MarkNearDuplicates",
    "NearMarked",
    "ParseNotifications",
    "PlaceCopies",
    "PlaceMode",
    "Placed",
    "Placement",
    "Plan",
    "PlanError",
    "PlanSettings",
    "Preference",
    "PublishVerdicts",
    "ReadImages",
    "ReadMetadata",
    "ReadSettings",
    "ReadTally",
    "Reason",
    "Recipe",
    "RecordPaths",
    "RecordVerdicts",
    "RecordWindows",
    "Selection",
    "Status",
    "StreamPlan",
    "StreamSettings",
    "SubscriptionSource",
    "Tally",
    "Thresholds",
    "UnbatchVerdicts",
    "Unplaced",
    "UsageError",
    "Verdict",
    "VerdictBlock",
    "Views",
    "WatchedSource",
    "Witness",
    "WriteGroups",
    "WritePlacements",
    "WriteRecords",
    "WriteUnplaced",
    "choose_stream_plan",
    "dedup",
    "parse_rules",
    "read_decisions",
]

if not TYPE_CHECKING:  # a type checker that saw `__getattr__` would accept any name

    def __getattr__(name: str) -> object:
        """Imports a public name from its module when it is first used."""
        import importlib

        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
