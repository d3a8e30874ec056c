"""Runs composites of streams on Beam's in-process engine, and brings home what came out."""

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

Event = tuple[float, Sequence[Any]]  # seconds, and elements that come together at that time

_runs = itertools.count()
_found: dict[tuple[int, str], list[Any]] = collections.defaultdict(list)


def scripted(events: Sequence[Event]) -> TestStream:
    """A stream of elements that come in this order, each lot when all that came before is done with."""
    stream = TestStream()
    for seconds, elements in events:
        stream = stream.add_elements([TimestampedValue(element, seconds) for element in elements])
    return stream.advance_watermark_to_infinity()


def run(build: Callable[[beam.Pipeline], Mapping[str, PCollection[Any]]]) -> dict[str, list[Any]]:
    """Runs what `build` makes and returns the elements of the collections it names, in the order in which they came."""
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
    """Passes elements on, but fails in the first attempt of every bundle that has more than `after` of them."""

    attempts: ClassVar[collections.Counter[bytes]] = collections.Counter()

    def __init__(self, after: int = 0) -> None:
        self.after = after

    def start_bundle(self) -> None:
        self.seen = 0

    def process(self, element: Any) -> Any:
        self.seen += 1
        key = repr(element).encode()
        self.attempts[key] += 1
        if self.seen > self.after and self.attempts[key] == 1:
            raise RuntimeError("a bundle fails")
        yield element
