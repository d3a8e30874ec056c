"""Listing leaves out what a selection leaves out: it walks nothing in vain, and counts each thing once."""

import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.reading.selection import Exclusions, Selection, Selector
from tests.core.reading.test_selection import make_files, random_files, right_patterns
from tests.transforms.object_store import Store, uri
from transforms import metrics
from transforms.read import list_rows
from transforms.storage import listing
from transforms.storage.listing import list_inputs
from transforms.stream.pubsub import parsed_arrivals
from transforms.stream.watch import ScanTimes, Watch, WatchedSource
from transforms.tally import Tally

OTHER_DEVICE = Path("/dev/shm")


def listed(
    *inputs: object, links_inside: bool = False, outputs: tuple[str, ...] = (), **choices: Any
) -> tuple[list[str], Exclusions]:
    """Returns the names of the files that are found, in their order, and what was left out."""
    exclusions = Exclusions()
    paths = [str(path) for path in inputs]
    files = list_inputs(paths, outputs, links_inside, Selection(**choices), exclusions)
    return [file.name for file in files], exclusions


def files_of_size(folder: Path, sizes: dict[str, int]) -> None:
    make_files(folder, list(sizes))
    for name, size in sizes.items():
        (folder / name).write_bytes(bytes(size))


def is_left_out(selector: Selector, folder: str) -> bool:
    """Returns whether a directory, or one above it, is left out."""
    parts = folder.split("/")
    return any(selector.directory("/".join(parts[:depth])) for depth in range(1, len(parts) + 1))


def test_walking_leaves_out_what_the_patterns_leave_out_of_a_list_of_paths(tmp_path: Path) -> None:
    """In the same order, and every file and every directory that is not walked is counted once."""
    rng = random.Random(7)
    walked_less = 0
    for number in range(40):
        folder = tmp_path / str(number)
        make_files(folder, random_files(rng))
        every, nothing = listed(folder)
        assert not nothing
        for _ in range(10):
            choices: dict[str, Any] = {
                "exclude": tuple(right_patterns(rng)),
                "include": tuple(right_patterns(rng, 2)) if rng.random() < 0.4 else (),
                "default_excludes": rng.random() < 0.5,
            }
            selector = Selector(Selection(**choices))
            found, exclusions = listed(folder, **choices)
            assert found == [name for name in every if not selector.file_anywhere(name)], choices
            folders = {name[:at] for name in every for at in range(len(name)) if name[at] == "/"}
            left_out = {one for one in folders if is_left_out(selector, one)}
            highest = [one for one in left_out if one.rpartition("/")[0] not in left_out]
            assert sum(exclusions.directories.values()) == len(highest)
            below = [name for name in every if name.rpartition("/")[0] in left_out]
            assert sum(exclusions.files.values()) == len(every) - len(below) - len(found)
            walked_less += bool(highest and found)
    assert walked_less > 50


def test_excluded_directory_is_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, ["a/b/c.jpg", ".git/x/y", "d/@eaDir/z"])
    scanned: list[str] = []
    entries = listing._entries

    def noting(folder: str, names: Iterable[str] | None) -> Sequence[listing._Entry]:
        scanned.append(folder)
        return entries(folder, names)

    monkeypatch.setattr(listing, "_entries", noting)
    found, exclusions = listed(tmp_path, default_excludes=True)
    assert found == ["a/b/c.jpg"]
    assert sorted(path.removeprefix(str(tmp_path)) for path in scanned) == ["", "/a", "/a/b", "/d"]
    assert exclusions == Exclusions({".git": 1, "@eaDir": 1})


def test_names_that_are_not_text(tmp_path: Path) -> None:
    names = ["a\udcff.jpg", "b\udcfe.jpg", "c\n.jpg", "\udcff\udcff/x"]
    make_files(tmp_path, names)
    assert sorted(listed(tmp_path)[0]) == sorted(names)
    found, exclusions = listed(tmp_path, exclude=("?\udcff.jpg", "\udcff*/", "c*.jpg"))
    assert found == ["b\udcfe.jpg"]
    assert exclusions == Exclusions({"--exclude": 1}, {"--exclude": 2})


