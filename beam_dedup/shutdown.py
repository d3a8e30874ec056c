"""Ends a run early: on a signal, or because it failed."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence

import psutil

from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError
from beam_dedup.core.paths import is_remote, partial_prefix
from beam_dedup.options.config import DedupConfig
from transforms.storage import files as storage

_SHOW_CURSOR = b"\x1b[?25h"  # the live line hides it


@contextlib.contextmanager
def stopping_on_signals(
    config: DedupConfig, scratch: str, first: Callable[[int], bool] = lambda _: False
) -> Iterator[None]:
    """Ctrl-C and a request to terminate end the run at once, leaving nothing half-written.

    Not by an exception: the engine would first wait for its workers, for minutes or for ever. first: is asked before, with the
    signal's number; if it says yes the run goes on.
    """

    def stop(number: int, _frame: object) -> None:
        if first(number):
            return
        children = psutil.Process().children(recursive=True)
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=5)
        storage.halt()
        remove_partial_files(config, [child.pid for child in children])
        shutil.rmtree(scratch, ignore_errors=True)
        with contextlib.suppress(OSError):  # nobody may listen any more
            if os.isatty(2):
                os.write(2, _SHOW_CURSOR)
            os.write(
                2, b"\ndedup: interrupted; the input is as it was, and every file in the outputs is whole\n"
            )
        os._exit(128 + number)

    before = {
        number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def remove_partial_files(config: DedupConfig, workers: Sequence[int] = (), also: Sequence[str] = ()) -> None:
    """Removes what this process and its worker processes had begun to write: outputs, and files of other folders."""
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
    """What ended a run, in one sentence."""
    return error if isinstance(error, DedupError) else DedupError(f"failed: {_root_cause(error)}")


def _root_cause(error: BaseException) -> str:
    """The innermost error in one line. Workers in other processes send theirs as the text of a traceback."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    text = last.split(" [while running")[0]
    name = type(error).__name__
    text = text.removeprefix("RuntimeError: ")
    known = isinstance(error, OSError | DedupError | RuntimeError)
    return (
        text
        if known and text
        else f"{name}: {text}; set {DEBUG_VARIABLE}=1 to see where, and please report it"
    )
