"""Runs a pipeline on this machine: handles signals, shows progress, and hides what the runner prints."""

import contextlib
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator

from rich.console import Console

from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.options.config import DedupConfig
from beam_dedup.shutdown import stopping_on_signals

ShowProgress = Callable[[Console, threading.Event], None]
"""Shows progress on a console until the event is set."""


@contextlib.contextmanager
def executing(
    config: DedupConfig,
    scratch: str,
    show_progress: ShowProgress | None,
    *,
    hide_stderr: bool = True,
    go_on: Callable[[int], bool] = lambda _: False,
) -> Iterator[None]:
    """Surrounds the execution of a pipeline.

    Args:
      config: names the outputs, whose partial files are removed on a signal.
      scratch: path of the scratch directory of the run.
      show_progress: shows progress on stderr, in a thread of its own; None shows nothing.
      hide_stderr: discards what the runner's threads and the decoders print, which is a traceback for each
        failure and warnings about odd files. Nothing is discarded if DEDUP_DEBUG is set.
      go_on: see `beam_dedup.shutdown.stopping_on_signals`.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(stopping_on_signals(config, scratch, go_on))
        if show_progress:
            stack.enter_context(in_background(show_progress, Console(file=sys.stderr)))
        if hide_stderr and not os.environ.get(DEBUG_VARIABLE):
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield


@contextlib.contextmanager
def in_background(
    show_progress: ShowProgress, console: Console, name: str = "progress", end_seconds: float | None = None
) -> Iterator[None]:
    """Shows progress in a thread until the block ends.

    Args:
      show_progress: shows it.
      console: where.
      name: of the thread.
      end_seconds: how long the end of the block waits for the thread; None waits until it has ended.
    """
    stop = threading.Event()
    thread = threading.Thread(target=show_progress, args=(console, stop), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(end_seconds)
