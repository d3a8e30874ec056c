"""Runs the work of a DoFn in threads, for work that waits or that other processes do."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

_AHEAD = 2  # elements per thread: one that is worked on, and the next one


class ThreadedDoFn(beam.DoFn):
    """Hands each element to a thread, and outputs the results in the order of the elements.

    A result is output with a later element or at the end of the bundle, in the window and with the timestamp of its own
    element. The order of the outputs does not depend on how long each element takes.

    Args:
      threads: how many elements are worked on at the same time.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def work(self, element: Any) -> Any:
        """Does the work for one element, in a thread. It must not update metrics: `outputs` does."""
        raise NotImplementedError

    def outputs(self, element: Any, result: Any) -> Iterator[Any]:
        """Yields the outputs for an element, given what `work` returned. Runs in the thread of the bundle.

        Elements of a tagged output are yielded as `TaggedOutput`.
        """
        raise NotImplementedError

    def setup(self) -> None:
        self._pool = ThreadPoolExecutor(self.threads)

    def teardown(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def start_bundle(self) -> None:
        self._waiting: deque[tuple[Any, Future[Any], Any, Any]] = deque()

    def process(
        self,
        element: Any,
        timestamp: Any = beam.DoFn.TimestampParam,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[Any]:
        self._waiting.append((element, self._pool.submit(self.work, element), timestamp, window))
        if len(self._waiting) > _AHEAD * self.threads:
            yield from self._next_outputs()

    def finish_bundle(self) -> Iterator[Any]:
        while self._waiting:
            yield from self._next_outputs()

    def _next_outputs(self) -> Iterator[Any]:
        element, future, timestamp, window = self._waiting.popleft()
        for output in self.outputs(element, future.result()):
            if isinstance(output, TaggedOutput):
                yield TaggedOutput(output.tag, WindowedValue(output.value, timestamp, (window,)))
            else:
                yield WindowedValue(output, timestamp, (window,))
