"""DoFns whose elements are worked on side by side, in threads: for work that waits, or is done by other processes."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.utils.windowed_value import WindowedValue

_AHEAD = 2  # elements for each thread: one in work and one to follow it


class ThreadedDoFn(beam.DoFn):
    """An element is handed to a thread, and what comes of it is put out when it is there, in its own window: with a later
    element, or when the bundle ends. In the order of the elements, so that it does not depend on their speed.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def work(self, element: Any) -> Any:
        """What is done in a thread. Metrics belong to the bundle's own: see `outputs`."""
        raise NotImplementedError

    def outputs(self, element: Any, result: Any) -> Iterator[Any]:
        """What is put out for an element, given what `work` returned; elements of a tagged output as `TaggedOutput`."""
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
