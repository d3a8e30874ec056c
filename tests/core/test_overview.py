"""The overview of verdicts: the same however they are cut into blocks, and equal to a count by hand."""

import json
import random

import numpy as np
import pytest

from beam_dedup.core import blocks, tables
from beam_dedup.core.model import Flag, ImageRef, Reason, Rejection, Status, Verdict, Witness
from beam_dedup.core.overview import (
    Example,
    Overview,
    RejectedKind,
    from_json,
    overview_of,
    sum_overviews,
    to_json,
)


def digest(number: int) -> bytes:
    return number.to_bytes(4, "big") * 8


def image(
    uri: str, group: int | None = None, *, size: int = 100, code: bytes = b"c" * 32, **fields: object
) -> Verdict:
    """A kept image, or a duplicate of the image with the digest of a group."""
    witness = None if group is None else Witness("w", digest(group), 0, None, "base")
    verdict = Verdict(
        ImageRef(uri, uri),
        Status.DUPLICATE if witness else Status.KEPT,
        Reason.EXACT if witness else None,
        digest(hash(uri) % 1000),
        code,
        "dct/2",
        witness,
        format="JPEG",
        size_bytes=size,
    )
    return Verdict(**{name: getattr(verdict, name) for name in Verdict.__slots__} | fields)


def rejected(uri: str, reason: Reason, content: str = "", detail: str = "") -> Verdict:
    return Verdict.of_rejection(Rejection(ImageRef(uri, uri), reason, detail, 7, format=content))


VERDICTS = [
    image("a.jpg"),
    image("b.jpg", 1),
    image("c.jpg", 1, size=10**10),
    image("d.jpg", 2),
    image("e.zip!f.jpg", 3),
    image("gone.jpg", 4, size=0, code=b"", flags=(Flag.DESCRIBED,)),
    image("gone too.jpg", size=0, code=b"", flags=(Flag.DESCRIBED,)),
    image("g.svg", code=b"", format="SVG", flags=(Flag.UNDECODABLE,), detail="SVG is not decoded"),
    image("h.svg", 5, code=b"", format="SVG", flags=(Flag.UNDECODABLE,), detail="SVG is not decoded"),
    image("i.jpg", code=b"", flags=(Flag.UNDECODABLE, Flag.TRUNCATED), detail="3 rows"),
    image("j.jpg", code=b"", flags=(Flag.UNDECODABLE,), detail="OSError: x"),
    image("k.gif", code=b"", format="GIF", flags=(Flag.ANIMATED,), detail="2 frames, 0 ms"),
    rejected("z.mp4", Reason.NOT_AN_IMAGE, "MP4", "z"),
    rejected("y.mp4", Reason.NOT_AN_IMAGE, "MP4", "y"),
    rejected("x.JPG", Reason.EMPTY),
    rejected("r.jsonl!3", Reason.MALFORMED, detail="no __path__"),
    rejected("a.zip!b.txt", Reason.ENCRYPTED),
]
EXPECTED = Overview(
    group_keys=np.sort(
        np.frombuffer(b"".join(digest(group)[:8] for group in range(1, 6)), np.uint64)
    ).tobytes(),
    duplicate_bytes=10**10 + 300,
    duplicate_members=1,
    kept=5,
    duplicates=5,
    rejected={
        RejectedKind("not_an_image", "MP4"): 2,
        RejectedKind("empty", ".jpg"): 1,
        RejectedKind("malformed", ""): 1,
        RejectedKind("encrypted", ".txt"): 1,
    },
    examples={
        RejectedKind("not_an_image", "MP4"): Example("y.mp4", "y"),
        RejectedKind("empty", ".jpg"): Example("x.JPG", ""),
        RejectedKind("malformed", ""): Example("r.jsonl!3", "no __path__"),
        RejectedKind("encrypted", ".txt"): Example("a.zip!b.txt", ""),
    },
    bytes_only={
        ("SVG", "SVG is not decoded"): 2,
        ("JPEG", "damaged, or larger than the limits"): 2,
        ("GIF", "no structure that could be compared"): 1,
    },
)


def block_of(verdicts: list[Verdict]) -> bytes:
    return blocks.dump(tables.verdicts_table(verdicts))


@pytest.mark.parametrize("seed", range(20))
def test_overview_does_not_depend_on_blocks(seed: int) -> None:
    rng = random.Random(seed)
    verdicts = rng.sample(VERDICTS, len(VERDICTS))
    size = rng.randint(1, len(verdicts))
    parts = [
        overview_of(block_of(verdicts[start : start + size]), near=True)
        for start in range(0, len(verdicts), size)
    ]
    at = rng.randint(0, len(parts))
    assert sum_overviews([sum_overviews(parts[:at]), sum_overviews(parts[at:])]) == EXPECTED
    assert EXPECTED.groups == 5


def test_overview_of_nothing_is_empty() -> None:
    assert overview_of(block_of([]), near=True) == sum_overviews([]) == Overview()


def test_in_exact_mode_everything_is_compared_by_bytes() -> None:
    assert overview_of(block_of(VERDICTS), near=False).bytes_only == {}


def test_json_gives_the_same_overview() -> None:
    assert from_json(json.loads(json.dumps(to_json(EXPECTED)))) == EXPECTED


def test_extensions_of_strangers_take_bounded_memory() -> None:
    verdicts = [rejected(f"a.{number}", Reason.NOT_AN_IMAGE) for number in range(100)]
    verdicts += [rejected(f"b.{number}.mp4", Reason.NOT_AN_IMAGE, "MP4") for number in range(5)]
    found = sum_overviews([overview_of(block_of(verdicts), near=False)], max_kinds=10)
    assert len(found.rejected) == len(found.examples) == 11
    assert sum(found.rejected.values()) == 105
    assert found.rejected[RejectedKind("not_an_image", "MP4")] == 5
    assert found.rejected[RejectedKind("not_an_image", "")] == 91


def test_names_that_are_no_text_are_kept() -> None:
    found = overview_of(block_of([rejected("\udcff.\udcff", Reason.EMPTY, detail="\udcff")]), near=True)
    assert found.examples == {RejectedKind("empty", ""): Example("\udcff.\udcff", "\udcff")}
    assert from_json(json.loads(json.dumps(to_json(found)))) == found
