"""Takes duplicates away, one file at a time, so that a run that is killed or meets another one loses nothing.

Each file is first renamed, never overwritten or deleted. Only then its witness is looked at once more. If the witness is
no longer there, the file gets its name back. So of two runs that each want the file of which the other one relies on,
at least one sees that and gives up, without any lock: both first take their own file away, then look for the other.
"""

import contextlib
import dataclasses
import enum
import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator

from beam_dedup.cleaning import files, trash
from beam_dedup.cleaning.files import LeftError, State
from beam_dedup.core.names import shown

ASIDE_PREFIX = ".dedup-clean-"  # of names that files have for a moment, or after a run that was killed
_FICLONE = 0x40049409  # ioctl of Linux: the target shares the blocks of the source


class How(enum.StrEnum):
    """What happens to a duplicate."""

    TRASH = "trash"
    MOVE = "move"
    HARDLINK = "hardlink"
    REFLINK = "reflink"
    SYMLINK = "symlink"
    DELETE = "delete"
    SCRIPT = "script"


LINKS = (How.HARDLINK, How.REFLINK, How.SYMLINK)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is done with one duplicate. The journal contains it before anything is done.

    Attributes:
      number: counts from 1.
      token: random, the same for all steps of a run.
      path: of the duplicate. Its directory is no link, and neither are those above.
      target: where the file goes in the end: in the trash, or below the directory to which it is moved; else "".
      info: the file that describes it in the trash; else "".
      witness: the kept file; "" if the file has none, since a person decided to drop it. Then it is moved, or goes to
        the trash.
      digest: SHA-256 of the duplicate.
      witness_digest: SHA-256 of the witness; b"" without one.
      state: of the duplicate.
      witness_state: of the witness; all zero without one.
      ctime_ns: when anything about the duplicate was changed last, its name or content.
      witness_ctime_ns: the same of the witness.
      mode: permissions of the duplicate.
      owner: user and group of the duplicate.
      atime_ns: time of its last access.
      frees: whether the file has no other name.
    """

    number: int
    token: str
    path: str
    target: str = ""
    info: str = ""
    witness: str
    digest: bytes
    witness_digest: bytes
    state: State
    witness_state: State
    ctime_ns: int
    witness_ctime_ns: int
    mode: int
    owner: tuple[int, int]
    atime_ns: int
    frees: bool

    @property
    def aside(self) -> str:
        """The name that the file gets first, in the same directory."""
        return os.path.join(os.path.dirname(self.path), self._private_name)

    @property
    def clone(self) -> str:
        """The name that a link or reflink has before it takes the place of the file."""
        return f"{self.aside}-clone"

    @property
    def partial(self) -> str:
        """The name that a copy on another device has until it is complete."""
        return os.path.join(os.path.dirname(self.target), self._private_name)

    @property
    def _private_name(self) -> str:
        return f"{ASIDE_PREFIX}{self.token}-{self.number}"

    def give_attributes(self, file: int) -> None:
        """Gives an open file the permissions, owner and times of the duplicate."""
        files.give_attributes(file, self.mode, self.owner, (self.atime_ns, self.state.mtime_ns))


def take(step: Step, how: How) -> None:
    """Does one step.

    Args:
      step: it must be in the journal.
      how: what to do.

    Raises:
      LeftError: the file is still where it was.
    """
    _put_aside(step)
    try:
        check_witness(step)
        _AFTERWARDS[how](step)
    except (LeftError, OSError) as error:
        _put_back(step)
        raise LeftError(files.reason(error)) from error


def check_witness(step: Step) -> None:
    """Raises LeftError unless the witness is still the file that was checked, with the same content. A step may have no witness."""
    if not step.witness:
        return
    with files.about_witness(step.witness):
        is_same = _is_unchanged(step.witness, step.witness_state, step.witness_ctime_ns, step.witness_digest)
    if not is_same:
        raise LeftError(f"its witness {shown(step.witness)} has changed")


def _is_unchanged(path: str, state: State, ctime_ns: int, digest: bytes) -> bool:
    """Compares a file with what was seen before. The time of its content can be set back, but not `ctime_ns`."""
    found = files.regular(path)
    return State.of(found) == state and (
        found.st_ctime_ns == ctime_ns or files.digest_of(path) == (state, digest)
    )


def _put_aside(step: Step) -> None:
    if not _is_unchanged(step.path, step.state, step.ctime_ns, step.digest):
        raise LeftError("it has changed")
    try:
        files.create(step.aside).close()  # so that the new name replaces nothing
        try:
            os.rename(step.path, step.aside)
        except OSError:
            os.unlink(step.aside)
            raise
    except OSError as error:
        raise LeftError(f"it can't be renamed: {error.strerror}") from error
    if State.of(os.lstat(step.aside)) != step.state:
        _put_back(step)
        raise LeftError("it has changed")


def _put_back(step: Step) -> None:
    try:
        files.rename_if_free(step.aside, step.path)
    except OSError as error:
        raise LeftError(
            f"it is now {shown(step.aside)}, since its own name can't be given back: {error.strerror}"
        ) from error


def _trash(step: Step) -> None:
    try:
        if step.info:
            with files.create(step.info) as file, _removed_if_failed(step.info):
                file.write(trash.info_text(step.path, step.info))
                file.flush()
        with _removed_if_failed(step.info):
            files.rename_if_free(step.aside, step.target)
    except OSError as error:
        raise LeftError(
            f"it can't be moved to the trash ({error.strerror}: {shown(step.target)}); use --how move:DIRECTORY"
        ) from error


def _move(step: Step) -> None:
    try:
        files.rename_if_free(step.aside, step.target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise LeftError(f"it can't be moved to {shown(step.target)}: {error.strerror}") from error
        _move_to_other_device(step)


def _move_to_other_device(step: Step) -> None:
    with files.create(step.partial) as file, _removed_if_failed(step.partial):
        files.copy_content(step.aside, file, step.digest)
        step.give_attributes(file.fileno())
        files.rename_if_free(step.partial, step.target)
    files.sync_directory(os.path.dirname(step.target))
    os.unlink(step.aside)


def _delete(step: Step) -> None:
    os.unlink(step.aside)


def _hardlink(step: Step) -> None:
    os.link(step.witness, step.clone, follow_symlinks=False)
    _replace(step, lambda: State.of(os.lstat(step.clone)) == step.witness_state)


def _symlink(step: Step) -> None:
    os.symlink(step.witness, step.clone)
    _replace(step, lambda: State.of(os.stat(step.clone)) == step.witness_state)


def _replace(step: Step, leads_to_witness: Callable[[], bool]) -> None:
    with _removed_if_failed(step.clone):
        if not leads_to_witness():
            raise LeftError(f"its witness {shown(step.witness)} has changed")
        files.rename_if_free(step.clone, step.path)
    os.unlink(step.aside)


def _reflink(step: Step) -> None:
    with files.create(step.clone) as target, _removed_if_failed(step.clone):
        with files.opened(step.witness) as source:
            try:
                fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV):
                    raise LeftError("the file system has no reflinks") from error
                raise
        step.give_attributes(target.fileno())
        if hashlib.file_digest(target, "sha256").digest() != step.digest:
            raise LeftError(f"its witness {shown(step.witness)} has changed")
        files.rename_if_free(step.clone, step.path)
    os.unlink(step.aside)


@contextlib.contextmanager
def _removed_if_failed(path: str) -> Iterator[None]:
    """Removes a file with a private name if the block that makes it fails."""
    try:
        yield
    except (LeftError, OSError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


_AFTERWARDS: dict[How, Callable[[Step], None]] = {
    How.TRASH: _trash,
    How.MOVE: _move,
    How.DELETE: _delete,
    How.HARDLINK: _hardlink,
    How.SYMLINK: _symlink,
    How.REFLINK: _reflink,
}
