"""Reads the file of `--decisions`."""

import os
import stat

from beam_dedup.core.decisions import NO_DECISIONS, Decisions, read_decisions
from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote
from beam_dedup.options.option import quoted


def load_decisions(path: str) -> Decisions:
    """Returns the decisions in a local file; none if the path is "".

    Raises:
      UsageError: it can't be read, or a line is no decision.
    """
    if not path:
        return NO_DECISIONS
    if is_remote(path):
        raise UsageError(
            f"--decisions must be a local file; got {quoted(path)}. Copy it to this machine first"
        )
    try:
        # A pipe without a writer would block.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise UsageError(f"--decisions must be a regular file; got {quoted(path)}")
            return read_decisions(stream)
    except FileNotFoundError:
        raise UsageError(f"--decisions must name an existing file; got {quoted(path)}") from None
    except OSError as error:
        raise UsageError(f"--decisions: cannot read the file {quoted(path)}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--decisions: {quoted(path)}, {error}") from error
