"""Runs `dedup` with faults that environment variables ask for, and writes records of streams several times a second.

The frequent records spare tests the wait for the usual 10 seconds, and so does a shorter `--quiet_time`. `--window` may be
as short as a second.

Variables:
  DIE=after:3:records-   Kills the process after (or before) the third file whose name begins with `records-` is renamed
                         to its final name.
  FAIL=2,5               Raises an exception after the second and the fifth file of records, for runners that retry.
  MOST=100000            Limits the size of a file to so many bytes, as if the disk were full.
  PATIENCE=1000          How many times as long as others a file waits that looks incomplete; 2 if it is not given.
  EVERY=600              Writes records every so many seconds.
  BACK=path              Sets the clock back by an hour as soon as the path exists.
"""

import os
import resource
import signal
import sys
import time
from types import ModuleType
from typing import Any

from apache_beam.utils.timestamp import Timestamp

from beam_dedup.cli import main
from beam_dedup.options import checks
from beam_dedup.signals import wake_main_thread_on_signals
from beam_dedup.stream import pipeline
from transforms.storage import files, placing
from transforms.stream import record, watch

INTERVAL_SECONDS = 0.3
QUIET_TIME = ("--quiet_time", "1.5s")
LEAST_WINDOW_SECONDS = 1.0
DIE, FAIL, MOST, BACK, PATIENCE, EVERY = "DIE", "FAIL", "MOST", "BACK", "PATIENCE", "EVERY"
BACK_SECONDS = 3600


def _replace(owner: ModuleType | type, name: str, value: object) -> None:
    assert hasattr(owner, name), name
    setattr(owner, name, value)


def die(when: str, number: int, prefix: str) -> None:
    """Makes this process kill itself before or after a file gets its final name.

    Args:
      when: "before" or "after".
      number: counts the files with the prefix, from 1.
      prefix: of the base name of the file.
    """
    give_name = files.give_name
    named = 0

    def give_and_die(partial: str, path: str, *rest: Any) -> None:
        nonlocal named
        named += os.path.basename(path).startswith(prefix)
        is_last = named == number
        if is_last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        give_name(partial, path, *rest)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)

    for module in (files, placing):
        _replace(module, "give_name", give_and_die)


def fail(numbers: set[int]) -> None:
    """Makes the step that writes records fail after it has written files with these numbers, from 1."""
    write_files = record.write_files
    written = 0

    def write_and_fail(*arguments: Any) -> None:
        nonlocal written
        write_files(*arguments)
        written += 1
        if written in numbers:
            raise RuntimeError(f"fails after file {written}")

    _replace(record, "write_files", write_and_fail)


def set_back(path: str) -> None:
    """Makes the clock run an hour late as soon as a path exists."""

    def time_ns() -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - os.path.exists(path) * BACK_SECONDS * 10**9

    _replace(time, "time_ns", time_ns)
    _replace(Timestamp, "now", staticmethod(lambda: Timestamp(micros=time_ns() // 1000)))


if __name__ == "__main__":
    checks.MIN_DURATION_SECONDS = LEAST_WINDOW_SECONDS
    pipeline.RECORD_SECONDS = float(os.environ.get(EVERY) or INTERVAL_SECONDS)
    watch.PATIENCE = float(os.environ.get(PATIENCE, "2"))
    if os.environ.get(DIE):
        when, number, prefix = os.environ[DIE].split(":")
        die(when, int(number), prefix)
    if os.environ.get(FAIL):
        fail({int(number) for number in os.environ[FAIL].split(",")})
    if os.environ.get(BACK):
        set_back(os.environ[BACK])
    if os.environ.get(MOST):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ[MOST]),) * 2)
    wake_main_thread_on_signals()
    sys.exit(main([*QUIET_TIME, *sys.argv[1:]] if "--watch" in sys.argv else sys.argv[1:]))
