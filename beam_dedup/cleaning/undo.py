"""Gives the files that `dedup clean` took away their names back. It looks at the files themselves to see what was done."""

import errno
import os

from beam_dedup.cleaning import files, trash
from beam_dedup.cleaning.files import LeftError, State
from beam_dedup.cleaning.journal import opened_journal
from beam_dedup.cleaning.steps import How, Step
from beam_dedup.core.names import shown
from beam_dedup.output import write
from beam_dedup.texts import counted

DONE, LEFT = 0, 1

_MAX_INFO_BYTES = 1 << 16


def undo(journal: str, quiet: bool = False) -> int:
    """Undoes the steps of a journal, the last one first, and prints the result.

    Returns:
      The exit code: `LEFT` if a file could not be restored.

    Raises:
      UsageError: the journal can't be read.
      DedupError: it is damaged.
    """
    restored = unchanged = 0
    left = []
    with opened_journal(journal) as (how, steps):
        for step in reversed(steps):
            try:
                if restore(step, how):
                    restored += 1
                else:
                    unchanged += 1
            except (LeftError, OSError) as error:
                left.append((step.path, files.reason(error)))
    lines = []
    if left:
        lines.append(f"Not restored: {counted(len(left), 'file')}")
        lines += [f"  {shown(path)}: {reason}" for path, reason in left]
    lines.append(
        f"Restored {counted(restored, 'file')}"
        + (f"; {unchanged:,} had not been changed" if unchanged else "")
    )
    if not quiet or left:
        write("\n".join(lines) + "\n")
    return LEFT if left else DONE


def restore(step: Step, how: How) -> bool:
    """Undoes one step, whether it was done, half done, undone, or never begun.

    Returns:
      Whether there was something to undo.

    Raises:
      LeftError: it can't be undone; the message says why.
    """
    for path in filter(None, (step.path, step.target)):
        if files.real(path) != path:
            raise LeftError(f"{shown(os.path.dirname(path))} has become a link, or is below one")
    _finish(step, how)
    if _is_file_of(step, step.aside):
        _give_name(step.aside, step, how)
        return True
    is_at_target = bool(step.target) and _is_file_of(step, step.target)
    if _is_as_it_was(step, how):
        is_restored = os.lstat(step.path).st_mtime_ns == step.state.mtime_ns
        if is_restored:  # perhaps by an undo that was killed before it removed these
            _remove_target(step)
        if not os.path.lexists(step.target):
            _remove_info(step)
        if is_restored or not is_at_target:
            return False
    if is_at_target:
        _give_name(step.target, step, how)
        return True
    if os.path.lexists(step.path) and not _is_replacement(step.path, step, how):
        raise LeftError("another file has its name")
    if step.witness_digest != step.digest or not _has_content(step.witness, step.digest):
        where = (
            "it was deleted"
            if how is How.DELETE
            else f"it is no longer at {shown(step.target or step.aside)}"
        )
        witness = (
            f", and its witness {shown(step.witness)} has other content or is gone" if step.witness else ""
        )
        raise LeftError(where + witness)
    _give_name(step.witness, step, how, is_copied=True)
    return True


def _is_as_it_was(step: Step, how: How) -> bool:
    """Returns whether the file has its own name: it was never taken, was restored before, or is an equal reflink."""
    try:
        found = files.regular(step.path)
    except LeftError:
        return False
    if how is How.HARDLINK and State.of(found).file == step.witness_state.file and found.st_nlink > 1:
        return False
    return State.of(found) == step.state or files.digest_of(step.path)[1] == step.digest


def _is_replacement(path: str, step: Step, how: How) -> bool:
    """Returns whether a file is what took the place of the duplicate, and has no content of its own."""
    if how is How.SYMLINK:
        return os.path.islink(path) and os.readlink(path) == step.witness
    if how is How.HARDLINK and State.of(os.lstat(path)).file != step.witness_state.file:
        return False
    return how in (How.HARDLINK, How.REFLINK) and _has_content(path, step.digest)


