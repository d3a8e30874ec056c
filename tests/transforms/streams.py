"""Runs composites of streams on the local runner, and returns their output."""

import collections
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import PCollection
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.window import TimestampedValue

from beam_dedup.runners.local_stream import LocalStreamRunner

Event = tuple[float, Sequence[Any]]  # a time in seconds, and elements that arrive together at that time

_runs = itertools.count()
_found: dict[tuple[int, str], list[Any]] = collections.defaultdict(list)


def scripted(events: Sequence[Event]) -> TestStream:
    """Returns a stream of the elements of some events, in order.

    An event starts when all before it are processed.
    """
    stream = TestStream()
    for seconds, elements in events:
        stream = stream.add_elements([TimestampedValue(element, seconds) for element in elements])
    return stream.advance_watermark_to_infinity()


def run(build: Callable[[beam.Pipeline], Mapping[str, PCollection[Any]]]) -> dict[str, list[Any]]:
    """Runs a pipeline made by `build`.

    Returns the elements of the collections that `build` names, in order of arrival.
    """
    number = next(_runs)
    pipeline = beam.Pipeline(runner=LocalStreamRunner(), options=PipelineOptions([]))
    names = []
    for name, values in build(pipeline).items():
        names.append(name)
        _ = values | f"Take {name}" >> beam.Map(take, number, name)
    pipeline.run().wait_until_finish()
    return {name: _found.pop((number, name), []) for name in names}


def take(value: Any, number: int, name: str) -> None:
    _found[number, name].append(value)


class FailOnceFn(beam.DoFn):
    """Passes elements on, but fails in the first attempt of each bundle with more than `after` elements."""

    attempts: ClassVar[collections.Counter[bytes]] = collections.Counter()

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def start_bundle(self) -> None:
        self.count = 0

    def process(self, element: Any) -> Any:
        self.count += 1
        key = repr(element).encode()
        self.attempts[key] += 1
        if self.count > self.after and self.attempts[key] == 1:
            raise RuntimeError("a bundle fails")
        yield element
