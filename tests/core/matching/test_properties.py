"""The promises of DESIGN section 2, as properties of any set of codes that Hypothesis generates."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_dedup.core.codes import Codes
from beam_dedup.core.matching import selection
from beam_dedup.core.thresholds import Thresholds
from tests import oracle
from tests.core.matching.test_selection import judged, witnesses
from tests.oracle import FLAT, FULL, TINY, Code
from tests.random_sets import RandomSet, arrays

# The examples are the same in every run, so that a failure can be reproduced.
settings.register_profile("core", derandomize=True, deadline=None, max_examples=150)
SETTINGS = settings.get_profile("core")


def _bits(positions: range) -> st.SearchStrategy[int]:
    """Few bits at a few neighbouring positions, so that most codes are near each other."""
    return st.sets(st.sampled_from(positions), max_size=6).map(lambda chosen: sum(1 << bit for bit in chosen))


_FULL = st.builds(lambda short, rest: (FULL, short << 192 | rest, b""), _bits(range(50, 64)), _bits(range(8)))
_TINY = st.builds(lambda short: (TINY, short, b""), _bits(range(50, 64)))
_PLAIN = st.tuples(*[st.sampled_from([0, 1, 8, 9, 255])] * 3).map(
    lambda colour: (FLAT, 0, bytes(colour) * 32)
)
_UNEVEN = st.lists(st.sampled_from([0, 4, 8, 9, 16]), min_size=32, max_size=32).map(
    lambda greys: (FLAT, 0, bytes(grey for grey in greys for _ in range(3)))
)
_ANY_CODE = st.one_of(_FULL, _FULL, _TINY, _PLAIN, _UNEVEN)


@st.composite
def sets(draw: st.DrawFn) -> RandomSet:
    images = draw(st.lists(st.lists(_ANY_CODE, max_size=3), max_size=10))
    codes = [
        Code(image, view, *code)
        for image, codes_of in enumerate(images)
        for view, code in enumerate(codes_of)
    ]
    return RandomSet(draw(st.integers(0, 16)), draw(st.sampled_from([0, 2, 5, 48, 256])), len(images), codes)


@SETTINGS
@given(sets(), st.sampled_from([0, 1, 3, 1 << 23]))
def test_verdicts_agree_with_the_definition(case: RandomSet, max_pairs: int) -> None:
    assert judged(case, max_pairs) == oracle.judge(case.codes, case.images, case.k, case.verify)


@SETTINGS
@given(sets())
def test_no_two_kept_images_are_near_and_every_duplicate_has_a_kept_witness(case: RandomSet) -> None:
    kept, found = judged(case)
    codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
    for image in kept:
        others = [code for other in kept if other != image for code in codes_of[other]]
        assert not oracle.matches(codes_of[image], others, case.k, case.verify)
    assert sorted([*kept, *found]) == list(range(case.images))
    for image, match in found.items():
        assert match.kept in kept
        assert match in oracle.matches(codes_of[image], codes_of[match.kept], case.k, case.verify)


@SETTINGS
@given(sets(), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_change_verdicts(case: RandomSet, rng: object) -> None:
    rows = list(case.codes)
    rng.shuffle(rows)  # type: ignore[attr-defined]
    assert judged(case._replace(codes=rows)) == judged(case)


@SETTINGS
@given(sets(), st.integers(0, 9))
def test_equal_image_with_the_next_rank_changes_no_other_verdict(case: RandomSet, image: int) -> None:
    """So equal codes may be reduced to one before they are compared."""
    copied = [code for code in case.codes if code.image == image]
    if not copied or image >= case.images:
        return
    codes = [code._replace(image=code.image + (code.image > image)) for code in case.codes]
    codes += [code._replace(image=image + 1) for code in copied]
    kept, _ = judged(case)
    kept_beside, found_beside = judged(case._replace(images=case.images + 1, codes=codes))
    assert kept_beside == [other + (other > image) for other in kept]
    if image in kept:
        assert found_beside[image + 1][:2] == (0, image)
    else:
        assert found_beside[image + 1] == found_beside[image]


@SETTINGS
@given(sets(), st.data())
def test_all_images_near_marked_ones_are_found(case: RandomSet, data: st.DataObject) -> None:
    """`near_marked` and `nearest_kept` are correct for any marks, even if marked images are near each
    other, as known ones may be.
    """
    marks = data.draw(st.lists(st.booleans(), min_size=case.images, max_size=case.images))
    codes: Codes = arrays(case.codes)
    thresholds, marked = Thresholds(case.k, case.verify), np.array(marks, bool)
    near = selection.near_marked(codes, marked, thresholds)
    nearest = witnesses(selection.nearest_kept(codes, marked, thresholds))
    codes_of = [[code for code in case.codes if code.image == image] for image in range(case.images)]
    truth = {}
    for image in np.flatnonzero(~marked).tolist():
        found = [
            match
            for other in np.flatnonzero(marked).tolist()
            for match in oracle.matches(codes_of[image], codes_of[other], case.k, case.verify)
        ]
        if found:
            truth[image] = min(found)
    assert np.flatnonzero(near).tolist() == list(truth)
    assert nearest == truth
