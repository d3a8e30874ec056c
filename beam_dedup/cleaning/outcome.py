"""Counts what `dedup clean` did and what it left, and describes it in lines for people."""

import dataclasses

from beam_dedup.cleaning.steps import How
from beam_dedup.core.names import shown
from beam_dedup.texts import counted

# What happens to files, as "would ..." and as a result begin, and how both go on.
_DEEDS = {
    How.TRASH: ("move", "Moved", " to the trash"),
    How.MOVE: ("move", "Moved", " to {directory}"),
    How.DELETE: ("delete", "Deleted", ""),
    How.HARDLINK: ("replace", "Replaced", " by hard links"),
    How.REFLINK: ("replace", "Replaced", " by reflinks"),
    How.SYMLINK: ("replace", "Replaced", " by symbolic links"),
}


@dataclasses.dataclass(slots=True)
class Outcome:
    """What was done, and what was left.

    Attributes:
      done: files that were taken away.
      done_bytes: of those without another name.
      left: paths that could not be taken away, and why.
      unreliable: files to be dropped that are left this time, so that no other file may rely on them.
      same: names of their witness, and links to it, which free nothing.
      near: near duplicates that were not asked for.
      unaccepted: near duplicates that no person accepted, if only those were asked for.
      kept: duplicates that a person decided to keep.
      protected: files that are protected.
      members: duplicates in archives.
      objects: duplicates in object stores.
    """

    done: int = 0
    done_bytes: int = 0
    left: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    unreliable: set[str] = dataclasses.field(default_factory=set)
    same: int = 0
    near: int = 0
    unaccepted: int = 0
    kept: int = 0
    protected: int = 0
    members: int = 0
    objects: int = 0


def deed(how: How, target: str, count: int, *, is_done: bool) -> str:
    """Returns what happens to files, or has happened to them.

    Args:
      target: the directory of `--how move:DIRECTORY`.
      count: of files.
    """
    will_do, did, rest = _DEEDS[how]
    return f"{did if is_done else will_do} {counted(count, 'file')}{rest.format(directory=shown(target))}"


def not_touched(outcome: Outcome) -> list[str]:
    """Returns the lines about what is left."""
    lines = []
    if left := outcome.left:
        lines.append(f"Left as {'it is' if len(left) == 1 else 'they are'}: {counted(len(left), 'file')}")
        lines += [f"  {shown(path)}: {reason}" for path, reason in left]
    if outcome.same:
        names = counted(outcome.same, "link")
        lines.append(f"Left since to remove a link to the kept file frees nothing: {names}")
    if outcome.near:
        near = counted(outcome.near, "near duplicate")
        lines.append(f"Left since near: {near}. To include them, add --near")
    if outcome.unaccepted:
        near = counted(outcome.unaccepted, "near duplicate")
        lines.append(f"Left since you did not accept them (--accepted): {near}")
    if outcome.kept:
        lines.append(f"Left since you decided to keep them: {counted(outcome.kept, 'duplicate')}")
    if outcome.protected:
        lines.append(f"Left since protected: {counted(outcome.protected, 'file')}")
    if outcome.members:
        lines.append(f"Left in archives, which are not changed: {counted(outcome.members, 'duplicate')}")
    if outcome.objects:
        lines.append(f"Left in object stores, which are not changed: {counted(outcome.objects, 'duplicate')}")
    return lines