class TestRelativeTo:
    def test_each_input(self, tmp_path: Path) -> None:
        make_files(tmp_path, ["one/x/a", "one/y/x/b", "two/x/c", "two/d"])
        found, exclusions = listed(tmp_path / "one", tmp_path / "two", exclude=("/x/",))
        assert found == ["one/y/x/b", "two/d"]
        assert exclusions == Exclusions({"--exclude": 2})

    def test_directory_before_the_first_wildcard(self, tmp_path: Path) -> None:
        make_files(tmp_path, ["in/p1/x/a", "in/p2/x/b", "in/p2/c", "in/x/d"])
        found, exclusions = listed(
            f"{tmp_path}/in/p*",
            exclude=(
                "/p1/x/",
                "x/",
            ),
        )
        assert found == ["p2/c"]
        assert exclusions == Exclusions({"--exclude": 2}), "what the input does not match is not excluded"
        found, exclusions = listed(
            f"{tmp_path}/in/*/*",
            exclude=(
                "c",
                "/x",
            ),
        )
        assert found == ["p1/x/a", "p2/x/b"]
        assert exclusions == Exclusions({"--exclude": 1}, {"--exclude": 1})

    def test_file_that_is_an_input_by_its_name(self, tmp_path: Path) -> None:
        files_of_size(tmp_path, {"in/a.jpg": 9, "in/b.png": 9, "in/.git/c.jpg": 9, "in/d.jpg": 1})
        paths = sorted(str(path) for path in tmp_path.rglob("*") if path.is_file())
        found, exclusions = listed(*paths, include=("*.jpg",), min_bytes=5, default_excludes=True)
        assert found == ["c.jpg", "a.jpg"]
        assert exclusions.files == {"--include": 1, "--min_size": 1}
        found, exclusions = listed(paths[0], exclude=("/in/", ".git/", "in/.git/c.jpg"))
        assert (found, exclusions) == (["c.jpg"], Exclusions())

    def test_directory_that_is_an_input_is_read(self, tmp_path: Path) -> None:
        make_files(tmp_path, ["@eaDir/a", "@eaDir/@eaDir/b", "x/.git/c", "x/.git/.svn/d"])
        assert listed(tmp_path / "@eaDir", default_excludes=True)[0] == ["a"]
        assert listed(f"{tmp_path}/*/.git", default_excludes=True)[0] == ["x/.git/c"]
        assert listed(f"{tmp_path}/*", default_excludes=True) == ([], Exclusions({".git": 1, "@eaDir": 1}))


class TestLinks:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        make_files(tmp_path, ["in/a", "in/real/b", "in/.git/c", "outside/d"])
        (tmp_path / "in/link").symlink_to("real/b")
        (tmp_path / "in/@eaDir").symlink_to("../outside")
        (tmp_path / "in/to_git").symlink_to(".git")
        return tmp_path / "in"

    def test_link_counts_as_what_it_leads_to(self, folder: Path) -> None:
        assert listed(folder, default_excludes=True) == (
            ["a", "link", "real/b", "to_git/c"],
            Exclusions({".git": 1, "@eaDir": 1}),
        )
        assert listed(
            folder,
            exclude=(
                "link",
                "@eaDir/",
                "to_git/",
            ),
        ) == (
            ["a", ".git/c", "real/b"],
            Exclusions({"--exclude": 2}, {"--exclude": 1}),
        )

    def test_excluded_link_out_of_the_input_is_not_reported(self, folder: Path) -> None:
        assert "@eaDir" in listed(folder, links_inside=True)[0]
        found, exclusions = listed(folder, links_inside=True, default_excludes=True)
        assert "@eaDir" not in found
        assert exclusions.directories == {".git": 1, "@eaDir": 1}

    def test_outputs_are_not_counted(self, folder: Path) -> None:
        found, exclusions = listed(
            folder, outputs=(f"{folder}/real", f"{folder}/.git"), default_excludes=True
        )
        assert found == ["a"]
        assert exclusions == Exclusions({"@eaDir": 1})


