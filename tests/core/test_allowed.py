"""Nothing outside of the allowed prefixes is allowed, however its path is written."""

import itertools
import os
import posixpath
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest

from beam_dedup.core.allowed import checked_prefix, is_allowed, real_root, refusal

BUCKET, FOLDER = ["gs://b"], ["gs://b/in/"]


@pytest.mark.parametrize(
    ("path", "prefixes"),
    [
        ("gs://b/a.jpg", BUCKET),
        ("gs://b/in/a.jpg", BUCKET),
        ("gs://b/in/a.jpg", FOLDER),
        ("gs://b/in/x/../a.jpg", FOLDER),
        ("gs://b/in/50%.jpg", FOLDER),
        ("gs://b/in/a%20b%2525.jpg", FOLDER),
        ("gs://b/in/a..b/...jpg", FOLDER),
        ("gs://b/in/a;v=1.jpg", FOLDER),
        ("gs://b/in//a.jpg", FOLDER),
        ("gs://b/in/\u202ea é \udcff.jpg", FOLDER),
        ("GS://b/in/a.jpg", FOLDER),
        ("gs://b/in", ["gs://b/in"]),
        ("gs://b/100%25/a.jpg", ["gs://b/100%25"]),
        ("s3://c/a.jpg", [*FOLDER, "s3://c"]),
        ("azfs://account/container/a.jpg", ["azfs://account/container"]),
    ],
)
def test_path_below_a_prefix_is_allowed(path: str, prefixes: list[str]) -> None:
    assert is_allowed(path, prefixes)
    assert refusal(path, prefixes) == ""


@pytest.mark.parametrize(
    ("path", "prefixes"),
    [
        ("gs://bad/a.jpg", BUCKET),
        ("gs://b.evil/a.jpg", BUCKET),
        ("gs://B/a.jpg", BUCKET),
        ("gs://x@b/a.jpg", BUCKET),
        ("gs://b@x/a.jpg", BUCKET),
        ("gs://b:80/a.jpg", BUCKET),
        ("gs://b?/a.jpg", BUCKET),
        ("gs://b#/a.jpg", BUCKET),
        ("gs://b\\x/a.jpg", BUCKET),
        ("gs://%62/a.jpg", BUCKET),
        ("gs:///b/a.jpg", BUCKET),
        ("gs:b/a.jpg", BUCKET),
        ("s3://b/a.jpg", BUCKET),
        ("gsx://b/a.jpg", BUCKET),
        (" gs://b/a.jpg", BUCKET),
        ("gs://b/../x/a.jpg", BUCKET),
        ("gs://b/../b/a.jpg", BUCKET),
        ("gs://b/..", BUCKET),
        ("gs://b/a/../../b/a.jpg", BUCKET),
        ("gs://b/%2e%2e/x/a.jpg", BUCKET),
        ("gs://b/in", FOLDER),
        ("gs://b/inner/a.jpg", FOLDER),
        ("gs://b/In/a.jpg", FOLDER),
        ("gs://b//in/a.jpg", FOLDER),
        ("gs://b/./in/a.jpg", FOLDER),
        ("gs://b/in/../x.jpg", FOLDER),
        ("gs://b/in/../../b/in/a.jpg", FOLDER),
        ("gs://b/in/../in/a.jpg", FOLDER),
        ("gs://b/in/./../x.jpg", FOLDER),
        ("gs://b/in//../x.jpg", FOLDER),
        ("gs://b/in/a/..//../x.jpg", FOLDER),
        ("gs://b/in/%2E%2e/x.jpg", FOLDER),
        ("gs://b/in/.%2e/x.jpg", FOLDER),
        ("gs://b/in/..%2fx.jpg", FOLDER),
        ("gs://b/in%2f..%2fx.jpg", FOLDER),
        ("gs://b/in/%252e%252e%252fx.jpg", FOLDER),
        ("gs://b/in/" + "%" + "25" * 40 + "2e%2e/x.jpg", FOLDER),
        ("gs://b/in/..\\x.jpg", FOLDER),
        ("gs://b/in/a/..\\..\\x.jpg", FOLDER),
        ("gs://b/in/..%5cx.jpg", FOLDER),
        ("gs://b/in/..;a=b/x.jpg", FOLDER),
        ("gs://b/in/.\t./x.jpg", FOLDER),
        ("gs://b/in/..%00/x.jpg", FOLDER),
        ("gs://b/in/a\n.jpg", FOLDER),
        ("gs://b/100%/a.jpg", ["gs://b/100%25"]),
        ("", BUCKET),
        ("/gs://b/a.jpg", BUCKET),
        ("/b/a.jpg", BUCKET),
        ("gs://b/a.jpg", []),
        ("gs://b/a.jpg", ["/gs:/b", "/"]),
    ],
)
def test_path_outside_of_the_prefixes_is_not_allowed(path: str, prefixes: list[str]) -> None:
    assert not is_allowed(path, prefixes)
    assert refusal(path, prefixes)


def _unescaped(times: int) -> Callable[[str], str]:
    def unescape(text: str) -> str:
        for _ in range(times):
            text = unquote(text)
        return text

    return unescape


# Servers and clients, each by the object that it opens for the part of a URI behind `gs://`.
SERVERS: list[Callable[[str], str]] = [
    str,
    posixpath.normpath,
    lambda text: posixpath.normpath(text.replace("\\", "/")),
    lambda text: urljoin(f"http://{text.split('/')[0]}/", "/" + "/".join(text.split("/")[1:])).removeprefix(
        "http://"
    ),
    lambda text: posixpath.normpath("/".join(part.split(";")[0] for part in text.split("/"))),
    lambda text: posixpath.normpath(f"/root/storage/{text}").removeprefix("/root/storage/"),
]
PARTS = ("in", "b", "x", "..", ".", "", "%2e%2e", "%2E.", "..%2f", "%252e%252e", "..\\x", "..;p", "a.jpg", "%5c..", "%25")  # fmt: skip


