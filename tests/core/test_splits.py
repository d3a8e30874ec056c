"""Splits: to which split an image belongs, and which inputs may not be of two splits."""

import pyarrow as pa
import pytest

from beam_dedup.core import blocks
from beam_dedup.core.errors import UsageError
from beam_dedup.core.splits import NO_SPLIT, SplitCheck, Splits, may_share_files


def numbers(splits: Splits, *names: str) -> list[int]:
    column = pa.chunked_array([[blocks.to_bytes(name) for name in names]], pa.binary())
    return splits.numbers_of(column).tolist()


def test_image_belongs_to_the_split_of_the_label_of_its_name() -> None:
    splits = Splits.of_inputs(
        ["/a/b", "/c/b", "x/*.jpg", "t.zip", "gs://bucket/\udce5"], ["train", "test", "train", "val", "test"]
    )
    assert splits.all == ("train", "test", "val")
    names = ["b/1.jpg", "b#2/1.jpg", "x/b#2/1.jpg", "t.zip", "t.zip/a/b.jpg", "\udce5/1.jpg"]
    assert numbers(splits, *names) == [0, 1, 0, 2, 2, 1]


def test_label_is_a_whole_part_of_the_name() -> None:
    splits = Splits(("train", "train2", "t"), ("a", "b", "c"))
    assert numbers(splits, "train2/x", "train/x", "t/x", "tr/x", "train3", "") == [
        1,
        0,
        2,
        NO_SPLIT,
        NO_SPLIT,
        NO_SPLIT,
    ]
    assert numbers(splits) == []


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a", "b"], False),
        (["a/*1.jpg", "b/*"], False),
        (["a/*1.jpg", "a/*2.jpg"], True),
        (["a/b", "a/*"], True),
        (["*.jpg", "b/c.png"], True),
        (["gs://b/x*", "gs://b/y*"], True),
        (["gs://b/x*", "x*"], True),
        (["/a/x*", "a/x*"], True),
        (["ab/*", "a/*"], False),
    ],
)
def test_inputs_that_may_share_files(inputs: list[str], expected: bool) -> None:
    assert may_share_files(inputs, ["x", "y"]) is expected
    assert not may_share_files(inputs, ["x", "x"])


def test_file_of_two_splits_is_refused() -> None:
    inputs = ["d/*1*.jpg", "d/*2*.jpg", "d/*12.jpg", "d/sub"]
    check = SplitCheck.of(0, inputs, ["a", "b", "a", "c"])
    for path in ("d/x1.jpg", "d/x1-12.png", "d/1.jpg/2.jpg"):
        check.refuse_shared(path)
    with pytest.raises(
        UsageError,
        match=r"^--split: inputs of two splits must not share files; d/12.jpg is in d/\*1\*.jpg and in d/\*2\*.jpg. ",
    ):
        check.refuse_shared("d/12.jpg")
    with pytest.raises(UsageError, match=r"is in .* and in d/sub"):
        check.refuse_shared("d/sub/1.jpg")
    SplitCheck.of(0, inputs, ()).refuse_shared("d/12.jpg")
