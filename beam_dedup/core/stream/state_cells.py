"""The state of one key: bags of bytes, to which adding is cheap.

A key has three bags. What is remembered for good is added to `recent` as it comes; when that has grown large beside
`settled`, both are merged into the latter, in a form made for searching. So what is added is written some ten times in all
at most, and a large state is not written anew for each small block. What is in flight is in `waiting`, and leaves it.
"""

import dataclasses
from collections.abc import Callable, Sequence

_RECENT_BYTES = 1 << 16  # up to here nothing is merged
_RECENT_SHARE = 4  # of what is settled, one part in so many may be recent
_RECENT_BLOCKS = 128  # more small blocks than this are joined to one, since each costs something to be read
_PIECE_BYTES = 1 << 22  # of what is settled: larger values are slow to move

Join = Callable[[Sequence[bytes]], bytes]
Merge = Callable[[bytes], list[bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Cells:
    """What a step reads of its key's state."""

    settled: Sequence[bytes] = ()
    recent: Sequence[bytes] = ()
    waiting: Sequence[bytes] = ()

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, (*self.settled, *self.recent, *self.waiting)))


@dataclasses.dataclass(frozen=True, slots=True)
class CellChange:
    """What becomes of one bag: first it is cleared, if so, then some blocks are added."""

    clear: bool = False
    add: Sequence[bytes] = ()

    def applied(self, bag: Sequence[bytes]) -> tuple[bytes, ...]:
        return (*(() if self.clear else bag), *self.add)


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a key's state."""

    settled: CellChange = CellChange()
    recent: CellChange = CellChange()
    waiting: CellChange = CellChange()

    def applied(self, cells: Cells) -> Cells:
        return Cells(
            self.settled.applied(cells.settled),
            self.recent.applied(cells.recent),
            self.waiting.applied(cells.waiting),
        )


def remembered(cells: Cells, new: bytes, join: Join, merge: Merge, most_blocks: int | None = None) -> Change:
    """Adds a block to what is remembered for good.

    join: recent blocks into one. merge: all that is settled, and one joined block, into new settled pieces.
    most_blocks: that may be recent.
    """
    if not new:
        return Change()
    recent = [*cells.recent, new]
    if sum(map(len, recent)) > max(_RECENT_BYTES, sum(map(len, cells.settled)) // _RECENT_SHARE):
        return Change(CellChange(True, merge(join(recent))), CellChange(True))
    if len(recent) > (most_blocks or _RECENT_BLOCKS):
        return Change(recent=CellChange(True, [join(recent)]))
    return Change(recent=CellChange(add=[new]))


def cuts(rows: int, row_bytes: int) -> Sequence[slice]:
    """Cuts rows into pieces of moderate size."""
    at_once = max(1, _PIECE_BYTES // max(row_bytes, 1))
    return [slice(start, start + at_once) for start in range(0, rows, at_once)]
