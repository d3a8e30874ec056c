"""Builds the expected verdict on an image, for tests of all layers."""

import dataclasses

from beam_dedup.core.model import Fingerprint, Reason, Status, Verdict, Witness


def verdict_on(
    image: Fingerprint, reason: Reason | None, witness: Witness | None, kept_by: str = "first"
) -> Verdict:
    """Returns the verdict "duplicate" if there is a witness, else "kept". Verdicts do not contain `known`.

    kept_by: of a duplicate.
    """
    return Verdict(
        ref=dataclasses.replace(image.ref, known=False),
        status=Status.DUPLICATE if witness else Status.KEPT,
        reason=reason,
        digest=image.digest,
        fingerprint=image.codes[0].data if image.codes else b"",
        algorithm=image.algorithm,
        witness=witness,
        width=image.width,
        height=image.height,
        format=image.format,
        size_bytes=image.size_bytes,
        flags=image.flags,
        detail=image.detail,
        kept_by=kept_by if witness else "",
    )
