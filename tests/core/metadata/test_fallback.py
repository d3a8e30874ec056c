"""Fingerprints from metadata, for images that cannot be opened."""

import hashlib
import json
from typing import Any

import pytest

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata import simhash
from beam_dedup.core.metadata.fallback import fingerprint_from_metadata
from beam_dedup.core.model import Code, CodeKind, Fingerprint, Flag, ImageRef, Reason, Rejection
from beam_dedup.core.reading import reader

METADATA = {"serial": "1", "title": "The harbour", "Image Width": 640}
GONE = ImageError(Reason.NOT_FOUND, "No such file")


def described(metadata: dict[str, Any] | None = None, **fields: Any) -> ImageRef:
    """Returns a reference to a missing file, with metadata that may represent it."""
    text = json.dumps(METADATA if metadata is None else metadata)
    return ImageRef("/gone!/a.jpg", "a.jpg", text, described=True, **fields)


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        (None, None),
        (Recipe(), CodeKind.METADATA),
        (Recipe("phash", "none"), CodeKind.METADATA),
        (Recipe("simhash", "none"), CodeKind.HASH),
        (Recipe("colorhash", "none"), None),
        (Recipe("pdq", "none"), None),
    ],
    ids=str,
)
def test_digest_and_code_are_those_of_the_metadata(recipe: Recipe | None, kind: CodeKind | None) -> None:
    found = fingerprint_from_metadata(described(), GONE, recipe)
    assert found is not None
    assert found.digest == simhash.identity(METADATA, "/gone!/a.jpg")
    assert found.codes == (() if kind is None else (Code(kind, simhash.simhash(METADATA)[0]),))
    assert found.algorithm == ("" if kind is None else "simhash/1")
    assert (found.flags, found.detail) == ((Flag.DESCRIBED,), "not_found: No such file")


def test_metadata_without_discriminating_values_are_no_digest_of_another_image() -> None:
    metadata = json.dumps({"Image Width": 640, "Content-Type": "image/png"})
    digests = []
    for number in range(3):
        reference = ImageRef(f"/gone/{number}.png", f"{number}.png", metadata, described=True)
        found = fingerprint_from_metadata(reference, GONE, Recipe())
        assert found is not None
        assert found.codes == ()
        digests.append(found.digest)
    assert len(set(digests)) == 3


def test_recorded_sha256_is_the_digest() -> None:
    digest = hashlib.sha256(b"x").digest()
    found = fingerprint_from_metadata(described({"sha256": digest.hex()}), GONE, Recipe())
    assert found is not None
    assert (found.digest, found.codes) == (digest, ())


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        pytest.param(
            ImageRef("/gone", "x", json.dumps(METADATA)),
            Reason.NOT_FOUND,
            id="metadata that must not represent it",
        ),
        pytest.param(ImageRef("/gone", "x", described=True), Reason.NOT_FOUND, id="no metadata"),
        pytest.param(described({"Content-Type": "image/png"}), Reason.NOT_FOUND, id="content type only"),
        *(
            pytest.param(described(), reason, id=reason)
            for reason in Reason
            if reason not in (Reason.NOT_FOUND, Reason.UNREADABLE, Reason.NOT_A_FILE)
        ),
    ],
)
def test_no_fingerprint_without_identifying_metadata_or_if_bytes_were_read(
    reference: ImageRef, reason: Reason
) -> None:
    assert fingerprint_from_metadata(reference, ImageError(reason), Recipe()) is None


def test_reader_uses_metadata_if_the_file_is_missing() -> None:
    [found] = reader.read_images(described(), "/gone!/a.jpg", Recipe(), lambda _: None)
    assert isinstance(found, Fingerprint)
    assert found.ref.uri == "/gone%21/a.jpg", "its URI is that of a file"
    [rejected] = reader.read_images(described({}), "/gone!/a.jpg", Recipe(), lambda _: None)
    assert isinstance(rejected, Rejection)
    assert (rejected.ref.uri, rejected.reason) == ("/gone%21/a.jpg", Reason.NOT_FOUND)


def test_reference_refused_when_listed_is_not_opened() -> None:
    reference = ImageRef("/rows!3", "rows/3", refused=("malformed", "no __path__"))
    [found] = reader.read_images(reference, "/nowhere", Recipe(), lambda _: pytest.fail("reading has begun"))
    assert found == Rejection(reference, Reason.MALFORMED, "no __path__")