def _give_name(source: str, step: Step, how: How, is_copied: bool = False) -> None:
    """Gives a file the name of the duplicate, or a copy of the file.

    Raises:
      LeftError: another file has the name.
      OSError: it can't be renamed or copied.
    """
    try:
        os.makedirs(os.path.dirname(step.path), exist_ok=True)
        if not is_copied:
            _free_name(step, how)
            try:
                files.rename_if_free(source, step.path)
            except OSError as error:
                is_copied = error.errno == errno.EXDEV
                if not is_copied:
                    raise
        if is_copied:
            _copy_to_name(source, step, how)
    except FileExistsError:
        where = "" if source == step.witness else f"; it is at {shown(source)}"
        raise LeftError(f"another file has its name{where}") from None
    _remove_info(step)
    _remove_target(step)


def _copy_to_name(source: str, step: Step, how: How) -> None:
    """Makes the file anew under a temporary name, with its permissions and times, then gives it its name."""
    made = _restored_name(step)
    try:
        with files.create(made) as file:
            files.copy_content(source, file, step.digest)
            step.give_attributes(file.fileno())
        _free_name(step, how)
        files.rename_if_free(made, step.path)
    except (LeftError, OSError):
        _remove(made)
        raise
    files.sync_directory(os.path.dirname(step.path))


def _free_name(step: Step, how: How) -> None:
    """Removes what took the file's place. It is renamed first, so that no other file can be removed in its stead."""
    if os.path.lexists(step.path) and _is_replacement(step.path, step, how):
        os.rename(step.path, _replacement_name(step))
        _remove_replacement(step, how)


def _remove_replacement(step: Step, how: How) -> None:
    name = _replacement_name(step)
    if not os.path.lexists(name):
        return
    if _is_replacement(name, step, how):
        os.unlink(name)
        return
    files.rename_if_free(name, step.path)
    raise LeftError("another file has its name")


def _finish(step: Step, how: How) -> None:
    """Removes what was not complete when a run was killed."""
    _remove(_restored_name(step))
    _remove(step.clone)
    _remove_replacement(step, how)
    if step.target and step.partial != step.aside:
        is_needed = not any(_has_content(path, step.digest) for path in (step.aside, step.path))
        if is_needed and _has_content(step.partial, step.digest):
            files.rename_if_free(step.partial, step.target)
        else:
            _remove(step.partial)
    if _is_placeholder(step):
        _remove(step.aside)


def _restored_name(step: Step) -> str:
    """Returns the name that a restored file has until it is complete."""
    return f"{step.aside}-undo"


def _replacement_name(step: Step) -> str:
    """Returns the name that a link has before it is removed."""
    return f"{step.aside}-link"


def _remove_info(step: Step) -> None:
    """Removes what describes the file in the trash, unless it describes another file."""
    if not step.info:
        return
    try:
        with files.opened(step.info) as file:
            text = file.read(_MAX_INFO_BYTES)
    except OSError:
        return
    start = trash.info_start(step.path, step.info)
    if text.startswith(start) or start.startswith(text):
        _remove(step.info)


def _remove_target(step: Step) -> None:
    """Removes the copy on another device, or the second name that a killed run gave the file, now that the file is back.

    Like a duplicate, it is renamed first; then the file, which is its witness, is looked at once more.
    """
    if not step.target or not _has_content(step.target, step.digest):
        return
    found = State.of(os.lstat(step.target))
    if (
        found.file != step.state.file
        and found.device == step.state.device
        and found.mtime_ns != step.state.mtime_ns
    ):
        return  # an equal file of somebody else
    os.rename(step.target, step.partial)
    if _has_content(step.path, step.digest) and _has_content(step.partial, step.digest):
        os.unlink(step.partial)
    else:
        files.rename_if_free(step.partial, step.target)


def _is_file_of(step: Step, path: str) -> bool:
    try:
        found = State.of(files.regular(path))
    except LeftError:
        return False
    return found == step.state or (
        found.size_bytes == step.state.size_bytes and _has_content(path, step.digest)
    )


def _is_placeholder(step: Step) -> bool:
    """Returns whether the run was killed before the file itself was renamed."""
    try:
        found = State.of(files.regular(step.aside))
    except LeftError:
        return False
    return found.size_bytes == 0 and found.file != step.state.file


def _has_content(path: str, digest: bytes) -> bool:
    try:
        return files.digest_of(path)[1] == digest
    except LeftError:
        return False


def _remove(path: str) -> None:
    if path and os.path.lexists(path):
        os.unlink(path)
