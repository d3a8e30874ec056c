"""Groups of a review page: read from records of every form."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import fastavro
import pytest

from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.model import AVRO_SCHEMA
from beam_dedup.core.record_tables import write_csv, write_parquet
from beam_dedup.review import groups
from beam_dedup.review.groups import Review, read_review
from tests.review.reports import Record, digest_of, exact, near, record, write_records


def uris_of(review: Review) -> list[list[list[str]]]:
    return [[picture.files for picture in group.pictures] for group in review.groups]


def test_files_with_equal_bytes_are_one_picture(tmp_path: Path) -> None:
    records = [
        record("a.png"),
        exact("copy.png", "a.png"),
        near("far.png", "a.png", 6),
        near("near.png", "a.png", 2),
        near("near copy.png", "a.png", 2, digest=digest_of("near.png")),
        record("alone.png"),
    ]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    assert uris_of(review) == [[["a.png", "copy.png"], ["near.png", "near copy.png"], ["far.png"]]]
    assert review.counts == {"kept": 2, "duplicate": 4}
    [group] = review.groups
    assert [picture.near for picture in group.pictures] == [False, True, True]
    assert [picture.distance for picture in group.pictures] == [None, 2, 6]
    assert group.gain == 4000
    assert group.files == 5


@pytest.mark.parametrize("seed", range(20))
def test_groups_contain_each_duplicate_once_in_any_order_of_records(seed: int, tmp_path: Path) -> None:
    generator = random.Random(seed)
    kept = [record(f"k{number}", size_bytes=generator.randrange(1, 5000)) for number in range(6)]
    records: list[Record] = [*kept]
    for number in range(30):
        witness = generator.choice(kept)["uri"]
        make = generator.choice([exact, near])
        records.append(make(f"d{number}", witness))
    generator.shuffle(records)
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    expected: dict[str, set[str]] = {}
    for one in records:
        if one["status"] == "duplicate":
            expected.setdefault(one["duplicate_of"], set()).add(one["uri"])
    found = {}
    for group in review.groups:
        first, *others = group.pictures[0].files
        listed = [*others, *(uri for picture in group.pictures[1:] for uri in picture.files)]
        assert len(listed) == len(set(listed))
        found[first] = set(listed)
    assert found == expected
    gains = [group.gain for group in review.groups]
    assert gains == sorted(gains, reverse=True)


def test_links_free_nothing(tmp_path: Path) -> None:
    link: dict[str, Any] = {"flags": ["link"]}
    records = [
        *(record("a"), exact("b", "a"), exact("c", "a", **link), near("d", "a"), near("e", "a", **link)),
        *(record("f"), exact("g", "f", **link)),
    ]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    assert [(group.pictures[0].files, group.gain) for group in review.groups] == [
        (["a", "b", "c"], 2000),
        (["f", "g"], 0),
    ]


def test_witness_without_a_record_is_a_known_picture(tmp_path: Path) -> None:
    records = [exact("new.png", "reference/a.png"), near("b.png", "reference/b.png")]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    first, second = sorted(review.groups, key=lambda group: group.pictures[0].files)
    assert first.pictures[0].known
    assert first.pictures[0].digest == digest_of("reference/a.png")
    assert first.pictures[0].size_bytes == 1000, "as of the file with the same bytes"
    assert second.pictures[0].digest == ""
    assert second.pictures[0].files == ["reference/b.png"]


def test_avro_records_make_the_same_groups(tmp_path: Path) -> None:
    records = [record("a.png"), exact("b.png", "a.png"), near("c.png", "a.png")]
    lines = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    with open(tmp_path / "r.avro", "wb") as file:
        fastavro.writer(file, AVRO_SCHEMA, records)
    assert read_review(str(tmp_path / "r.avro")) == lines


@pytest.mark.parametrize("write", [write_parquet, write_csv])
def test_records_as_tables_make_the_same_groups(
    tmp_path: Path, write: Callable[[BinaryIO, Iterable[bytes]], None]
) -> None:
    records = [record("=a.png"), exact("b.png", "=a.png"), near("c.png", "=a.png")]
    lines = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    with open(tmp_path / "r", "wb") as file:
        write(file, [json.dumps(one).encode() for one in records])
    assert read_review(str(tmp_path / "r")) == lines


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """The records of a stream: the duplicates of the second day have witnesses of the first one."""
        write_records(tmp_path / "records-20260101T1-0-1.jsonl", [record("a.png"), exact("b.png", "a.png")])
        write_records(tmp_path / "records-20260102T1-0-1.jsonl", [near("c.png", "a.png"), record("d.png")])
        (tmp_path / "other.txt").write_text("no records")
        return tmp_path

    def test_directory_is_read_as_a_whole(self, folder: Path) -> None:
        assert uris_of(read_review(str(folder))) == [[["a.png", "b.png"], ["c.png"]]]

    def test_pattern_chooses_duplicates_and_keeps_their_witnesses(self, folder: Path) -> None:
        review = read_review(str(folder), "records-20260102*")
        assert uris_of(read_review(str(folder), "*0[!1]T?-[[:digit:]]-*")) == uris_of(review)
        assert uris_of(review) == [[["a.png"], ["c.png"]]]
        assert not review.groups[0].pictures[0].known
        assert review.counts == {"duplicate": 1, "kept": 1}

    def test_pattern_without_a_match_is_refused(self, folder: Path) -> None:
        with pytest.raises(UsageError, match='--files must match a file of records; nothing matches "x"'):
            read_review(str(folder), "x")
        with pytest.raises(UsageError, match="--files must match a file of records"):
            read_review(str(folder), "!records*")

    def test_wrong_pattern_is_refused(self, folder: Path) -> None:
        with pytest.raises(UsageError, match="--files must close each "):
            read_review(str(folder), "records-[0")


def test_rejected_images_are_counted_by_reason_and_listed_up_to_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_REJECTED", 2)
    records = [record(f"{n}", "rejected", reason="empty", digest=None, detail=f"d{n}") for n in range(5)]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    assert review.rejected_counts == {"empty": 5}
    assert [(one.uri, one.detail) for one in review.rejected] == [("0", "d0"), ("1", "d1")]


def test_duplicates_beyond_the_limit_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MAX_DUPLICATES", 3)
    records = [record("a"), *(exact(f"d{n}", "a") for n in range(5))]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    assert review.left_out == 2
    assert review.groups[0].files == 4


@pytest.mark.parametrize(
    ("distances", "k"), [([1], 8), ([12], 12)], ids=["default of the algorithm", "greatest distance"]
)
def test_unknown_thresholds_are_at_least_the_default(distances: list[int], k: int, tmp_path: Path) -> None:
    records = [record("a"), *(near(f"d{n}", "a", n) for n in distances)]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    assert (review.k, review.verify) == (k, 48)
    assert review.groups[0].risk(review.k, review.verify) == max(distances) / k


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": "<b>"},
        {"width": -1},
        {"size_bytes": 1 << 80},
        {"flags": None},
        {"distance": True},
        {"distance": 1 << 50, "long_distance": 1 << 50},
        {"format": 3},
        {"detail": ["x"]},
    ],
    ids=str,
)
def test_fields_of_wrong_types_are_unknown(wrong: dict[str, Any], tmp_path: Path) -> None:
    records = [{**record("a"), **wrong}, {**near("b", "a"), **wrong}]
    review = read_review(str(write_records(tmp_path / "r.jsonl", records)))
    for picture in review.groups[0].pictures:
        assert isinstance(picture.width, int | None)
        assert isinstance(picture.format, str | None)
        assert isinstance(picture.detail, str)
        assert picture.size_bytes in (None, 1000)
        assert (picture.distance or 0) < 100
        assert (picture.long_distance or 0) < 100


def test_other_content_than_records_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"uri": "a"}\n')
    with pytest.raises(DedupError, match="line 1, is no record of dedup: it has no status"):
        read_review(str(path))
