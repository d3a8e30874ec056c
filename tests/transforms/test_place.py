"""Copies: one for each name, whole, inside the folder, and the second time nothing at all."""

import dataclasses
import hashlib
import itertools
import os
import string
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from hypothesis import example, given, settings
from hypothesis import strategies as st

from beam_dedup.core.model import BASE_VIEW, ImageRef, Placement, Reason, Rejection, Status, Verdict, Witness
from beam_dedup.core.paths import DUPLICATES_FOLDER, PARTIAL_PREFIX, copy_name, duplicate_name
from tests.transforms.files import write
from tests.transforms.pipelines import REPEATED, THREADS, run
from transforms import PlaceCopies, metrics
from transforms.progress import PLACED, Tally


class Entry(NamedTuple):
    data: bytes
    inode: int
    modified_ns: int


def tree(folder: Path) -> dict[str, Entry]:
    """All files below a folder."""
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


def place(verdicts: list[Verdict], transform: PlaceCopies, *flags: str) -> tuple[list[str], int]:
    """The paths of the copies that were told, and how many were counted as made."""

    def build(pipeline: beam.Pipeline) -> dict[str, Any]:
        return {"copies": pipeline | beam.Create(verdicts).with_output_types(Verdict) | transform}

    ran = run(build, *flags)
    for copy in ran.values["copies"]:
        assert copy.digest == hashlib.sha256(Path(copy.path).read_bytes()).digest()
        assert copy.uri in {verdict.ref.uri for verdict in verdicts if verdict.digest == copy.digest}
    return [copy.path for copy in ran.values["copies"]], ran.counters.get(metrics.COPIES, 0)


ODD_NAMES = (
    "../x",
    "/etc/x",
    "a/../../x",
    ".",
    "a//b",
    f"{DUPLICATES_FOLDER}/ab/x",
    f"{PARTIAL_PREFIX}x",
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


def test_each_kept_image_once_under_its_own_path(tmp_path: Path) -> None:
    one, two, three = source(tmp_path, b"one", b"two", b"three")
    verdicts = [kept(one, "a/x.jpg"), kept(two, "b/x.jpg"), kept(three, "x.jpg")]
    verdicts.append(duplicate(three, "c/x.jpg", verdicts[0]))
    verdicts.append(
        Verdict.of_rejection(Rejection(ImageRef(str(tmp_path / "gone"), "gone"), Reason.NOT_FOUND))
    )
    out = tmp_path / "deep/out"
    paths, copies = place(verdicts, PlaceCopies(str(out)))
    assert contents(out) == {"a/x.jpg": b"one", "b/x.jpg": b"two", "x.jpg": b"three"}
    assert sorted(paths) == sorted(str(out / name) for name in contents(out))
    assert copies == 3


def test_duplicates_lie_beside_those_of_the_same_image(tmp_path: Path) -> None:
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


def test_odd_names_stay_inside_and_apart(tmp_path: Path) -> None:
    files = source(tmp_path, *(name.encode("utf-8", "surrogateescape") for name in ODD_NAMES))
    verdicts = [kept(path, name) for path, name in zip(files, ODD_NAMES, strict=True)]
    verdicts += [duplicate(path, name, verdicts[0]) for path, name in zip(files, ODD_NAMES, strict=True)]
    out = tmp_path / "deep/down/out"
    paths, _ = place(verdicts, PlaceCopies(str(out), duplicates=True))
    assert len(set(paths)) == 2 * len(ODD_NAMES)
    found = contents(out)
    assert sorted(found.values()) == sorted([path.read_bytes() for path in files] * 2)
    assert sum(name.startswith("_duplicates/") for name in found) == len(ODD_NAMES)
    assert sorted(os.listdir(tmp_path)) == ["deep", "in"]
    assert os.listdir(tmp_path / "deep/down") == ["out"]


@pytest.mark.parametrize(
    "name", ["%20" * 84, "a%41" * 63, "\\" * 255, "ø%2f" * 50], ids=["spaces", "A", "back", "ø"]
)
def test_a_name_grown_too_long_by_escapes_is_still_placed(tmp_path: Path, name: str) -> None:
    """A file system holds names of 255 bytes; crawlers make names of URLs, which are full of escapes."""
    [file] = source(tmp_path, b"data")
    write(tmp_path / name, b"the system has no objection to the name itself")
    paths, _ = place([kept(file, name), kept(file, f"{name[:-3]}x")], PlaceCopies(str(tmp_path / "out")))
    assert [Path(path).read_bytes() for path in paths] == [b"data"] * 2
    assert len(set(paths)) == 2


@pytest.mark.parametrize("flags", [REPEATED, THREADS])
def test_a_second_run_changes_nothing(tmp_path: Path, flags: tuple[str, ...]) -> None:
    files = source(tmp_path, *(bytes([number]) * 10 for number in range(30)))
    verdicts = [kept(path, f"{number % 7}/{number}") for number, path in enumerate(files)]
    verdicts += [duplicate(path, f"again/{path.name}", verdicts[0]) for path in files]
    transform = PlaceCopies(str(tmp_path / "out"), duplicates=True)
    before = tree(tmp_path / "in")
    paths, copies = place(verdicts, transform, *flags)
    first = tree(tmp_path / "out")
    assert len(first) == 60
    if flags != REPEATED:
        assert copies == 60
    again, copied_again = place(verdicts, transform, *flags)
    assert tree(tmp_path / "out") == first
    assert (sorted(again), copied_again) == (sorted(paths), 0)
    assert tree(tmp_path / "in") == before


def test_what_is_there_but_wrong_is_replaced(tmp_path: Path) -> None:
    files = source(tmp_path, b"right", b"right too", b"fine", b"linked")
    verdicts = [kept(path, name) for path, name in zip(files, "abcd", strict=True)]
    out = tmp_path / "out"
    write(out / "a", b"wrong")
    write(out / "b", b"")
    write(out / "c", b"fine")
    (out / "d").symlink_to(tmp_path / "theirs")
    write(tmp_path / "theirs", b"not ours to change")
    fine = tree(out)["c"]
    _, copies = place(verdicts, PlaceCopies(str(out)))
    assert contents(out) == {"a": b"right", "b": b"right too", "c": b"fine", "d": b"linked"}
    assert tree(out)["c"] == fine
    assert copies == 3
    assert (tmp_path / "theirs").read_bytes() == b"not ours to change"


def test_what_lies_there_besides_is_left_alone(tmp_path: Path) -> None:
    [file] = source(tmp_path, b"one")
    write(tmp_path / "out/theirs/file", b"theirs")
    place([kept(file, "one")], PlaceCopies(str(tmp_path / "out")))
    assert contents(tmp_path / "out") == {"one": b"one", "theirs/file": b"theirs"}


def test_a_copy_has_the_time_of_the_image_and_no_more_rights_than_new_files(tmp_path: Path) -> None:
    [file] = source(tmp_path, b"one")
    file.chmod(0o751)
    os.utime(file, ns=(1_600_000_000_000_000_001, 1_500_000_000_123_456_789))
    place([kept(file, "one")], PlaceCopies(str(tmp_path / "out")))
    copy = tmp_path / "out/one"
    assert copy.stat().st_mtime_ns == 1_500_000_000_123_456_789
    assert copy.stat().st_mode == write(tmp_path / "new", b"").stat().st_mode


def test_copies_are_told_as_they_are_made(tmp_path: Path) -> None:
    files = source(tmp_path, b"one", b"two")
    (tmp_path / "tally").mkdir()
    tally = Tally(str(tmp_path / "tally"))
    place([kept(path, path.name) for path in files], PlaceCopies(str(tmp_path / "out"), tally=tally))
    assert tally.total(PLACED) == 2


def test_nothing_in_nothing_out(tmp_path: Path) -> None:
    assert place([], PlaceCopies(str(tmp_path / "out"))) == ([], 0)
    assert os.listdir(tmp_path) == []


def test_types_are_declared(tmp_path: Path) -> None:
    verdicts = beam.Pipeline(options=PipelineOptions([])) | beam.Create(
        [Verdict(ImageRef("a", "a"), Status.KEPT)]
    )
    assert (verdicts | PlaceCopies(str(tmp_path))).element_type is Placement


# Names as strangers make them: of what means something to a path, an escape or us, and of anything else.
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
    ".dedup-",
    "a",
    "F",
    "2",
    "\udcff",
    "",
]
_NAMES = st.lists(st.sampled_from(_PIECES) | st.text(max_size=3), max_size=8).map("".join)


