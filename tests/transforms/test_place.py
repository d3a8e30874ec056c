"""Tests placing: one whole copy per name, inside the output directory; a second run changes nothing."""

import dataclasses
import errno
import hashlib
import io
import itertools
import os
import random
import socket
import string
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_dedup.core.model import (
    BASE_VIEW,
    ImageRef,
    Placement,
    Reason,
    Rejection,
    Status,
    Unplaced,
    Verdict,
    Witness,
)
from beam_dedup.core.paths import (
    DUPLICATES_FOLDER,
    PARTIAL_PREFIX,
    copy_name,
    duplicate_name,
    in_another_form,
    is_partial,
    name_of_copy,
)
from tests.core.archives.made_archives import tar, zipped
from tests.core.short_reads import BadDisk
from tests.transforms import image_blocks
from tests.transforms.files import write
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import PlaceCopies, metrics
from transforms.place import placed
from transforms.storage import files as storage_files
from transforms.storage import placing
from transforms.storage.placing import PlaceMode, PlacingError, place_file
from transforms.tally import PLACED, Tally


class Entry(NamedTuple):
    data: bytes
    inode: int
    modified_ns: int


def tree(folder: Path) -> dict[str, Entry]:
    """Returns all files below a directory."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return {
        str(path.relative_to(folder)): Entry(path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
        for path in files
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {name: entry.data for name, entry in tree(folder).items()}


def kept(path: Path, name: str) -> Verdict:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return Verdict(ImageRef(str(path), name), Status.KEPT, digest=digest)


def duplicate(path: Path, name: str, of: Verdict) -> Verdict:
    witness = Witness(of.ref.uri, of.digest, 3, 9, BASE_VIEW)
    return dataclasses.replace(kept(path, name), status=Status.DUPLICATE, reason=Reason.NEAR, witness=witness)


class Done(NamedTuple):
    paths: list[str]  # of the copies, made now or before
    made: int  # copies that were counted as made
    unplaced: dict[str, str]  # the reason, by the path of the copy


def place(verdicts: list[Verdict], transform: PlaceCopies, *flags: str) -> Done:
    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        placed = image_blocks.verdicts(pipeline, verdicts) | transform
        return {"copies": placed.copies, "unplaced": placed.unplaced}

    ran = run(build, *flags)
    unplaced = {one.placement.path: one.why for one in ran.values["unplaced"]}
    assert ran.counters.get(metrics.UNPLACED, 0) == len(unplaced) == len(ran.values["unplaced"])
    for copy in ran.values["copies"]:
        assert copy.digest == hashlib.sha256(Path(copy.path).read_bytes()).digest()
        assert copy.uri in {verdict.ref.uri for verdict in verdicts if verdict.digest == copy.digest}
    return Done([copy.path for copy in ran.values["copies"]], ran.counters.get(metrics.COPIES, 0), unplaced)


ODD_NAMES = (
    "../x",
    "/etc/x",
    "a/../../x",
    ".",
    "a//b",
    f"{DUPLICATES_FOLDER}/ab/x",
    f"{PARTIAL_PREFIX}x",
    f"{PARTIAL_PREFIX}1-x.part",
    "50%.jpg",
    "%2E%2E/x",
    "back\\slash",
    "new\nline",
    "-rf",
    "\udcff\udc80",
    "日本/å.jpg",
    "x" * 255,
)


def source(folder: Path, *data: bytes) -> list[Path]:
    return [write(folder / f"in/{number}", one) for number, one in enumerate(data)]


def test_each_kept_image_is_placed_once_under_its_own_path(tmp_path: Path) -> None:
    one, two, three = source(tmp_path, b"one", b"two", b"three")
    verdicts = [kept(one, "a/x.jpg"), kept(two, "b/x.jpg"), kept(three, "x.jpg")]
    verdicts.append(duplicate(three, "c/x.jpg", verdicts[0]))
    verdicts.append(
        Verdict.of_rejection(Rejection(ImageRef(str(tmp_path / "gone"), "gone"), Reason.NOT_FOUND))
    )
    out = tmp_path / "deep/out"
    done = place(verdicts, PlaceCopies(str(out)))
    assert contents(out) == {"a/x.jpg": b"one", "b/x.jpg": b"two", "x.jpg": b"three"}
    assert sorted(done.paths) == sorted(str(out / name) for name in contents(out))
    assert (done.made, done.unplaced) == (3, {})


def test_duplicates_of_one_image_are_placed_in_one_directory(tmp_path: Path) -> None:
    one, two, three, four = source(tmp_path, b"one", b"two", b"three", b"four")
    first, second = kept(one, "a.jpg"), kept(two, "b.jpg")
    verdicts = [
        first,
        second,
        duplicate(three, "x/a.jpg", first),
        duplicate(four, "y/a.jpg", first),
        duplicate(four, "a.jpg/z", second),
    ]
    place(verdicts, PlaceCopies(str(tmp_path / "out"), duplicates=True))
    assert contents(tmp_path / "out") == {
        "a.jpg": b"one",
        "b.jpg": b"two",
        f"_duplicates/{first.digest.hex()}/x/a.jpg": b"three",
        f"_duplicates/{first.digest.hex()}/y/a.jpg": b"four",
        f"_duplicates/{second.digest.hex()}/a.jpg/z": b"four",
    }


def test_odd_names_stay_inside_the_directory_and_differ(tmp_path: Path) -> None:
    files = source(tmp_path, *(name.encode("utf-8", "surrogateescape") for name in ODD_NAMES))
    verdicts = [kept(path, name) for path, name in zip(files, ODD_NAMES, strict=True)]
    verdicts += [duplicate(path, name, verdicts[0]) for path, name in zip(files, ODD_NAMES, strict=True)]
    out = tmp_path / "deep/down/out"
    done = place(verdicts, PlaceCopies(str(out), duplicates=True))
    assert len(set(done.paths)) == 2 * len(ODD_NAMES)
    found = contents(out)
    assert sorted(found.values()) == sorted([path.read_bytes() for path in files] * 2)
    assert sum(name.startswith("_duplicates/") for name in found) == len(ODD_NAMES)
    assert sorted(os.listdir(tmp_path)) == ["deep", "in"]
    assert os.listdir(tmp_path / "deep/down") == ["out"]


@pytest.mark.parametrize(
    "name", ["%20" * 84, "a%41" * 63, "\\" * 255, "ø%2f" * 50], ids=["spaces", "A", "back", "ø"]
)
def test_a_name_made_too_long_by_escapes_is_placed(tmp_path: Path, name: str) -> None:
    """A file name has at most 255 bytes; crawlers make names of URLs, which are full of escapes."""
    [file] = source(tmp_path, b"data")
    write(tmp_path / name, b"the system accepts the name itself")
    done = place([kept(file, name), kept(file, f"{name[:-3]}x")], PlaceCopies(str(tmp_path / "out")))
    assert [Path(path).read_bytes() for path in done.paths] == [b"data"] * 2
    assert len(set(done.paths)) == 2


@pytest.mark.parametrize("flags", [REPEATED, THREADS])
def test_a_second_run_changes_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    files = source(tmp_path, *(bytes([number]) * 10 for number in range(30)))
    verdicts = [kept(path, f"{number % 7}/{number}") for number, path in enumerate(files)]
    verdicts += [duplicate(path, f"again/{path.name}", verdicts[0]) for path in files]
    transform = PlaceCopies(str(tmp_path / "out"), duplicates=True)
    before = tree(tmp_path / "in")
    done = place(verdicts, transform, *flags)
    first = tree(tmp_path / "out")
    assert len(first) == 60
    if flags != REPEATED:
        assert done.made == 60
    again = place(verdicts, transform, *flags)
    assert tree(tmp_path / "out") == first
    assert (sorted(again.paths), again.made, again.unplaced) == (sorted(done.paths), 0, {})
    assert tree(tmp_path / "in") == before


def test_existing_files_are_never_replaced(tmp_path: Path) -> None:
    """Links are not followed either, and a file is not used as a directory. All other copies are made, and all is reported."""
    files = source(tmp_path, b"one", b"two", b"three", b"four", b"five", b"six")
    names = ("other", "empty", "same", "linked", "folder", "file/below")
    verdicts = [kept(path, name) for path, name in zip(files, names, strict=True)]
    out = tmp_path / "out"
    write(out / "other", b"another")
    write(out / "empty", b"")
    write(out / "same", b"three")
    write(tmp_path / "theirs", b"theirs")
    (out / "linked").symlink_to(tmp_path / "theirs")
    write(out / "folder/file", b"x")
    write(out / "file", b"y")
    before = tree(tmp_path)
    done = place(verdicts, PlaceCopies(str(out)))
    assert tree(tmp_path) == before
    assert (done.paths, done.made) == ([str(out / "same")], 0)
    assert set(done.unplaced) == {str(out / name) for name in names if name != "same"}
    assert all(str(out) in why for why in done.unplaced.values())


def test_an_image_that_changed_or_vanished_is_not_placed(tmp_path: Path) -> None:
    """A copy has the bytes that were judged, or it is not made at all."""
    files = source(tmp_path, b"changed", b"gone", b"fine")
    verdicts = [kept(path, path.name) for path in files]
    files[0].write_bytes(b"otherwise")
    files[1].unlink()
    done = place(verdicts, PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {"2": b"fine"}
    assert "changed" in done.unplaced[str(tmp_path / "out/0")]
    assert "vanished" in done.unplaced[str(tmp_path / "out/1")]


class TestLinksInTheOutputDirectory:
    @pytest.mark.parametrize("how", PlaceMode)
    def test_no_copy_is_written_through_a_link(self, tmp_path: Path, how: PlaceMode) -> None:
        files = source(tmp_path, b"one", b"two", b"three", b"four")
        out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
        write(elsewhere / "c/theirs", b"theirs")
        out.mkdir()
        for name in ("sub", DUPLICATES_FOLDER):
            (out / name).symlink_to("../elsewhere")
        write(out / "deep/x", b"x")
        (out / "deep/sub").symlink_to(elsewhere)
        first = kept(files[0], "a.jpg")
        verdicts = [first, kept(files[1], "sub/b.jpg"), kept(files[2], "deep/sub/c/d.jpg")]
        verdicts.append(duplicate(files[3], "e.jpg", first))
        before = tree(elsewhere)
        done = place(verdicts, PlaceCopies(str(out), duplicates=True, how=how))
        assert tree(elsewhere) == before
        assert done.paths == [str(out / "a.jpg")]
        not_followed = "is a link; links below the output directory are not followed"
        assert sorted(done.unplaced.values()) == sorted(
            f"{out / name} {not_followed}" for name in ("sub", "deep/sub", DUPLICATES_FOLDER)
        )

    def test_copy_behind_a_link_is_not_taken_for_one(self, tmp_path: Path) -> None:
        write(tmp_path / "in.zip", zipped({"a.jpg": b"one"}))
        write(tmp_path / "elsewhere/a.jpg", b"one")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/in.zip").symlink_to("../elsewhere")
        digest = hashlib.sha256(b"one").digest()
        member = Verdict(ImageRef(f"{tmp_path}/in.zip!a.jpg", "in.zip/a.jpg"), Status.KEPT, digest=digest)
        done = place([member], PlaceCopies(str(tmp_path / "out")))
        assert list(done.unplaced.values()) == [
            f"{tmp_path}/out/in.zip is a link; links below the output directory are not followed"
        ]

    def test_output_directory_may_be_a_link_itself(self, tmp_path: Path) -> None:
        [file] = source(tmp_path, b"one")
        (tmp_path / "real").mkdir()
        (tmp_path / "out").symlink_to("real")
        place([kept(file, "sub/a.jpg")], PlaceCopies(str(tmp_path / "out")))
        assert contents(tmp_path / "real") == {"sub/a.jpg": b"one"}

    def test_link_to_a_device_is_not_opened_and_not_replaced(self, tmp_path: Path) -> None:
        [file] = source(tmp_path, b"one")
        (tmp_path / "out").mkdir()
        (tmp_path / "out/a.jpg").symlink_to("/dev/zero")
        os.mkfifo(tmp_path / "out/b.jpg")
        done = place([kept(file, "a.jpg"), kept(file, "b.jpg")], PlaceCopies(str(tmp_path / "out")))
        assert set(done.unplaced) == {f"{tmp_path}/out/{name}" for name in ("a.jpg", "b.jpg")}
        assert os.readlink(tmp_path / "out/a.jpg") == "/dev/zero"


class TestSourcesThatChange:
    """A kept file that becomes something else before it is copied costs only itself."""

    @pytest.mark.parametrize("how", PlaceMode)
    def test_each_is_reported_and_all_else_is_placed(self, tmp_path: Path, how: PlaceMode) -> None:
        files = source(tmp_path, b"pipe", b"directory", b"socket", b"loop", b"device", b"fine")
        verdicts = [kept(path, path.name) for path in files]
        for path in files[:-1]:
            path.unlink()
        os.mkfifo(files[0])
        files[1].mkdir()
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(files[2]))
        files[3].symlink_to(files[3].name)
        files[4].symlink_to("/dev/zero")
        out = tmp_path / "out"
        done = place(verdicts, PlaceCopies(str(out), how=how))
        assert contents(out) == {"5": b"fine"}
        why = {
            0: "it is a pipe, not a regular file",
            1: "it is a directory, not a regular file",
            2: "it is a socket, not a regular file",
            3: "Too many levels of symbolic links",
            4: "it is a device, not a regular file",
        }
        assert done.unplaced == {
            str(out / str(number)): f"{files[number]} can't be read again: {text}"
            for number, text in why.items()
        }

    def test_file_that_becomes_a_pipe_while_it_is_opened_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        [file] = source(tmp_path, b"one")
        verdict = kept(file, "a.jpg")
        look = os.stat

        def replaced_after_the_look(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
            status = look(path, *arguments, **options)
            if path == str(file):
                file.unlink(missing_ok=True)
                os.mkfifo(file)
            return status

        monkeypatch.setattr(os, "stat", replaced_after_the_look)
        with pytest.raises(PlacingError, match="it is a pipe, not a regular file"):
            place_file(str(file), str(tmp_path / "out/a.jpg"), verdict.digest, PlaceMode.COPY)

    def test_read_error_of_a_source_is_reported(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = source(tmp_path, b"bad sector", b"fine")
        opened = storage_files.open_bytes

        class BadSector(io.BytesIO):
            def read(self, _size: int | None = -1, /) -> bytes:
                if self.tell():
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return super().read(3)

        def open_bytes(path: str, generation: str = "") -> Any:
            return BadSector(b"bad sector") if path == str(files[0]) else opened(path, generation)

        monkeypatch.setattr(placing, "open_bytes", open_bytes)
        done = place([kept(path, path.name) for path in files], PlaceCopies(str(tmp_path / "out")))
        assert contents(tmp_path / "out") == {"1": b"fine"}
        assert list(done.unplaced.values()) == [f"{files[0]} can't be read again: Input/output error"]


class TestNamesOfFilesAndDirectories:
    """A crawl has images at /img and at /img/1.jpg; a file system holds only one of the two names."""

    NAMES = ("img", "img/1.jpg", "img/2/x", "img/2", "a/img", "img2/y")
    PATHS = ("%69mg", "img/1.jpg", "img/2/x", "img/%32", "a/img", "img2/y")

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize("flags", [(), THREADS])
    def test_each_image_gets_a_name_whatever_the_order(
        self, tmp_path: Path, seed: int, flags: tuple[str, ...]
    ) -> None:
        files = source(tmp_path, *(name.encode() for name in self.NAMES))
        verdicts = [kept(path, name) for path, name in zip(files, self.NAMES, strict=True)]
        verdicts += [duplicate(path, name, verdicts[0]) for path, name in zip(files, self.NAMES, strict=True)]
        random.Random(seed).shuffle(verdicts)
        transform = PlaceCopies(str(tmp_path / "out"), duplicates=True)
        done = place(verdicts, transform, *flags)
        assert (done.made, done.unplaced) == (len(verdicts), {})
        expected = dict(zip(self.PATHS, (name.encode() for name in self.NAMES), strict=True))
        group = f"{DUPLICATES_FOLDER}/{hashlib.sha256(b'img').hexdigest()}"
        assert contents(tmp_path / "out") == expected | {
            f"{group}/{path}": data for path, data in expected.items()
        }
        assert [name_of_copy(path) for path in self.PATHS] == list(self.NAMES)
        before = tree(tmp_path / "out")
        assert place(verdicts, transform).made == 0
        assert tree(tmp_path / "out") == before

    def test_members_of_archives_too(self, tmp_path: Path) -> None:
        members = {"img": b"one", "img/1.jpg": b"two"}
        path = write(tmp_path / "in.tar", tar(members))
        verdicts = [
            Verdict(
                ImageRef(f"{path}!{name}", f"in.tar/{name}"),
                Status.KEPT,
                digest=hashlib.sha256(data).digest(),
            )
            for name, data in members.items()
        ]
        place(verdicts, PlaceCopies(str(tmp_path / "out")))
        assert contents(tmp_path / "out") == {"in.tar/%69mg": b"one", "in.tar/img/1.jpg": b"two"}

    @pytest.mark.parametrize("order", [1, -1])
    def test_stream_finds_a_name_for_the_later_one(self, tmp_path: Path, order: int) -> None:
        files = source(tmp_path, b"img", b"img/1.jpg", b"img/2.jpg")
        names = ("img", "img/1.jpg", "img/2.jpg")
        out = str(tmp_path / "out")
        made = []
        for file, name in list(zip(files, names, strict=True))[::order]:
            wanted = Placement(str(file), f"{out}/{name}", kept(file, name).digest)

            def place_one(one: Placement) -> bool:
                return place_file(one.uri, one.path, one.digest, PlaceMode.COPY, folder=out)

            for is_first in (True, False):
                one, result = placed(wanted, place_one, out, moves=True)
                assert result is is_first
            made.append(one.path.removeprefix(f"{out}/"))
        found = contents(tmp_path / "out")
        assert sorted(found.values()) == [b"img", b"img/1.jpg", b"img/2.jpg"]
        assert made == (
            ["img", "%69mg/1.jpg", "%69mg/2.jpg"] if order > 0 else ["img/2.jpg", "img/1.jpg", "%69mg"]
        )

    @given(st.lists(st.sampled_from(["a", "b", "%", "%2F", "%~", "/", "\udcff"]), min_size=1, max_size=6))
    def test_other_form_is_reversible_and_no_name_has_it(self, pieces: list[str]) -> None:
        path = copy_name("".join(pieces))
        other = in_another_form(path, -1)
        assert other != path
        assert inside(other)
        assert name_of_copy(other) in ("".join(pieces), None)
        assert copy_name(other) != other


def test_image_that_can_no_longer_be_read_is_named_and_all_others_are_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_bytes(path: str, generation: str = "") -> BinaryIO:
        return (
            cast(BinaryIO, BadDisk(path))
            if path.endswith("/1")
            else storage_files.open_bytes(path, generation)
        )

    monkeypatch.setattr(BadDisk, "bad", 3)
    monkeypatch.setattr(placing, "open_bytes", open_bytes)
    first, bad, last = source(tmp_path, b"first", b"on a bad sector", b"last")
    done = place([kept(path, path.name) for path in (first, bad, last)], PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {"0": b"first", "2": b"last"}
    assert done.unplaced == {
        str(tmp_path / "out/1"): f"{bad} can't be read again: Input/output error",
    }


def test_error_of_the_output_directory_ends_the_run(tmp_path: Path) -> None:
    """Unlike an error of a source, it is that of all copies."""
    (picture,) = source(tmp_path, b"picture")
    digest = hashlib.sha256(b"picture").digest()
    with pytest.raises(OSError, match="File name too long"):
        place_file(str(picture), str(tmp_path / ("x" * 300)), digest, PlaceMode.COPY)


@pytest.mark.parametrize(("how", "other"), list(itertools.permutations(PlaceMode, 2)))
def test_another_place_mode_replaces_the_copies_of_the_first(
    tmp_path: Path, how: PlaceMode, other: PlaceMode
) -> None:
    """It is the same image, so its copy may be replaced; the image itself is not changed."""
    [file] = source(tmp_path, b"data")
    digest = hashlib.sha256(b"data").digest()
    target = tmp_path / "out/a/b"

    def form() -> PlaceMode:
        if target.is_symlink():
            return PlaceMode.SYMLINK
        return PlaceMode.HARDLINK if target.samefile(file) else PlaceMode.COPY

    for wanted in (how, other):
        assert place_file(str(file), str(target), digest, wanted)
        assert form() == wanted
        assert not place_file(str(file), str(target), digest, wanted), (
            "the second time there is nothing to do"
        )
        assert (target.read_bytes(), file.read_bytes()) == (b"data", b"data")
        assert os.listdir(target.parent) == ["b"]


def test_other_files_in_the_directory_are_left_alone(tmp_path: Path) -> None:
    [file] = source(tmp_path, b"one")
    write(tmp_path / "out/theirs/file", b"theirs")
    place([kept(file, "one")], PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {"one": b"one", "theirs/file": b"theirs"}


def test_a_copy_has_the_time_of_the_image_and_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    [file] = source(tmp_path, b"one")
    file.chmod(0o751)
    os.utime(file, ns=(1_600_000_000_000_000_001, 1_500_000_000_123_456_789))
    place([kept(file, "one")], PlaceCopies(str(tmp_path / "out")))
    copy = tmp_path / "out/one"
    assert copy.stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert copy.stat().st_mode == write(tmp_path / "new", b"").stat().st_mode


def test_copies_are_tallied(tmp_path: Path) -> None:
    files = source(tmp_path, b"one", b"two")
    (tmp_path / "tally").mkdir()
    tally = Tally(str(tmp_path / "tally"))
    place([kept(path, path.name) for path in files], PlaceCopies(str(tmp_path / "out"), tally=tally))
    assert tally.total(PLACED) == 2


def test_no_verdicts_make_no_copies(tmp_path: Path) -> None:
    assert place([], PlaceCopies(str(tmp_path / "out"))) == ([], 0, {})
    assert os.listdir(tmp_path) == []


def test_types_are_declared(tmp_path: Path) -> None:
    verdicts = image_blocks.verdicts(
        beam.Pipeline(options=PipelineOptions([])), [Verdict(ImageRef("a", "a"), Status.KEPT)]
    )
    done = verdicts | PlaceCopies(str(tmp_path))
    assert done.copies.element_type is Placement
    assert done.unplaced.element_type is Unplaced


# Names as strangers choose them: parts with a meaning in paths, in escapes or to this program, and any other text.
_PIECES = [
    "/",
    ".",
    "..",
    "%",
    "%2",
    "%25",
    "%2F",
    "%2E",
    "\\",
    "\0",
    "_duplicates",
    ".dedup-1-x.part",
    "long" * 60,
    "a",
    "F",
    "2",
    "\udcff",
    "",
]
_NAMES = st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=8).map("".join)


def inside(path: str) -> bool:
    """Returns whether a relative path is below its directory, also on Windows, and has no part that is too long."""
    pure = PurePosixPath(path)
    return (
        bool(path)
        and not pure.is_absolute()
        and not {"", ".", ".."} & set(path.split("/"))
        and "\0" not in path
        and "\\" not in path
        and all(len(part.encode("utf-8", "surrogateescape")) <= 255 for part in path.split("/"))
    )


class TestNames:
    @given(_NAMES, _NAMES)
    @settings(max_examples=600, deadline=None)
    @example("a", "a/")
    @example("a//", "a//%2F")
    @example("", "/")
    @example("_duplicates/x", "%5Fduplicates/x")
    @example("..", "%2E%2E")
    @example("%2E", ".")
    @example("\\", "%5C")
    def test_different_names_stay_different(self, one: str, other: str) -> None:
        assert (copy_name(one) == copy_name(other)) == (one == other)

    @pytest.mark.parametrize("length", range(1, 7))
    def test_all_short_names_stay_different(self, length: int) -> None:
        """All names of the special characters, because random names hardly ever collide."""
        names = ["".join(letters) for letters in _all("/.%2F", length)]
        assert len({copy_name(name) for name in names}) == len(names)

    @pytest.mark.parametrize("name", ["x" * 300, "x" * 250 + "%20.jpg", "日" * 100 + ".jpg", "\udcff" * 256])
    def test_a_shortened_name_is_unique(self, name: str) -> None:
        short = copy_name(name)
        assert len(os.fsencode(short)) <= 255
        assert os.path.splitext(short)[1] == os.path.splitext(name)[1]
        assert copy_name(short) != short, "another file may have that name"
        assert copy_name(f"{name[0]}{name}") != short

    @given(_NAMES)
    @settings(max_examples=600, deadline=None)
    @example("../x")
    @example("/etc/x")
    @example("_duplicates")
    @example("_duplicates/../../x")
    @example("./_duplicates/x")
    @example("/_duplicates/x")
    def test_no_name_leads_outside_or_into_our_own_files(self, name: str) -> None:
        path = copy_name(name)
        assert inside(path)
        assert path.split("/")[0] != DUPLICATES_FOLDER
        assert not is_partial(path.split("/")[-1])
        assert inside(duplicate_name("ab" * 32, name))
        assert duplicate_name("ab" * 32, name).startswith(f"{DUPLICATES_FOLDER}/{'ab' * 32}/")

    @given(
        st.lists(
            st.text(string.ascii_letters + string.digits + " .-_äß日\udcff", min_size=1, max_size=40),
            min_size=1,
        )
    )
    def test_ordinary_names_are_not_changed(self, parts: list[str]) -> None:
        ordinary = [
            part for part in parts if set(part) != {"."} and not part.startswith((".dedup-", "_duplicates"))
        ]
        if ordinary:
            assert copy_name("/".join(ordinary)) == "/".join(ordinary)


def _all(letters: str, length: int) -> list[tuple[str, ...]]:
    return list(itertools.product(letters, repeat=length))
