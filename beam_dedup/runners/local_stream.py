"""The engine of this machine for streams: Beam's own in-process one, with a reader of unbounded sources that it lacks.

Of what Beam brings along for one machine, the engine that runs folders (`beam_dedup.runners.select`) hands nothing on before its
source has ended, and the other one, used here, lets an unbounded source hold all watermarks back for ever and never says
that what it gave is committed. So sources are read by an evaluator of our own, beside Beam's for Pub/Sub: it takes what
is there, as one bundle, when all that came before is done; says how far time has come; and acknowledges the bundle when
what came of it is on disk, since this engine keeps nothing that would outlive it.

That engine also makes each DoFn anew for every bundle, and looks at its methods several times, which was half of all work here
and would start the processes that decode again and again. So here a DoFn lasts as long as the run, as on other engines.
"""

import functools
import secrets
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import apache_beam as beam
from apache_beam import Windowing
from apache_beam.internal import pickler
from apache_beam.io.unbounded_source import UnboundedReader, UnboundedSource
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.pipeline import PTransformOverride
from apache_beam.pvalue import PBegin, PCollection
from apache_beam.runners.direct import executor, transform_evaluator
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.direct.executor import _CompletionCallback
from apache_beam.runners.direct.transform_evaluator import (
    TransformEvaluatorRegistry,
    _ParDoEvaluator,
    _TransformEvaluator,
)
from apache_beam.runners.direct.util import TransformResult
from apache_beam.runners.direct.watermark_manager import WatermarkManager
from apache_beam.transforms import userstate
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP

_MOST_IN_BUNDLE = 512
_IDLE_SECONDS = 0.02  # between looks at a source that has nothing

# Of what runs in this process, by the token of each: an engine works on copies of transforms.
_readings: dict[str, "_Reading"] = {}
_settled: dict[str, Callable[[float], bool]] = {}
_stopped: set[str] = set()
_failures: list[BaseException] = []  # of bundles that were given up, each of which ends its run
_teardowns: list[Callable[[], None]] = []

_specs_of = functools.lru_cache(maxsize=4096)(userstate.get_dofn_specs)


class LocalRead(beam.PTransform[PBegin, PCollection[Any]]):
    """Reads an unbounded source in this process, until it is told to stop; then all that was read is finished.

    is_settled: whether all that had been given away at a time (`time.monotonic`) is where it is safe; till then it is not
    acknowledged.
    """

    def __init__(self, source: UnboundedSource, is_settled: Callable[[float], bool]) -> None:
        super().__init__()
        self.source = source
        self.token = secrets.token_hex(8)
        _settled[self.token] = is_settled

    def expand(self, pbegin: PBegin) -> PCollection[Any]:
        read: PCollection[Any] = PCollection(pbegin.pipeline, is_bounded=False)
        return read

    def get_windowing(self, inputs: Any) -> Windowing:  # noqa: ARG002
        return Windowing(GlobalWindows())

    def stop(self) -> None:
        """No more is read. May be called in a signal handler."""
        _stopped.add(self.token)


class _Reading:
    """A reader, and the marks of the bundles that are not acknowledged yet."""

    def __init__(self, reader: UnboundedReader, is_settled: Callable[[float], bool]) -> None:
        self.reader = reader
        self.is_settled = is_settled
        self.started = False
        self.given: Any = None  # the mark of the last bundle, while the engine is at it
        self.marks: deque[tuple[float, Any]] = deque()

    def take(self) -> list[tuple[Any, Any]]:
        """Elements and their times: what is there now."""
        taken: list[tuple[Any, Any]] = []
        while len(taken) < _MOST_IN_BUNDLE and self._advance():
            taken.append((self.reader.get_current(), self.reader.get_current_timestamp()))
        if taken:
            self.given = self.reader.get_checkpoint_mark()
        return taken

    def _advance(self) -> bool:
        if self.started:
            return self.reader.advance()
        self.started = True
        return self.reader.start()

    def acknowledge(self) -> None:
        """Called when the engine has nothing left to do: what was given last has gone all the way, at most into a file's
        waiting room."""
        if self.given is not None:
            self.marks.append((time.monotonic(), self.given))
            self.given = None
        while self.marks and self.is_settled(self.marks[0][0]):
            self.marks.popleft()[1].finalize_checkpoint()


