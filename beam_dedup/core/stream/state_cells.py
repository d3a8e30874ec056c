"""Keeps the state of one key in three bags of byte strings (`Cells`), to which adding is cheap.

`recent` receives each new block of permanent state as it comes. When it has grown large compared to
`settled`, both are merged into `settled`, which consists of *pieces* in a form made for searching. So each
byte is written about ten times at most, and a large state is not rewritten for each small block. `waiting`
holds messages that wait for others; they leave the state again.
"""

import dataclasses
from collections.abc import Callable, Sequence

RECENT_BYTES = 1 << 16  # up to this size, recent blocks are not merged
RECENT_SHARE = 4  # recent blocks are merged when they exceed 1/4 of the settled bytes
RECENT_BLOCKS = (
    128  # if there are more recent blocks, they are joined into one, since each has a cost to read
)
PIECE_BYTES = 1 << 22  # size of a settled piece, 4 MiB: a runner moves larger values slowly

Join = Callable[[Sequence[bytes]], bytes]
Merge = Callable[[bytes], list[bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """The state of one key, as a step reads it.

    Not all steps use all bags (`beam_dedup.core.stream.steps.CELLS`).
    """

    settled: Sequence[bytes] = ()
    recent: Sequence[bytes] = ()
    waiting: Sequence[bytes] = ()

    @property
    def size(self) -> int:
        """Total size in bytes."""
        return sum(map(len, (*self.settled, *self.recent, *self.waiting)))


@dataclasses.dataclass(frozen=True, slots=True)
class CellChange:
    """The change of one bag: it is cleared if `clear` is set, then the blocks of `add` are added."""

    clear: bool = False
    add: Sequence[bytes] = ()

    def applied(self, bag: Sequence[bytes]) -> tuple[bytes, ...]:
        return (*(() if self.clear else bag), *self.add)


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """The change of the state of one key."""

    settled: CellChange = CellChange()
    recent: CellChange = CellChange()
    waiting: CellChange = CellChange()

    def applied(self, cells: Cells) -> Cells:
        return Cells(
            self.settled.applied(cells.settled),
            self.recent.applied(cells.recent),
            self.waiting.applied(cells.waiting),
        )


def add_block(cells: Cells, new: bytes, join: Join, merge: Merge) -> Change:
    """Returns the change that adds a block to the permanent state of a key.

    Args:
      cells: the state before.
      new: the block; if it is empty, nothing changes.
      join: joins recent blocks into one.
      merge: merges one joined block with all settled pieces, and returns the new settled pieces.
    """
    if not new:
        return Change()
    recent = [*cells.recent, new]
    if sum(map(len, recent)) > max(RECENT_BYTES, sum(map(len, cells.settled)) // RECENT_SHARE):
        return Change(CellChange(True, merge(join(recent))), CellChange(True))
    if len(recent) > RECENT_BLOCKS:
        return Change(recent=CellChange(True, [join(recent)]))
    return Change(recent=CellChange(add=[new]))


def piece_slices(rows: int, row_bytes: int) -> Sequence[slice]:
    """Returns slices that cut rows into pieces of about `PIECE_BYTES`."""
    at_once = max(1, PIECE_BYTES // max(row_bytes, 1))
    return [slice(start, start + at_once) for start in range(0, rows, at_once)]
