"""Finds the trash of a file: on Linux and its like as freedesktop.org specifies (Trash specification 1.0), on macOS ~/.Trash."""

import datetime
import os
import stat
import sys
import urllib.parse

from beam_dedup.cleaning.files import LeftError


def names_in_trash(path: str, token: str) -> tuple[str, str]:
    """Returns the names in the trash, of the file itself and of the file that describes it ("" on macOS).

    Makes the directories of the trash.

    Args:
      path: absolute, of a file.
      token: makes the name unique if the trash has one like it.

    Raises:
      LeftError: the trash can't be used.
    """
    if sys.platform == "darwin":
        folder = os.path.expanduser("~/.Trash")
        if os.stat(path).st_dev != os.stat(os.path.dirname(folder)).st_dev:
            raise LeftError("its disk has no trash that can be used; use --how move:DIRECTORY")
        os.makedirs(folder, 0o700, exist_ok=True)
        return _free_name(folder, "", os.path.basename(path), token), ""
    trash = _trash_of(path)
    info = os.path.join(trash, "info")
    file = _free_name(os.path.join(trash, "files"), info, os.path.basename(path), token)
    return file, os.path.join(info, f"{os.path.basename(file)}.trashinfo")


def info_text(path: str, info: str) -> str:
    """Returns the content of the file that describes a file in the trash."""
    top = os.path.dirname(os.path.dirname(os.path.dirname(info)))
    shown = path if os.path.dirname(os.path.dirname(info)) == _home_trash() else os.path.relpath(path, top)
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    return f"[Trash Info]\nPath={urllib.parse.quote(os.fsencode(shown))}\nDeletionDate={now}\n"


def _home_trash() -> str:
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(data, "Trash")


def _trash_of(path: str) -> str:
    device = os.lstat(path).st_dev
    home = _home_trash()
    try:
        _make(home)
        if os.stat(home).st_dev == device:
            return home
        top = os.path.realpath(os.path.dirname(path))
        while not os.path.ismount(top):
            top = os.path.dirname(top)
        user = os.getuid()
        shared = os.path.join(top, ".Trash")
        if not os.path.islink(shared) and os.path.isdir(shared) and os.stat(shared).st_mode & stat.S_ISVTX:
            return _make(os.path.join(shared, str(user)))
        return _make(os.path.join(top, f".Trash-{user}"))
    except OSError as error:
        raise LeftError(
            f"its trash can't be used ({error.strerror}: {error.filename}); use --how move:DIRECTORY"
        ) from error


def _make(trash: str) -> str:
    for folder in (trash, os.path.join(trash, "files"), os.path.join(trash, "info")):
        os.makedirs(folder, 0o700, exist_ok=True)
        if os.path.islink(folder):
            raise NotADirectoryError(0, "it is a link", folder)
    return trash


def _free_name(folder: str, info: str, name: str, token: str) -> str:
    taken = os.path.lexists(os.path.join(folder, name)) or (
        info and os.path.lexists(os.path.join(info, f"{name}.trashinfo"))
    )
    stem, suffix = os.path.splitext(name)
    return os.path.join(folder, f"{stem} ({token}){suffix}" if taken else name)
