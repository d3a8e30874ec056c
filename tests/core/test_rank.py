"""Rank is a total order that begins with what the policy looks at and ends at the URI."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_dedup.core.blocks import to_bytes
from beam_dedup.core.model import Fingerprint, Flag, ImageRef
from beam_dedup.core.rank import Keep, are_known, ranks_of, uri_of, uris_of
from beam_dedup.core.tables import fingerprints_table

MOST = (1 << 31) - 1
images = st.builds(
    Fingerprint,
    ref=st.builds(
        ImageRef, uri=st.text("ab/\udcff\u00e9", max_size=4), name=st.just("x"), known=st.booleans()
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


def ranks(images: list[Fingerprint], keep: Keep) -> list[bytes]:
    found: list[bytes] = ranks_of(fingerprints_table(images), keep).to_pylist()
    return found


def wanted(image: Fingerprint, keep: Keep) -> tuple[object, ...]:
    """The policies in words of their own."""
    seen = {
        Keep.FIRST: (),
        Keep.LARGEST: (-image.width * image.height, -image.size_bytes),
        Keep.OLDEST: (image.modified_ms == 0, image.modified_ms),
        Keep.NEWEST: (-image.modified_ms,),
    }[keep]
    is_described = Flag.DESCRIBED in image.flags and not image.ref.known
    return (not image.ref.known, is_described, *seen, image.ref.uri.encode("utf-8", "surrogateescape"))


@given(st.lists(images, max_size=6))
def test_order(found: list[Fingerprint]) -> None:
    for keep in Keep:
        pairs = itertools.combinations(zip(ranks(found, keep), found, strict=True), 2)
        for (rank, one), (other_rank, other) in pairs:
            assert (rank < other_rank) == (wanted(one, keep) < wanted(other, keep))


@pytest.mark.parametrize("keep", Keep)
@given(found=st.lists(images, max_size=4))
def test_the_uri_and_whether_it_is_known_come_back(keep: Keep, found: list[Fingerprint]) -> None:
    table = ranks_of(fingerprints_table(found), keep)
    assert uris_of(table).to_pylist() == [to_bytes(image.ref.uri) for image in found]
    assert are_known(table).to_pylist() == [image.ref.known for image in found]
    assert [uri_of(rank) for rank in table.to_pylist()] == [image.ref.uri for image in found]


def test_images_of_one_uri_differ_in_rank_only_if_one_is_known() -> None:
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 1, "PNG", 1, 1, "", ())
    known = dataclasses.replace(image, ref=ImageRef("a", "a", known=True))
    first, second, third = ranks([known, image, image], Keep.FIRST)
    assert first < second == third
