"""Makes up for kept images that are gone before they were copied: an equal file is copied in their place.

An image is kept by its digest, so any exact duplicate of it will do. One that is judged together with the kept image is
known when copying fails. A stream notes the digest for those that come later (`MissingCopies`).
"""

import dataclasses
import os
from collections.abc import Callable, Iterable

from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.model import Placement, Status, Verdict
from transforms.storage.placing import PlacingError

_PREFIX = "missing-"
_MOST_STAND_INS = 8  # per kept image

# A placement, and whether a copy was made (False: it was there already) or why none can be made.
PlaceResult = tuple[Placement, bool | PlacingError]


@dataclasses.dataclass(frozen=True)
class MissingCopies:
    """Notes which kept images have no copy, by an empty file per digest: so a restart knows them too.

    Args:
      folder: directory of the notes; "" notes nothing.
    """

    folder: str = ""

    def note(self, digest: bytes) -> None:
        if self.folder:
            with open(self._path(digest), "ab"):
                pass

    def is_noted(self, digest: bytes) -> bool:
        return bool(self.folder) and os.path.lexists(self._path(digest))

    def forget(self, digest: bytes) -> None:
        if self.is_noted(digest):
            os.remove(self._path(digest))

    def _path(self, digest: bytes) -> str:
        return os.path.join(self.folder, f"{_PREFIX}{digest.hex()}")


def exact_duplicates(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Returns the files among exact duplicates as if each were kept; members of archives are left out."""
    return [
        dataclasses.replace(verdict, status=Status.KEPT, reason=None, witness=None)
        for verdict in verdicts
        if verdict.witness
        and verdict.witness.digest == verdict.digest
        and verdict.witness.uri != verdict.ref.uri
        and not split_uri(verdict.ref.uri)[1]
    ]


def with_stand_ins(
    kept: Iterable[Placement], duplicates: Iterable[Placement], missing: MissingCopies
) -> list[Placement]:
    """Returns the copies to make of kept images, each with the copies that can stand in for it.

    Args:
      kept: of the kept images of a block.
      duplicates: of the exact duplicates in it, under their own names.
      missing: of earlier blocks. For each kept image without a copy one of the duplicates is returned.
    """
    by_digest: dict[bytes, list[Placement]] = {}
    for placement in duplicates:
        found = by_digest.setdefault(placement.digest, [])
        if len(found) < _MOST_STAND_INS:
            found.append(dataclasses.replace(placement, kept=True))
    wanted = [
        dataclasses.replace(placement, kept=True, stand_ins=tuple(by_digest.pop(placement.digest, ())))
        for placement in kept
    ]
    for digest, (first, *others) in by_digest.items():
        if missing.is_noted(digest):
            wanted.append(dataclasses.replace(first, stand_ins=tuple(others)))
    return wanted


def made_up(
    result: PlaceResult, place: Callable[[Placement], PlaceResult], missing: MissingCopies
) -> PlaceResult:
    """Returns the result of placing an image, or of placing a stand-in if that failed.

    Args:
      result: of the image.
      place: places one image.
      missing: where it is noted that no copy of a kept image could be made, and that one was.
    """
    placement, done = result
    if not placement.kept:
        return result
    if isinstance(done, PlacingError):
        for stand_in in placement.stand_ins:
            instead = place(stand_in)
            if not isinstance(instead[1], PlacingError):
                result = instead
                break
        else:
            missing.note(placement.digest)
            return result
    missing.forget(placement.digest)
    return result
