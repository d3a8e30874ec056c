"""Lists the files of inputs one by one, so that millions of them are never in memory together."""

import collections
import contextlib
import functools
import glob
import itertools
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import psutil

from beam_dedup.core.allowed import real_root
from beam_dedup.core.archives import nutch
from beam_dedup.core.companions import Companions, companions_in, may_have_companions
from beam_dedup.core.errors import ImageError
from beam_dedup.core.paths import PARTIAL_PREFIX, is_remote, partial_process
from beam_dedup.core.reading import input_paths
from beam_dedup.core.reading.local_files import open_local
from beam_dedup.core.reading.selection import (
    EVERYTHING,
    ONE_FILE_SYSTEM,
    Exclusions,
    Selection,
    Selector,
    selector_of,
)
from beam_dedup.core.splits import SplitCheck
from transforms.storage import objects

_Urls = Mapping[str, str]  # by base name of the file
_Entry = os.DirEntry[str] | pathlib.Path
_CLOCK_SECONDS = 5  # by which the times of files and processes may differ
_Directory = tuple[str, _Urls, input_paths.States]  # its path below the input, and what is known of it


class Listed(NamedTuple):
    """A file that was found."""

    path: str
    name: str  # of its copy, with `/` between directories
    metadata: str = ""  # what is known of the file without opening it, as a JSON object
    version: str = ""  # of a remote file; a file that replaces it has another version
    is_link: bool = False  # whether the path passes through a link below the input
    leads_outside: bool = False  # whether it is a link out of the inputs, which must not be followed
    companions: Companions = Companions()  # the files of the same directory that belong to it


def list_inputs(
    inputs: Sequence[str],
    exclude: Iterable[str] = (),
    links_inside: bool = False,
    selection: Selection = EVERYTHING,
    exclusions: Exclusions | None = None,
    companions: bool = False,
    splits: Sequence[str] = (),
) -> Iterator[Listed]:
    """Yields every file of some inputs: directories, files, patterns, and paths of Beam's file systems.

    No directory is listed twice, and a file that two patterns match is yielded once. Linked directories come after
    all others of all inputs, so that a file is yielded with a path without links if it has one. Names are unique
    (`input_paths.labels`).

    Args:
      inputs: the paths.
      exclude: files and directories to leave out.
      links_inside: whether links that lead out of the inputs are only yielded, and nothing below them; see
        `input_paths.local_roots`.
      selection: which of the files are wanted. Its patterns are matched with paths relative to `input_paths.root`; a path
        behind a link is the path through the link.
      exclusions: what the selection leaves out is added to it. `exclude` is not.
      companions: whether companions in directories are not yielded themselves, but with the images that they belong to.
      splits: the split of each input, if they have any. Then each split is listed by itself: a file that links lead to
        from two splits is yielded for both, with two paths.

    Raises:
      UsageError: a file belongs to inputs of two splits.
    """
    excluded = tuple(exclude)
    left_out = Exclusions() if exclusions is None else exclusions
    all_visits: dict[str, _Visits] = collections.defaultdict(_Visits)  # by split
    roots = input_paths.local_roots(inputs) if links_inside else ()
    remote: dict[str, set[str]] = collections.defaultdict(set)
    behind_links: list[Iterator[Listed]] = []
    for number, (path, label) in enumerate(zip(inputs, input_paths.labels(inputs), strict=True)):
        split = splits[number] if splits else ""
        visits = all_visits[split]
        labelled = functools.partial(
            _labelled, path=path, label=label, check=SplitCheck.of(number, inputs, splits)
        )
        if is_remote(path):
            found = _list_remote(path, excluded, selection, left_out)
            yield from labelled(_unseen(found, remote[split]) if label else found)
        elif input_paths.is_pattern(path) or os.path.isdir(path):
            search = _Search(
                path,
                excluded,
                visits,
                roots=roots,
                selection=selection,
                exclusions=left_out,
                companions=companions,
            )
            yield from labelled(search.directly())
            behind_links.append(labelled(search.behind_links()))
        elif visits.is_new_file(path) and _is_selected_file(
            path, _size_of(pathlib.Path(path)), selection, left_out
        ):
            yield from labelled(iter([Listed(path, os.path.basename(path))]))
    for files in behind_links:
        yield from files


def _labelled(files: Iterator[Listed], path: str, label: str, check: SplitCheck) -> Iterator[Listed]:
    for file in files:
        check.refuse_shared(file.path)
        name = label if file.path == path else f"{label}/{file.name}"
        yield file._replace(name=name) if label else file


def _is_selected_file(
    path: str, size_bytes: int | None, selection: Selection, exclusions: Exclusions
) -> bool:
    """Returns whether a file that an input names is wanted, and counts it if it is not. Patterns see its name only."""
    cause = selector_of(selection).file(os.path.basename(path), size_bytes)
    if cause:
        exclusions.add_file(cause)
    return not cause


