"""Rank is a total order that begins with what the policy looks at and ends at the URI."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_dedup.core.model import Fingerprint, ImageRef
from beam_dedup.core.rank import Keep, is_known, rank_of, uri_of

MOST = (1 << 31) - 1
images = st.builds(
    Fingerprint,
    ref=st.builds(
        ImageRef, uri=st.text("ab/\udcff\u00e9", max_size=4), name=st.just("x"), known=st.booleans()
    ),
    digest=st.just(bytes(32)),
    size_bytes=st.integers(0, MOST),
    modified_ms=st.integers(0, 5),
    format=st.just("PNG"),
    width=st.integers(0, 3),
    height=st.integers(0, 3),
    algorithm=st.just(""),
    codes=st.just(()),
)


def wanted(image: Fingerprint, keep: Keep) -> tuple[object, ...]:
    """The policies in words of their own."""
    seen = {
        Keep.FIRST: (),
        Keep.LARGEST: (-image.width * image.height, -image.size_bytes),
        Keep.OLDEST: (image.modified_ms == 0, image.modified_ms),
        Keep.NEWEST: (-image.modified_ms,),
    }[keep]
    return (not image.ref.known, *seen, image.ref.uri.encode("utf-8", "surrogateescape"))


@given(st.lists(images, min_size=2, max_size=6))
def test_order(found: list[Fingerprint]) -> None:
    for keep, (one, other) in itertools.product(Keep, itertools.combinations(found, 2)):
        by_rank = rank_of(one, keep) < rank_of(other, keep)
        assert by_rank == (wanted(one, keep) < wanted(other, keep))


@pytest.mark.parametrize("keep", Keep)
@given(image=images)
def test_the_uri_and_whether_it_is_known_come_back(keep: Keep, image: Fingerprint) -> None:
    rank = rank_of(image, keep)
    assert uri_of(rank) == image.ref.uri
    assert is_known(rank) == image.ref.known


def test_images_of_one_uri_differ_in_rank_only_if_one_is_known() -> None:
    image = Fingerprint(ImageRef("a", "a"), bytes(32), 1, 1, "PNG", 1, 1, "", ())
    known = dataclasses.replace(image, ref=ImageRef("a", "a", known=True))
    assert rank_of(known, Keep.FIRST) < rank_of(image, Keep.FIRST)
