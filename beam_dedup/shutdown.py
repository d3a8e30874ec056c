"""Ends a run early, on a signal or a failure, without leaving anything half-written.

All handling of signals during a run, of partial output files and of the one-sentence error at the end is here.
Before and after a run there is nothing to clean up, so `beam_dedup.cli.entry` handles signals by itself.
"""

import contextlib
import os
import shutil
import signal
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence

import psutil

from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError
from beam_dedup.core.paths import is_remote, partial_prefix
from beam_dedup.options.config import DedupConfig
from beam_dedup.service_log import encoded
from beam_dedup.signals import handling
from transforms.storage import files as storage

_SHOW_CURSOR = b"\x1b[?25h"  # the live progress line hides the cursor
_INTERRUPTED = "\ndedup: interrupted; the input is unchanged, and every output file is complete\n"
_STEP = " [while running"  # begins what Beam adds to the message of an error in a step
_KILL_SECONDS = 5  # that killed processes may take to end


@contextlib.contextmanager
def scratch_directory(config: DedupConfig) -> Iterator[str]:
    """Yields the path of a temporary directory for one run, and cleans up after the run.

    All temporary files of this process, also those of Beam, are below it. The directory is removed when the block
    ends, and also when SIGTERM or SIGHUP ends the process (see `stopping_on_signals`). If the block raises,
    partial output files are removed too, and the error is reported in one sentence; with DEDUP_DEBUG set its
    traceback is printed as well.

    Raises:
      DedupError: the block raised an exception.
    """
    scratch = tempfile.mkdtemp(prefix="dedup-")
    directory_before = tempfile.tempdir
    try:
        with stopping_on_signals(config, scratch, numbers=(signal.SIGTERM, signal.SIGHUP)):
            tempfile.tempdir = os.path.join(scratch, "temporary")
            os.mkdir(tempfile.tempdir)
            yield scratch
    except Exception as error:
        remove_partial_files(config)
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        raise as_dedup_error(error) from error
    except KeyboardInterrupt:
        remove_partial_files(config)
        raise
    finally:
        tempfile.tempdir = directory_before
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def stopping_on_signals(
    config: DedupConfig,
    scratch: str,
    go_on: Callable[[int], bool] = lambda _: False,
    numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
) -> Iterator[None]:
    """Ends the process on SIGINT (Ctrl-C), SIGTERM or SIGHUP while the block runs.

    The handler kills all child processes, removes partial files and the scratch directory, and exits with
    128 plus the signal's number. It does not raise an exception, because the runner would then wait for
    its workers, for minutes or without end. SIGHUP remains ignored if it is: `nohup` asks for that.

    Args:
      config: names the outputs, whose partial files are removed.
      scratch: path of the scratch directory.
      go_on: called first with the signal's number. If it returns True the run continues.
      numbers: the signals that are handled.
    """

    def stop(number: int, _frame: object) -> None:
        if go_on(number):
            return
        try:
            children = psutil.Process().children(recursive=True)
            kill(children)
            storage.halt()
            remove_partial_files(config, [child.pid for child in children])
            shutil.rmtree(scratch, ignore_errors=True)
            with contextlib.suppress(OSError):  # stderr may be closed
                if os.isatty(2):
                    os.write(2, _SHOW_CURSOR)
                os.write(2, encoded(_INTERRUPTED))
        finally:  # an exception would make the runner wait for its workers
            os._exit(128 + number)

    with handling([number for number in numbers if not _is_ignored_hangup(number)], stop):
        yield


def _is_ignored_hangup(number: signal.Signals) -> bool:
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


def kill(processes: Collection[psutil.Process]) -> None:
    """Kills processes, and waits up to 5 seconds for them to end."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_KILL_SECONDS)


def remove_partial_files(config: DedupConfig, workers: Sequence[int] = (), also: Sequence[str] = ()) -> None:
    """Removes the files that this process and its workers had begun but not finished.

    Args:
      config: names the local outputs whose directories are searched; the output directory recursively.
      workers: process ids of workers whose partial files are removed too.
      also: further files or directories to search as if they were outputs.
    """
    ours = tuple(partial_prefix(process) for process in (os.getpid(), *workers))
    for output in (*config.outputs, *also):
        if is_remote(output):
            continue
        folder = output if os.path.isdir(output) else os.path.dirname(output) or "."
        for path, folders, names in os.walk(folder):
            if folder != config.output_dir:
                folders.clear()
            for name in names:
                if name.startswith(ours):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(os.path.join(path, name))


def as_dedup_error(error: Exception) -> DedupError:
    """Returns the error itself if it is a DedupError, else a DedupError that names its cause in one sentence.

    The message of a DedupError from a step of the pipeline does not name the step, as Beam adds it.
    """
    if not isinstance(error, DedupError):
        return DedupError(f"failed: {_root_cause(error)}")
    text = str(error)
    return type(error)(text.split(_STEP)[0]) if _STEP in text else error


def _root_cause(error: BaseException) -> str:
    """Returns the innermost error in one line.

    Workers in other processes send their errors as the text of a traceback, so the last line is taken.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    text = last.split(_STEP)[0]
    text = text.removeprefix("RuntimeError: ")
    if text and isinstance(error, OSError | DedupError | RuntimeError):
        return text
    return f"{type(error).__name__}: {text}; set {DEBUG_VARIABLE}=1 to see where, and please report it"
