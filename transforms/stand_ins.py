"""Makes up for kept images that are gone before they were copied: an equal file is copied in their place.

An image is kept by its digest, so any exact duplicate of it will do. Those that are judged together with the kept image
are known when copying fails, and are copied under its name. A stream notes the digest for those that come later
(`MissingCopies`); the first of them is copied under its own name: a file that was renamed has its new name.
"""

import contextlib
import dataclasses
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

import pyarrow.compute as pc

from beam_dedup.core import blocks, tables
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.arrivals import event_metadata
from beam_dedup.core.blocks import VerdictBlock
from beam_dedup.core.model import Flag, Placement, Reason, StandIn, Verdict
from transforms.storage.placing import PlacingError

_PREFIX = "missing-"
_MOST_STAND_INS = 8  # per kept image
_one_at_a_time = threading.Lock()  # of the images whose kept one has no copy

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
            with contextlib.suppress(FileExistsError), open(self._path(digest), "xb"):
                pass

    def is_noted(self, digest: bytes) -> bool:
        return bool(self.folder) and os.path.isfile(self._path(digest))

    def made_if_missing(
        self, placement: Placement, place: Callable[[Placement], PlaceResult]
    ) -> PlaceResult | None:
        """Places an image if its digest is noted, one at a time. Returns None if no copy is needed or can be made."""
        if not self.is_noted(placement.digest):
            return None
        with _one_at_a_time:
            if not self.is_noted(placement.digest):  # another thread has just made one
                return None
            result = place(placement)
            if isinstance(result[1], PlacingError):
                return None  # the kept image is reported already
            self.forget(placement.digest)
            return result

    def forget(self, digest: bytes) -> None:
        if self.is_noted(digest):
            os.remove(self._path(digest))

    def _path(self, digest: bytes) -> str:
        return os.path.join(self.folder, f"{_PREFIX}{digest.hex()}")


def exact_duplicates(block: VerdictBlock) -> Iterator[Verdict]:
    """Yields the images of a block that are exact duplicates and can be copied."""
    table = blocks.load([block], blocks.VERDICTS)
    exact = table.filter(pc.equal(table["reason"], Reason.EXACT.encode()))
    for verdict in tables.verdicts_of(exact):
        if Flag.DESCRIBED not in verdict.flags:
            yield verdict


def stand_ins(block: VerdictBlock, generations: bool) -> dict[bytes, tuple[StandIn, ...]]:
    """Returns the exact duplicates in a block, by digest: files before members of archives, which take longer to read.

    generations: whether the metadata of an image has its generation.
    """
    found: dict[bytes, list[StandIn]] = defaultdict(list)
    for verdict in exact_duplicates(block):
        if verdict.digest and len(same := found[verdict.digest]) < _MOST_STAND_INS:
            generation = event_metadata(verdict.ref.metadata)[0] if generations else ""
            same.append(StandIn(verdict.ref.uri, generation))
    return {digest: tuple(sorted(same, key=_is_member)) for digest, same in found.items()}


def _is_member(image: StandIn) -> bool:
    return bool(split_uri(image.uri)[1])


def made_up(
    placement: Placement,
    done: bool | PlacingError,
    place: Callable[[Placement], PlaceResult],
    missing: MissingCopies,
) -> PlaceResult:
    """Returns the result of placing an image, or of placing a stand-in under its name if that failed.

    Args:
      placement: the copy.
      done: whether it was made, or why it cannot be made.
      place: places one image.
      missing: where it is noted that no copy of a kept image could be made, or that one was.
    """
    if not placement.kept:
        return placement, done
    result = placement, done
    for image in placement.stand_ins:
        if not isinstance(result[1], PlacingError):
            break
        instead = place(dataclasses.replace(placement, uri=image.uri, generation=image.generation))
        if not isinstance(instead[1], PlacingError):
            result = instead
    if isinstance(result[1], PlacingError):
        missing.note(placement.digest)
    else:
        missing.forget(placement.digest)
    return result
