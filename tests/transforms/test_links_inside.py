"""With `--links inside` and `--allow`, no file outside is opened, and no directory outside is listed."""

import contextlib
import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beam_dedup.core.arrivals import Arrival
from beam_dedup.core.errors import ImageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Rejection
from beam_dedup.core.reading.local_files import open_local
from beam_dedup.core.reading.reader import read_images
from tests.core.archives.made_archives import zipped
from tests.transforms.files import encoded, write
from transforms.read import list_references, list_rows
from transforms.storage.listing import Listed, list_inputs
from transforms.stream import watch
from transforms.stream.watch import ScanTimes, Watch

A, B, SECRET = encoded(1), encoded(2), encoded(3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory `in` with links that stay inside, and links that lead out of it, beside `out`."""
    write(tmp_path / "in/a.jpg", A)
    write(tmp_path / "in/sub/b.jpg", B)
    write(tmp_path / "out/secret.jpg", SECRET)
    write(tmp_path / "out/deep/secret.zip", zipped({"s.jpg": SECRET}))
    write(tmp_path / "out/1_filenameToUrl.json", b'{"a.jpg": "http://secret/"}')
    for name, target in {
        "in/file": "../out/secret.jpg",
        "in/directory": "../out",
        "in/absolute": str(tmp_path / "out/deep"),
        "in/sub/up": "..",
        "in/sub/chain": "../file",
        "in/through": "directory/deep",
        "in/1_filenameToUrl.json": "../out/1_filenameToUrl.json",
        "in/broken": "../out/none",
        "in/a_link": "a.jpg",
        "in/sub_link": "sub",
        "in/round.jpg": "../out/back/sub/b.jpg",
        "out/back": "../in",
        "in/archive.zip": "../out/deep/secret.zip",
    }.items():
        (tmp_path / name).symlink_to(target)
    return tmp_path


OUTSIDE = {
    "file",
    "directory",
    "absolute",
    "sub/chain",
    "through",
    "1_filenameToUrl.json",
    "broken",
    "archive.zip",
}
INSIDE = {"a.jpg", "sub/b.jpg", "a_link", "round.jpg"}


@contextlib.contextmanager
def opened_paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Yields the real paths of everything that this process opens or lists meanwhile."""
    found: list[str] = []
    real_open, real_scandir = os.open, os.scandir

    def note_open(path: Any, flags: int, *more: Any, dir_fd: int | None = None, **rest: Any) -> int:
        descriptor = real_open(path, flags, *more, dir_fd=dir_fd, **rest)
        found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        return descriptor

    def note_scandir(path: Any = ".") -> Any:
        found.append(os.path.realpath(path))
        return real_scandir(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", note_open)
        patched.setattr(os, "scandir", note_scandir)
        yield found


def by_name(files: Iterator[Listed]) -> tuple[set[str], set[str]]:
    """Returns the names of the files that stay inside, and of the links that lead out."""
    listed = list(files)
    assert len({file.name for file in listed}) == len(listed)
    outside = {file.name for file in listed if file.leads_outside}
    return {file.name for file in listed} - outside, outside


def test_links_that_lead_out_are_listed_and_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_paths(monkeypatch) as opened:
        assert by_name(list_inputs([f"{folder}/in"], links_inside=True)) == (INSIDE, OUTSIDE)
        assert opened
        assert not [path for path in opened if "/out" in path.removeprefix(str(folder))]


def test_without_the_option_all_links_are_followed(folder: Path) -> None:
    inside, outside = by_name(list_inputs([f"{folder}/in"]))
    assert outside == set()
    assert {"file", "directory/secret.jpg", "broken"} <= inside


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("in/*.jpg", {"a.jpg", "round.jpg"}, set()),
        ("in/*/*.jpg", {"b.jpg"}, {"directory", "absolute", "through"}),
        ("in/**/*.zip", set(), {"directory", "absolute", "through", "archive.zip"}),
        ("in/fil*", set(), {"file"}),
        ("in/dir*", set(), {"directory"}),
    ],
)
def test_patterns(folder: Path, pattern: str, inside: set[str], outside: set[str]) -> None:
    """The input of a pattern is the directory before its first wildcard."""
    listed, refused = by_name(list_inputs([f"{folder}/{pattern}"], links_inside=True))
    assert {os.path.basename(name) for name in listed} == inside
    assert refused == outside


