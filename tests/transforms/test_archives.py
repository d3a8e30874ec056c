"""Tests archives from listing to placing: they give the same verdicts as a directory, and no member is lost."""

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core import tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.model import ImageRef, Placement, Unplaced, Verdict
from tests.core.archives.made_archives import COMPRESSORS, record, response, tar, warc, zipped
from tests.transforms import object_store
from tests.transforms.files import encoded, write
from tests.transforms.pipelines import IN_MEMORY, PROCESSES, REPEATED, run
from transforms import CheckConservation, CountImages, DeduplicateImages, PlaceCopies, ReadImages
from transforms.batching import verdicts_in
from transforms.place import place_members
from transforms.read_settings import ReadSettings
from transforms.storage.placing import PlaceMode
from transforms.storage.prefetch import fetched

# Exact and near duplicates, and files that are no images.
FILES: dict[str, bytes] = {
    **{f"{number % 3}/{number}.png": encoded(1 + number % 7, compress_level=number // 7 % 2) for number in range(21)},
    **{f"near/{number}.jpg": encoded(number, "JPEG", (192, 128), quality=90) for number in range(1, 7)},
    "near/copy.png": encoded(1),
    "notes.txt": b"no picture",
    "empty.png": b"",
}  # fmt: skip
HOST = "example.com"


def as_warc(files: dict[str, bytes]) -> bytes:
    images = [record(f"http://{HOST}/{name}", response(data)) for name, data in files.items()]
    return warc(*images, record(f"http://{HOST}/", response(b"<html>", "text/html")), compressed=True)


ARCHIVES: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "in.tar": tar,
    "in.tar.gz": lambda files: COMPRESSORS["gz"](tar(files)),
    "in.tar.zst": lambda files: COMPRESSORS["zst"](tar(files)),
    "in.zip": zipped,
    "in.warc.gz": as_warc,
}


def judged(read: Path, near: bool, *flags: str, known: Path | None = None, **options: Any) -> dict[str, Any]:
    """Deduplicates the files of a directory; returns every output."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        images = pipeline | ReadImages(str(read))
        had = None if known is None else pipeline | "Known" >> ReadImages(str(known), known=True)
        done = images | DeduplicateImages(settings=ReadSettings(recipe=Recipe() if near else None), known=had)
        made = {
            "verdicts": done.verdicts,
            "read": images | CheckConservation(done.verdicts, done.read_tally),
            "counts": done.verdicts | CountImages(done.plan, done.read_tally),
        }
        if options:
            made |= (done.verdicts | PlaceCopies(**options))._asdict()
        return made

    return run(build, *flags).values


def verdicts(ran: dict[str, Any]) -> dict[str, Verdict]:
    found = [verdict for block in ran["verdicts"] for verdict in verdicts_in(block)]
    assert ran["read"] == [len(found)]
    return {verdict.ref.uri: verdict for verdict in found}


def records(ran: dict[str, Any], root: Path) -> dict[str, dict[str, Any]]:
    """Returns the records by name, without the URI and the metadata, which differ between archive and directory."""

    def name_of(uri: str | None) -> str | None:
        if uri is None:
            return None
        path, name = split_uri(uri)
        return name.removeprefix(f"{HOST}/") or str(Path(path).relative_to(root))

    found = {}
    for uri, verdict in verdicts(ran).items():
        record = verdict.record()
        del record["metadata"], record["uri"]
        found[name_of(uri) or ""] = {**record, "duplicate_of": name_of(record["duplicate_of"])}
    return found


def filled(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        write(folder / name, data)
    return folder


@pytest.fixture(scope="module", params=[False, True], ids=["exact", "near"])
def expected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[bool, Any]:
    folder = filled(tmp_path_factory.mktemp("in"), FILES)
    found = records(judged(folder, request.param), folder)
    assert found.keys() == FILES.keys()
    assert len({record["reason"] for record in found.values()}) == 4 + request.param
    return request.param, found


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_gives_the_same_verdicts_as_a_directory(
    name: str, expected: tuple[bool, Any], tmp_path: Path
) -> None:
    near, as_folder = expected
    write(tmp_path / name, ARCHIVES[name](FILES))
    ran = judged(tmp_path, near)
    found = records(ran, tmp_path)
    assert found == as_folder
    assert ran["counts"][0].get("Skipped_Page_Count", 0) == ("warc" in name)
    assert sum(ran["counts"][0][f"{kind}_Count"] for kind in ("Exact_Duplicate", "Near_Duplicate")) == (
        sum(one["status"] == "duplicate" for one in as_folder.values())
    )


@pytest.mark.parametrize("flags", [IN_MEMORY, REPEATED, pytest.param(PROCESSES, marks=pytest.mark.processes)])
def test_members_are_copied(tmp_path: Path, flags: tuple[str, ...]) -> None:
    folder = tmp_path / "in"
    a, b, c = encoded(1), encoded(2), encoded(3)
    write(folder / "a.zip", zipped({"x.png": a, "y/z.png": b, "no": b"no"}))
    write(folder / "b.warc.gz", as_warc({"x.png": a, "c.png": c}))
    write(folder / "wow!.png", a)
    for _ in range(2):  # a second run changes nothing
        ran = judged(folder, False, *flags, folder=str(tmp_path / "out"), duplicates=True)
        assert ran["unplaced"] == []
        key = hashlib.sha256(a).hexdigest()
        out = tmp_path / "out"
        placed = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
        assert placed == {
            "a.zip/x.png": a,
            "a.zip/y/z.png": b,
            f"b.warc.gz/{HOST}/c.png": c,
            f"_duplicates/{key}/b.warc.gz/{HOST}/x.png": a,
            f"_duplicates/{key}/wow!.png": a,
        }


def why_unplaced(ran: dict[str, Any]) -> dict[str, str]:
    assert all(isinstance(one, Unplaced) for one in ran["unplaced"])
    return {split_uri(one.placement.uri)[1]: one.why for one in ran["unplaced"]}


@pytest.mark.parametrize("how", [PlaceMode.HARDLINK, PlaceMode.SYMLINK])
def test_members_cannot_be_linked(tmp_path: Path, how: PlaceMode) -> None:
    write(tmp_path / "in/a.zip", zipped({"x.png": encoded(1)}))
    ran = judged(tmp_path / "in", False, folder=str(tmp_path / "out"), how=how)
    assert "can only be copied" in why_unplaced(ran)["x.png"]
    assert not (tmp_path / "out").exists()


def test_a_member_that_cannot_be_placed_is_reported_with_the_reason(tmp_path: Path) -> None:
    archive, out = tmp_path / "a.zip", tmp_path / "out"
    write(archive, zipped({"changed.png": encoded(1), "taken.png": encoded(2), "right.png": encoded(3)}))
    write(out / "taken.png", b"mine")
    digests = {
        "changed.png": bytes(32),
        "taken.png": hashlib.sha256(encoded(2)).digest(),
        "right.png": hashlib.sha256(encoded(3)).digest(),
        "gone.png": bytes(32),
    }
    wanted = [Placement(f"{archive}!{name}", str(out / name), digest) for name, digest in digests.items()]
    done = {split_uri(one.uri)[1]: str(result) for one, result in place_members(str(archive), wanted)}
    assert done.pop("right.png") == "True"
    for name, part in {
        "changed.png": "changed after it was read",
        "taken.png": "existing files are never replaced",
        "gone.png": "no longer in the archive",
    }.items():
        assert part in done[name]
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "taken.png": b"mine",
        "right.png": encoded(3),
    }
    archive.unlink()
    assert all("can't be read again" in str(result) for _, result in place_members(str(archive), wanted[::3]))


def test_members_of_a_known_archive_are_known(tmp_path: Path) -> None:
    write(tmp_path / "known/a.zip", zipped({"x.png": encoded(1), "note": b"no"}))
    write(tmp_path / "in/b.tar", tar({"y.png": encoded(1, compress_level=1), "z.png": encoded(2)}))
    found = verdicts(judged(tmp_path / "in", True, known=tmp_path / "known"))
    kept = {split_uri(uri)[1]: verdict.witness and verdict.witness.uri for uri, verdict in found.items()}
    assert kept == {"y.png": f"{tmp_path}/known/a.zip!x.png", "z.png": None}


class TestConservation:
    @pytest.mark.parametrize("near", [False, True])
    def test_a_lost_member_fails_the_run(self, tmp_path: Path, near: bool) -> None:
        """The pipeline is broken on purpose: the last fingerprint of each block is not judged."""
        write(tmp_path / "in/a.zip", zipped({"x.png": encoded(1), "y.png": encoded(2)}))
        ranked = tables.ranked

        def lossy(fingerprints: Any, keep: Any) -> Any:
            return ranked(fingerprints.slice(0, len(fingerprints) - 1), keep)

        with mock.patch.object(tables, "ranked", lossy), pytest.raises(Exception, match="an image was lost"):
            judged(tmp_path / "in", near)

    def test_an_unread_file_fails_the_run(self, tmp_path: Path) -> None:
        """Also a file that would have led to no image."""
        write(tmp_path / "in/a.zip", zipped({}))
        write(tmp_path / "in/b.png", encoded(2))

        def build(pipeline: beam.Pipeline) -> dict[str, Any]:
            images = pipeline | ReadImages(str(tmp_path / "in"))
            some = images | beam.Map(without_archives).with_output_types(list[ImageRef])
            done = some | DeduplicateImages()
            return {"read": images | CheckConservation(done.verdicts, done.read_tally)}

        with pytest.raises(
            Exception,
            match="2 files were listed and 1 were read, not the same ones: a file was lost or read twice",
        ):
            run(build)


def without_archives(references: list[ImageRef]) -> list[ImageRef]:
    return [reference for reference in references if not reference.name.endswith(".zip")]


def test_the_metadata_of_a_crawl_are_in_the_record(tmp_path: Path) -> None:
    write(tmp_path / "a.warc.gz", as_warc({"x.png": encoded(1)}))
    [verdict] = verdicts(judged(tmp_path, False)).values()
    metadata = json.loads(verdict.json_line())["metadata"]
    assert metadata["url"] == f"http://{HOST}/x.png"
    assert metadata["date"] == "2024-01-02T03:04:05Z"


def test_rows_of_parquet_in_a_store_are_fetched_and_copied(store: dict[str, bytes], tmp_path: Path) -> None:
    images = [encoded(1), encoded(2)]
    out = io.BytesIO()
    pq.write_table(pa.table({"image": images}), out)
    path = object_store.uri("x.parquet")
    store[path] = out.getvalue()
    with fetched(path, 3, image_column="image") as copy:  # larger than an image may be
        assert Path(copy).read_bytes() == store[path]
    digest = hashlib.sha256(images[1]).digest()
    wanted = Placement(f"{path}!1", str(tmp_path / "1.png"), digest)
    assert list(place_members(path, [wanted], image_column="image")) == [(wanted, True)]
    assert (tmp_path / "1.png").read_bytes() == images[1]
