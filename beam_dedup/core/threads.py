"""Runs generators in threads.

They run in parallel while they are in NumPy, which sorts and compares without Python's lock.
"""

import math
import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

_Tag = TypeVar("_Tag")
_Result = TypeVar("_Result")

_WAITING = 4  # results per thread that may wait in the queue
_POLL_SECONDS = 0.1  # after which a thread that waits to deliver checks whether it should stop
_MAX_GROUPS = 64  # control groups of a process that are looked at


def cores(root: str = "/") -> int:
    """Returns the number of cores that this process may use: of its CPU affinity and of the CPU quotas of its control groups.

    Args:
      root: the directory in which proc and sys lie.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def _cpu_quotas(root: str) -> Iterator[float]:
    """Yields each CPU quota on this process, in cores: of its control groups and of those above them, of version 1 and 2."""
    for line in _first_lines(os.path.join(root, "proc/self/cgroup"), _MAX_GROUPS):
        _, _, hierarchy_and_group = line.partition(":")
        controllers, _, group = hierarchy_and_group.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = os.path.join(root, "sys/fs/cgroup", controllers)
        parts = [part for part in group.strip().split("/") if part not in ("", "..")]
        # In a container the path may be that of the host, which is not visible, so the mount itself counts too.
        for depth in range(len(parts) + 1):
            directory = os.path.join(mount, *parts[:depth])
            if controllers:
                limit = [*_words(directory, "cpu.cfs_quota_us"), *_words(directory, "cpu.cfs_period_us")]
            else:
                limit = _words(directory, "cpu.max")
            if len(limit) == 2 and all(word.isdecimal() and int(word) for word in limit):  # not "max", not -1
                yield int(limit[0]) / int(limit[1])


def _words(directory: str, name: str) -> list[str]:
    return [word for line in _first_lines(os.path.join(directory, name), 1) for word in line.split()]


def _first_lines(path: str, count: int) -> list[str]:
    """Returns the first lines of a file; none if it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return [line for line, _ in zip(file, range(count), strict=False)]
    except OSError:
        return []


def interleaved(
    tasks: Iterable[tuple[_Tag, Callable[[], Iterator[_Result]]]], threads: int = 1
) -> Generator[tuple[_Tag, _Result]]:
    """Yields the results of all tasks as they come, each with the tag of its task.

    With one thread the results come in the order of the tasks. An exception in a task, or in the iterator
    of tasks, is raised here and stops the other tasks. Closing this generator stops all tasks.

    Args:
      tasks: pairs of a tag and a function that starts the task's generator.
      threads: how many tasks run at a time.
    """
    if threads == 1:
        for tag, start in tasks:
            for result in start():
                yield tag, result
        return
    todo = iter(tasks)
    taking, stopped = threading.Lock(), threading.Event()
    results: queue.Queue[tuple[_Tag, _Result] | Exception | None] = queue.Queue(_WAITING * threads)

    def put(result: tuple[_Tag, _Result] | Exception | None) -> bool:
        while not stopped.is_set():
            try:
                results.put(result, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            while True:
                with taking:
                    task = next(todo, None)
                if task is None:
                    break
                tag, start = task
                for result in start():
                    if not put((tag, result)):
                        return
            put(None)
        except Exception as error:  # noqa: BLE001  raised again by the consumer of the queue
            put(error)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    try:
        working = threads
        while working:
            taken = results.get()
            if taken is None:
                working -= 1
            elif isinstance(taken, Exception):
                raise taken
            else:
                yield taken
    finally:
        stopped.set()
        for worker in workers:
            worker.join()
