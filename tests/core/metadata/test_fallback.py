"""What stands for an image that can't be opened."""

import hashlib
import json
from typing import Any

import pytest

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.metadata import simhash
from beam_dedup.core.metadata.fallback import stand_in
from beam_dedup.core.model import Code, CodeKind, Fingerprint, Flag, ImageRef, Reason, Rejection
from beam_dedup.core.reading import reader

SAID = {"serial": "1", "title": "The harbour", "Image Width": 640}
GONE = ImageError(Reason.NOT_FOUND, "No such file")


def described(said: dict[str, Any] | None = None, **fields: Any) -> ImageRef:
    text = json.dumps(SAID if said is None else said)
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
def test_its_digest_and_code_are_those_of_its_metadata(recipe: Recipe | None, kind: CodeKind | None) -> None:
    found = stand_in(described(), GONE, recipe)
    assert found is not None
    assert found.digest == simhash.identity(SAID)
    assert found.codes == (() if kind is None else (Code(kind, simhash.simhash(SAID)[0]),))
    assert found.algorithm == ("" if kind is None else "simhash/1")
    assert (found.flags, found.detail) == ((Flag.DESCRIBED,), "not_found: No such file")


def test_a_recorded_digest_of_the_same_kind_is_the_digest() -> None:
    digest = hashlib.sha256(b"x").digest()
    found = stand_in(described({"sha256": digest.hex()}), GONE, Recipe())
    assert found is not None
    assert (found.digest, found.codes) == (digest, ())


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        pytest.param(
            ImageRef("/gone", "x", json.dumps(SAID)), Reason.NOT_FOUND, id="metadata of something else"
        ),
        pytest.param(ImageRef("/gone", "x", described=True), Reason.NOT_FOUND, id="no metadata"),
        pytest.param(described({"Content-Type": "image/png"}), Reason.NOT_FOUND, id="no metadata that count"),
        *(
            pytest.param(described(), reason, id=reason)
            for reason in Reason
            if reason not in (Reason.NOT_FOUND, Reason.UNREADABLE, Reason.NOT_A_FILE)
        ),
    ],
)
def test_nothing_stands_for_it(reference: ImageRef, reason: Reason) -> None:
    """Or the bytes could be had, and were found wanting."""
    assert stand_in(reference, ImageError(reason), Recipe()) is None


def test_where_it_is_read() -> None:
    [found] = reader.read_images(described(), "/gone!/a.jpg", Recipe(), lambda _: None)
    assert isinstance(found, Fingerprint)
    assert found.ref.uri == "/gone%21/a.jpg", "its URI is that of a file"
    [rejected] = reader.read_images(described({}), "/gone!/a.jpg", Recipe(), lambda _: None)
    assert isinstance(rejected, Rejection)
    assert (rejected.ref.uri, rejected.reason) == ("/gone%21/a.jpg", Reason.NOT_FOUND)


def test_what_was_refused_beforehand_is_not_opened() -> None:
    reference = ImageRef("/rows!3", "rows/3", refused=("malformed", "no __path__"))
    [found] = reader.read_images(reference, "/nowhere", Recipe(), lambda _: pytest.fail("begun"))
    assert found == Rejection(reference, Reason.MALFORMED, "no __path__")