def test_link_into_another_input_stays_inside(folder: Path) -> None:
    inputs = [f"{folder}/in", f"{folder}/out/deep"]
    inside, outside = by_name(list_inputs(inputs, links_inside=True))
    assert "deep/secret.zip" in inside
    assert "in/archive.zip" in inside
    assert {"in/absolute", "in/through"}.isdisjoint(outside)
    assert "in/file" in outside


@pytest.mark.parametrize("path", ["in/file", "in/directory", "in/sub_link"])
def test_input_may_be_a_link_itself(folder: Path, path: str) -> None:
    inside, outside = by_name(list_inputs([f"{folder}/{path}"], links_inside=True))
    assert inside
    assert outside <= {"back", "chain", "up"}


def test_relative_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder / "in")
    assert by_name(list_inputs(["."], links_inside=True)) == (INSIDE, OUTSIDE)
    listed, outside = by_name(list_inputs(["*"], links_inside=True))
    assert (listed, outside) == (INSIDE, OUTSIDE)


def test_link_that_leads_out_becomes_a_rejected_reference(folder: Path) -> None:
    lists = list_references([f"{folder}/in".encode()], (), False, 10, True)
    references = {reference.name: reference for reference in itertools.chain.from_iterable(lists)}
    assert {name for name, one in references.items() if one.refused} == OUTSIDE
    assert references["file"].refused == ("link_outside", f"leads to {folder}/out/secret.jpg")
    [found] = read_images(references["file"], references["file"].uri, None, lambda _: None)
    assert isinstance(found, Rejection)
    assert (found.reason, found.size_bytes, found.digest) == (Reason.LINK_OUTSIDE, 0, b"")


def images(reference: ImageRef, limits: Limits) -> list[Fingerprint | Rejection]:
    found = read_images(reference, reference.uri, None, lambda _: None, limits=limits)
    return [image for image in found if isinstance(image, Fingerprint | Rejection)]


