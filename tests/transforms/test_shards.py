"""Tests of shards: each kept image once, with its columns or the members of its key; nothing else is changed."""

import dataclasses
import hashlib
import io
import json
import random
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_dedup.core.archives.members import member_uri
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import BASE_VIEW, ImageRef, Reason, Status, Unplaced, Verdict, Witness
from beam_dedup.core.shards.contents import ShardFormat
from tests.core.archives.made_archives import tar, zipped
from tests.pictures import encoded, photo
from tests.transforms import image_blocks
from tests.transforms.files import write
from tests.transforms.object_store import uri
from tests.transforms.pipelines import REPEATED, run
from tests.transforms.test_place import ODD_NAMES, contents, tree
from transforms import metrics
from transforms.shards import WriteShards
from transforms.storage.placing import PlacingError

PARQUET, TAR = ShardFormat.PARQUET, ShardFormat.TAR
PICTURES = [encoded(photo(seed, (24, 18)), "JPEG") for seed in range(40)]
SCHEMA = pa.schema(
    [
        pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()})),
        pa.field("label", pa.int16(), metadata={"unit": "class"}),
        pa.field("tags", pa.list_(pa.string())),
        pa.field("raw", pa.large_binary()),
        pa.field("kind", pa.dictionary(pa.int32(), pa.string())),
    ],
    metadata={"huggingface": '{"info": {}}'},
)


def kept(uri: str, name: str, data: bytes, **fields: Any) -> Verdict:
    ref = ImageRef(uri, name, **fields)
    return Verdict(ref, Status.KEPT, digest=hashlib.sha256(data).digest(), size_bytes=len(data))


def dropped(verdict: Verdict) -> Verdict:
    witness = Witness("x", b"x" * 32, 3, 9, BASE_VIEW)
    return dataclasses.replace(verdict, status=Status.DUPLICATE, reason=Reason.NEAR, witness=witness)


