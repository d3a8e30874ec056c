"""Converts fingerprints and verdicts to tables with the schemas of `beam_dedup.core.blocks`, and back."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import companions
from beam_dedup.core.blocks import FINGERPRINTS, IMAGES, RANKED, VERDICTS, dump, joined, to_bytes, to_text
from beam_dedup.core.codes import VIEWS, BoolArray, Codes, IntArray, from_columns
from beam_dedup.core.model import (
    REASONS,
    Code,
    CodeKind,
    Fingerprint,
    Flag,
    ImageRef,
    Status,
    Verdict,
    Witness,
)
from beam_dedup.core.preference import KeepPolicy, Preference
from beam_dedup.core.rank import are_protected, ranks_of


def fingerprints_table(fingerprints: Sequence[Fingerprint]) -> pa.Table:
    """Returns fingerprints as a table of `FINGERPRINTS`, in the given order."""
    codes = [code for fp in fingerprints for code in fp.codes]
    offsets = np.cumsum([0] + [len(fp.codes) for fp in fingerprints], dtype=np.int32)
    code_column = pa.StructArray.from_arrays(
        [
            pa.array([VIEWS.index(code.view) for code in codes], pa.uint8()),
            pa.array([int(code.kind) for code in codes], pa.uint8()),
            pa.array([code.data for code in codes], pa.binary()),
        ],
        fields=list(FINGERPRINTS.field("codes").type.value_type),
    )
    rows = [
        (
            to_bytes(fp.ref.uri),
            fp.ref.known,
            fp.taken,
            fp.metadata_kinds,
            to_bytes(fp.ref.name),
            to_bytes(fp.ref.metadata),
            fp.digest,
            fp.size_bytes,
            fp.modified_ms,
            to_bytes(fp.format),
            fp.width,
            fp.height,
            to_bytes(fp.algorithm),
            _flags_text(fp.flags),
            to_bytes(fp.detail),
            fp.identity,
            companions.to_column(fp.ref),
        )
        for fp in fingerprints
    ]
    columns = _columns(rows, FINGERPRINTS)
    return pa.Table.from_arrays(
        [*columns, pa.ListArray.from_arrays(pa.array(offsets), code_column)], schema=FINGERPRINTS
    )


def fingerprints_of(table: pa.Table) -> Iterator[Fingerprint]:
    """Yields the rows of a table of `FINGERPRINTS`."""
    for row in table.to_pylist():
        yield Fingerprint(
            ref=ImageRef(
                to_text(row["uri"]),
                to_text(row["name"]),
                to_text(row["metadata"]),
                row["known"],
                companions=companions.from_column(row["companions"]),
            ),
            digest=row["digest"],
            size_bytes=row["size_bytes"],
            modified_ms=row["modified_ms"],
            format=to_text(row["format"]),
            width=row["width"],
            height=row["height"],
            algorithm=to_text(row["algorithm"]),
            codes=tuple(
                Code(CodeKind(code["kind"]), code["data"], VIEWS[code["view"]]) for code in row["codes"]
            ),
            flags=_flags(row["flags"]),
            detail=to_text(row["detail"]),
            identity=row["identity"],
            taken=row["taken"],
            metadata_kinds=row["metadata_kinds"],
        )


def ranked(
    fingerprints: pa.Table, keep: KeepPolicy | Preference, protected: BoolArray | None = None
) -> pa.Table:
    """Returns a table of `FINGERPRINTS` as a table of `IMAGES`, in the same order, with ranks and flags.

    Args:
      fingerprints: the images.
      keep: which of them are preferred.
      protected: (rows,) images that are kept in any case, besides those that the preference protects. They get no
        flag.
    """
    preference = Preference.of(keep)
    by_glob = are_protected(fingerprints, preference)
    flagged = with_flag(fingerprints, Flag.PROTECTED, by_glob)
    ranks = ranks_of(flagged, preference, by_glob if protected is None else by_glob | protected)
    return pa.Table.from_arrays([ranks, *flagged.drop_columns(list(RANKED)).columns], schema=IMAGES)


def with_protected_flags(fingerprints: pa.Table, preference: Preference) -> pa.Table:
    """Returns a table of `FINGERPRINTS` with the flag `protected` on the images that a preference protects."""
    return with_flag(fingerprints, Flag.PROTECTED, are_protected(fingerprints, preference))


def with_flag(images: pa.Table, flag: Flag, chosen: BoolArray) -> pa.Table:
    """Returns a table with a column `flags` (words) in which some rows have a flag more, each once."""
    flags = images["flags"].combine_chunks()
    chosen = chosen & ~np.asarray(pc.match_substring_regex(flags, pattern=rf"(?:^| ){flag.value}(?: |$)"))
    if not chosen.any():
        return images
    word = flag.encode()
    added = pc.binary_join_element_wise(flags, pa.scalar(word), pa.scalar(b" "))
    added = pc.if_else(pc.equal(flags, pa.scalar(b"")), pa.scalar(word), added)
    at = images.schema.get_field_index("flags")
    return images.set_column(at, images.schema.field("flags"), pc.if_else(pa.array(chosen), added, flags))


def codes_of(codes: pa.Table, image: IntArray | None = None) -> Codes:
    """Returns a table of `CODES` as arrays.

    Args:
      image: (rows,) the number of each row's image; without it, row i belongs to image i.
    """
    view, kind = (np.asarray(codes[name].combine_chunks()) for name in ("view", "kind"))
    image = np.arange(len(codes)) if image is None else image
    return from_columns(image, view, kind, joined(codes["data"]))


def rejections_block(rejected: Sequence[Verdict]) -> tuple[bytes, int]:
    """Returns rejections of new images as a block of `VERDICTS`, and counts those of known images.

    Known images get no verdict, so they are only counted. The block is b"" if no new image was rejected.
    """
    new = [verdict for verdict in rejected if not verdict.ref.known]
    return dump(verdicts_table(new)) if new else b"", len(rejected) - len(new)


def verdicts_table(verdicts: Sequence[Verdict]) -> pa.Table:
    """Returns verdicts as a table of `VERDICTS`, in the given order."""
    rows = [
        (
            to_bytes(verdict.ref.uri),
            to_bytes(verdict.ref.name),
            to_bytes(verdict.ref.metadata),
            verdict.status.encode(),
            verdict.reason and verdict.reason.encode(),
            verdict.digest,
            verdict.fingerprint,
            to_bytes(verdict.algorithm),
            verdict.width,
            verdict.height,
            to_bytes(verdict.format),
            verdict.size_bytes,
            _flags_text(verdict.flags),
            to_bytes(verdict.detail),
            *_witness_columns(verdict.witness),
            to_bytes(verdict.kept_by) or None,
            # Those of a rejected file are files like others (`companions.of_no_image`).
            b"" if verdict.status == Status.REJECTED else companions.to_column(verdict.ref),
            to_bytes(verdict.union) or None,
            verdict.component or None,
            to_bytes(verdict.split) or None,
            to_bytes(verdict.assigned) or None,
        )
        for verdict in verdicts
    ]
    return pa.Table.from_arrays(_columns(rows, VERDICTS), schema=VERDICTS)


def _witness_columns(witness: Witness | None) -> tuple[Any, ...]:
    if witness is None:
        return (None,) * 5
    view = VIEWS.index(witness.view)
    return to_bytes(witness.uri), witness.digest, witness.distance, witness.long_distance, view


def verdicts_of(table: pa.Table) -> Iterator[Verdict]:
    """Yields the rows of a table of `VERDICTS`."""
    for row in table.to_pylist():
        witness = None
        if row["kept_uri"] is not None:
            witness = Witness(
                uri=to_text(row["kept_uri"]),
                digest=row["kept_digest"],
                distance=row["distance"],
                long_distance=row["long_distance"],
                view=VIEWS[row["view"]],
            )
        yield Verdict(
            ref=ImageRef(
                to_text(row["uri"]),
                to_text(row["name"]),
                to_text(row["metadata"]),
                companions=companions.from_column(row["companions"]),
            ),
            status=Status(to_text(row["status"])),
            reason=None if row["reason"] is None else REASONS[to_text(row["reason"])],
            digest=row["digest"],
            fingerprint=row["fingerprint"],
            algorithm=to_text(row["algorithm"]),
            witness=witness,
            width=row["width"],
            height=row["height"],
            format=to_text(row["format"]),
            size_bytes=row["size_bytes"],
            flags=_flags(row["flags"]),
            detail=to_text(row["detail"]),
            kept_by=to_text(row["kept_by"] or b""),
            union=to_text(row["union"] or b""),
            component=row["component"] or b"",
            split=to_text(row["split"] or b""),
            assigned=to_text(row["assigned"] or b""),
        )


def _columns(rows: Sequence[tuple[Any, ...]], schema: pa.Schema) -> list[pa.Array]:
    """Returns the first columns of a schema, with the types of the schema; each row has one value per column."""
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema if not pa.types.is_list(_.type))
    return [pa.array(column, field.type) for column, field in zip(columns, schema, strict=False)]


def _flags_text(flags: Sequence[Flag]) -> bytes:
    return " ".join(flags).encode()


def _flags(text: bytes) -> tuple[Flag, ...]:
    return tuple(Flag(flag) for flag in to_text(text).split())