@pytest.mark.parametrize("reason", [Reason.LINK_OUTSIDE, Reason.NOT_ALLOWED])
@pytest.mark.parametrize(
    "name", ["file", "directory/secret.jpg", "through/secret.zip", "archive.zip", "../out/secret.jpg"]
)
def test_link_that_was_changed_after_it_was_listed_is_not_read(
    folder: Path, name: str, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even its metadata are compared."""
    limits = Limits(roots=(f"{folder}/in",), outside=reason.value)
    reference = ImageRef(f"{folder}/in/{name}", name, '{"md5": "0123456789abcdef"}', described=True)
    with opened_paths(monkeypatch) as opened:
        [found] = images(reference, limits)
        assert not [path for path in opened if "/out" in path.removeprefix(str(folder))]
    assert isinstance(found, Rejection)
    assert (found.reason, found.size_bytes) == (reason, 0)


@pytest.mark.parametrize("root", ["in", "out/back", "in/sub/up"])
@pytest.mark.parametrize("name", sorted(INSIDE))
def test_file_inside_is_read_as_without_the_limit(folder: Path, name: str, root: str) -> None:
    reference = ImageRef(f"{folder}/in/{name}", name)
    assert images(reference, Limits(roots=(f"{folder}/{root}",))) == images(reference, Limits())


def test_input_that_is_a_file_is_read(folder: Path) -> None:
    for name in ("in/a.jpg", "in/file"):
        [found] = images(ImageRef(f"{folder}/{name}", "a"), Limits(roots=(f"{folder}/{name}",)))
        assert isinstance(found, Fingerprint)
    [found] = images(ImageRef(f"{folder}/in/a.jpg", "a"), Limits(roots=(f"{folder}/in/sub/b.jpg",)))
    assert isinstance(found, Rejection)


def test_known_image_may_be_anywhere(folder: Path) -> None:
    [found] = images(ImageRef(f"{folder}/out/secret.jpg", "a", known=True), Limits(roots=(f"{folder}/in",)))
    assert isinstance(found, Fingerprint)


def test_other_failures_keep_their_reasons(folder: Path) -> None:
    (folder / "in/loop").symlink_to("loop")
    os.mkfifo(folder / "in/pipe")
    for name in ("loop", "pipe", "gone", "sub", "a.jpg/x", "a\0b"):
        [found] = images(ImageRef(f"{folder}/in/{name}", name), Limits(roots=(f"{folder}/in",)))
        [before] = images(ImageRef(f"{folder}/in/{name}", name), Limits())
        assert isinstance(found, Rejection)
        assert isinstance(before, Rejection)
        assert (found.reason, found.detail) == (before.reason, before.detail) or name == "a\0b"


def test_directory_that_cannot_be_listed_is_no_obstacle(folder: Path) -> None:
    """Only the permission to enter it is needed, as without the limit."""
    (folder / "in/sub").chmod(0o111)
    try:
        [found] = images(ImageRef(f"{folder}/in/sub/b.jpg", "b"), Limits(roots=(f"{folder}/in",)))
    finally:
        (folder / "in/sub").chmod(0o755)
    assert isinstance(found, Fingerprint)


@pytest.mark.parametrize("swapped", ["file", "directory"])
def test_link_that_changes_all_the_time_never_leads_out(tmp_path: Path, swapped: str) -> None:
    """A thread swaps a file, or the directory above it, for a link that leads out, and back."""
    write(tmp_path / "in/d/a.jpg", b"inside")
    write(tmp_path / "out/a.jpg", b"secret")
    victim = tmp_path / ("in/d/a.jpg" if swapped == "file" else "in/d")
    (tmp_path / "link").symlink_to("../../out/a.jpg" if swapped == "file" else "../out")
    (tmp_path / "link").rename(tmp_path / "in/link")
    stopped = threading.Event()

    def swap() -> None:
        link, aside = tmp_path / "in/link", tmp_path / "in/aside"
        if swapped == "file":
            link.rename(tmp_path / "in/d/link")
            link = tmp_path / "in/d/link"
        while not stopped.is_set():
            victim.rename(aside)
            link.rename(victim)
            victim.rename(link)
            aside.rename(victim)

    thread = threading.Thread(target=swap)
    thread.start()
    seen: set[bytes | str] = set()
    try:
        for _ in range(20_000):
            try:
                with open_local(f"{tmp_path}/in/d/a.jpg", roots=(f"{tmp_path}/in",)) as (stream, _, _):
                    seen.add(stream.read(100))
            except ImageError as error:
                seen.add(error.reason.value)
            if b"inside" in seen and "link_outside" in seen and len(seen) > 3:
                break
    finally:
        stopped.set()
        thread.join()
    assert b"secret" not in seen
    assert b"inside" in seen


class TestWatch:
    def watch(self, folder: Path) -> Watch:
        return Watch((f"{folder}/in",), (), ScanTimes(quiet_seconds=0), links_inside=True)

    def scan(self, scanner: Watch) -> tuple[dict[str, Arrival], dict[str, Arrival]]:
        arrived = [*scanner.scan(), *scanner.scan()]
        refused = {one.name: one for one in arrived if one.refused}
        return {one.name: one for one in arrived if not one.refused}, refused

    def test_links_that_lead_out_are_rejected_once(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scanner = self.watch(folder)
        with opened_paths(monkeypatch) as opened:
            arrived, refused = self.scan(scanner)
            assert not [path for path in opened if "/out" in path.removeprefix(str(folder))]
        assert (set(arrived), set(refused)) == (INSIDE, OUTSIDE)
        assert refused["file"].reference().refused == (
            "link_outside",
            f"leads to {folder}/out/secret.jpg",
        )
        write(folder / "out/secret.jpg", B)
        assert self.scan(scanner) == ({}, {})

    def test_file_that_became_a_link_is_not_opened_to_look_for_its_end(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = Listed(f"{folder}/in/file", "file")  # as if it was no link when it was listed
        monkeypatch.setattr(watch, "list_inputs", lambda *_: iter([found]))
        clock = itertools.count(step=6)
        watched = Watch(
            (f"{folder}/in",), (), ScanTimes(quiet_seconds=5), lambda: next(clock), links_inside=True
        )
        with opened_paths(monkeypatch) as opened:
            assert [arrival.name for _ in range(2) for arrival in watched.scan()] == ["file"]
            assert opened == []

    def test_link_that_is_changed_is_judged_again(self, folder: Path) -> None:
        scanner = self.watch(folder)
        self.scan(scanner)
        (folder / "in/file").unlink()
        (folder / "in/file").symlink_to("sub/b.jpg")
        arrived, refused = self.scan(scanner)
        assert (set(arrived), refused) == ({"file", "sub/chain"}, {})
        (folder / "in/file").unlink()
        (folder / "in/file").symlink_to("../out/secret.jpg")
        arrived, refused = self.scan(scanner)
        assert (arrived, set(refused)) == ({}, {"file", "sub/chain"})

    def test_rejected_link_has_another_identity_than_its_file(self, folder: Path) -> None:
        """So that a later run without the option judges it."""
        _, refused = self.scan(self.watch(folder))
        link = refused["file"]
        assert link.identity != Arrival(link.uri, link.generation).identity
        assert link.identity == Arrival.unpacked(link.packed()).identity


class TestRows:
    def rows(self, folder: Path, paths: list[str], *allow: str) -> dict[str, ImageRef]:
        lines = [json.dumps({"__path__": path, "md5": f"{number:032x}"}) for number, path in enumerate(paths)]
        (folder / "rows.jsonl").write_text("\n".join(lines))
        found = list(list_rows(f"{folder}/rows.jsonl", (), allow))
        assert len(found) == len(paths)
        return dict(zip(paths, found, strict=True))

    def test_rows_outside_are_rejected(self, folder: Path) -> None:
        inside = [
            f"{folder}/in/a.jpg",
            f"{folder}/in/gone!.jpg",
            f"file://{folder}/in/sub/%62.jpg",
            "gs://b/in/a",
        ]
        outside = [
            f"{folder}/out/secret.jpg",
            f"{folder}/in/../out/deep/secret.zip",
            f"{folder}/in/file",
            f"{folder}/in/through/secret.zip",
            f"file://{folder}/in/%2e%2e/out/x",
            f"file://{folder}/out/%62.jpg",
            f"{folder}/inner!.jpg",
            "/etc/passwd",
            "gs://b/in/../a",
            "gs://b/inner",
            "s3://b/in/a",
            "http://b/in/a",
            "FILE:///etc/hostname",
        ]  # fmt: skip
        rows = self.rows(folder, [*inside, *outside], f"{folder}/in", "gs://b/in/")
        assert {path for path, reference in rows.items() if reference.refused} == set(outside)
        for path in outside:
            reason, detail = rows[path].refused or ("", "")
            assert (reason, "not below" in detail, rows[path].described) == ("not_allowed", True, False)
        assert rows[f"{folder}/inner!.jpg"].uri == f"{folder}/inner%21.jpg", "written as in all records"

    def test_without_the_option_every_path_is_allowed(self, folder: Path) -> None:
        rows = self.rows(folder, ["/etc/passwd", "gs://b/a", f"{folder}/in/file"])
        assert not any(reference.refused for reference in rows.values())

    def test_only_local_or_only_remote_prefixes(self, folder: Path) -> None:
        paths = [f"{folder}/in/a.jpg", "gs://b/a"]
        assert self.rows(folder, paths, "gs://b")[paths[0]].refused
        assert self.rows(folder, paths, f"{folder}")[paths[1]].refused


def test_random_links_and_paths_open_nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(4)
    for number in range(25):
        top = tmp_path / str(number)
        write(top / "out/x/s.jpg", SECRET)
        folders = [top / "in", top / "in/a", top / "in/a/b"]
        for at, place in enumerate(folders):
            write(place / "f.jpg", encoded(at))
        targets = [*folders, top / "out", top / "out/x", top / "out/x/s.jpg", top / "in/a/f.jpg", top]
        for link in range(8):
            path, target = rng.choice(folders) / f"l{link}", rng.choice(targets)
            path.symlink_to(os.path.relpath(target, path.parent) if rng.random() < 0.5 else target)
            targets.append(path)
        limits = Limits(roots=(f"{top}/in",))
        with opened_paths(monkeypatch) as opened:
            for files in list_references([f"{top}/in".encode()], (), False, 10, True):
                for reference in files:
                    images(reference, limits)
        assert f"{top}/in/a/b/f.jpg" in opened
        assert not [path for path in opened if path == str(top) or path.startswith(f"{top}/out")]