def _unseen(files: Iterator[Listed], seen: set[str]) -> Iterator[Listed]:
    """Yields the files whose paths are not in a set, and adds them."""
    for file in files:
        if file.path not in seen:
            seen.add(file.path)
            yield file


def _list_remote(
    path: str, exclude: tuple[str, ...], selection: Selection, exclusions: Exclusions
) -> Iterator[Listed]:
    """Lists remote files: those that match a pattern, those below a prefix, or the one file of this name."""
    start = input_paths.root(path)
    is_pattern = input_paths.is_pattern(path)
    selector = _selector(path, selection)
    found = objects.list_versions(start + "/")
    if is_pattern:
        found = (one for one in found if input_paths.matches(one.path, path))
    is_empty = True
    for uri, version, size_bytes in found:
        is_output = any(uri == other or uri.startswith(other.rstrip("/") + "/") for other in exclude)
        if not uri.endswith("/") and not is_output:  # some tools make an empty object per directory
            is_empty = False
            name = uri.removeprefix(start + "/")
            if cause := selector.file_anywhere(name, size_bytes):
                exclusions.add_file(cause)
            else:
                yield Listed(uri, name, version=version)
    if is_empty and not is_pattern and objects.exists(path):
        first = next(objects.list_versions(path), None) if selection.min_bytes else None
        size_bytes = first.size_bytes if first and first.path == path else None
        if _is_selected_file(path, size_bytes, selection, exclusions):
            yield Listed(path, path.rpartition("/")[2])


def _selector(path: str, selection: Selection) -> Selector:
    """Returns what decides about the files of an input."""
    if not input_paths.is_pattern(path):
        return Selector(selection)
    return Selector(selection, path.removeprefix(input_paths.root(path)).split("/"))


def list_files(folder: str, exclude: Iterable[str] = ()) -> Iterator[str]:
    """Yields the paths of all files below a directory, relative to it; see `list_inputs`."""
    search = _Search(folder, tuple(exclude), _Visits(), pattern="")
    return (file.name for file in itertools.chain(search.directly(), search.behind_links()))


class _Visit(NamedTuple):
    """What is left to do in a directory."""

    states: input_paths.States
    wanted: input_paths.FilePatterns  # of the files to yield
    yielded: input_paths.FilePatterns  # of the files that earlier visits yielded

    def takes(self, name: str) -> bool:
        """Returns whether a file is to be yielded."""
        return input_paths.takes(self.wanted, name) and not input_paths.takes(self.yielded, name)


class _Visits:
    """Remembers which files of which directories were yielded, so that none is yielded twice and circular links end."""

    def __init__(self) -> None:
        self._yielded: dict[tuple[int, int], input_paths.FilePatterns] = {}  # by device and inode
        self._states: dict[tuple[int, int, str], input_paths.States] = {}  # the same, and the pattern

        self._links: set[str] = set()  # that lead out of the inputs, by the real paths of their directories

    def enter(
        self, folder: str, text: str, pattern: input_paths.PathPattern, states: input_paths.States
    ) -> _Visit | None:
        """Begins a visit. Returns what is left to do there; None if nothing is.

        Args:
          folder: the directory.
          text: of the pattern, which identifies it.
          pattern: the pattern.
          states: the positions in the pattern.
        """
        status = os.stat(folder)
        directory = (status.st_dev, status.st_ino)
        yielded = self._yielded.get(directory, frozenset())
        if input_paths.EVERY_FILE in yielded:
            return None
        states -= self._states.get((*directory, text), frozenset())
        if not states:
            return None
        wanted = pattern.file_patterns(states)
        if input_paths.EVERY_FILE not in wanted:
            before = self._states.get((*directory, text), frozenset())
            self._states[(*directory, text)] = before | states
        if wanted:
            self._yielded[directory] = yielded | wanted if yielded else wanted
        return _Visit(states, wanted, yielded)

    def is_new_link(self, folder: str, name: str) -> bool:
        """Returns whether a link to a directory was not yielded before, and remembers it."""
        link = os.path.join(os.path.realpath(folder), name)
        is_new = link not in self._links
        self._links.add(link)
        return is_new

    def is_new_file(self, path: str) -> bool:
        """Returns whether a file was not yielded before, and remembers it."""
        name = os.path.basename(path)
        try:
            status = os.stat(os.path.dirname(path) or ".")
        except OSError:
            return True  # it is rejected when it is opened
        directory = (status.st_dev, status.st_ino)
        yielded = self._yielded.get(directory, frozenset())
        self._yielded[directory] = yielded | {glob.escape(name)}
        return not input_paths.takes(yielded, name)