class TestSize:
    def test_smaller_files_are_left_out(self, tmp_path: Path) -> None:
        files_of_size(tmp_path, {"a": 10, "b": 9, "c/d": 11, "e": 0})
        (tmp_path / "link").symlink_to("c/d")
        (tmp_path / "small").symlink_to("b")
        assert listed(tmp_path, min_bytes=10) == (["a", "link", "c/d"], Exclusions({}, {"--min_size": 3}))

    def test_what_is_no_file_is_left_to_be_rejected(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "broken").symlink_to("nothing")
        (tmp_path / "circle").symlink_to("circle")
        assert listed(tmp_path, min_bytes=10) == (["broken", "circle", "pipe"], Exclusions())

    def test_pattern_that_names_its_files(self, tmp_path: Path) -> None:
        files_of_size(tmp_path, {"1/a": 1, "2/a": 2, "2/b": 9})
        assert listed(f"{tmp_path}/*/a", min_bytes=2) == (["2/a"], Exclusions({}, {"--min_size": 1}))


@pytest.mark.skipif(not OTHER_DEVICE.is_dir(), reason="no second file system")
def test_directory_on_another_device_is_not_walked(tmp_path: Path) -> None:
    make_files(tmp_path, ["a", "real/b"])
    with tempfile.TemporaryDirectory(dir=OTHER_DEVICE) as elsewhere:
        if os.stat(elsewhere).st_dev == os.stat(tmp_path).st_dev:
            pytest.skip("no second file system")
        make_files(Path(elsewhere), ["c"])
        (tmp_path / "mounted").symlink_to(elsewhere)
        (tmp_path / "same").symlink_to("real")
        assert listed(tmp_path)[0] == ["a", "real/b", "mounted/c"]
        for path in (tmp_path, f"{tmp_path}/*"):
            assert listed(path, one_file_system=True) == (
                ["a", "real/b"],
                Exclusions({"--one_file_system": 1}),
            )
        assert listed(elsewhere, one_file_system=True)[0] == ["c"]
        (tmp_path / "file").symlink_to(f"{elsewhere}/c")
        assert "file" in listed(tmp_path, one_file_system=True)[0], "it is about directories"


class TestStores:
    @pytest.fixture(autouse=True)
    def objects(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes = {"in/a.jpg": 9, "in/x/b.jpg": 9, "in/x/@eaDir/c.jpg": 9, "in/d.png": 1, "@eaDir/e.jpg": 9}
        monkeypatch.setattr(Store, "objects", {uri(name): bytes(size) for name, size in sizes.items()})
        monkeypatch.setattr(Store, "_list", _list, raising=False)
        monkeypatch.setattr(Store, "exists", lambda self, path: path in self.objects)

    def test_prefix(self) -> None:
        assert listed(uri("in"), default_excludes=True, min_bytes=5) == (
            ["a.jpg", "x/b.jpg"],
            Exclusions({}, {"@eaDir": 1, "--min_size": 1}),
        )
        assert listed(uri("in"), exclude=("/x/",)) == (["a.jpg", "d.png"], Exclusions({}, {"--exclude": 2}))
        assert listed(uri("@eaDir"), default_excludes=True)[0] == ["e.jpg"]

    def test_pattern(self) -> None:
        assert listed(uri("**/*.jpg"), default_excludes=True)[0] == ["in/a.jpg", "in/x/b.jpg"]
        assert listed(uri("*/*/@eaDir/*"), default_excludes=True)[0] == ["in/x/@eaDir/c.jpg"]

    def test_single_object(self) -> None:
        assert listed(uri("in/d.png"), min_bytes=1)[0] == ["d.png"]
        assert listed(uri("in/d.png"), min_bytes=2) == ([], Exclusions({}, {"--min_size": 1}))
        assert listed(uri("in/d.png"), include=("*.jpg",)) == ([], Exclusions({}, {"--include": 1}))


def _list(self: Store, prefix: str) -> list[SimpleNamespace]:
    return [
        SimpleNamespace(path=path, size_in_bytes=len(data), last_updated_in_seconds=0)
        for path, data in sorted(self.objects.items())
        if path.startswith(prefix)
    ]


def test_rows_are_matched_as_they_are_written(tmp_path: Path) -> None:
    paths = [
        "./x/a.jpg",
        "x/y/b.jpg",
        "/x/c.jpg",
        "gs://x/x/d.jpg",
        "gs://x/e.jpg",
        "y/x/f.jpg",
        ".git/g.jpg",
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"__path__": one}) + "\n" for one in paths))
    exclusions = Exclusions()
    selection = Selection(exclude=("/x/",), default_excludes=True, min_bytes=10**6, one_file_system=True)
    for directory in ("", "/x"):
        found = list_rows(str(path), (), (), directory, selection, exclusions)
        assert [row.name for row in found] == ["gs/x/e.jpg", "y/x/f.jpg", ".git/g.jpg"]
    assert exclusions == Exclusions({}, {"--exclude": 8})


