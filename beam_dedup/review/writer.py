"""Writes a review page: index.html, its scripts and style, the data as scripts, and the thumbnails.

    index.html          the page, which opens from the disk
    page/               its style and scripts, the same for all reports
    data/index.js       the run, and a few numbers about each group, for sorting and filtering
    data/groups-0000.js all about the first `SHARD_GROUPS` groups, and so on: loaded when they are shown
    data/rejected.js    rejected images
    sprites/0000.jpg    thumbnails, many to a file
    report.json         names this directory as a report

A page from the disk may not read files, but it may load scripts. So the data are scripts of one call each, whose
argument is JSON. All text of records is data; the page shows it as text.
"""

import contextlib
import importlib.resources
import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType
from typing import Any

from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.core.names import shown
from beam_dedup.core.paths import is_remote
from beam_dedup.options.option import quoted
from beam_dedup.review.data import write_data
from beam_dedup.review.groups import Review
from beam_dedup.review.thumbnails import ThumbnailMaker
from beam_dedup.signals import handling

INDEX, MARKER = "index.html", "report.json"
# The marker is first: if the command is killed between two parts, the next one still takes the directory for a report.
_PARTS = (MARKER, "page", "data", "sprites", INDEX)
_KIND = "dedup review page"
_UNFINISHED = ".report-"  # begins the names of directories in which a page is made


def check_directory(path: str, flag: str) -> None:
    """Checks that a page can be written to a directory: it is missing or empty, or contains an earlier page.

    Args:
      path: the directory.
      flag: the option that names it.

    Raises:
      UsageError: it contains something else, or can't be made.
    """
    if is_remote(path):
        raise UsageError(f"{flag} must be a local directory; got {quoted(path)}")
    if not path:
        raise UsageError(f"{flag} must name a directory; got nothing")
    try:
        entries = [name for name in os.listdir(path) if not name.startswith(_UNFINISHED)]
        if entries and not _is_report(path):
            raise UsageError(
                f"{flag} must be a new or empty directory, or an earlier report; {shown(path)} contains other files"
            )
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(f"{flag}: can't use the directory {shown(path)}: {error.strerror}") from error


def _is_report(path: str) -> bool:
    with contextlib.suppress(OSError, ValueError), open(os.path.join(path, MARKER), encoding="utf-8") as file:
        marker = json.loads(file.read(4096))
        return isinstance(marker, dict) and marker.get("kind") == _KIND
    return False


def write_page(
    path: str,
    review: Review,
    maker: ThumbnailMaker,
    directory: str,
    counts: Mapping[str, Any] | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> str:
    """Writes a page and returns the path of its index.html. Of an earlier page in the directory nothing is left.

    Args:
      path: the directory to write to, checked by `check_directory`.
      review: what to show.
      maker: makes the thumbnails.
      directory: absolute, to which relative paths of the records are relative.
      counts: what the run counted, as `--counts` writes it; None if it is not known.
      on_done: called with the number of pictures that were done since it was last called.

    Raises:
      DedupError: a file can't be written.
    """
    try:
        os.makedirs(path, exist_ok=True)
        made = tempfile.mkdtemp(prefix=_UNFINISHED, dir=path)
        try:
            with _removed_on_signals(made):
                identity = write_data(made, review, maker, directory, counts, on_done)
                _write_static(made)
                _write(made, MARKER, json.dumps({"kind": _KIND, "id": identity}) + "\n")
                _replace(path, made)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        name = os.fsdecode(error.filename) if error.filename else path
        raise DedupError(f"the report can't be written: {shown(name)}: {error.strerror}") from error
    return os.path.join(path, INDEX)


@contextlib.contextmanager
def _removed_on_signals(made: str) -> Iterator[None]:
    """Removes an unfinished page before SIGTERM or SIGHUP ends this process."""
    if threading.current_thread() is not threading.main_thread():  # others can't handle signals
        yield
        return
    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def remove(number: int, _: FrameType | None) -> None:
        shutil.rmtree(made, ignore_errors=True)
        signal.signal(number, earlier[signal.Signals(number)])
        signal.raise_signal(number)

    with handling([number for number in earlier if earlier[number] != signal.SIG_IGN], remove):
        yield


def _replace(path: str, made: str) -> None:
    """Puts a complete page in the place of an earlier one, and removes what killed commands have left."""
    for part in _PARTS:
        old, new = os.path.join(path, part), os.path.join(made, part)
        if os.path.isdir(old) and not os.path.islink(old):
            shutil.rmtree(old)
        elif os.path.islink(old):
            os.unlink(old)
        os.replace(new, old)
    for name in os.listdir(path):
        if name.startswith(_UNFINISHED) and name != os.path.basename(made):
            shutil.rmtree(os.path.join(path, name), ignore_errors=True)


def _write(folder: str, name: str, text: str) -> None:
    with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
        file.write(text)


def _write_static(made: str) -> None:
    """Copies index.html, the style and the scripts. They are the same for all reports."""
    page = os.path.join(made, "page")
    os.mkdir(page)
    for file in importlib.resources.files("beam_dedup.review").joinpath("page").iterdir():
        _write(made if file.name == INDEX else page, file.name, file.read_text("utf-8"))
