"""Lists the files of inputs one by one, so that millions of them are never in memory together."""

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

_Urls = Mapping[str, str]  # by base name of the file
_Seen = set[tuple[int, int]]  # directories that were listed already, by device and inode


class Listed(NamedTuple):
    """A file that was found."""

    path: str
    name: str  # of its copy, with `/` between directories
    metadata: str = ""  # what is known of the file without opening it, as a JSON object
    version: str = ""  # of a remote file; a file that replaces it has another version


def list_inputs(inputs: Sequence[str], exclude: Iterable[str] = ()) -> Iterator[Listed]:
    """Yields every file of some inputs: directories, files, patterns, and paths of Beam's file systems.

    No directory is listed twice, and a file that two patterns match is yielded once. Names are unique
    (`input_paths.labels`).
    """
    excluded = tuple(exclude)
    seen: _Seen = set()
    matched: set[str] = set()
    for path, label in zip(inputs, input_paths.labels(inputs), strict=True):
        may_repeat = len(inputs) > 1 and not os.path.isdir(path)
        for file in _list_one(path, excluded, seen):
            if may_repeat:
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
    """Lists the files that match a pattern, and those below directories that match.

    If the pattern has `**`, which matches any depth itself, directories that match are left out.
    """
    start = os.path.join(input_paths.root(pattern), "")
    excluded = {os.path.realpath(path) for path in exclude}
    for path in glob.iglob(pattern, recursive=True):
        name = path.removeprefix(start).rstrip(os.sep).replace(os.sep, "/")
        if is_partial(os.path.basename(path)) or (excluded and lies_in(path, excluded)):
            continue
        if not os.path.isdir(path):
            yield Listed(path, name)
        elif "**" not in pattern:
            for file in _list_folder(path, exclude, seen):
                yield file._replace(name=f"{name}/{file.name}")


def _list_remote(path: str, exclude: tuple[str, ...]) -> Iterator[Listed]:
    """Lists remote files: those that match a pattern, those below a prefix, or the one file of this name."""
    start = input_paths.root(path)
    found = objects.list_versions(start + "/")
    if input_paths.is_pattern(path):
        found = ((uri, version) for uri, version in found if input_paths.matches(uri, path))
    is_empty = True
    for uri, version in found:
        is_output = any(uri == other or uri.startswith(other.rstrip("/") + "/") for other in exclude)
        if not uri.endswith("/") and not is_output:  # some tools make an empty object per directory
            is_empty = False
            yield Listed(uri, uri.removeprefix(start + "/"), version=version)
    if is_empty and not input_paths.is_pattern(path) and objects.exists(path):
        yield Listed(path, path.rpartition("/")[2])


def list_files(folder: str, exclude: Iterable[str] = ()) -> Iterator[str]:
    """Yields the paths that `walk` finds, relative to the directory."""
    return (name for name, _ in walk(folder, exclude, set()))


def walk(folder: str, exclude: Iterable[str], seen: _Seen) -> Iterator[tuple[str, str]]:
    """Yields every file below a directory, as its relative path and its metadata, in the order of the names.

    Files are everything except directories. The metadata are the URL of the file if it lies in a dump of Apache Nutch;
    the files in which such a dump maps names to URLs are not yielded. A directory that cannot be listed is yielded
    itself. Linked directories come after all others, so that a file is yielded with a path without links if it has one.

    Args:
      folder: the directory.
      exclude: files and directories to leave out, with links resolved.
      seen: directories that were listed already; they are left out, and new ones are added.
    """
    excluded = {os.path.realpath(path) for path in exclude}
    excluded_names = {os.path.basename(path) for path in excluded}
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
        maps = _nutch_maps(entries)
        for found_urls in maps.values():
            urls = {**urls, **found_urls}
        folders = []
        prefix = os.path.join(here, "")
        for entry in entries:  # there may be millions, so cheap tests come first
            name = entry.name
            is_link = entry.is_symlink()
            if name.startswith(PARTIAL_PREFIX) and is_partial(name):
                continue
            # Resolving a path is slow: only links, and entries that have the name of an excluded path, need it.
            if excluded and (is_link or name in excluded_names) and lies_in(entry.path, excluded):
                continue
            if not _is_folder(entry):
                if name not in maps:
                    yield prefix + name, _url_metadata(urls.get(name)) if urls else ""
            elif is_link:
                linked.append((prefix + name, urls))
            else:
                folders.append((prefix + name, urls))
        todo.extend(reversed(folders))


def _nutch_maps(entries: Iterable[os.DirEntry[str]]) -> dict[str, _Urls]:
    """Returns the URLs in the maps of a Nutch dump, by the name of the map.

    A file that has the name of a map but is none is a file like others.
    """
    maps: dict[str, _Urls] = {}
    for entry in entries:
        if nutch.is_map(entry.name):
            with contextlib.suppress(ImageError), open_local(entry.path) as (stream, size_bytes, _):
                if size_bytes <= nutch.MAP_BYTES:
                    maps[entry.name] = nutch.urls(stream.read(size_bytes))
    return maps


def _url_metadata(url: str | None) -> str:
    return "" if url is None else json.dumps({"url": url})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or below a directory without permission: rejected when it is opened
        return False


def lies_in(path: str, real_paths: set[str]) -> bool:
    """Returns whether a path, with links resolved, is one of some paths or below one of them."""
    try:
        real = os.path.realpath(path)
    except ValueError:  # no file can have such a name, for example one with a NUL
        return False
    return any(real == path or real.startswith(path + os.sep) for path in real_paths)
