"""Shows the progress of a run in one line, which each new text replaces: on a terminal, or below the cell of a notebook."""

import contextlib
import sys

from beam_dedup.core.names import without_controls

_NOTEBOOK = "ipykernel"  # the package whose streams lead to a notebook


def is_shown(progress: bool | None) -> bool:
    """Returns whether progress is shown; None shows it on terminals and in notebooks."""
    if progress is None:
        return sys.stderr is not None and (_is_notebook() or sys.stderr.isatty())
    return progress


def _is_notebook() -> bool:
    return type(sys.stderr).__module__.startswith(f"{_NOTEBOOK}.")


class StatusLine:
    """A line on stderr, in a `with` block. The line is removed when the block ends.

    If stderr is a file, each text has a line of its own, and nothing is removed.

    Args:
      wanted: whether anything is shown.
    """

    def __init__(self, wanted: bool) -> None:
        self._stream = sys.stderr if wanted else None
        self._replaces = _is_notebook() or (self._stream is not None and self._stream.isatty())
        self._width = 0

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(self, *error: object) -> None:
        if self._width:
            self._write(f"\r{' ' * self._width}\r")

    def show(self, text: str) -> None:
        """Shows a text instead of the one before."""
        line = without_controls(text)
        if not self._replaces:
            self._write(f"{line}\n")
            return
        self._write(f"\r{line.ljust(self._width)}")
        self._width = len(line)

    def _write(self, text: str) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):  # closed, or its reader has ended
                self._stream.write(text)
                self._stream.flush()
