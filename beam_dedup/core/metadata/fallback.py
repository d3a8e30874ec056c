"""Images by what their metadata says: where they can't be opened, and where that is what their codes are made of."""

import json

from beam_dedup.core.algorithms import ALGORITHMS, SIMHASH, Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata import simhash
from beam_dedup.core.model import Code, CodeKind, Fingerprint, Flag, ImageRef, Reason
from beam_dedup.core.thresholds import SIMHASH_BITS

_NOT_TO_BE_HAD = (Reason.NOT_FOUND, Reason.UNREADABLE, Reason.NOT_A_FILE)


def codes_of(reference: ImageRef, kind: CodeKind) -> tuple[Code, ...]:
    """The simhash of an image's metadata, if there is enough of it to mean something."""
    if not reference.metadata:
        return ()
    code, is_enough = simhash.simhash(json.loads(reference.metadata))
    return (Code(kind, code),) if is_enough else ()


def stand_in(reference: ImageRef, why: ImageError, recipe: Recipe | None) -> Fingerprint | None:
    """What is known of an image that can't be opened; None if nothing is, or if the metadata are not to stand for it.

    why: it could not be opened.
    """
    if not reference.described or why.reason not in _NOT_TO_BE_HAD or not reference.metadata:
        return None
    digest = simhash.identity(json.loads(reference.metadata))
    if digest is None:
        return None
    kind = None if recipe is None else _kind(recipe)
    codes = () if kind is None else codes_of(reference, kind)
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
        detail=str(why),
    )


def _kind(recipe: Recipe) -> CodeKind | None:
    """The kind of such codes beside those of a recipe; None if there can be none."""
    algorithm = ALGORITHMS[recipe.algorithm]
    if algorithm.is_of_metadata:
        return algorithm.kind
    return CodeKind.METADATA if algorithm.bits == SIMHASH_BITS else None
