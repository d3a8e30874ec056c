"""Runs streams on this machine: Beam's BundleBasedDirectRunner, extended to read unbounded sources.

Why neither of Beam's two runners for one machine is enough:

- FnApiRunner, which runs batches here (`beam_dedup.runners.select`), emits no output before its source ends.
- BundleBasedDirectRunner lets an unbounded source hold back all watermarks without end, and never reports
  to the source that its elements are committed.

What this module adds:

- An evaluator that reads the source, as Beam's own evaluator for Pub/Sub does. When everything before is
  processed it takes all elements that are available as one bundle, and reports the watermark. It
  acknowledges the bundle when all output of the bundle is on disk, because this runner keeps no state that
  outlives the process.
- DoFns that live as long as the run, as on other runners. Beam's version creates each DoFn anew for every
  bundle and inspects its methods several times. This took half of all time here, and would restart the
  decoder processes for each bundle.

The module replaces internals of Beam's runner, and keeps the state of its runs in module variables.
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

_MAX_BUNDLE = 512  # elements
_IDLE_SECONDS = 0.02  # between two polls of a source that has no elements

# State of the reads in this process, by the token of each `LocalRead`: a runner works on copies of transforms.
_readings: dict[str, "_Reading"] = {}
_settled: dict[str, Callable[[float], bool]] = {}
_stopped: set[str] = set()
_failures: list[BaseException] = []  # of bundles that were abandoned; each failure ends its run
_teardowns: list[Callable[[], None]] = []

_specs_of = functools.lru_cache(maxsize=4096)(userstate.get_dofn_specs)


class LocalRead(beam.PTransform[PBegin, PCollection[Any]]):
    """Reads an unbounded source in this process until `stop` is called; what was read is then still processed.

    In: the start of a pipeline. Out: the elements of the source, unbounded, in the global window.

    Args:
      source: the source.
      is_settled: returns whether the output of everything that was read before a time (of `time.monotonic`)
        is safely on disk. Only then are the elements acknowledged to the source.
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
        """Ends reading. Can be called from a signal handler."""
        _stopped.add(self.token)


class _Reading:
    """A reader, with the checkpoint marks of the bundles that are not acknowledged yet."""

    def __init__(self, reader: UnboundedReader, is_settled: Callable[[float], bool]) -> None:
        self.reader = reader
        self.is_settled = is_settled
        self.started = False
        self.current: Any = None  # the mark of the last bundle, while the runner processes it
        self.marks: deque[tuple[float, Any]] = deque()

    def take(self) -> list[tuple[Any, Any]]:
        """Returns the elements that are available now, with their timestamps."""
        taken: list[tuple[Any, Any]] = []
        while len(taken) < _MAX_BUNDLE and self._advance():
            taken.append((self.reader.get_current(), self.reader.get_current_timestamp()))
        if taken:
            self.current = self.reader.get_checkpoint_mark()
        return taken

    def _advance(self) -> bool:
        if self.started:
            return self.reader.advance()
        self.started = True
        return self.reader.start()

    def acknowledge(self) -> None:
        """Acknowledges to the source all bundles whose output is on disk.

        Called when the runner is idle: the last bundle has then passed all steps, and at most waits in the
        state of the step that writes files.
        """
        if self.current is not None:
            self.marks.append((time.monotonic(), self.current))
            self.current = None
        while self.marks and self.is_settled(self.marks[0][0]):
            self.marks.popleft()[1].finalize_checkpoint()


class _LocalReadEvaluator(_TransformEvaluator):
    """Reads one bundle from a source."""

    def process_element(self, element: Any) -> None:
        """Does nothing: the runner triggers a root transform with an empty element."""

    def finish_bundle(self) -> Any:
        transform: Any = self._applied_ptransform.transform
        token = transform.token
        if token not in _readings:
            reader = transform.source.create_reader(None, None)
            _readings[token] = _Reading(reader, _settled[token])
        reading = _readings[token]
        if _failures:
            # The runner is idle because a bundle failed; the output of the last bundle may be lost.
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
    """Beam's evaluator of ParDo, with a DoFn that is set up once and torn down by `finish`."""

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
    """Calls a function on the first call only."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call: Callable[[], None] | None = call

    def __call__(self) -> None:
        call, self._call = self._call, None
        if call:
            call()


def _nothing() -> None:
    pass


class _RecordingCallback(_CompletionCallback):
    """Beam's callback, which also records a failure at once.

    Beam's runner goes on with other bundles until its main thread sees the failure.
    """

    def handle_exception(self, transform_executor: Any, exception: BaseException) -> None:
        _failures.append(exception)
        super().handle_exception(transform_executor, exception)


class _Identity(beam.PTransform[PCollection[Any], PCollection[Any]]):
    """Passes all elements on: a reshuffle has no effect for one worker.

    In and out: the same elements, bounded or not, in the same windows.
    """

    def expand(self, elements: PCollection[Any]) -> PCollection[Any]:
        passed: PCollection[Any] = elements | "Pass" >> beam.Map(_identity).with_output_types(
            elements.element_type
        )
        return passed


def _identity(element: Any) -> Any:
    return element


class _WithoutReshuffles(PTransformOverride):
    """Removes reshuffles, which would lose the last elements of a run.

    A reshuffle contains a GroupByKey. When a run is stopped, this runner drops what reaches a GroupByKey as
    too late, so images recorded at the end would not be copied.
    """

    def matches(self, applied_ptransform: Any) -> bool:
        return isinstance(applied_ptransform.transform, beam.Reshuffle)

    def get_replacement_transform_for_applied_ptransform(self, applied_ptransform: Any) -> Any:  # noqa: ARG002
        return _Identity()


class LocalStreamRunner(BundleBasedDirectRunner):
    """Runs streaming pipelines in this process, with sources that are read by `LocalRead`."""

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        options.view_as(StandardOptions).streaming = True
        overrides: dict[Any, Any] = {LocalRead: _LocalReadEvaluator, beam.ParDo: _LastingParDoEvaluator}
        TransformEvaluatorRegistry._test_evaluators_overrides.update(overrides)
        pipeline.replace_all([_WithoutReshuffles()])
        _failures.clear()
        vars(executor)["_CompletionCallback"] = _RecordingCallback
        userstate.get_dofn_specs = transform_evaluator.get_dofn_specs = _specs_of
        run: Any = super().run_pipeline
        return run(pipeline, options)


def finish(read: LocalRead) -> None:
    """Ends a run: tears down the DoFns, acknowledges the last bundles, and closes the reader.

    Call it after the run, when everything that was read is recorded.
    """
    while _teardowns:
        _teardowns.pop()()
    _settled.pop(read.token, None)
    _stopped.discard(read.token)
    if reading := _readings.pop(read.token, None):
        reading.acknowledge()
        reading.reader.close()
