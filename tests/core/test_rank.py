"""Ranks are a total order: class, values of the policy, URI, generation."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_dedup.core.arrivals import event_metadata
from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.model import Fingerprint, Flag, ImageRef
from beam_dedup.core.preference import KeepPolicy
from beam_dedup.core.rank import are_known, ranks_of, uri_of, uris_of
from beam_dedup.core.tables import fingerprints_table

MOST = (1 << 31) - 1
GENERATIONS = ["", "1", "2", "2-0"]
images = st.builds(
    Fingerprint,
    ref=st.builds(
        ImageRef,
        uri=st.text("ab/\udcff\u00e9", max_size=4),
        name=st.just("x"),
        known=st.booleans(),
        metadata=st.sampled_from([one and f'{{"generation": "{one}"}}' for one in GENERATIONS]),
    ),
    digest=st.just(bytes(32)),
    size_bytes=st.integers(0, MOST),
    modified_ms=st.integers(-5, 5),
    format=st.just("PNG"),
    width=st.integers(0, 3),
    height=st.integers(0, 3),
    algorithm=st.just(""),
    codes=st.just(()),
    flags=st.sampled_from([(), (Flag.FLAT,), (Flag.DESCRIBED,)]),
)


def ranks(images: list[Fingerprint], keep: KeepPolicy) -> list[bytes]:
    found: list[bytes] = ranks_of(fingerprints_table(images), keep).to_pylist()
    return found


def expected_order(image: Fingerprint, keep: KeepPolicy) -> tuple[object, ...]:
    """Returns a sort key that follows the definition of the policies."""
    values = {
        KeepPolicy.FIRST: (),
        KeepPolicy.LARGEST: (-image.width * image.height, -image.size_bytes),
        KeepPolicy.OLDEST: (image.modified_ms == 0, image.modified_ms),
        KeepPolicy.NEWEST: (-image.modified_ms,),
    }[keep]
    uri = image.ref.uri.encode("utf-8", "surrogateescape")
    return (expected_class(image), *values, uri, event_metadata(image.ref.metadata)[0])


def expected_class(image: Fingerprint) -> int:
    """Returns where the class of an image sorts."""
    if image.ref.known:
        return 0
    if Flag.PROTECTED in image.flags:
        return 1
    return 4 if Flag.DESCRIBED in image.flags else 3 if Flag.TRUNCATED in image.flags else 2


@given(st.lists(images, max_size=6))
def test_order_follows_the_policy(found: list[Fingerprint]) -> None:
    for keep in KeepPolicy:
        pairs = itertools.combinations(zip(ranks(found, keep), found, strict=True), 2)
        for (rank, one), (other_rank, other) in pairs:
            assert (rank < other_rank) == (expected_order(one, keep) < expected_order(other, keep))


@pytest.mark.parametrize("keep", KeepPolicy)
@given(found=st.lists(images, max_size=4))
def test_rank_contains_the_uri_and_whether_the_image_is_known(
    keep: KeepPolicy, found: list[Fingerprint]
) -> None:
    table = ranks_of(fingerprints_table(found), keep)
    assert uris_of(table).to_pylist() == [to_bytes(image.ref.uri) for image in found]
    assert are_known(table).to_pylist() == [image.ref.known for image in found]
    assert [uri_of(rank) for rank in table.to_pylist()] == [image.ref.uri for image in found]


def test_images_of_one_uri_differ_in_rank_only_if_one_is_known() -> None:
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 1, "PNG", 1, 1, "", ())
    known = dataclasses.replace(image, ref=ImageRef("a", "a", known=True))
    first, second, third = ranks([known, image, image], KeepPolicy.FIRST)
    assert first < second == third


@given(
    st.lists(
        st.tuples(st.text("a\0b", max_size=3), st.sampled_from(GENERATIONS)),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_generations_of_one_uri_have_different_ranks(names: list[tuple[str, str]]) -> None:
    """URIs with a zero byte, which a stranger's list of images may contain, are not confused with a URI and
    a generation.
    """
    found = [
        Fingerprint(
            ImageRef(uri, "x", f'{{"generation": "{generation}"}}' if generation else ""),
            bytes(32), 1, 0, "PNG", 1, 1, "", (), (),
        )
        for uri, generation in names
    ]  # fmt: skip
    one, other = ranks(found, KeepPolicy.FIRST)
    assert one != other
    assert [uri_of(one), uri_of(other)] == [uri for uri, _ in names]
