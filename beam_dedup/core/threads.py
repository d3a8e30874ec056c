"""Generators that run side by side. NumPy leaves Python's lock alone while it sorts and compares."""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

_Tag = TypeVar("_Tag")
_Result = TypeVar("_Result")

_WAITING = 4  # results per thread that nobody has taken yet
_POLL_SECONDS = 0.1  # until a thread sees that nobody wants its results any more


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def interleaved(
    tasks: Iterable[tuple[_Tag, Callable[[], Iterator[_Result]]]], threads: int = 1
) -> Iterator[tuple[_Tag, _Result]]:
    """Yields all results of all tasks, each with the tag of its task; in the order of the tasks if there is one thread.

    What a task raises is raised here, and ends the others; so does closing this generator.
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
        except Exception as error:  # noqa: BLE001  raised again where the results are taken
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
