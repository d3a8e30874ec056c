"""Writes to the standard streams, whose reader may end before this process does (`dedup --help | head`).

Control characters, which may come from names of files, are escaped.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from beam_dedup.core.errors import DedupError
from beam_dedup.core.names import without_controls

SIGN_OF_LIFE_SECONDS = 0.5
_CLEAR_LINE = "\r\x1b[K"


def write(text: str) -> None:
    """Writes text to the standard output. If its reader has ended, this text and all that follow are discarded.

    Raises:
      DedupError: the text can't be written for another reason, for example to a full disk.
    """
    if sys.stdout is None:  # it was closed when the process started
        return
    try:
        sys.stdout.write(without_controls(text))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        _discard_stdout()  # what is left in the buffer would fail again
        raise DedupError(f"can't write to the standard output: {error.strerror}") from error


def log(message: str) -> None:
    """Writes a message to the standard error stream, unless that is closed."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"dedup: {without_controls(message)}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def sign_of_life(message: str) -> Iterator[None]:
    """Logs a message if the block takes longer than `SIGN_OF_LIFE_SECONDS`. On a terminal it is removed when the block ends."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    ended = threading.Event()

    def show() -> None:
        if ended.wait(SIGN_OF_LIFE_SECONDS):
            return
        if not is_terminal:
            log(message)
            return
        with contextlib.suppress(OSError):
            print(f"dedup: {message}", end="", file=sys.stderr, flush=True)
            ended.wait()
            print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)

    thread = threading.Thread(target=show, name="sign of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _discard_stdout() -> None:
    with open(os.devnull, "wb") as devnull:
        os.dup2(devnull.fileno(), sys.stdout.fileno())