def inside(path: str) -> bool:
    """Whether a relative path stays below its folder, on Windows too, and out of what is ours there."""
    pure = PurePosixPath(path)
    return (
        bool(path)
        and not pure.is_absolute()
        and not {"", ".", ".."} & set(path.split("/"))
        and "\0" not in path
        and "\\" not in path
    )


class TestNames:
    @given(_NAMES, _NAMES)
    @settings(max_examples=1500, deadline=None)
    @example("a", "a/")
    @example("a//", "a//%2F")
    @example("", "/")
    @example("_duplicates/x", "%5Fduplicates/x")
    @example("..", "%2E%2E")
    @example("%2E", ".")
    @example("\\", "%5C")
    def test_two_names_never_become_one(self, one: str, other: str) -> None:
        assert (copy_name(one) == copy_name(other)) == (one == other)

    @pytest.mark.parametrize("length", range(1, 7))
    def test_no_two_short_names_become_one(self, length: int) -> None:
        """All names of the characters that matter: random ones meet too seldom."""
        names = ["".join(letters) for letters in _all("/.%2F", length)]
        assert len({copy_name(name) for name in names}) == len(names)

    @given(_NAMES)
    @settings(max_examples=1500, deadline=None)
    @example("../x")
    @example("/etc/x")
    @example("_duplicates")
    @example("_duplicates/../../x")
    @example("./_duplicates/x")
    @example("/_duplicates/x")
    def test_no_name_leads_out_or_into_what_is_ours(self, name: str) -> None:
        path = copy_name(name)
        assert inside(path)
        assert path.split("/")[0] != DUPLICATES_FOLDER
        assert not path.startswith(PARTIAL_PREFIX)
        assert inside(duplicate_name("ab" * 32, name))
        assert duplicate_name("ab" * 32, name).startswith(f"{DUPLICATES_FOLDER}/{'ab' * 32}/")

    @given(st.lists(st.text(string.ascii_letters + string.digits + " .-_äß日\udcff", min_size=1), min_size=1))
    def test_ordinary_names_stay_as_they_are(self, parts: list[str]) -> None:
        ordinary = [
            part for part in parts if set(part) != {"."} and not part.startswith((".dedup-", "_duplicates"))
        ]
        if ordinary:
            assert copy_name("/".join(ordinary)) == "/".join(ordinary)


def _all(letters: str, length: int) -> list[tuple[str, ...]]:
    return list(itertools.product(letters, repeat=length))
