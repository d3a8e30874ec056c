"""Composites over PCollections, each named by what it does. Import them from `beam_dedup`, which documents the whole API.

This package re-exports the composites for batches; those for streams are in `transforms.stream`.
"""

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
from transforms.write import WriteGroups, WritePlacements, WriteRecords, WriteUnplaced

__all__ = [
    "BatchFingerprints",
    "BatchReferences",
    "CheckConservation",
    "CountImages",
    "DeduplicateImages",
    "DeduplicateRows",
    "Deduplicated",
    "FingerprintImages",
    "FingerprintRows",
    "Fingerprinted",
    "ListImages",
    "ListedImages",
    "MarkExactDuplicates",
    "MarkNearDuplicates",
    "NearMarked",
    "PlaceCopies",
    "Placed",
    "ReadImages",
    "ReadMetadata",
    "ReadSettings",
    "UnbatchVerdicts",
    "WriteGroups",
    "WritePlacements",
    "WriteRecords",
    "WriteUnplaced",
]
