"""Defines the transforms for Beam YAML: composites for rows, with the options of the command line.

`providers.yaml` names them. `python -m beam_dedup.beam_yaml` prints its path.
"""

from collections.abc import Sequence
from typing import Any

from apache_beam.yaml.yaml_errors import ErrorHandlingConfig

from beam_dedup.core.algorithms import ALGORITHMS, DCT, DEFAULT_VIEWS, Recipe, Views, missing_library
from beam_dedup.core.errors import UsageError
from beam_dedup.core.preference import Preference, parse_rules
from beam_dedup.core.thresholds import DEFAULT_VERIFY, LONG_BITS, Thresholds
from transforms.read_settings import ReadSettings
from transforms.rows import DeduplicateRows, FingerprintRows


def DeduplicateImages(  # noqa: N802  the name of the transform in YAML
    near: bool = False,
    algorithm: str = DCT,
    views: str | None = None,
    turns: bool = False,
    bit_distance: int | None = None,
    verify: int | None = None,
    keep: str = "first",
    uri_field: str = "uri",
    image_field: str = "image",
    carry: Sequence[str] | None = None,
    prefix: str = "",
    error_handling: ErrorHandlingConfig | None = None,
) -> DeduplicateRows:
    """Judges the images of a table: gives each row a verdict.

    A row names its image by bytes in the field `image`; if the rows have no such field, by a path or URL in the
    field `uri`. The rows out have the fields of a verdict (`status`: `kept`, `duplicate` or `rejected`; `duplicate_of`, ...) and
    the other fields of the row.

    Args:
      near: Whether near duplicates are found too; by default only equal bytes count.
      algorithm: The perceptual hash of near mode.
      views: Parts of a picture that are compared too: none, trim, centre or crops.
      turns: Whether turned and mirrored copies are found too.
      bit_distance: The most bits in which two codes of near duplicates differ.
      verify: The most bits in which their long codes differ; 256 turns this off.
      keep: Which copy is kept: rules as of the option `--keep`.
      uri_field: The field with the URI.
      image_field: The field with the bytes.
      carry: The fields that are carried along; by default all but the bytes.
      prefix: Of the fields of a verdict in the rows out.
      error_handling: Where rejected images go; by default to the other rows.

    Raises:
      UsageError: a value is wrong; the message names it.
    """
    recipe = _recipe(algorithm, views, turns)
    if not near:
        for name, value in (("bit_distance", bit_distance), ("verify", verify), ("views", views)):
            if value is not None:
                raise UsageError(f"{name} applies only with near: true; got {name}: {value}")
        if turns or algorithm != DCT:
            raise UsageError("algorithm and turns apply only with near: true")
    preference = _preference(keep)
    if preference.needs_facts:
        if not near:
            raise UsageError(f"keep: {keep} needs near: true, since exact mode opens no picture")
        recipe = _recipe(algorithm, views, turns, facts=True)
    return DeduplicateRows(
        uri_field=uri_field,
        image_field=image_field,
        carry=carry,
        prefix=prefix,
        error_handling=_as_mapping(error_handling),
        settings=ReadSettings(recipe=recipe if near else None),
        thresholds=_thresholds(algorithm, bit_distance, verify) if near else Thresholds(),
        keep=preference,
    )


def FingerprintImages(  # noqa: N802  the name of the transform in YAML
    algorithm: str = DCT,
    views: str | None = None,
    turns: bool = False,
    uri_field: str = "uri",
    image_field: str = "image",
    carry: Sequence[str] | None = None,
    prefix: str = "",
    error_handling: ErrorHandlingConfig | None = None,
) -> FingerprintRows:
    """Reads the images of a table, and computes the digest and the perceptual hash of each.

    A row names its image as for DeduplicateImages. The rows out have the fields `digest`, `fingerprint`, `width`, ... and
    the other fields of the row.

    Args:
      algorithm: The perceptual hash.
      views: As of DeduplicateImages. Only the code of the whole picture is in the rows.
      turns: As of DeduplicateImages.
      uri_field: The field with the URI.
      image_field: The field with the bytes.
      carry: The fields that are carried along; by default all but the bytes.
      prefix: Of the fields of a fingerprint in the rows out.
      error_handling: Where rejected images go; by default to the other rows.

    Raises:
      UsageError: a value is wrong; the message names it.
    """
    return FingerprintRows(
        uri_field=uri_field,
        image_field=image_field,
        carry=carry,
        prefix=prefix,
        error_handling=_as_mapping(error_handling),
        settings=ReadSettings(recipe=_recipe(algorithm, views, turns)),
    )


def _recipe(algorithm: str, views: str | None, turns: bool, facts: bool = False) -> Recipe:
    default = DEFAULT_VIEWS if algorithm == DCT else Views.NONE
    try:
        recipe = Recipe(algorithm, views or default.value, turns, facts)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if ALGORITHMS[algorithm].is_of_metadata:
        raise UsageError(f"algorithm must hash pictures, and {algorithm} hashes metadata")
    if missing := missing_library(ALGORITHMS[algorithm]):
        raise UsageError(missing)
    return recipe


def _thresholds(algorithm: str, bit_distance: int | None, verify: int | None) -> Thresholds:
    chosen = ALGORITHMS[algorithm]
    k = chosen.default_k if bit_distance is None else bit_distance
    if not 0 <= k <= chosen.max_k:
        raise UsageError(f"bit_distance must be between 0 and {chosen.max_k} with {algorithm}, got {k}")
    if verify is not None and algorithm != DCT:
        raise UsageError(
            f"verify applies only with algorithm: {DCT}, which has long codes; got verify: {verify}"
        )
    default = DEFAULT_VERIFY if algorithm == DCT else LONG_BITS
    try:
        return Thresholds(k, default if verify is None else verify, chosen.bits)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _preference(keep: str) -> Preference:
    try:
        return Preference(parse_rules([keep]))
    except ValueError as error:
        raise UsageError(f"keep {error}") from None


def _as_mapping(error_handling: Any) -> dict[str, str] | None:
    # Beam YAML has a mapping, Python ErrorHandlingConfig, and Java a row, which is a NamedTuple here.
    mapping: dict[str, str] | None
    mapping = error_handling._asdict() if hasattr(error_handling, "_asdict") else error_handling
    return mapping
