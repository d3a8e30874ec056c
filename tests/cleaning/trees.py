"""Random trees of files with records about them, and calls of the system that kill the run that makes them."""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

# The functions with which cleaning changes files.
CHANGES = ("rename", "replace", "unlink", "link", "symlink", "makedirs", "open", "fchmod", "utime", "fsync")


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, and no clean-up can change a file any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A name in a tree."""

    kind: int  # of stat.S_IFMT
    content: bytes  # of a file; the target of a link
    mode: int
    mtime_ns: int
    file: int  # inode, to see which names belong to one file


def snapshot(folder: Path) -> dict[str, Entry]:
    """Returns every file and link below a directory, by its relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISDIR(status.st_mode):
            continue
        content = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        found[str(path.relative_to(folder))] = Entry(
            stat.S_IFMT(status.st_mode), content, status.st_mode, status.st_mtime_ns, status.st_ino
        )
    return found


def without_inodes(tree: dict[str, Entry]) -> dict[str, Entry]:
    return {name: dataclasses.replace(entry, file=0) for name, entry in tree.items()}


def digests(*folders: Path) -> set[str]:
    """Returns the digests of all regular files below some directories."""
    return {
        digest_of(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(
    path: Path,
    witness: Path | None = None,
    reason: str = "exact",
    digest: str = "",
    companions: Sequence[Path] = (),
) -> dict[str, Any]:
    """Returns the record of a file: a duplicate if it has a witness, else kept."""
    return {
        "uri": str(path),
        "status": "duplicate" if witness else "kept",
        "reason": reason if witness else None,
        "digest": digest or digest_of(path),
        "duplicate_of": str(witness) if witness else None,
        "companions": list(map(str, companions)),
    }


def write_records(path: Path, *records: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def plain_tree(folder: Path) -> Path:
    """Makes a tree with three duplicates of two files; their permissions and times differ. Returns the records.

    One of the duplicates has two companions, of which only one has the bytes of a companion of its witness.
    """
    (folder / "a").mkdir(parents=True)
    files = {
        "a/k.jpg": b"one",
        "a/l.jpg": b"one",
        "m.jpg": b"one",
        "n.jpg": b"two",
        "o.jpg": b"two",
        "p.jpg": b"three",
        "n.xmp": b"side-car",
        "o.xmp": b"side-car",
        "n.mov": b"movie",
        "o.mov": b"another movie",
    }
    for number, (name, content) in enumerate(files.items()):
        (folder / name).write_bytes(content)
        (folder / name).chmod((0o644, 0o400)[number % 2])
        os.utime(folder / name, ns=(number * 10**15, number * 10**15 + 1))
    kept = {b"one": folder / "a/k.jpg", b"two": folder / "n.jpg", b"three": folder / "p.jpg"}
    records = []
    for name, content in files.items():
        path = folder / name
        if path.suffix == ".jpg":
            companions = [
                other for other in (path.with_suffix(".xmp"), path.with_suffix(".mov")) if other.exists()
            ]
            witness = None if kept[content] == path else kept[content]
            records.append(record(path, witness, companions=companions))
    return write_records(folder.parent / "records.jsonl", *records)


def random_companions(images: Sequence[Path], rng: random.Random) -> dict[Path, list[Path]]:
    """Makes companions of some images: of few contents, links and hard links. Returns the companions of each image."""
    made: dict[Path, list[Path]] = {}
    for image in images:
        for suffix in rng.sample(["xmp", "mov", "cr2", "jpg.xmp"], rng.choice([0, 2, 4])):
            path = image.with_suffix(f".{suffix}")
            old = [one for some in made.values() for one in some if not one.is_symlink()]
            kind = rng.random()
            if old and kind < 0.1:
                path.symlink_to(rng.choice(old))
            elif old and kind < 0.2:
                path.hardlink_to(rng.choice(old))
            else:
                path.write_bytes(rng.choice([b"first", b"first", b"first", b"second", rng.randbytes(3)]))
                os.utime(path, ns=(rng.randrange(10**18), rng.randrange(10**18)))
            made.setdefault(image, []).append(path)
    return made


def random_tree(folder: Path, rng: random.Random) -> Path:
    """Makes a tree of equal and different files, links, and hard links, and records about it. Then some files change.

    Some files have companions. The records are those of a run, and some that no run writes: circles, chains, and pairs
    of different files.

    Returns:
      The records.
    """
    names = [
        f"{rng.choice(['', 'a/', 'a/b/', 'c/'])}{letter}.jpg"
        for letter in "klmnopqrstuv"[: rng.randint(3, 12)]
    ]
    paths: list[Path] = []
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = rng.random()
        if paths and kind < 0.12:
            path.symlink_to(rng.choice(paths))
        elif paths and kind < 0.3 and not (old := rng.choice(paths)).is_symlink():
            path.hardlink_to(old)
        else:
            path.write_bytes(rng.choice([b"one", b"two", b"three", rng.randbytes(3)]))
            path.chmod(rng.choice([0o644, 0o600, 0o444]))
            os.utime(path, ns=(rng.randrange(10**18), rng.randrange(10**18)))
        paths.append(path)
    companions = random_companions(paths, random.Random(rng.random()))
    by_digest: dict[str, Path] = {}
    records = []
    for path in paths:
        digest = digest_of(path)
        witness = by_digest.setdefault(digest, path)
        records.append(
            record(path, witness if witness != path else None, companions=companions.get(path, ()))
        )
    for _ in range(rng.choice([0, 0, 2])):
        path, witness = rng.choice(paths), rng.choice(paths)
        reason = rng.choice(["exact", "near"])
        records.append(record(path, witness, reason, companions=companions.get(path, ())))
    for path in rng.sample(paths, rng.choice([0, 0, 1])):
        path.unlink()
    for path in rng.sample(paths, rng.choice([0, 0, 1])):
        if path.is_file() and not path.is_symlink():
            path.chmod(0o644)
            path.write_bytes(b"else")
    return write_records(folder.parent / "records.jsonl", *records)


@contextlib.contextmanager
def at_change(number: int, act: Callable[[], object], patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Calls a function before the n-th change of a file in the block.

    Yields:
      A list whose only item counts the changes.
    """
    count = [0]

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            is_reading = real is os_open and not (arguments[1] & os.O_CREAT)
            if not is_reading:
                count[0] += 1
                if count[0] == number:
                    act()
            return real(*arguments, **named)

        return call

    os_open = os.open
    with patch.context() as context:
        for name in CHANGES:
            context.setattr(os, name, counting(getattr(os, name)))
        yield count


@contextlib.contextmanager
def killed_at(number: int, patch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Kills the block before its n-th change of a file: no later change happens either."""
    is_dead = [False]

    def die() -> None:
        is_dead[0] = True
        raise Killed

    with at_change(number, die, patch) as count, patch.context() as context:
        for name in CHANGES:
            inner = getattr(os, name)

            def call(*arguments: Any, inner: Callable[..., Any] = inner, **named: Any) -> Any:
                if is_dead[0]:
                    raise Killed
                return inner(*arguments, **named)

            context.setattr(os, name, call)
        with contextlib.suppress(Killed):
            yield count


def cloning(target: int, request: int, source: int) -> int:
    """Stands for the reflinks of a file system that has them: copies the content."""
    assert request == 0x40049409
    size = os.fstat(source).st_size
    os.pwrite(target, os.pread(source, size, 0), 0)
    return 0


def with_second_device(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes a directory behave like another device: files can't be renamed or linked into it or out of it."""

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(source: Any, target: Any, **named: Any) -> Any:
            if len({str(path).startswith(f"{folder}/") for path in (source, target)}) > 1:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), target)
            return real(source, target, **named)

        return call

    for name in ("rename", "replace", "link"):
        patch.setattr(os, name, guarded(getattr(os, name)))


def with_reflinks(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(fcntl, "ioctl", cloning)