class _Search:
    """Finds the files of one input: those below a directory, or those that match a pattern.

    Files are everything except directories. Their metadata are the URL of the file if it lies in a dump of Apache
    Nutch; the files in which such a dump maps names to URLs are not yielded, unless a pattern matches them. Below a
    directory that matches a pattern all files are yielded, unless the pattern has a `**`. A directory that cannot be
    listed is yielded itself.

    Args:
      path: the directory, or the pattern.
      exclude: files and directories to leave out.
      visits: what other searches have found; it is left out, and what this search finds is added.
      pattern: the parts of the pattern below `folder`; by default those of `path`, if it is one.
      roots: if given, links that lead out of these directories and files are not followed.
      selection: which files are wanted.
      exclusions: what is left out is added to it.
      companions: whether companions are yielded with their images. Only files that would be yielded are companions.
    """

    def __init__(
        self,
        path: str,
        exclude: tuple[str, ...],
        visits: _Visits,
        pattern: str | None = None,
        roots: tuple[str, ...] = (),
        selection: Selection = EVERYTHING,
        exclusions: Exclusions | None = None,
        companions: bool = False,
    ) -> None:
        is_pattern = pattern is None and input_paths.is_pattern(path)
        self._folder = input_paths.root(path) if is_pattern else path
        self._text = path if is_pattern else ""
        below = path.removeprefix(self._folder).lstrip(os.sep) if is_pattern else ""
        self._pattern = input_paths.PathPattern.parse(below)
        self._excluded = {os.path.realpath(other) for other in exclude}
        self._excluded_names = {os.path.basename(other) for other in self._excluded}
        self._visits = visits
        self._roots = roots
        self._companions = companions
        self._linked: collections.deque[_Directory] = collections.deque()
        self._exclusions = Exclusions() if exclusions is None else exclusions
        self._selects = not selection.is_everything
        self._selector = _selector(self._text or path, selection)
        self._needs_size = selection.min_bytes > 0
        self._device = _device_of(self._folder or ".") if selection.one_file_system else None

    def directly(self) -> Iterator[Listed]:
        """Yields the files whose paths below the input contain no linked directory, in the order of the names."""
        if not (self._text and self._excluded and lies_in(self._folder, self._excluded)):
            yield from self._search("", {}, self._pattern.start, behind_link=False)

    def behind_links(self) -> Iterator[Listed]:
        """Yields the files in linked directories that were not yielded before."""
        while self._linked:
            yield from self._search(*self._linked.popleft(), behind_link=True)

    def _search(
        self, here: str, urls: _Urls, states: input_paths.States, behind_link: bool
    ) -> Iterator[Listed]:
        todo = [(here, urls, states)]
        start = os.path.join(self._folder, "")
        while todo:
            here, urls, states = todo.pop()
            path = start + here if here else self._folder or "."
            try:
                visit = self._visits.enter(path, self._text, self._pattern, states)
                if visit is None:
                    continue
                entries = _entries(path, self._pattern.only_names(visit.states))
            except OSError:
                yield Listed(path, here.replace(os.sep, "/"), is_link=behind_link)
                continue
            is_whole = input_paths.EVERY_FILE in visit.wanted
            maps = _nutch_maps(path, entries, self._roots) if is_whole else {}
            for found_urls in maps.values():
                urls = {**urls, **found_urls}
            folders: list[_Directory] = []
            held: list[Listed] | None = None  # the files of this directory, if some of them may be companions
            if self._companions and may_have_companions(entry.name for entry in entries):
                held = []
            prefix = os.path.join(here, "")
            for entry in entries:  # there may be millions, so cheap tests come first
                name = entry.name
                is_link = entry.is_symlink()
                if self._is_excluded(start + prefix, name, is_link):
                    continue
                leads_outside = is_link and self._leads_outside(start + prefix + name)
                if _is_folder(entry):
                    below = states if is_whole else self._pattern.enter(visit.states, name)
                    if (
                        below
                        and self._selects
                        and self._leaves_out_folder(entry, prefix + name, leads_outside)
                    ):
                        continue
                    is_wanted = bool(below) and leads_outside and self._visits.is_new_link(path, name)
                    if below and not leads_outside:
                        (self._linked if is_link else folders).append((prefix + name, urls, below))
                else:
                    is_wanted = name not in maps and visit.takes(name)
                    if (
                        is_wanted
                        and self._selects
                        and self._leaves_out_file(entry, prefix + name, leads_outside)
                    ):
                        continue
                if is_wanted:
                    relative = prefix + name
                    file = Listed(
                        start + relative,
                        relative.replace(os.sep, "/"),
                        _url_metadata(urls.get(name)) if urls else "",
                        is_link=is_link or behind_link,
                        leads_outside=leads_outside,
                    )
                    if held is None:
                        yield file
                    else:
                        held.append(file)
            if held:
                yield from _with_companions(held)
            todo.extend(reversed(folders))

    def _leads_outside(self, path: str) -> bool:
        return bool(self._roots) and real_root(path, self._roots) is None

    def _leaves_out_folder(self, entry: _Entry, relative: str, leads_outside: bool) -> bool:
        """Returns whether a directory is not wanted, and counts it then. Nothing is asked about what lies outside."""
        cause = self._selector.directory(relative.replace(os.sep, "/"))
        if not cause and self._device is not None and not leads_outside:
            with contextlib.suppress(OSError):
                cause = ONE_FILE_SYSTEM if entry.stat().st_dev != self._device else ""
        if cause:
            self._exclusions.add_directory(cause)
        return bool(cause)

    def _leaves_out_file(self, entry: _Entry, relative: str, leads_outside: bool) -> bool:
        """Returns whether a file is not wanted, and counts it then. Nothing is asked about what lies outside."""
        size_bytes = _size_of(entry) if self._needs_size and not leads_outside else None
        cause = self._selector.file(relative.replace(os.sep, "/"), size_bytes)
        if cause:
            self._exclusions.add_file(cause)
        return bool(cause)

    def _is_excluded(self, folder: str, name: str, is_link: bool) -> bool:
        if not self._excluded:
            return False
        if name.startswith(PARTIAL_PREFIX) and _is_being_written(folder + name, self._excluded):
            return True
        # Resolving a path is slow: only links, and entries that have the name of an excluded path, need it.
        return (is_link or name in self._excluded_names) and lies_in(folder + name, self._excluded)