def _opened(path: str) -> Iterator[str]:
    rest = path.partition("://")[2]
    for server, times in itertools.product(SERVERS, range(4)):
        yield server(_unescaped(times)(rest))
        yield _unescaped(times)(server(rest))


def test_allowed_path_leads_below_the_prefix_on_every_server() -> None:
    """All paths of up to 4 parts, and 20,000 random longer ones."""
    rng = random.Random(5)
    short = itertools.chain.from_iterable(itertools.product(PARTS, repeat=n) for n in (1, 2, 3))
    longer = (rng.choices(PARTS, k=rng.randrange(4, 9)) for _ in range(20_000))
    allowed = 0
    for parts in itertools.chain(short, longer):
        path = "gs://b/" + "/".join(parts)
        if is_allowed(path, FOLDER):
            allowed += 1
            for found in _opened(path):
                assert f"{found}/".startswith(("b/in/", "/b/in/")), (path, found)
    assert allowed > 200


@pytest.mark.parametrize("depth", range(6))
def test_encoding_any_letter_any_number_of_times_changes_nothing(depth: int) -> None:
    rng = random.Random(depth)
    for _ in range(500):
        outside = "../x.jpg"
        for _ in range(depth):
            outside = "".join(
                f"%{ord(letter):02{rng.choice('xX')}}" if rng.random() < 0.5 else letter for letter in outside
            )
        assert not is_allowed(f"gs://b/in/{outside}", FOLDER)


@pytest.mark.parametrize(
    ("given", "prefix"),
    [
        ("gs://b", "gs://b"),
        ("gs://b/", "gs://b/"),
        ("GS://b/In/", "gs://b/In/"),
        ("s3://b/in", "s3://b/in"),
        ("file:///a%20b/", "/a b"),
        ("/a/../b/", "/b"),
        ("x", os.path.abspath("x")),
        ("~/x", os.path.expanduser("~/x")),
    ],
)
def test_prefix_is_normalised(given: str, prefix: str) -> None:
    assert checked_prefix(given) == prefix


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "must name a bucket or a directory"),
        (" ", "must name a bucket or a directory"),
        ("gs://", "must name a bucket"),
        ("gs:///in", "must name a bucket"),
        ("gs://..", "must name a bucket"),
        ("gs://b/*", "must be a prefix, not a pattern"),
        ("gs://b/a\n", "must not contain control characters"),
        ("http://b", "must be a directory, or in an object store (gs://, s3://, hdfs://, azfs://, abfs://)"),
        ("file://server/x", "must be a directory, or in an object store (gs://, s3://, hdfs://, azfs://, abfs://)"),
        ("gs://b/in/..", "must have no empty part and no '.', '..' or backslash"),
        ("gs://b//in", "must have no empty part and no '.', '..' or backslash"),
        ("gs://b/./in", "must have no empty part and no '.', '..' or backslash"),
        ("gs://b\\in", "must have no empty part and no '.', '..' or backslash"),
    ],
)  # fmt: skip
def test_wrong_prefix_is_refused(given: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        checked_prefix(given)


def test_local_path_is_judged_by_its_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("in/sub", "inner", "out"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "in/leak").symlink_to("../out")
    (tmp_path / "in/back").symlink_to("../out/to_in")
    (tmp_path / "out/to_in").symlink_to(tmp_path / "in")
    (tmp_path / "in/loop").symlink_to("loop")
    (tmp_path / "also").symlink_to("in")
    for prefix in (str(tmp_path / "in"), str(tmp_path / "also")):
        for path in (
            "in/a",
            "in/sub/../a",
            "in/sub",
            "in",
            "also/a",
            "out/to_in/a",
            "in/back/sub/a",
            "in/loop",
        ):
            assert is_allowed(path, [prefix]), path
            assert is_allowed(str(tmp_path / path), [prefix]), path
        for path in (
            "out/a",
            "inner/a",
            "in/../out/a",
            "in/leak/a",
            "in/leak",
            "also/leak/x",
            "also/../out",
            "a\0b",
        ):
            assert not is_allowed(path, [prefix]), path
            assert not is_allowed(str(tmp_path / path), [prefix]), path
        assert not is_allowed("gs://in/a", [prefix])
    assert (
        refusal("in/leak/a", [str(tmp_path / "in")]) == f"leads to {tmp_path}/out/a, not below {tmp_path}/in"
    )
    assert real_root("/etc", ["/"]) == "/"


def test_random_trees_of_links_never_lead_out(tmp_path: Path) -> None:
    """The file that is opened, by its inode, is one of the root's own."""
    rng = random.Random(8)
    for number in range(60):
        top = tmp_path / str(number)
        folders = [top / "in", top / "in/a", top / "in/a/b", top / "out", top / "out/c"]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "f").write_bytes(b"")
        own = {(os.stat(folder / "f").st_ino) for folder in folders[:3]}
        links: list[Path] = []
        for link in range(12):
            path = rng.choice(folders) / f"l{link}"
            target = rng.choice([*folders, *links, *(folder / "f" for folder in folders)])
            path.symlink_to(os.path.relpath(target, path.parent) if rng.random() < 0.5 else target)
            links.append(path)
        for _ in range(60):
            parts = rng.choices(
                [".", "..", "a", "b", "f", *(link.name for link in links)], k=rng.randrange(1, 6)
            )
            found = os.path.join(top / "in", *parts)
            try:
                status = os.stat(found)
            except OSError:
                continue
            if os.path.isfile(found):
                assert is_allowed(found, [str(top / "in")]) == (status.st_ino in own), found
