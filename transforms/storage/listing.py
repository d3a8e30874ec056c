"""The files of inputs, one after the other: millions of them never are in one list."""

import contextlib
import glob
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from beam_dedup.core.archives import nutch
from beam_dedup.core.errors import ImageError
from beam_dedup.core.paths import PARTIAL_PREFIX, is_partial, is_remote
from beam_dedup.core.reading import input_paths
from beam_dedup.core.reading.local_files import open_local
from transforms.storage import objects

_Urls = Mapping[str, str]  # by the base names of files
_Seen = set[tuple[int, int]]  # folders that are listed, by device and inode


class Listed(NamedTuple):
    """One file."""

    path: str
    name: str  # with `/` between folders
    metadata: str = ""
    version: str = ""  # of a file that is not on this machine: another one of its name has another


def list_inputs(inputs: Sequence[str], exclude: Iterable[str] = ()) -> Iterator[Listed]:
    """Yields every file of some inputs: folders, files, patterns, paths of Beam's file systems.

    No folder is listed twice, and no file that two patterns match. Names are unique (`sources.labels`).
    """
    left_out = tuple(exclude)
    seen: _Seen = set()
    matched: set[str] = set()
    for path, label in zip(inputs, input_paths.labels(inputs), strict=True):
        may_come_twice = len(inputs) > 1 and not os.path.isdir(path)
        for file in _list_one(path, left_out, seen):
            if may_come_twice:
                if file.path in matched:
                    continue
                matched.add(file.path)
            yield file._replace(name=_name(file, path, label)) if label else file


def _name(file: Listed, path: str, label: str) -> str:
    return label if file.path == path else f"{label}/{file.name}"


def _list_one(path: str, exclude: tuple[str, ...], seen: _Seen) -> Iterator[Listed]:
    if is_remote(path):
        return _list_remote(path, exclude)
    if input_paths.is_pattern(path):
        return _list_matching(path, exclude, seen)
    if os.path.isdir(path):
        return _list_folder(path, exclude, seen)
    return iter([Listed(path, os.path.basename(path))])


def _list_folder(folder: str, exclude: Iterable[str], seen: _Seen) -> Iterator[Listed]:
    prefix = os.path.join(folder, "")
    for name, metadata in walk(folder, exclude, seen):
        yield Listed(prefix + name if name else folder, name.replace(os.sep, "/"), metadata)


def _list_matching(pattern: str, exclude: tuple[str, ...], seen: _Seen) -> Iterator[Listed]:
    """Folders that match are searched, unless the pattern says itself, by `**`, how deep it goes."""
    start = os.path.join(input_paths.root(pattern), "")
    left_out = {os.path.realpath(path) for path in exclude}
    for path in glob.iglob(pattern, recursive=True):
        name = path.removeprefix(start).rstrip(os.sep).replace(os.sep, "/")
        if is_partial(os.path.basename(path)) or (left_out and lies_in(path, left_out)):
            continue
        if not os.path.isdir(path):
            yield Listed(path, name)
        elif "**" not in pattern:
            for file in _list_folder(path, exclude, seen):
                yield file._replace(name=f"{name}/{file.name}")


def _list_remote(path: str, exclude: tuple[str, ...]) -> Iterator[Listed]:
    """Files of a file system of Beam's: those that match, those below a prefix as if it were a folder, or the one."""
    start = input_paths.root(path)
    found = objects.list_versions(start + "/")
    if input_paths.is_pattern(path):
        found = ((uri, version) for uri, version in found if input_paths.matches(uri, path))
    none = True
    for uri, version in found:
        is_output = any(uri == other or uri.startswith(other.rstrip("/") + "/") for other in exclude)
        if not uri.endswith("/") and not is_output:  # some tools leave an object for a folder
            none = False
            yield Listed(uri, uri.removeprefix(start + "/"), version=version)
    if none and not input_paths.is_pattern(path) and objects.exists(path):
        yield Listed(path, path.rpartition("/")[2])


def list_files(folder: str, exclude: Iterable[str] = ()) -> Iterator[str]:
    """The paths, relative to `folder`, of what `walk` finds."""
    return (name for name, _ in walk(folder, exclude, set()))


def walk(folder: str, exclude: Iterable[str], seen: _Seen) -> Iterator[tuple[str, str]]:
    """Yields the paths, relative to `folder`, of everything in it that is not a folder, in the order of their names; with
    each what is known of it from beside it: the URL, in a dump of Nutch's, whose maps of URLs are no files of their own.

    A folder that can't be listed is yielded itself. Linked folders come after all others, so that a file is known
    by the path without links if it has one.
    """
    left_out = {os.path.realpath(path) for path in exclude}
    names_left_out = {os.path.basename(path) for path in left_out}
    todo: list[tuple[str, _Urls]] = [("", {})]
    linked: list[tuple[str, _Urls]] = []
    while todo or linked:
        here, urls = todo.pop() if todo else linked.pop(0)
        path = os.path.join(folder, here) if here else folder
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError:
            yield here, ""
            continue
        maps = _maps_among(entries)
        for found_urls in maps.values():
            urls = {**urls, **found_urls}
        folders = []
        prefix = os.path.join(here, "")
        for entry in entries:  # of which there may be millions: cheap questions first
            name = entry.name
            is_link = entry.is_symlink()
            if name.startswith(PARTIAL_PREFIX) and is_partial(name):
                continue
            # Links are resolved, and others only where the name makes it possible.
            if left_out and (is_link or name in names_left_out) and _is_one_of(entry, left_out):
                continue
            if not _is_folder(entry):
                if name not in maps:
                    yield prefix + name, _said(urls.get(name)) if urls else ""
            elif is_link:
                linked.append((prefix + name, urls))
            else:
                folders.append((prefix + name, urls))
        todo.extend(reversed(folders))


def _maps_among(entries: Iterable[os.DirEntry[str]]) -> dict[str, _Urls]:
    """The maps of a dump of Nutch's among the files of a folder; what only has the name of one is a file like others."""
    maps: dict[str, _Urls] = {}
    for entry in entries:
        if nutch.is_map(entry.name):
            with contextlib.suppress(ImageError), open_local(entry.path) as (stream, size_bytes, _):
                if size_bytes <= nutch.MAP_BYTES:
                    maps[entry.name] = nutch.urls(stream.read(size_bytes))
    return maps


def _said(url: str | None) -> str:
    return "" if url is None else json.dumps({"url": url})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or through a folder that is closed to us: told when it is opened
        return False


def _is_one_of(entry: os.DirEntry[str], real_paths: set[str]) -> bool:
    """Whether an entry is one of some paths, or links to one or into it."""
    return lies_in(entry.path, real_paths)


def lies_in(path: str, real_paths: set[str]) -> bool:
    """Whether a path is one of some, or in one of them, links resolved."""
    try:
        real = os.path.realpath(path)
    except ValueError:  # no file can have such a name: with a NUL in it, say
        return False
    return any(real == path or real.startswith(path + os.sep) for path in real_paths)
