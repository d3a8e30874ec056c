"""Finds the trash of a file: on Linux and its like as freedesktop.org specifies (Trash specification 1.0), on macOS ~/.Trash."""

import datetime
import os
import stat
import sys
import urllib.parse
from collections.abc import Collection

from beam_dedup.cleaning import files
from beam_dedup.cleaning.files import LeftError

_PRIVATE = ".Trash-"  # start of the name of a trash that only one user has, at the top of a mount


def names_in_trash(path: str, token: str, reserved: Collection[str]) -> tuple[str, str]:
    """Returns the names in the trash, of the file itself and of the file that describes it ("" on macOS).

    Makes the directories of the trash.

    Args:
      path: absolute, of a file.
      token: makes the name unique if the trash has one like it.
      reserved: names in the trash that other files will have.

    Raises:
      LeftError: the trash can't be used.
    """
    if sys.platform == "darwin":
        folder = os.path.realpath(os.path.expanduser("~/.Trash"))
        if os.stat(path).st_dev != os.stat(os.path.dirname(folder)).st_dev:
            raise LeftError("its disk has no trash that can be used; use --how move:DIRECTORY")
        os.makedirs(folder, 0o700, exist_ok=True)
        file = os.path.join(folder, os.path.basename(path))
        is_taken = file in reserved or os.path.lexists(file)
        return files.with_token(file, token) if is_taken else file, ""
    file = os.path.join(_trash_of(path), "files", os.path.basename(path))
    if file in reserved or os.path.lexists(file) or os.path.lexists(info_path(file)):
        file = files.with_token(file, token)
    return file, info_path(file)


def info_path(file: str) -> str:
    """Returns the name of the file that describes a file in the trash."""
    trash = os.path.dirname(os.path.dirname(file))
    return os.path.join(trash, "info", f"{os.path.basename(file)}.trashinfo")


def info_text(path: str, info: str) -> bytes:
    """Returns the content of the file that describes a file in the trash."""
    now = datetime.datetime.now().astimezone().strftime("%Y-%m-%dT%H:%M:%S")
    return info_start(path, info) + f"DeletionDate={now}\n".encode()


def info_start(path: str, info: str) -> bytes:
    """Returns the part of that content that says where the file was."""
    trash = os.path.dirname(os.path.dirname(info))
    if trash != _home_trash():
        top, name = os.path.split(trash)
        path = os.path.relpath(path, top if name.startswith(_PRIVATE) else os.path.dirname(top))
    return f"[Trash Info]\nPath={urllib.parse.quote(os.fsencode(path))}\n".encode()


def _home_trash() -> str:
    data = os.environ.get("XDG_DATA_HOME", "")
    data = data if os.path.isabs(data) else os.path.expanduser("~/.local/share")
    return os.path.realpath(os.path.join(data, "Trash"))


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
        user, owner = os.getuid(), os.stat(top).st_uid
        shared = os.path.join(top, ".Trash")
        if not os.path.islink(shared) and os.path.isdir(shared) and os.stat(shared).st_mode & stat.S_ISVTX:
            return _make(os.path.join(shared, str(user)), owner)
        return _make(os.path.join(top, f"{_PRIVATE}{user}"), owner)
    except OSError as error:
        raise LeftError(
            f"its trash can't be used ({error.strerror}: {error.filename}); use --how move:DIRECTORY"
        ) from error


def _make(trash: str, other_owner: int | None = None) -> str:
    """Makes the directories of a trash.

    Args:
      trash: its directory.
      other_owner: user who may own it instead of the user of this process. Anybody else would get the files.
    """
    owners = (os.getuid(), os.getuid() if other_owner is None else other_owner)
    for folder in (trash, os.path.join(trash, "files"), os.path.join(trash, "info")):
        os.makedirs(folder, 0o700, exist_ok=True)
        if os.path.islink(folder):
            raise NotADirectoryError(0, "it is a link", folder)
        if os.stat(folder).st_uid not in owners:
            raise PermissionError(0, "it belongs to another user", folder)
    return trash