class _LocalReadEvaluator(_TransformEvaluator):
    """Gives one bundle of what a source has."""

    def process_element(self, element: Any) -> None:
        """The engine wakes a root with an empty element."""

    def finish_bundle(self) -> Any:
        transform: Any = self._applied_ptransform.transform
        token = transform.token
        if token not in _readings:
            reader = transform.source.create_reader(None, None)
            _readings[token] = _Reading(reader, _settled[token])
        reading = _readings[token]
        if _failures:
            # What came of the last bundle may be lost, and the engine has nothing left to do because of that.
            time.sleep(_IDLE_SECONDS)
            return self._result([], PBegin(transform.pipeline), reading.reader.get_watermark())
        reading.acknowledge()
        taken = [] if token in _stopped else reading.take()
        watermark = reading.reader.get_watermark()
        if not taken and (token in _stopped or watermark >= MAX_TIMESTAMP):
            return self._result([], None, WatermarkManager.WATERMARK_POS_INF)
        if not taken:
            time.sleep(_IDLE_SECONDS)
        return self._result(taken, PBegin(transform.pipeline), watermark)

    def _result(self, taken: list[tuple[Any, Any]], again: Any, watermark: Any) -> Any:
        bundles: list[Any] = []
        if taken:
            (output,) = self._outputs
            bundle: Any = self._evaluation_context.create_bundle(output)
            for value, timestamp in taken:
                bundle.output(GlobalWindows.windowed_value(value, timestamp=timestamp))
            bundles.append(bundle)
        next_time = [self._evaluation_context.create_bundle(again)] if again else []
        result: Any = TransformResult
        return result(self, bundles, next_time, None, {None: watermark})


class _LastingParDoEvaluator(_ParDoEvaluator):
    """Beam's own, with a DoFn that is set up once and torn down by `finish`."""

    def __init__(self, context: Any, applied: Any, bundle: Any, side_inputs: Any) -> None:
        super().__init__(context, applied, bundle, side_inputs, perform_dofn_pickle_test=False)

    def start_bundle(self) -> None:
        transform: Any = self._applied_ptransform.transform
        if not isinstance(transform.dofn.setup, _Once):
            dofn = pickler.roundtrip(transform.dofn)
            _teardowns.append(dofn.teardown)
            dofn.setup, dofn.teardown = _Once(dofn.setup), _nothing
            transform.dofn = dofn
        super().start_bundle()


class _Once:
    """Calls something the first time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call:
            call()


def _nothing() -> None:
    pass


class _NotingCallback(_CompletionCallback):
    """Beam's own, which goes on with all else until the main thread has heard of a failure."""

    def handle_exception(self, transform_executor: Any, exception: BaseException) -> None:
        _failures.append(exception)
        super().handle_exception(transform_executor, exception)


class _Passing(beam.PTransform[PCollection[Any], PCollection[Any]]):
    """What a reshuffle is for one worker."""

    def expand(self, elements: PCollection[Any]) -> PCollection[Any]:
        passed: PCollection[Any] = elements | "Pass" >> beam.Map(_itself).with_output_types(
            elements.element_type
        )
        return passed


def _itself(element: Any) -> Any:
    return element


class _WithoutReshuffles(PTransformOverride):
    """A reshuffle groups, and this engine drops what comes to a group when a run is told to end, as too late: what was recorded at
    the end would not be copied.
    """

    def matches(self, applied_ptransform: Any) -> bool:
        return isinstance(applied_ptransform.transform, beam.Reshuffle)

    def get_replacement_transform_for_applied_ptransform(self, applied_ptransform: Any) -> Any:  # noqa: ARG002
        return _Passing()


class LocalStreamRunner(BundleBasedDirectRunner):
    """Runs pipelines whose sources are read by `LocalRead`."""

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        options.view_as(StandardOptions).streaming = True
        overrides: dict[Any, Any] = {LocalRead: _LocalReadEvaluator, beam.ParDo: _LastingParDoEvaluator}
        TransformEvaluatorRegistry._test_evaluators_overrides.update(overrides)
        pipeline.replace_all([_WithoutReshuffles()])
        _failures.clear()
        vars(executor)["_CompletionCallback"] = _NotingCallback
        userstate.get_dofn_specs = transform_evaluator.get_dofn_specs = _specs_of
        run: Any = super().run_pipeline
        return run(pipeline, options)


def finish(read: LocalRead) -> None:
    """After a run: tears down DoFns, acknowledges the rest, which is recorded now, and closes the reader."""
    while _teardowns:
        _teardowns.pop()()
    _settled.pop(read.token, None)
    _stopped.discard(read.token)
    if reading := _readings.pop(read.token, None):
        reading.acknowledge()
        reading.reader.close()
