"""Makes the codes of `--algorithm simhash`, and fingerprints of images that cannot be opened, from metadata."""

import json

from beam_dedup.core.algorithms import ALGORITHMS, SIMHASH, Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata import simhash
from beam_dedup.core.model import Code, CodeKind, Fingerprint, Flag, ImageRef, Reason
from beam_dedup.core.thresholds import SIMHASH_BITS

_NOT_OPENED = (Reason.NOT_FOUND, Reason.UNREADABLE, Reason.NOT_A_FILE)


def metadata_codes(reference: ImageRef, kind: CodeKind) -> tuple[Code, ...]:
    """Returns the simhash of an image's metadata as its only code; no code if there is too little metadata."""
    if not reference.metadata:
        return ()
    code, is_enough = simhash.simhash(json.loads(reference.metadata))
    return (Code(kind, code),) if is_enough else ()


def fingerprint_from_metadata(
    reference: ImageRef, error: ImageError, recipe: Recipe | None
) -> Fingerprint | None:
    """Makes the fingerprint of an image that cannot be opened from its metadata, with the flag `described`.

    Args:
      reference: the image.
      error: why it could not be opened.
      recipe: of the run; None in exact mode, where the fingerprint has no code.
    Returns:
      The fingerprint; None if the metadata must not represent the image (`ImageRef.described`), if the
      error is about the bytes of the image, or if the metadata say nothing but its content type.
    """
    if not reference.described or error.reason not in _NOT_OPENED or not reference.metadata:
        return None
    digest = simhash.identity(json.loads(reference.metadata), reference.uri)
    if digest is None:
        return None
    kind = None if recipe is None else _kind(recipe)
    codes = () if kind is None else metadata_codes(reference, kind)
    return Fingerprint(
        ref=reference,
        digest=digest,
        size_bytes=0,
        modified_ms=0,
        format="",
        width=0,
        height=0,
        algorithm=ALGORITHMS[SIMHASH].recipe if codes else "",
        codes=codes,
        flags=(Flag.DESCRIBED,),
        detail=str(error),
    )


def _kind(recipe: Recipe) -> CodeKind | None:
    """Returns the kind of metadata codes in a run of this recipe; None if its codes have another length."""
    algorithm = ALGORITHMS[recipe.algorithm]
    if algorithm.is_of_metadata:
        return algorithm.kind
    return CodeKind.METADATA if algorithm.bits == SIMHASH_BITS else None