class TestWatch:
    def test_excluded_file_never_arrives_and_is_counted(self, tmp_path: Path) -> None:
        make_files(tmp_path, ["a.jpg", "b.tmp", ".git/c.jpg"])
        selection = Selection(exclude=("*.tmp",), default_excludes=True)
        watch = Watch((str(tmp_path),), (), ScanTimes(quiet_seconds=-1), selection=selection)
        assert [arrival.name for arrival in watch.scan()] == ["a.jpg"]
        assert watch.exclusions == Exclusions({".git": 1}, {"--exclude": 1})
        make_files(tmp_path, ["d.jpg", "e.tmp"])
        assert [arrival.name for arrival in watch.scan()] == ["d.jpg"]
        assert watch.exclusions == Exclusions({".git": 1}, {"--exclude": 2})

    def test_file_arrives_when_it_is_large_enough(self, tmp_path: Path) -> None:
        watch = Watch((str(tmp_path),), (), ScanTimes(quiet_seconds=-1), selection=Selection(min_bytes=3))
        arrived = []
        for size in (1, 2, 3, 3):
            (tmp_path / "a.jpg").write_bytes(bytes(size))
            arrived.append([arrival.name for arrival in watch.scan()])
        assert arrived[:3] == [[], [], ["a.jpg"]]
        assert not watch.exclusions

    def test_reader_counts_each_thing_once(self, tmp_path: Path) -> None:
        (tmp_path / "in").mkdir()
        (tmp_path / "tally").mkdir()
        make_files(tmp_path / "in", [".git/x", "a.tmp"])
        tally = Tally(str(tmp_path / "tally"))
        times = ScanTimes(pause_seconds=0.01, quiet_seconds=0.05)
        selection = Selection(exclude=("*.tmp",), default_excludes=True)
        reader = WatchedSource(
            (str(tmp_path / "in"),), times=times, selection=selection, tally=tally
        ).create_reader(None, None)
        _advance_until(lambda: tally.total(metrics.EXCLUDED) == 1, reader.start)
        make_files(tmp_path / "in", ["b.tmp", "c.tmp"])
        _advance_until(lambda: tally.total(metrics.EXCLUDED) == 3, reader.advance)
        (tmp_path / "in" / "b.tmp").unlink()
        for _ in range(20):
            reader.advance()
            time.sleep(0.01)
        assert tally.total(metrics.EXCLUDED) == 3, "the most of all scans"
        assert tally.total(metrics.EXCLUDED_DIRECTORIES) == 1
        reader.close()


def _advance_until(is_done: Callable[[], bool], advance: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_done():
        assert time.monotonic() < deadline
        advance()
        time.sleep(0.01)


def test_messages_are_matched_below_their_prefix(tmp_path: Path) -> None:
    tally = Tally(str(tmp_path))
    selection = Selection(exclude=("/tmp/",), default_excludes=True, min_bytes=10)
    allow = ("gs://b/in", "gs://c", "gs://c/.git/")

    def arrival(path: str) -> Arrival | None:
        message = SimpleNamespace(data=json.dumps({"uri": path}).encode(), attributes={}, message_id="1")
        packed = parsed_arrivals(message, "S", ("gs://out",), allow, selection, tally)
        return next(map(Arrival.unpacked, packed), None)

    for path in ("gs://b/in/tmp/a", "gs://c/tmp/a", "gs://c/x/.svn/a", "gs://c/.git/.git/a"):
        assert arrival(path) is None
    for path in ("gs://b/in/x/tmp/a", "gs://c/a", "gs://c/.git/a"):
        found = arrival(path)
        assert found
        assert not found.refused
    refused = arrival("gs://d/tmp/a")
    assert refused
    assert refused.reason == "not_allowed", "a forged message is reported, not left out"
    assert tally.total(metrics.EXCLUDED) == 4
