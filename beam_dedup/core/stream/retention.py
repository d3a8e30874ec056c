"""Assigns messages to periods of event time, and periods to two slots of state.

Time is divided into periods of the length of `--remember`, numbered from 0. The state of a key has two slots, for even
and odd periods: the newest period, and the one before it, whose last messages may still be on their way. When a third
period starts, all state of the first is cleared at once. No question is left without a reply: an image enters a period at
the latest when half of the next one has passed (`entry_time`), and it is judged long before the other half has passed.
"""

import struct
from typing import NamedTuple

SLOTS = 2
_FORMAT = struct.Struct(">qq")
_NEVER = -(1 << 62)


class PeriodSlots(NamedTuple):
    """The number of the period in each slot."""

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


class SlotUpdate(NamedTuple):
    """The result of `advance`: the new slots, and the numbers of the slots whose state has to be cleared."""

    slots: PeriodSlots
    cleared: tuple[int, ...] = ()


def entry_time(event_micros: int, now_micros: int, period_micros: int) -> int:
    """Returns the time that decides on the period of an image: its event time, or now.

    It is now if the event happened more than half a period ago. All times are in microseconds.

    >>> entry_time(100, 105, 10), entry_time(100, 106, 10)
    (100, 106)
    """
    return now_micros if now_micros - event_micros > period_micros // SLOTS else event_micros


def period_of(micros: int, origin_micros: int, period_micros: int) -> int:
    """Returns the number of the period that contains a time; 0 for times before the first period.

    >>> period_of(90, 100, 10), period_of(109, 100, 10), period_of(110, 100, 10)
    (0, 0, 1)
    """
    return max(0, micros - origin_micros) // period_micros


def advance(slots: PeriodSlots, period: int) -> SlotUpdate | None:
    """Returns the slots with a slot for `period`, and the slots to clear first; None if that period is over.

    A period is over when the second period after it has started.

    >>> advance(PeriodSlots(4, 3), 5), advance(PeriodSlots(4, 5), 4), advance(PeriodSlots(4, 5), 3)
    (SlotUpdate(slots=PeriodSlots(even=4, odd=5), cleared=(1,)), SlotUpdate(slots=PeriodSlots(even=4, odd=5), cleared=()), None)
    >>> advance(PeriodSlots(4, 5), 8).cleared
    (0, 1)
    """
    if not slots.is_empty and period < slots.newest - 1:
        return None
    slot = period % SLOTS
    if slots[slot] == period:
        return SlotUpdate(slots)
    others = [number for number in range(SLOTS) if _NEVER < slots[number] < period - 1 or number == slot]
    cleared = tuple(number for number in others if slots[number] != _NEVER)
    values = [_NEVER if number in cleared else slots[number] for number in range(SLOTS)]
    values[slot] = period
    return SlotUpdate(PeriodSlots(*values), cleared)
