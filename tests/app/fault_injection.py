"""`dedup`, but a run that stays writes its records several times a second, so that a test need not wait for them; and it may
be told when to die: `DIE=after:3:records-` kills it when the third file whose name begins so has got its name; or when a step
is to fail, for an engine that tries again: `FAIL=2,5` after the second and the fifth such file. `MOST=100000` is the most bytes that a file may have, as on a disk without
room for more. `BACK=path` sets the clock back by an hour as soon as there is such a file. `--window` may be of seconds, too.
"""

import functools
import os
import resource
import signal
import sys
import time
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from beam_dedup.cli import main
from beam_dedup.options import checks
from beam_dedup.stream import pipeline
from transforms.storage import files, placing
from transforms.stream import record
from transforms.stream.record import RecordVerdicts

INTERVAL_SECONDS = 0.3
DIE, FAIL, MOST, BACK = "DIE", "FAIL", "MOST", "BACK"
BACK_SECONDS = 3600


def die(when: str, number: int, prefix: str) -> None:
    """Arranges for the end of this process before or after a file gets its name."""
    give_name = files.give_name
    named = 0

    def give_and_die(partial: str, path: str, replace: bool) -> None:
        nonlocal named
        named += os.path.basename(path).startswith(prefix)
        is_last = named == number
        if is_last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        give_name(partial, path, replace)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    files.give_name = placing.give_name = give_and_die


def fail(numbers: set[int]) -> None:
    """Arranges for steps that fail once they have written files of records."""
    write_files = record.write_files
    written = 0

    def write_and_fail(*arguments: Any) -> None:
        nonlocal written
        write_files(*arguments)
        written += 1
        if written in numbers:
            raise RuntimeError(f"fails after file {written}")

    record.write_files = write_and_fail


def set_back(path: str) -> None:
    """Arranges for a clock that is set back once there is a file."""

    def time_ns() -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - os.path.exists(path) * BACK_SECONDS * 10**9

    time.time_ns = time_ns
    Timestamp.now = staticmethod(lambda: Timestamp(micros=time_ns() // 1000))


if __name__ == "__main__":
    checks.MIN_DURATION_SECONDS = 1.0
    pipeline.RecordVerdicts = functools.partial(RecordVerdicts, interval=INTERVAL_SECONDS)
    if os.environ.get(DIE):
        when, number, prefix = os.environ[DIE].split(":")
        die(when, int(number), prefix)
    if os.environ.get(FAIL):
        fail({int(number) for number in os.environ[FAIL].split(",")})
    if os.environ.get(BACK):
        set_back(os.environ[BACK])
    if os.environ.get(MOST):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ[MOST]),) * 2)
    sys.exit(main(sys.argv[1:]))
