"""Decides which files of the inputs are read: patterns, directories that hold no originals, sizes, devices.

Whatever is left out is counted by its cause, in `Exclusions`.
"""

import dataclasses
import functools
import re
from collections.abc import Iterable

from beam_dedup.core import globs
from beam_dedup.core.paths import is_remote

EXCLUDE, INCLUDE, MIN_SIZE, ONE_FILE_SYSTEM = "--exclude", "--include", "--min_size", "--one_file_system"

_MAX_PATH = 1 << 13  # characters; no file has a longer path, but a row may

# Directories that no one means by "my pictures". `lost+found` is none of them: it may hold the last copy of a file.
DEFAULT_EXCLUDES = (
    # thumbnails
    "@eaDir/",  # Synology
    ".@__thumb/",  # QNAP
    ".thumbnails/",  # Android, and older desktops
    "**/.cache/thumbnails/",  # desktops
    # trash
    ".Trash*/",  # macOS, and other file systems than that of the home directory
    "**/.local/share/Trash/",  # desktops
    "$RECYCLE.BIN/",  # Windows
    "#recycle/",  # Synology
    "@Recycle/",  # QNAP
    ".dtrash/",  # digiKam
    # snapshots: older states of all files
    "#snapshot/",  # Synology
    "@Recently-Snapshot/",  # QNAP
    ".snapshot/",  # NetApp
    ".snapshots/",  # Btrfs
    ".zfs/",
    # copies and data of programs
    ".git/",
    ".hg/",
    ".svn/",
    ".AppleDouble/",
    "__MACOSX/",
    "System Volume Information/",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Which files of the inputs are read. By default all of them.

    Args:
      exclude: patterns of gitignore (`beam_dedup.core.globs`) of files and directories that are not read. The last
        one that matches decides. Nothing below an excluded directory is read.
      include: patterns of files, and of directories with all that is below them; all other files are not read. The last one
        that matches decides. If there are none, all files are read.
      default_excludes: whether `DEFAULT_EXCLUDES` come before `exclude`.
      min_bytes: smaller files are not read.
      one_file_system: whether directories on other devices than their input are not read.
    """

    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    default_excludes: bool = False
    min_bytes: int = 0
    one_file_system: bool = False

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == EVERYTHING

    @property
    def of_named_images(self) -> "Selection":
        """The part that applies to images which are named one by one: the patterns."""
        return Selection(self.exclude, self.include)


EVERYTHING = Selection()


@dataclasses.dataclass
class Exclusions:
    """What was left out.

    Attributes:
      directories: number of directories that were not walked, by cause: an option, or the name of a default.
      files: number of files, by cause. Files in directories that were not walked are not counted.
    """

    directories: dict[str, int] = dataclasses.field(default_factory=dict)
    files: dict[str, int] = dataclasses.field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.directories or self.files)

    def add_directory(self, cause: str, count: int = 1) -> None:
        """Counts directories that are not walked."""
        self.directories[cause] = self.directories.get(cause, 0) + count

    def add_file(self, cause: str, count: int = 1) -> None:
        """Counts files that are not read."""
        self.files[cause] = self.files.get(cause, 0) + count

    def as_fields(self) -> dict[str, dict[str, int]]:
        """Returns the counts for JSON, in the order of the causes."""
        return {
            "directories": dict(sorted(self.directories.items())),
            "files": dict(sorted(self.files.items())),
        }


def sum_exclusions(parts: Iterable[Exclusions]) -> Exclusions:
    """Returns the counts of several parts together."""
    total = Exclusions()
    for part in parts:
        for cause, count in part.directories.items():
            total.add_directory(cause, count)
        for cause, count in part.files.items():
            total.add_file(cause, count)
    return total


class Selector:
    """Decides about the files and directories of one input.

    Args:
      selection: what is left out.
      named: the parts of the input's path below the directory that paths are relative to, if it is a pattern. A default
        that has the name of one of them does not apply.
    """

    def __init__(self, selection: Selection, named: Iterable[str] = ()) -> None:
        names = frozenset(named)
        defaults = [
            one for one in DEFAULT_EXCLUDES if selection.default_excludes and _default_name(one) not in names
        ]
        self._causes = [*map(_default_name, defaults), *(EXCLUDE for _ in selection.exclude)]
        self._exclude = [globs.parse(one) for one in (*defaults, *selection.exclude)]
        self._include = [globs.parse(one) for one in selection.include]
        # Most patterns are of directories alone, and files are far more numerous.
        self._exclude_files = [one for one in self._exclude if not one.only_directories]
        self.min_bytes = selection.min_bytes
        # Files of one directory come one after the other.
        self._cause_of_directory = functools.lru_cache(256)(self._find_cause_of_directory)
        self._includes_directory = functools.lru_cache(256)(self._find_includes_directory)

    def directory(self, path: str) -> str:
        """Returns why a directory is left out, given that those above it are not; "" if it is not.

        Args:
          path: relative to the input, with `/` between directories.
        """
        number = globs.last_match(self._exclude, path, path.rpartition("/")[2], is_directory=True)
        return "" if number is None or self._exclude[number].is_negated else self._causes[number]

    def file(self, path: str, size_bytes: int | None = None) -> str:
        """Returns why a file is left out, given that the directories above it are not; "" if it is not.

        Args:
          path: relative to the input, with `/` between directories.
          size_bytes: of the file; None if it is not known, and then the file is large enough.
        """
        name = path.rpartition("/")[2]
        if self._exclude_files:
            number = globs.last_match(self._exclude_files, path, name, is_directory=False)
            if number is not None and not self._exclude_files[number].is_negated:
                return EXCLUDE
        if self._include and not self._includes_file(path, name):
            return INCLUDE
        return MIN_SIZE if size_bytes is not None and size_bytes < self.min_bytes else ""

    def file_anywhere(self, path: str, size_bytes: int | None = None) -> str:
        """Returns why a file is left out, or the first directory above it is; "" if neither is. See `file`."""
        if len(path) > _MAX_PATH:
            return ""
        folder = path.rpartition("/")[0]
        return (folder and self._cause_of_directory(folder)) or self.file(path, size_bytes)

    def _find_cause_of_directory(self, path: str) -> str:
        return next(filter(None, map(self.directory, _with_those_above(path))), "")

    def _find_includes_directory(self, path: str) -> bool:
        for folder in reversed(_with_those_above(path)):
            number = globs.last_match(self._include, folder, folder.rpartition("/")[2], is_directory=True)
            if number is not None:
                return not self._include[number].is_negated
        return False

    def _includes_file(self, path: str, name: str) -> bool:
        number = globs.last_match(self._include, path, name, is_directory=False)
        if number is not None:
            return not self._include[number].is_negated
        folder = path.rpartition("/")[0]
        return bool(folder) and self._includes_directory(folder)


# Compiles a selection once, for inputs that are single files.
selector_of = functools.lru_cache(8)(Selector)


def path_in_row(path: str) -> str:
    """Returns the part of a row's path that patterns are matched with: without bucket, and without `/` at the beginning.

    >>> path_in_row("./photos/a.jpg"), path_in_row("/data/a.jpg"), path_in_row("gs://bucket/in/a.jpg")
    ('photos/a.jpg', 'data/a.jpg', 'in/a.jpg')
    """
    if is_remote(path):
        return path.partition("://")[2].partition("/")[2]
    return path.removeprefix("./").lstrip("/")


def _with_those_above(path: str) -> list[str]:
    """Returns the paths of the directories above a directory, from the top, and its own.

    >>> _with_those_above("a/b/c")
    ['a', 'a/b', 'a/b/c']
    """
    return [*(path[: slash.start()] for slash in re.finditer("/", path)), path]


def _default_name(pattern: str) -> str:
    """Returns the name by which a default is counted.

    >>> _default_name("@eaDir/"), _default_name("**/.local/share/Trash/")
    ('@eaDir', 'Trash')
    """
    return pattern.rstrip("/").rpartition("/")[2]
