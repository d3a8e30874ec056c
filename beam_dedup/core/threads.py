"""Runs generators in threads.

They run in parallel while they are in NumPy, which sorts and compares without Python's lock.
"""

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TypeVar

_Tag = TypeVar("_Tag")
_Result = TypeVar("_Result")

_WAITING = 4  # results per thread that may wait in the queue
_POLL_SECONDS = 0.1  # after which a thread that waits to deliver checks whether it should stop


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