def shards(
    verdicts: list[Verdict], transform: WriteShards, *flags: str, size: int = 7
) -> tuple[list[str], list[Unplaced]]:
    """Writes shards. Returns the URIs of the images that are in one, and the images that are in none."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        placed = image_blocks.verdicts(pipeline, verdicts, size=size) | transform
        return {"copies": placed.copies, "unplaced": placed.unplaced}

    ran = run(build, *flags)
    return sorted(one.uri for one in ran.values["copies"]), ran.values["unplaced"]


def table(rows: int, begin: int = 0) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "image": {"bytes": PICTURES[(begin + row) % 40], "path": f"p/{row}.jpg"},
                "label": row,
                "tags": ["a", "b"][: row % 3],
                "raw": b"raw %d" % row,
                "kind": "xyz"[row % 3],
            }
            for row in range(rows)
        ],
        SCHEMA,
    )


def of_table(path: Path, rows: int, begin: int = 0) -> list[Verdict]:
    return [
        kept(member_uri(str(path), str(row)), f"{path.name}/p/{row}.jpg", PICTURES[(begin + row) % 40])
        for row in range(rows)
    ]


def of_members(path: Path, files: dict[str, bytes]) -> list[Verdict]:
    return [
        kept(member_uri(str(path), name), f"{path.name}/{name}", data)
        for name, data in files.items()
        if name.endswith(".jpg")
    ]


def samples(count: int, begin: int = 0) -> dict[str, bytes]:
    """Returns files of WebDataset: pictures, each with metadata and an array."""
    found: dict[str, bytes] = {}
    for number in range(count):
        found[f"d/{number:03}.jpg"] = PICTURES[(begin + number) % 40]
        found[f"d/{number:03}.json"] = json.dumps({"n": number}).encode()
        found[f"d/{number:03}.npz"] = zipped({"a": bytes([number])})
    return found


def unpacked(path: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with tarfile.open(path) as archive:
        for one in archive:
            file = archive.extractfile(one)
            assert file
            assert one.name not in found
            found[one.name] = file.read()
    return found


def images_in(folder: Path) -> Counter[bytes]:
    """Returns the images in all shards of a directory."""
    found: Counter[bytes] = Counter()
    for path in folder.rglob("*"):
        if path.suffix == ".tar":
            found.update(data for data in unpacked(path).values() if data[:2] == b"\xff\xd8")
        elif path.suffix == ".parquet":
            found.update(row["bytes"] for row in pq.read_table(path.open("rb"))["image"].to_pylist())
    return found


@pytest.mark.parametrize("form", list(ShardFormat))
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 9))])
def test_shards_hold_each_kept_image_once_whatever_its_source(
    tmp_path: Path, form: ShardFormat, seed: int
) -> None:
    choice = random.Random(seed)
    source, out = tmp_path / "in", tmp_path / "out"
    images: list[Verdict] = []
    for number in range(choice.randrange(9)):
        path = write(source / f"files/{number}.jpg", PICTURES[number])
        images.append(kept(str(path), f"files/{number}.jpg", PICTURES[number]))
    files = samples(choice.randrange(1, 9), 10)
    images += of_members(write(source / "a.tar", tar(files)), files)
    images += of_members(write(source / "b.tar.gz", tar(files)), files) if seed else []
    images += of_members(write(source / "c.zip", zipped(files)), files)
    rows = choice.randrange(1, 20)
    pq.write_table(table(rows, 20), source / "d.parquet", row_group_size=choice.randrange(1, 9))
    images += of_table(source / "d.parquet", rows, 20)
    verdicts = [one if choice.random() < 0.6 else dropped(one) for one in images]
    choice.shuffle(verdicts)
    wanted = [one for one in verdicts if one.status == Status.KEPT]
    before = tree(source)
    transform = WriteShards(str(out), form, image_column="image")

    assert shards(verdicts, transform) == (sorted(one.ref.uri for one in wanted), [])
    digests = Counter({hashlib.sha256(data).digest(): count for data, count in images_in(out).items()})
    assert digests == Counter(one.digest for one in wanted)
    suffix = f".{form}"
    assert all(name.endswith(suffix) for name in contents(out))
    if form == PARQUET:
        numbers = sorted(int(one.ref.uri.rpartition("!")[2]) for one in wanted if "d.parquet!" in one.ref.uri)
        if numbers:
            found = pq.read_table(out / "d.parquet")
            assert found.equals(pq.read_table(source / "d.parquet").take(numbers), check_metadata=True)
            assert found.schema.metadata == SCHEMA.metadata
    # Neither another order of the verdicts nor a second or a repeated run changes a shard.
    first = tree(out)
    choice.shuffle(verdicts)
    shards(verdicts, transform, *REPEATED, size=3)
    assert tree(out) == first
    assert shards(verdicts, dataclasses.replace(transform, folder=str(tmp_path / "again")))[1] == []
    assert contents(tmp_path / "again") == contents(out)
    assert tree(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "in", "out"][: 3 if wanted else 1]


def test_tar_keeps_the_members_of_the_key_but_no_duplicates(tmp_path: Path) -> None:
    files = samples(3)
    files["d/001.second.jpg"] = PICTURES[5]
    files["e/readme.txt"] = b"of no image"
    path = write(tmp_path / "a.tar", tar(sorted(files.items())))
    first, second, third, other = of_members(path, files)
    out = tmp_path / "out"
    assert shards([first, dropped(second), third, other], WriteShards(str(out), TAR))[1] == []
    removed = {"d/001.jpg", "e/readme.txt"}
    assert unpacked(out / "a.tar") == {name: data for name, data in files.items() if name not in removed}
    with tarfile.open(out / "a.tar") as archive:
        assert {one.mtime for one in archive} == {1_700_000_000}


def test_long_keys_are_kept_and_what_cannot_be_is_reported(tmp_path: Path) -> None:
    picture = {"a.jpg": PICTURES[0], "b.jpg": PICTURES[1], "c.jpg": PICTURES[2]}
    after = {f"a.{number}": b"%d" % number for number in range(70)}
    before = {f"b.{number}": b"%d" % number for number in range(40)}
    files = {"a.jpg": PICTURES[0], **after, **before, "b.jpg": PICTURES[1]}
    files |= {"c.jpg": PICTURES[2]}
    path = write(tmp_path / "a.tar", tar(files))
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("c.link")
        link.type, link.linkname = tarfile.SYMTYPE, "c.txt"
        archive.addfile(link)
    verdicts = of_members(path, picture)
    out = tmp_path / "out"
    done, unplaced = shards(verdicts, WriteShards(str(out), TAR))
    assert len(done) == 3
    lost = {one.placement.uri.removeprefix(f"{path}!"): one.why.removeprefix(f"{path}!") for one in unplaced}
    assert lost == {
        **{f"b.{number}": f"b.{number} is too far from the image of its key" for number in range(32)},
        "c.link": "c.link can't be read: a symbolic link",
    }
    expected = {name: data for name, data in files.items() if name not in lost}
    assert unpacked(out / "a.tar") == expected


def test_metadata_and_companions_go_with_files(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.heic", "b.jpg"):
        write(tmp_path / "in" / name, PICTURES[ord(name[0]) - 90])
    write(tmp_path / "in/a.xmp", b"<a>")
    verdicts = [
        kept(str(tmp_path / "in" / name), f"x/{name}", PICTURES[ord(name[0]) - 90], companions=beside)
        for name, beside in (("a.jpg", ("a.xmp", "gone.xmp")), ("a.heic", ("a.xmp",)), ("b.jpg", ()))
    ]
    verdicts[2] = dataclasses.replace(
        verdicts[2], ref=dataclasses.replace(verdicts[2].ref, metadata='{"n": 1}')
    )
    _, [lost] = shards(verdicts, WriteShards(str(tmp_path / "tar"), TAR))
    assert "gone.xmp can't be read" in lost.why
    assert unpacked(tmp_path / "tar/images-00000-of-00001.tar") == {
        "x/a.heic": PICTURES[7],
        "x/a.jpg": PICTURES[7],
        "x/a.xmp": b"<a>",
        "x/b.jpg": PICTURES[8],
        "x/b.json": b'{"n": 1}',
    }
    shards(verdicts, WriteShards(str(tmp_path / "parquet"), PARQUET))
    rows = pq.read_table(tmp_path / "parquet/images-00000-of-00001.parquet").to_pylist()
    companion = {"bytes": b"<a>", "path": "x/a.xmp"}
    assert rows == [
        {"image": {"bytes": PICTURES[7], "path": "x/a.heic"}, "metadata": None, "companions": [companion]},
        {"image": {"bytes": PICTURES[7], "path": "x/a.jpg"}, "metadata": None, "companions": [companion]},
        {"image": {"bytes": PICTURES[8], "path": "x/b.jpg"}, "metadata": '{"n": 1}', "companions": []},
    ]


@pytest.mark.parametrize("form", list(ShardFormat))
def test_large_sources_become_several_shards(tmp_path: Path, form: ShardFormat) -> None:
    files = {f"{number}.jpg": data for number, data in enumerate(PICTURES)}
    verdicts = of_members(write(tmp_path / "a.tar", tar(files)), files)
    pq.write_table(table(40), tmp_path / "b.parquet", row_group_size=10)
    verdicts += of_table(tmp_path / "b.parquet", 40)
    for name, data in files.items():
        verdicts.append(kept(str(write(tmp_path / "in" / name, data)), name, data))
    out = tmp_path / "out"
    size = sum(map(len, PICTURES[:10]))
    transform = WriteShards(str(out), form, image_column="image", shard_bytes=size, mean_images=15)
    assert shards(verdicts, transform)[1] == []
    assert images_in(out) == Counter(dict.fromkeys(PICTURES, 3))
    names = contents(out)
    first = "a.tar" if form == TAR else "a.tar.parquet"
    assert {first, first.replace(f".{form}", f".part3.{form}")} <= names.keys()
    assert {f"images-0000{number}-of-00003.{form}" for number in range(3)} <= names.keys()
    largest = max(map(len, PICTURES))
    assert all(len(data) < 2 * (size + 10 * largest) for data in names.values())


class TestWhatIsNotWritten:
    def test_files_of_other_content_are_not_replaced(self, tmp_path: Path) -> None:
        files = samples(3)
        verdicts = of_members(write(tmp_path / "a.tar", tar(files)), files)
        verdicts += of_members(write(tmp_path / "b.tar", tar(files)), files)
        write(tmp_path / "out/a.tar", b"theirs")
        before = tree(tmp_path / "out")
        done, unplaced = shards(verdicts, WriteShards(str(tmp_path / "out"), TAR))
        assert done == [one.ref.uri for one in verdicts[3:]]
        assert {one.why for one in unplaced} == {
            f"{tmp_path}/out/a.tar exists with other content; existing files are never replaced"
        }
        assert len(unplaced) == 3
        assert tree(tmp_path / "out")["a.tar"] == before["a.tar"]

    def test_no_shard_is_written_through_a_link(self, tmp_path: Path) -> None:
        files = samples(1)
        [verdict] = of_members(write(tmp_path / "a.tar", tar(files)), files)
        verdict = dataclasses.replace(
            verdict, ref=dataclasses.replace(verdict.ref, name="sub/a.tar/d/000.jpg")
        )
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out/sub").symlink_to("../elsewhere")
        _, [lost] = shards([verdict], WriteShards(str(tmp_path / "out"), TAR))
        assert "links below the output directory are not followed" in lost.why
        assert contents(tmp_path / "elsewhere") == {}

    @pytest.mark.parametrize("form", list(ShardFormat))
    def test_images_that_changed_or_vanished_are_reported_and_others_written(
        self, tmp_path: Path, form: ShardFormat
    ) -> None:
        files = samples(3)
        verdicts = of_members(write(tmp_path / "a.tar", tar(files)), files)
        pq.write_table(table(3), tmp_path / "b.parquet")
        verdicts += of_table(tmp_path / "b.parquet", 3)
        verdicts += [
            kept(str(write(tmp_path / f"{number}.jpg", PICTURES[number])), f"{number}.jpg", PICTURES[number])
            for number in range(3)
        ]
        verdicts.append(kept(str(tmp_path / "gone.jpg"), "gone.jpg", b""))
        verdicts.append(kept(member_uri(str(tmp_path / "gone.zip"), "x"), "gone.zip/x", b""))
        (tmp_path / "1.jpg").write_bytes(b"changed")
        files["d/001.jpg"] = PICTURES[9]
        del files["d/002.jpg"]
        write(tmp_path / "a.tar", tar(files))
        pq.write_table(table(2, 1), tmp_path / "b.parquet")
        out = tmp_path / "out"
        done, unplaced = shards(verdicts, WriteShards(str(out), form, image_column="image"))
        names = {one.placement.uri.removeprefix(f"{tmp_path}/"): one.why for one in unplaced}
        assert set(names) == {
            "a.tar!d/001.jpg",
            "a.tar!d/002.jpg",
            *(f"b.parquet!{row}" for row in range(3)),
            "1.jpg",
            "gone.jpg",
            "gone.zip!x",
        }
        for name in ("a.tar!d/001.jpg", "b.parquet!0", "1.jpg"):
            assert names[name].endswith("changed after it was read")
        assert [one.removeprefix(f"{tmp_path}/") for one in done] == ["0.jpg", "2.jpg", "a.tar!d/000.jpg"]
        assert images_in(out) == Counter([PICTURES[0], PICTURES[0], PICTURES[2]])

    def test_images_before_damage_are_written(self, tmp_path: Path) -> None:
        files = {f"{number}.jpg": PICTURES[number] for number in range(20)}
        data = tar(files)
        verdicts = of_members(write(tmp_path / "a.tar", data), files)
        write(tmp_path / "a.tar", data[: len(data) // 2])
        done, unplaced = shards(verdicts, WriteShards(str(tmp_path / "out"), TAR))
        assert 5 <= len(done) <= 15
        assert len(done) + len(unplaced) == 20
        assert set(unpacked(tmp_path / "out/a.tar")) == {name.rpartition("!")[2] for name in done}

    def test_what_is_too_large_for_a_member_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        verdict = kept(str(write(tmp_path / "a.jpg", PICTURES[0])), "a.jpg", PICTURES[0])
        monkeypatch.setattr("transforms.shards.Limits", lambda: Limits(max_member_bytes=100))
        _, [lost] = shards([verdict], WriteShards(str(tmp_path / "out"), TAR))
        assert "a member of an archive may have 100" in lost.why


@pytest.mark.parametrize("form", list(ShardFormat))
def test_odd_names_stay_inside_the_tar_and_the_directory(tmp_path: Path, form: ShardFormat) -> None:
    verdicts: list[Verdict] = []
    for number, name in enumerate(ODD_NAMES):
        path = write(tmp_path / f"in/{number}", PICTURES[number])
        verdicts.append(kept(str(path), name, PICTURES[number], metadata='{"n": 1}'))
        archive = write(tmp_path / f"in/{number}.zip", zipped({"x.jpg": PICTURES[number]}))
        verdicts.append(
            kept(member_uri(str(archive), "x.jpg"), f"{name}/{number}.zip/x.jpg", PICTURES[number])
        )
    members = {
        f"{name}{suffix}": PICTURES[3] for name in ODD_NAMES for suffix in (".jpg", ".txt") if name[-1] != "."
    }
    members = {name: data if name.endswith(".jpg") else b"text" for name, data in members.items()}
    path = write(tmp_path / "in/odd.tar", tar(members, format=tarfile.PAX_FORMAT, errors="surrogateescape"))
    verdicts += of_members(path, members)
    out = tmp_path / "deep/out"
    assert shards(verdicts, WriteShards(str(out), form))[1] == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["deep", "in"]
    assert [one.name for one in (tmp_path / "deep").iterdir()] == ["out"]
    assert sum(images_in(out).values()) == len(verdicts)
    if form == TAR:
        for shard in out.rglob("*.tar"):
            with tarfile.open(shard) as opened:
                for file in opened:
                    assert tarfile.data_filter(file, str(out)).name == file.name
        assert len(unpacked(out / "images-00000-of-00001.tar")) == 2 * len(ODD_NAMES)
        assert len(unpacked(out / "odd.tar")) == len(members)


def test_objects_are_read_and_written(store: dict[str, bytes]) -> None:
    files = samples(2)
    store[uri("in/a.tar")] = tar(files)
    store[uri("in/b.jpg")] = PICTURES[9]
    verdicts = [
        kept(f"{uri('in/a.tar')}!{name}", f"a.tar/{name}", data)
        for name, data in files.items()
        if name.endswith(".jpg")
    ]
    verdicts.append(kept(uri("in/b.jpg"), "b.jpg", PICTURES[9]))
    for _ in range(2):
        assert shards(verdicts, WriteShards(uri("out"), TAR))[1] == []
    written = {name for name in store if "/out/" in name}
    assert written == {uri("out/a.tar"), uri("out/images-00000-of-00001.tar")}
    with tarfile.open(fileobj=io.BytesIO(store[uri("out/a.tar")])) as archive:
        assert set(archive.getnames()) == set(files)


def test_images_are_counted(tmp_path: Path) -> None:
    files = samples(3)
    verdicts = of_members(write(tmp_path / "a.tar", tar(files)), files)
    verdicts.append(kept(str(tmp_path / "gone"), "gone", b""))

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        placed = image_blocks.verdicts(pipeline, verdicts) | WriteShards(str(tmp_path / "out"), PARQUET)
        return {"copies": placed.copies}

    counters = run(build).counters
    assert (counters[metrics.COPIES], counters[metrics.UNPLACED]) == (3, 1)


@pytest.mark.parametrize("form", list(ShardFormat))
def test_full_directory_for_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: ShardFormat
) -> None:
    class Full(io.BytesIO):
        name = "temporary"

        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    files = samples(3)
    verdicts = of_members(write(tmp_path / "a.tar", tar(files)), files)
    monkeypatch.setattr("transforms.shards.tempfile.NamedTemporaryFile", lambda **_: Full())
    with pytest.raises(Exception, match=f"No space left on device: '{tempfile.gettempdir()}'"):
        shards(verdicts, WriteShards(str(tmp_path / "out"), form))


def test_errors_of_the_system_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = samples(3)
    verdicts = of_members(write(tmp_path / "a.tar", tar(files)), files)

    def full(*_: Any, **__: Any) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transforms.shards.place_file", full)
    with pytest.raises(Exception, match="No space left on device") as raised:
        shards(verdicts, WriteShards(str(tmp_path / "out"), TAR))
    assert not isinstance(raised.value, PlacingError)
