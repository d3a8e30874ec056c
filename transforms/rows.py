"""Fingerprints and deduplicates the images of a table: rows in, rows out. Blocks stay inside."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import PCollection, TaggedOutput
from apache_beam.transforms.trigger import DefaultTrigger
from apache_beam.transforms.window import GlobalWindows, NonMergingWindowFn
from apache_beam.typehints.decorators import no_annotations
from apache_beam.typehints.row_type import RowTypeConstraint

from beam_dedup.core import blocks, conservation
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.blocks import FINGERPRINTS, VERDICTS, FingerprintBlock, VerdictBlock
from beam_dedup.core.conservation import ReadTally
from beam_dedup.core.decisions import NO_DECISIONS, Decisions
from beam_dedup.core.errors import UsageError
from beam_dedup.core.matching.planner import PlanSettings
from beam_dedup.core.model import ImageRef, Status, Verdict
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.reading.isolated_decoder import DecodeResult
from beam_dedup.core.row_images import ImageRow, reference_of, with_rows
from beam_dedup.core.tables import fingerprints_of, verdicts_of, verdicts_table
from beam_dedup.core.thresholds import Thresholds
from transforms.count import compare_tallies
from transforms.decoding import READ_TALLY, REJECTIONS, DecodingDoFn
from transforms.deduplicate import DeduplicateImages
from transforms.exact import DIGEST_SHARDS
from transforms.fingerprint import Fingerprinted
from transforms.lineage import report_images
from transforms.read import DECODED_AT_ONCE
from transforms.read_settings import ReadSettings
from transforms.row_schema import FINGERPRINT_FIELDS, VERDICT_FIELDS, RowSchema, schema_of

MAIN = "good"  # the name that Beam's transforms give their output beside that of errors
_BATCH_BYTES = 1 << 24  # of images that are decoded together
_OUTPUT = "output"

# The fields of an `ImageRow`, and why it names no image; "" if it names one
_EncodedRow = tuple[bytes, bytes | None, bytes, str]
_ReadRows = tuple[list[ImageRef], list[DecodeResult]]


@dataclasses.dataclass(kw_only=True)
class DeduplicateRows(beam.PTransform[PCollection[Any], Any]):
    """Judges the images of a table: gives each row a verdict.

    Every image gets exactly one verdict: kept, a duplicate of a kept image, or rejected with a reason. No two kept images
    are duplicates of each other, except two protected ones. The verdicts equal those of the command `dedup` on the
    same images.

    Element in: a row with a schema (`beam.Row`, NamedTuple or dataclass). It names its image by bytes in the field
    `image`; if the rows have no such field, by a path or URL in the field `uri`. Images of bytes get their `uri` from the
    row too; without one it is `sha256:` and the digest. Two rows are two images even if they have the same URI.

    Element out: a row with the fields `VERDICT_FIELDS` of a record, and the carried fields of the row. A row whose image is an
    archive has one row out per member. With `error_handling={"output": NAME}`, a dictionary of two PCollections: `good`, and
    NAME with the rejected images, as rows of `element` (the verdict), `msg` (reason and detail) and `stack` ("").

    Bounded as the input. Each window is judged by itself, and its verdicts appear when it ends. An unbounded input needs
    windows that end, fire once and do not merge, such as `FixedWindows`; others are refused.

    The verdicts do not depend on the order of the rows, on bundles or on the number of workers. In the global window the
    pipeline fails with a `ConservationError` if an image was lost or judged twice. Rows with URIs are redistributed
    over the workers before they are read. Rows with bytes are read where they are: they are not shuffled.

    Counters: those of `DeduplicateImages`.

    Args:
      uri_field: the field with the URI.
      image_field: the field with the bytes.
      carry: the fields that are carried along; None for all but the bytes. They are in memory with the verdicts of a digest
        shard, so leave out large ones.
      prefix: of the fields of verdicts in the rows out, if they would clash with carried ones.
      error_handling: {"output": NAME} for rejected images in an output of their own.
      settings: how images are read. With a recipe, near duplicates are found; without one, only equal bytes count.
      thresholds: when two codes are near.
      planning: how near pairs are found.
      digest_shards: the number of digest shards. The images of one shard meet in the memory of one worker.
      keep: which copy is preferred, and which images are protected.
      decisions: what a person decided about digests and pairs of them.

    Raises:
      UsageError: an argument is wrong; or, when it is applied, the rows do not have the fields, or not such windows.
    """

    uri_field: str = "uri"
    image_field: str = "image"
    carry: Sequence[str] | None = None
    prefix: str = ""
    error_handling: Mapping[str, str] | None = None
    settings: ReadSettings = ReadSettings()
    thresholds: Thresholds = Thresholds()
    planning: PlanSettings = PlanSettings()
    digest_shards: int = DIGEST_SHARDS
    keep: KeepPolicy | Preference = KeepPolicy.FIRST
    decisions: Decisions = NO_DECISIONS

    def __post_init__(self) -> None:
        check_options(self)

    @no_annotations  # the types of rows are known only when it is applied
    def expand(self, rows: PCollection[Any]) -> Any:
        check_windows(rows, "DeduplicateRows")
        schema = _schema_for(self, rows, VERDICT_FIELDS)
        read = rows | "Fingerprint" >> ReadRows(schema, self.settings)
        judging = DeduplicateImages(
            settings=self.settings,
            thresholds=self.thresholds,
            planning=self.planning,
            digest_shards=self.digest_shards,
            keep=self.keep,
            decisions=self.decisions,
        )
        verdicts = judging.judged(read).verdicts
        if isinstance(rows.windowing.windowfn, GlobalWindows):
            read.read_tally | "Check" >> CheckRows(verdicts)
        return _rows_out(verdicts, schema, self.error_handling)


@dataclasses.dataclass(kw_only=True)
class FingerprintRows(beam.PTransform[PCollection[Any], Any]):
    """Reads the images of a table, and computes the digest and the code of each.

    Element in: a row, as `DeduplicateRows` takes them. Element out: a row with the fields `FINGERPRINT_FIELDS` of a record, and
    the carried fields of the row; `reason` is null unless the image was rejected. With `error_handling={"output": NAME}`,
    a dictionary of two PCollections: `good`, and NAME with the rejected images, as `DeduplicateRows` has them.

    Bounded and windowed as the input.

    Counters: those of `FingerprintImages`.

    Args:
      uri_field, image_field, carry, prefix, error_handling: as in `DeduplicateRows`.
      settings: how images are read.

    Raises:
      UsageError: an argument is wrong; or, when it is applied, the rows do not have the fields.
    """

    uri_field: str = "uri"
    image_field: str = "image"
    carry: Sequence[str] | None = None
    prefix: str = ""
    error_handling: Mapping[str, str] | None = None
    settings: ReadSettings = ReadSettings(recipe=Recipe())

    def __post_init__(self) -> None:
        check_options(self)

    @no_annotations  # the types of rows are known only when it is applied
    def expand(self, rows: PCollection[Any]) -> Any:
        schema = _schema_for(self, rows, FINGERPRINT_FIELDS)
        read = rows | "Fingerprint" >> ReadRows(schema, self.settings)
        fingerprints = read.fingerprints | "AsVerdicts" >> beam.Map(fingerprints_as_verdicts)
        verdicts = (fingerprints, read.rejections) | "All" >> beam.Flatten()
        return _rows_out(verdicts, schema, self.error_handling)


def check_options(options: DeduplicateRows | FingerprintRows) -> None:
    """Checks the arguments that the composites for rows share.

    Raises:
      UsageError: one of them is wrong.
    """
    if not options.uri_field and not options.image_field:
        raise UsageError("uri_field or image_field must name a field of the rows; both are empty")
    if isinstance(options.carry, str) or not all(isinstance(name, str) for name in options.carry or ()):
        raise UsageError(f"carry must be a list of names of fields, got {options.carry!r}")
    if options.prefix and not options.prefix.isidentifier():
        raise UsageError(
            f'prefix must be letters, digits and "_", for example "dedup_"; got {options.prefix!r}'
        )
    error_output(options.error_handling)


def error_output(error_handling: Mapping[str, str] | None) -> str:
    """Returns the name of the output for rejected images; "" if they have none.

    Raises:
      UsageError: it is not {"output": NAME}.
    """
    if error_handling is None:
        return ""
    # Beam YAML adds names such as __line__.
    given = {name: value for name, value in error_handling.items() if not name.startswith("__")}
    name = given.get(_OUTPUT)
    if given.keys() != {_OUTPUT} or not isinstance(name, str) or not name or name == MAIN:
        raise UsageError(
            f'error_handling must be {{"output": NAME}}, with another NAME than "{MAIN}"; got {given}'
        )
    return name


def check_windows(rows: PCollection[Any], label: str) -> None:
    """Checks that the windows of unbounded rows can be judged.

    Raises:
      UsageError: they can't.
    """
    if rows.is_bounded:
        return
    windowing = rows.windowing
    ends = isinstance(windowing.windowfn, NonMergingWindowFn) and not isinstance(
        windowing.windowfn, GlobalWindows
    )
    once = isinstance(windowing.triggerfn, DefaultTrigger) and not windowing.allowed_lateness.micros
    if not ends or not once:
        raise UsageError(
            f"the input of {label} is unbounded: it needs windows that end, do not merge, and fire once; apply "
            f"beam.WindowInto(FixedWindows(SECONDS)) to it. To judge images as they arrive, use AdmitArrivals and "
            f"JudgeArrivals"
        )


def _schema_for(
    options: DeduplicateRows | FingerprintRows, rows: PCollection[Any], fields: tuple[str, ...]
) -> RowSchema:
    return schema_of(
        rows.element_type,
        type(options).__name__,
        fields,
        options.uri_field,
        options.image_field,
        options.carry,
        options.prefix,
    )


@dataclasses.dataclass
class ReadRows(beam.PTransform[PCollection[Any], Fingerprinted]):
    """Reads the image of every row once, and computes its digest and the codes of its picture.

    Element in: a row of the schema. Out: `Fingerprinted`, whose images have their rows in their metadata
    (`beam_dedup.core.row_images`).
    """

    schema: RowSchema
    settings: ReadSettings

    @no_annotations  # Beam has no types for several outputs
    def expand(self, rows: PCollection[Any]) -> Fingerprinted:
        encoded = rows | "Encode" >> beam.Map(encode_row, self.schema)
        batches = encoded | "Batch" >> beam.BatchElements(
            DECODED_AT_ONCE, DECODED_AT_ONCE, element_size_fn=_size_of
        )
        if not self.schema.image_field and self.settings.decoder_processes == 1:
            # Rows often come from one file, which one worker reads.
            batches |= "Spread" >> beam.Reshuffle()
        reading = beam.ParDo(_ReadRowsFn(self.settings, self.schema.image_field))
        reading = reading.with_output_types(bytes, rejections=bytes, read_tally=ReadTally)
        done = batches | "Read" >> reading.with_outputs(REJECTIONS, READ_TALLY, main="main")
        return Fingerprinted(done["main"], done[REJECTIONS], done[READ_TALLY])


def encode_row(row: Any, schema: RowSchema) -> _EncodedRow:
    """Returns the fields of `ImageRow`, and why the row names no image."""
    encoded = schema.image_row(row)
    return *encoded, schema.refusal(encoded)


def _size_of(row: _EncodedRow) -> int:
    """Returns the share of a row in a batch, in 1/32."""
    return max(1, len(row[1] or b"") * DECODED_AT_ONCE // _BATCH_BYTES)


class _ReadRowsFn(DecodingDoFn):
    """Reads lists of encoded rows."""

    def __init__(self, settings: ReadSettings, by_bytes: str) -> None:
        super().__init__(settings)
        self.by_bytes = bool(by_bytes)

    def work(self, element: list[_EncodedRow]) -> _ReadRows:
        rows = [ImageRow(*row[:3]) for row in element]
        references = [
            reference_of(number, row, refused)
            for number, (row, (*_, refused)) in enumerate(zip(rows, element, strict=True))
        ]
        with self.decoder() as decoder:
            if self.by_bytes:
                with written([row.image for row in rows]) as paths:
                    results = [decoder.read(references, paths, self.count_images)]
            else:
                results = self.read(decoder, references)
        return references, [_with_rows(result, rows) for result in results]

    def outputs(self, _element: Any, result: Any) -> Iterator[Any]:
        references, results = result
        if not self.by_bytes:
            report_images(reference.uri for reference in references if not reference.refused)
        return super().outputs(references, results)


@contextlib.contextmanager
def written(images: Sequence[bytes | None]) -> Iterator[list[str]]:
    """Yields the paths of temporary files with these bytes; a decoder process reads no memory of others."""
    with tempfile.TemporaryDirectory(prefix="dedup-") as folder:
        paths = [os.path.join(folder, str(number)) for number in range(len(images))]
        for path, image in zip(paths, images, strict=True):
            if image is not None:
                with open(path, "wb", buffering=0) as file:
                    file.write(image)
        yield paths


def _with_rows(result: DecodeResult, rows: Sequence[ImageRow]) -> DecodeResult:
    return dataclasses.replace(
        result,
        fingerprints=[with_rows(block, FINGERPRINTS, rows) for block in result.fingerprints],
        rejections=[with_rows(block, VERDICTS, rows) for block in result.rejections],
    )


@dataclasses.dataclass
class CheckRows(beam.PTransform[PCollection[ReadTally], PCollection[int]]):
    """Fails the pipeline unless every image that was found has exactly one verdict.

    Element in: a tally of what was read. Element out: the number of images; exactly one. Bounded, in the global window.

    Args:
      verdicts: blocks of `VERDICTS` on these images.
    """

    verdicts: PCollection[VerdictBlock]

    def expand(self, tallies: PCollection[ReadTally]) -> PCollection[int]:
        judged = (
            self.verdicts
            | "VerdictUris" >> beam.Map(conservation.tally_verdicts)
            | "Judged" >> beam.CombineGlobally(conservation.sum_tallies)
        )
        read = tallies | "Read" >> beam.CombineGlobally(conservation.sum_reads)
        return read | "Compare" >> beam.Map(compare_read, beam.pvalue.AsSingleton(judged))


def compare_read(read: ReadTally, judged: conservation.UriTally) -> int:
    """Compares the images that were read with those that were judged; see `compare_tallies`."""
    return compare_tallies(read.images, judged)


def fingerprints_as_verdicts(block: FingerprintBlock) -> VerdictBlock:
    """Returns fingerprints in the form of verdicts, which `FingerprintRows` takes the fields of."""
    found = fingerprints_of(blocks.load([block], FINGERPRINTS))
    return blocks.dump(
        verdicts_table(
            [
                Verdict(
                    one.ref,
                    Status.KEPT,
                    digest=one.digest,
                    fingerprint=one.codes[0].data if one.codes else b"",
                    algorithm=one.algorithm,
                    width=one.width,
                    height=one.height,
                    format=one.format,
                    size_bytes=one.size_bytes,
                    flags=one.flags,
                    detail=one.detail,
                )
                for one in found
            ]
        )
    )


def _rows_out(
    verdicts: PCollection[VerdictBlock], schema: RowSchema, error_handling: Mapping[str, str] | None
) -> Any:
    """Returns verdicts as rows, with rejected images in an output of their own if that is asked for."""
    name = error_output(error_handling)
    if not name:
        return verdicts | "Rows" >> beam.FlatMap(verdict_rows, schema).with_output_types(schema.row_type)
    fields: list[tuple[str, Any]] = [("element", schema.row_type), ("msg", str), ("stack", str)]
    errors = RowTypeConstraint.from_fields(fields)
    done = verdicts | "Rows" >> beam.FlatMap(verdict_rows, schema, name).with_output_types(
        schema.row_type, **{name: errors}
    ).with_outputs(name, main=MAIN)
    return {MAIN: done[MAIN], name: done[name]}


def verdict_rows(block: VerdictBlock, schema: RowSchema, errors: str = "") -> Iterator[Any]:
    """Yields the verdicts of a block as rows.

    Args:
      block: of `VERDICTS`.
      schema: of the rows.
      errors: the output of rejected images; "" if they go with the others.
    """
    for verdict in verdicts_of(blocks.load([block], VERDICTS)):
        row = schema.verdict_row(verdict)
        if errors and verdict.status == Status.REJECTED:
            why = f"{verdict.reason}: {verdict.detail}" if verdict.detail else f"{verdict.reason}"
            yield TaggedOutput(errors, beam.Row(element=row, msg=why, stack=""))
        else:
            yield row
