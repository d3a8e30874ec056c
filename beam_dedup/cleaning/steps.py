"""Takes duplicates away, one file at a time, so that a run that is killed or meets another one loses nothing.

Each file is first renamed, never overwritten or deleted. Only then its witness is looked at once more. If the witness is
no longer there, the file gets its name back. So of two runs that each want the file of which the other one relies on,
at least one sees that and gives up, without any lock: both first take their own file away, then look for the other.
"""

import dataclasses
import enum
import errno
import fcntl
import os
from collections.abc import Callable

from beam_dedup.cleaning import files
from beam_dedup.cleaning.files import LeftError, State

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
      path: of the duplicate.
      aside: the name that the file gets first. With trash, and with move on one device, it keeps that name.
      copy: where its content goes if that is on another device; else "".
      info: the file that describes it in the trash; else "".
      witness: the kept file.
      digest: SHA-256 of the duplicate.
      witness_digest: SHA-256 of the witness.
      state: of the duplicate.
      witness_state: of the witness.
      mode: permissions of the duplicate.
      atime_ns: time of its last access.
      frees: whether the file has no other name.
    """

    number: int
    path: str
    aside: str
    copy: str = ""
    info: str = ""
    witness: str
    digest: bytes
    witness_digest: bytes
    state: State
    witness_state: State
    mode: int
    atime_ns: int
    frees: bool


def take(step: Step, how: How, info_text: str = "") -> None:
    """Does one step.

    Args:
      step: it must be in the journal.
      how: what to do.
      info_text: content of `step.info`.

    Raises:
      LeftError: the file is still where it was.
    """
    _put_aside(step, info_text)
    try:
        check_witness(step)
        _AFTERWARDS.get(how, _nothing)(step)
    except (LeftError, OSError) as error:
        _put_back(step)
        raise error if isinstance(error, LeftError) else LeftError(error.strerror or str(error)) from error


def check_witness(step: Step) -> None:
    """Raises LeftError unless the witness is still the file that was checked."""
    try:
        found = State.of(files.regular(step.witness))
    except LeftError as error:
        raise LeftError(f"its witness {step.witness}: {error}") from error
    if found != step.witness_state:
        raise LeftError(f"its witness {step.witness} has changed")


def _put_aside(step: Step, info_text: str) -> None:
    made: list[str] = []
    try:
        if step.info:
            _create(step.info, info_text.encode("utf-8", "surrogateescape"))
            made.append(step.info)
        _create(step.aside)  # so that the new name replaces nothing
        made.append(step.aside)
        os.rename(step.path, step.aside)
    except OSError as error:
        for path in made:
            os.unlink(path)
        raise LeftError(f"it can't be renamed to {step.aside}: {error.strerror}") from error
    if State.of(os.lstat(step.aside)) != step.state:
        _put_back(step)
        raise LeftError("it has changed")


def _put_back(step: Step) -> None:
    try:
        files.rename_if_free(step.aside, step.path)
    except OSError as error:
        raise LeftError(
            f"it is now {step.aside}, since its own name can't be given back: {error.strerror}"
        ) from error
    if step.info:
        os.unlink(step.info)


def _create(path: str, content: bytes = b"") -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        file.write(content)


def _nothing(_: Step) -> None:
    """A file that was renamed is where it shall be."""


def _finish_move(step: Step) -> None:
    if not step.copy:
        return
    partial = partial_copy(step)
    _create(partial)
    try:
        files.copy_content(step.aside, partial, step.digest)
        files.rename_if_free(partial, step.copy)
    except (LeftError, OSError):
        os.unlink(partial)
        raise
    files.sync_directory(os.path.dirname(step.copy))
    os.unlink(step.aside)


def _delete(step: Step) -> None:
    os.unlink(step.aside)


def _hardlink(step: Step) -> None:
    os.link(step.witness, step.path, follow_symlinks=False)
    _finish_link(step, lambda: State.of(os.lstat(step.path)) == step.witness_state)


def _symlink(step: Step) -> None:
    os.symlink(step.witness, step.path)
    _finish_link(step, lambda: State.of(os.stat(step.path)) == step.witness_state)


def _finish_link(step: Step, leads_to_witness: Callable[[], bool]) -> None:
    try:
        is_right = leads_to_witness()
    except OSError:
        is_right = False
    if not is_right:
        os.unlink(step.path)
        raise LeftError(f"its witness {step.witness} has changed")
    os.unlink(step.aside)


def _reflink(step: Step) -> None:
    clone = clone_name(step)
    _create(clone)
    try:
        with (
            open(os.open(step.witness, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as source,
            open(clone, "r+b") as target,
        ):
            try:
                fcntl.ioctl(target.fileno(), _FICLONE, source.fileno())
            except OSError as error:
                if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV):
                    raise LeftError("the file system has no reflinks") from error
                raise
            files.give_attributes(target.fileno(), step.mode, step.atime_ns, step.state.mtime_ns)
            os.fsync(target.fileno())
        if files.digest_of(clone)[1] != step.digest:
            raise LeftError(f"its witness {step.witness} has changed")
        files.rename_if_free(clone, step.path)
    except (LeftError, OSError):
        os.unlink(clone)
        raise
    os.unlink(step.aside)


def partial_copy(step: Step) -> str:
    """Returns the name that the copy on another device has until it is complete."""
    return os.path.join(os.path.dirname(step.copy), os.path.basename(step.aside))


def clone_name(step: Step) -> str:
    """Returns the name that a reflink has until it is complete."""
    return f"{step.aside}-clone"


_AFTERWARDS: dict[How, Callable[[Step], None]] = {
    How.MOVE: _finish_move,
    How.DELETE: _delete,
    How.HARDLINK: _hardlink,
    How.SYMLINK: _symlink,
    How.REFLINK: _reflink,
}
