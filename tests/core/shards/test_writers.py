"""Tests of the writers of shards: keys of WebDataset, row groups, and columns that Parquet can't hold."""

import io
import tarfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core.archives.containers import TAR, Container, members
from beam_dedup.core.archives.members import Member
from beam_dedup.core.errors import ImageError
from beam_dedup.core.shards import parquet_shards
from beam_dedup.core.shards.contents import Sample, TarFile
from beam_dedup.core.shards.parquet_shards import ParquetShard
from beam_dedup.core.shards.tar_shards import TarShard
from tests.core.archives.made_archives import GIF, JPEG, PNG


def tar_of(*contents: Sample | list[TarFile], portable: bool = False) -> io.BytesIO:
    file = io.BytesIO()
    shard = TarShard(file, portable)
    for content in contents:
        shard.add(content)
    shard.close()
    file.seek(0)
    return file


def parquet_of(*contents: Sample | pa.RecordBatch) -> pq.ParquetFile:
    file = io.BytesIO()
    shard = ParquetShard(file)
    for content in contents:
        shard.add(content)
    shard.close()
    return pq.ParquetFile(file)


def test_each_image_gets_its_own_metadata_back_from_a_tar() -> None:
    """Names may share a key, or be those of metadata."""
    names = ["a.jpg", "a.png", "a.b.gif", "a.json", "a", "x/a.jpg", ".jpg", "a#2.jpg", "b.JSON"]
    samples = [Sample(name, (JPEG, PNG, GIF)[at % 3], {"n": at}) for at, name in enumerate(names)]
    found = list(members(tar_of(*samples), Container(TAR)))
    assert [one.metadata for one in found if isinstance(one, Member)] == [one.metadata for one in samples]
    assert [one.data for one in found if isinstance(one, Member)] == [one.data for one in samples]
    assert [one.name for one in found if isinstance(one, Member)][:3] == ["a.jpg", "a#2.png", "a#3.b.gif"]


def test_names_without_metadata_stay_and_shared_companions_are_written_once() -> None:
    beside = (("a.xmp", b"<x>"),)
    file = tar_of(
        Sample("x/a.jpg", JPEG, {}, beside), Sample("x/a.png", PNG, {}, beside), Sample("B", GIF, {})
    )
    with tarfile.open(fileobj=file) as archive:
        assert archive.getnames() == ["x/a.jpg", "x/a.xmp", "x/a.png", "B"]
    with tarfile.open(fileobj=tar_of(Sample("A.jpg", JPEG, {}), portable=True)) as archive:
        assert archive.getnames() == ["%41.jpg"]


def test_a_tar_depends_on_its_contents_alone() -> None:
    files = [TarFile("a.jpg", JPEG, 1_700_000_000_000), TarFile("a.txt", b"text")]
    assert tar_of(files).getvalue() == tar_of(files).getvalue()
    with tarfile.open(fileobj=tar_of(files)) as archive:
        assert [(one.mtime, one.uid, one.mode, one.uname) for one in archive] == [
            (1_700_000_000, 0, 0o644, ""),
            (0, 0, 0o644, ""),
        ]


def test_row_groups_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [Sample(f"{number}.jpg", JPEG, {}) for number in range(50)]
    monkeypatch.setattr(parquet_shards, "GROUP_ROWS", 20)
    by_rows = parquet_of(*samples)
    assert [by_rows.metadata.row_group(group).num_rows for group in range(3)] == [20, 20, 10]
    assert [row["path"] for row in by_rows.read()["image"].to_pylist()] == [one.name for one in samples]
    monkeypatch.setattr(parquet_shards, "GROUP_BYTES", 3 * len(JPEG))
    by_bytes = parquet_of(*samples)
    assert {by_bytes.metadata.row_group(group).num_rows for group in range(16)} == {3}
    batch = pa.record_batch({"image": [JPEG] * 45})
    assert parquet_of(batch).metadata.row_group(0).num_rows == 20


@pytest.mark.parametrize(
    "column",
    [
        pa.UnionArray.from_dense(pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
        pa.array([1]).cast(pa.decimal128(20, 0)).view(pa.decimal128(20, -2)),
    ],
    ids=["union", "interval", "decimal"],
)
def test_columns_that_parquet_cannot_hold_are_named(column: Any) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([JPEG]), column], names=["image", "odd"])
    with pytest.raises(ImageError, match="can't be written as Parquet"):
        parquet_of(batch)


def test_errors_of_the_system_are_raised() -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    shard = ParquetShard(Full())
    with pytest.raises(OSError, match="No space left"):
        shard.add(Sample("a.jpg", bytes(1 << 26), {}))
