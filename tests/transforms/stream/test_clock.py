"""The clock of a stream follows the system clock, unless that is set back."""

import time

import pytest

from transforms.stream.clock import Clock


class Times:
    """The times that the system returns, in seconds."""

    system = 1_000_000.0
    monotonic = 50.0


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    made = Times()
    monkeypatch.setattr(time, "time_ns", lambda: int(made.system * 10**9))
    monkeypatch.setattr(time, "monotonic_ns", lambda: int(made.monotonic * 10**9))
    return made


def test_clock_is_set_forward_but_never_back(times: Times) -> None:
    clock = Clock()
    times_returned = []
    for system, monotonic in (
        (0, 0),
        (2, 2),
        (3600, 1),  # set forward
        (1, 1),
        (-7200, 3),  # set back
        (5, 5),
        (3600, 5),
        (3600, 5),  # caught up with
        (900, 0),  # asleep
    ):
        times.system += system
        times.monotonic += monotonic
        times_returned.append(clock.micros() / 10**6 - 1_000_000)
    assert times_returned == [0, 2, 3602, 3603, 3606, 3611, 3616, 3621, 4508]
