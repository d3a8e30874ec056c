"""Runs the command line for `beam_dedup.dedup` in this process, which has loaded Beam: sooner than in a process of its own."""

import contextlib
import io
from collections.abc import Callable, Sequence

from beam_dedup import DedupError, cli


def run_command(arguments: Sequence[str], scratch: str, show: Callable[[str], None]) -> str:
    """As `beam_dedup.notebook.process.run_command`, with one decoder process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*arguments, "--num_jobs=1"])
    if code != cli.DONE:
        raise DedupError(err.getvalue())
    return out.getvalue()
