"""`interleaved` yields all results, raises all errors, and leaves no thread running."""

import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from beam_dedup.core.threads import cores, interleaved
from tests.waiting import SECONDS

Task = tuple[int, Callable[[], Iterator[int]]]


def counting(number: int) -> Iterator[int]:
    for result in range(number):
        time.sleep(0.0001 * (result % 3))
        yield result


def failing(after: int) -> Iterator[int]:
    yield from range(after)
    raise LookupError(f"after {after}")


def tasks_of(numbers: list[int]) -> list[Task]:
    return [(number, functools.partial(counting, number)) for number in numbers]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("numbers", [[], [0], [0, 0, 0], [1], [5, 0, 3], list(range(40)), [500, 1, 500]])
def test_all_results_come_with_their_tags(threads: int, numbers: list[int]) -> None:
    before = threading.active_count()
    found = list(interleaved(iter(tasks_of(numbers)), threads))
    wanted = [(number, result) for number in numbers for result in range(number)]
    assert sorted(found) == sorted(wanted)
    if threads == 1:
        assert found == wanted
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("after", [0, 1, 50])
def test_exception_of_a_task_is_raised(threads: int, after: int) -> None:
    before = threading.active_count()
    tasks: list[Task] = [
        *tasks_of([30] * 5),
        (0, functools.partial(failing, after)),
        *tasks_of([30] * 50),
    ]
    with pytest.raises(LookupError, match=f"after {after}"):
        list(interleaved(tasks, threads))
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
def test_exception_of_the_iterator_of_tasks_is_raised(threads: int) -> None:
    def tasks() -> Iterator[Task]:
        yield from tasks_of([3])
        raise LookupError("no more tasks")

    before = threading.active_count()
    with pytest.raises(LookupError, match="no more tasks"):
        list(interleaved(tasks(), threads))
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 4])
def test_close_stops_the_threads(threads: int) -> None:
    """Including threads that wait to deliver a result; and no further task is started."""
    before = threading.active_count()
    begun = []

    def endless(number: int) -> Iterator[int]:
        begun.append(number)
        while True:
            yield number

    found = interleaved(((number, functools.partial(endless, number)) for number in range(10**9)), threads)
    assert next(found)[1] in range(threads)
    time.sleep(0.2)  # the queue fills
    found.close()
    assert threading.active_count() == before
    assert len(begun) <= threads


def test_tasks_run_at_the_same_time() -> None:
    """Each task waits for the other, so they would never end one after the other."""
    both = threading.Barrier(2, timeout=SECONDS)

    def meeting() -> Iterator[int]:
        yield both.wait()

    assert sorted(interleaved([("a", meeting), ("a", meeting)], threads=2)) == [("a", 0), ("a", 1)]


def test_number_of_cores() -> None:
    assert cores() >= 1


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8),
        ("0::/\n", {}, 8),
        ("", {"cpu.max": "200000 100000\n"}, 8),
        ("0::/user.slice/job\n", {"user.slice/job/cpu.max": "300000 100000\n"}, 3),
        ("0::/user.slice/job\n", {"user.slice/cpu.max": "300000 100000\n"}, 3),
        ("0::/of/the/host\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/../other\n", {"cpu.max": "300000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 0\n"}, 8),
        ("0::/\n", {"cpu.max": "\xff\xfe"}, 8),
        (
            "4:memory:/a\n2:cpu,cpuacct:/a\n0::/\n",
            {"cpu,cpuacct/a/cpu.cfs_quota_us": "500000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"},
            5,
        ),
        ("1:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ("1:cpuset:/\n", {"cpuset/cpu.cfs_quota_us": "1\n", "cpuset/cpu.cfs_period_us": "1\n"}, 8),
    ],
)
def test_cores_follow_the_quotas_of_control_groups(
    groups: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="latin-1")
    assert cores(str(tmp_path)) == expected


def test_cores_are_those_of_the_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert cores(str(tmp_path)) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores(str(tmp_path)) == 7
