"""Gives the files that `dedup clean` took away their names back. It looks at the files themselves to see what was done."""

import os

from beam_dedup.cleaning import files
from beam_dedup.cleaning.files import LeftError, State
from beam_dedup.cleaning.journal import read_journal
from beam_dedup.cleaning.steps import ASIDE_PREFIX, LINKS, How, Step, clone_name, partial_copy
from beam_dedup.core.names import shown
from beam_dedup.output import write
from beam_dedup.texts import counted

DONE, LEFT = 0, 1


def undo(journal: str, quiet: bool = False) -> int:
    """Undoes the steps of a journal, the last one first, and prints the result.

    Returns:
      The exit code: `LEFT` if a file could not be restored.

    Raises:
      UsageError: the journal can't be read.
      DedupError: it is damaged.
    """
    how, steps = read_journal(journal)
    restored = unchanged = 0
    left = []
    for step in reversed(steps):
        try:
            if restore(step, how):
                restored += 1
            else:
                unchanged += 1
        except LeftError as error:
            left.append((step.path, str(error)))
        except OSError as error:
            left.append((step.path, error.strerror or str(error)))
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
    _remove_incomplete(step)
    if _is_file_of(step, step.aside):
        _free_name(step, how)
        try:
            files.rename_if_free(step.aside, step.path)
        except FileExistsError:
            raise LeftError(f"another file has its name; it is at {shown(step.aside)}") from None
        except FileNotFoundError:
            os.makedirs(os.path.dirname(step.path), exist_ok=True)
            files.rename_if_free(step.aside, step.path)
        _remove(step.info)
        _remove_copy(step)
        return True
    if _is_placeholder(step.aside):  # killed before the file was renamed
        _remove(step.aside)
        _remove(step.info)
    if _is_as_it_was(step, how):
        return False
    if os.path.lexists(step.path) and not _is_link_of(step, how):
        raise LeftError("another file has its name")
    source = _source(step, how)
    os.makedirs(os.path.dirname(step.path), exist_ok=True)
    _restore_from(source, step, is_link=how in LINKS and os.path.lexists(step.path))
    _remove_copy(step)
    return True


def _is_as_it_was(step: Step, how: How) -> bool:
    """Returns whether the file has its own name: it was never taken, was restored before, or is an equal reflink."""
    try:
        found = files.regular(step.path)
    except LeftError:
        return False
    if how is How.HARDLINK and State.of(found).file == step.witness_state.file:
        return False
    return State.of(found) == step.state or files.digest_of(step.path)[1] == step.digest


def _is_link_of(step: Step, how: How) -> bool:
    if how is How.SYMLINK:
        return os.path.islink(step.path) and os.readlink(step.path) == step.witness
    return how is How.HARDLINK and State.of(os.lstat(step.path)).file == step.witness_state.file


def _free_name(step: Step, how: How) -> None:
    """Removes what was put in the file's place before the run was killed."""
    if os.path.lexists(step.path) and (
        _is_link_of(step, how) or (how is How.REFLINK and _has_content(step.path, step.digest))
    ):
        os.unlink(step.path)


def _source(step: Step, how: How) -> str:
    """Returns a file with the content of the one that was taken.

    Raises:
      LeftError: there is none.
    """
    if step.copy and _has_content(step.copy, step.digest):
        return step.copy
    if step.witness_digest == step.digest and _has_content(step.witness, step.digest):
        return step.witness
    if how is How.DELETE:
        raise LeftError("it was deleted, and no equal file is at hand")
    raise LeftError(f"it is no longer at {shown(step.copy or step.aside)}")


def _restore_from(source: str, step: Step, is_link: bool) -> None:
    """Makes the file anew under a temporary name, with its permissions and times, then gives it its name."""
    made = _restored_name(step)
    os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    try:
        files.copy_content(source, made, step.digest)
        with open(made, "rb") as file:
            files.give_attributes(file.fileno(), step.mode, step.atime_ns, step.state.mtime_ns)
        if is_link:
            os.replace(made, step.path)
        else:
            files.rename_if_free(made, step.path)
    except (LeftError, OSError):
        _remove(made)
        raise
    files.sync_directory(os.path.dirname(step.path))


def _remove_incomplete(step: Step) -> None:
    """Removes what was not complete when a run was killed."""
    _remove(_restored_name(step))
    if os.path.basename(step.aside).startswith(ASIDE_PREFIX):
        _remove(clone_name(step))
        if step.copy:
            _remove(partial_copy(step))


def _restored_name(step: Step) -> str:
    """Returns the name that a restored file has until it is complete."""
    return os.path.join(os.path.dirname(step.path), f".dedup-undo-{step.digest[:8].hex()}-{step.number}")


def _remove_copy(step: Step) -> None:
    """Removes the copy on another device, now that the file is back."""
    if step.copy and _has_content(step.copy, step.digest):
        os.unlink(step.copy)


def _is_file_of(step: Step, path: str) -> bool:
    try:
        found = State.of(files.regular(path))
    except LeftError:
        return False
    return found == step.state or (
        found.size_bytes == step.state.size_bytes and _has_content(path, step.digest)
    )


def _is_placeholder(path: str) -> bool:
    try:
        return files.regular(path).st_size == 0
    except LeftError:
        return False


def _has_content(path: str, digest: bytes) -> bool:
    try:
        return files.digest_of(path)[1] == digest
    except LeftError:
        return False


def _remove(path: str) -> None:
    if path and os.path.lexists(path):
        os.unlink(path)
