"""Finds the companions that go with a duplicate that was taken away: its side-cars, movie, RAW file and edits.

A companion is left if it belongs to any file that is left, as the names in its directory say at that moment. It is also
left, and named, if it would be the last copy of its content in the library: it goes only if its witness, a companion of
the kept image, has the same bytes. There are two exceptions: `--how move:DIRECTORY`, which keeps everything, and the
side-cars and movies of near duplicates that are moved to the trash, whose own content leaves the library too. Then the
kept image is the witness. RAW files and edits are pictures of which nobody has seen a duplicate, so they are left.
Companions of a file that a person decided to drop go with it, and need no witness.
"""

import dataclasses
import os
from collections.abc import Collection, Iterable, Iterator

from beam_dedup.cleaning import files
from beam_dedup.cleaning.duplicates import Duplicate
from beam_dedup.cleaning.files import LeftError, State
from beam_dedup.cleaning.steps import How
from beam_dedup.core.companions import Kind, kind_of, owners
from beam_dedup.core.model import Reason
from beam_dedup.core.names import shown

WITH_COMPANIONS = (
    How.TRASH,
    How.MOVE,
    How.DELETE,
)  # what takes files away, so that companions would be left alone


@dataclasses.dataclass(frozen=True, slots=True)
class Companion:
    """A companion of a duplicate that was taken away.

    Attributes:
      path: real and absolute.
      image: the duplicate.
    """

    path: str
    image: Duplicate


def in_rounds(duplicates: Iterable[Duplicate], to_take: Collection[str]) -> Iterator[list[Companion]]:
    """Yields the companions of duplicates that were taken away, in two lists: pictures and RAW files, then all others.

    The second list is made after the first was dealt with: side-cars of a RAW file that is left are left with it.

    Args:
      duplicates: their files are gone.
      to_take: paths of duplicates, which are no companions.
    """
    found: dict[str, Companion] = {}
    for duplicate in duplicates:
        for name in duplicate.companions:
            path = files.real(name)
            is_beside = os.path.dirname(path) == os.path.dirname(duplicate.path)
            if is_beside and path not in to_take and os.path.lexists(path):
                found.setdefault(path, Companion(path, duplicate))
    pictures = {path: one for path, one in found.items() if kind_of(os.path.basename(path)) is not Kind.OTHER}
    yield list(_without_owner(pictures, found))
    others = {path: one for path, one in found.items() if path not in pictures}
    yield list(_without_owner(others, [path for path in found if os.path.lexists(path)], left=pictures))


def _without_owner(
    companions: dict[str, Companion], leaving: Collection[str], left: Collection[str] = ()
) -> Iterator[Companion]:
    """Yields the companions that belong to no file that is left.

    Args:
      companions: by path.
      leaving: paths of all companions that may go.
      left: paths of those among them that are left if they are still there.
    """
    images: dict[str, dict[str, tuple[str, ...]]] = {}
    for path, companion in companions.items():
        directory, name = os.path.split(path)
        if directory not in images:
            images[directory] = owners(_names_in(directory))
        paths = [os.path.join(directory, image) for image in images[directory].get(name, ())]
        if all(image in leaving and image not in left for image in paths):
            yield companion


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def witness_of(companion: Companion, how: How, digest: bytes, to_take: Collection[str]) -> tuple[str, bytes]:
    """Returns the witness with which a companion may go, and its digest; "" and b"" if none is needed.

    Args:
      companion: the companion.
      how: what happens to it.
      digest: its own digest.
      to_take: paths of duplicates, which are no witnesses.

    Raises:
      LeftError: it has none.
    """
    image = companion.image
    if image.is_dropped:
        return "", b""
    own = State.of(files.regular(companion.path))
    for name in image.witness_companions:
        path = files.real(name)
        try:
            found = State.of(files.regular(path))
            is_other_file = found.file != own.file and found.size_bytes == own.size_bytes
            if is_other_file and path not in to_take and files.digest_of(path)[1] == digest:
                return path, digest
        except LeftError:
            continue
    is_picture = kind_of(os.path.basename(companion.path)) is not Kind.OTHER
    if how is How.MOVE or (how is How.TRASH and image.reason is Reason.NEAR and not is_picture):
        with files.about_witness(image.witness):
            return image.witness, files.digest_of(image.witness)[1]
    raise LeftError(
        f"it belongs to {shown(image.path)}, which is gone, and no companion of {shown(image.witness)} has the same bytes"
    )


def beside(duplicate: Duplicate, how: How) -> str:
    """Returns which companions may go too, as the end of a sentence."""
    names = [os.path.basename(path) for path in duplicate.companions if os.path.lexists(path)]
    if not names or how not in WITH_COMPANIONS:
        return ""
    return f"; with it, if that loses no content: {', '.join(map(shown, names))}"