def _with_companions(files: list[Listed]) -> Iterator[Listed]:
    """Yields the files of one directory, except that companions are yielded with the images that they belong to."""
    names = {os.path.basename(file.path) for file in files if not file.leads_outside}
    found = companions_in(sorted(names))
    left_out = {name for companions in found.values() for name in companions.own}
    for file in files:
        name = os.path.basename(file.path)
        if file.leads_outside or name not in left_out:
            yield file._replace(companions=found[name]) if name in found else file


def _entries(folder: str, names: Iterable[str] | None) -> Sequence[_Entry]:
    """Returns the entries of a directory in the order of their names; with `names`, those of them that exist."""
    if names is not None:
        return [pathlib.Path(folder, name) for name in sorted(names) if os.path.lexists(f"{folder}/{name}")]
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def _nutch_maps(folder: str, entries: Iterable[_Entry], roots: tuple[str, ...]) -> dict[str, _Urls]:
    """Returns the URLs in the maps of a Nutch dump, by the name of the map.

    A file that has the name of a map but is none is a file like others, and so is one outside of the roots, if there
    are any.
    """
    maps: dict[str, _Urls] = {}
    for entry in entries:
        if nutch.is_map(entry.name):
            with (
                contextlib.suppress(ImageError),
                open_local(os.path.join(folder, entry.name), roots=roots) as (stream, size_bytes, _),
            ):
                if size_bytes <= nutch.MAP_BYTES:
                    maps[entry.name] = nutch.urls(stream.read(size_bytes))
    return maps


def _url_metadata(url: str | None) -> str:
    return "" if url is None else json.dumps({"url": url})


def _is_folder(entry: _Entry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle, or below a directory without permission: rejected when it is opened
        return False


def _size_of(entry: _Entry) -> int | None:
    """Returns the size of a file, with links followed; None if it is no regular file, or its size is not known."""
    try:
        status = entry.stat()
    except (OSError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _device_of(folder: str) -> int | None:
    try:
        return os.stat(folder).st_dev
    except OSError:  # gone: nothing is found in it
        return None


def _is_being_written(path: str, outputs: set[str]) -> bool:
    """Returns whether a file is a partial file of this run: beside an output, and written by a process of its session.

    A process of an earlier run may have had the same number, as in containers; its files are older than the process
    that has it now. Any other file with the name of a partial file is input, since it could be somebody's image.
    """
    process = partial_process(os.path.basename(path))
    if process is None:
        return False
    directory = os.path.realpath(os.path.dirname(path) or ".")
    if all(os.path.dirname(output) != directory for output in outputs):
        return False
    try:
        if os.getsid(process) != os.getsid(0):
            return False
        changed = os.stat(path, follow_symlinks=False).st_ctime
        return changed > psutil.Process(process).create_time() - _CLOCK_SECONDS
    except (OSError, OverflowError, psutil.Error):  # no such process, or the file is finished
        return False


def lies_in(path: str, real_paths: set[str]) -> bool:
    """Returns whether a path, with links resolved, is one of some paths or below one of them."""
    try:
        real = os.path.realpath(path)
    except ValueError:  # no file can have such a name, for example one with a NUL
        return False
    return any(real == path or real.startswith(path + os.sep) for path in real_paths)
