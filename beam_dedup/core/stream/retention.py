"""Which stretch of event time a message belongs to, and so which state.

State is kept in two slots by turns: that of the newest generation and that of the one before, of which messages may still
be on their way. When a third begins, all of the first is gone at once. No question is left unanswered by that, since nothing
enters a generation when more than half of the next one is over (`entered`), and whatever has entered is judged long before the
other half has passed.
"""

import struct
from typing import NamedTuple

SLOTS = 2
_FORMAT = struct.Struct(">qq")
_NEVER = -(1 << 62)


class PeriodSlots(NamedTuple):
    """The generation in each slot."""

    even: int = _NEVER
    odd: int = _NEVER

    @property
    def newest(self) -> int:
        return max(self)

    @property
    def is_empty(self) -> bool:
        return self.newest == _NEVER

    def packed(self) -> bytes:
        return _FORMAT.pack(*self)

    @classmethod
    def unpacked(cls, data: bytes | None) -> "PeriodSlots":
        return cls(*_FORMAT.unpack(data)) if data else cls()


class Turn(NamedTuple):
    """What becomes of the slots when a message comes: `cleared` are those whose generation is over."""

    held: PeriodSlots
    cleared: tuple[int, ...] = ()


def entered(event_micros: int, now_micros: int, remember_micros: int) -> int:
    """The time at which something enters: that of its event, or now if that was too long ago.

    >>> entered(100, 105, 10), entered(100, 106, 10)
    (100, 106)
    """
    return now_micros if now_micros - event_micros > remember_micros // SLOTS else event_micros


def period_of(micros: int, origin_micros: int, remember_micros: int) -> int:
    """The number of the stretch of event time in which a time lies; of what was before all, the first.

    >>> generation_of(90, 100, 10), generation_of(109, 100, 10), generation_of(110, 100, 10)
    (0, 0, 1)
    """
    return max(0, micros - origin_micros) // remember_micros


def turn(held: PeriodSlots, generation: int) -> Turn | None:
    """Makes room for a message of a generation; None if that is over.

    >>> turn(PeriodSlots(4, 3), 5), turn(PeriodSlots(4, 5), 4), turn(PeriodSlots(4, 5), 3)
    (Turn(held=PeriodSlots(even=4, odd=5), cleared=(1,)), Turn(held=PeriodSlots(even=4, odd=5), cleared=()), None)
    >>> turn(PeriodSlots(4, 5), 8).cleared
    (0, 1)
    """
    if not held.is_empty and generation < held.newest - 1:
        return None
    slot = generation % SLOTS
    if held[slot] == generation:
        return Turn(held)
    others = [number for number in range(SLOTS) if _NEVER < held[number] < generation - 1 or number == slot]
    cleared = tuple(number for number in others if held[number] != _NEVER)
    values = [_NEVER if number in cleared else held[number] for number in range(SLOTS)]
    values[slot] = generation
    return Turn(PeriodSlots(*values), cleared)
