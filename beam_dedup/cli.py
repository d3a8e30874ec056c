"""The command `dedup`: parse, check, build, run, tell. Nothing heavy is imported before the usage is known to be right."""

import importlib.util
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError, UsageError
from beam_dedup.options import checks, parser

_STANDARD_ERROR = 2

DONE, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _main(arguments)
    except UsageError as error:
        print(f"dedup: {error} (dedup --help tells more)", file=sys.stderr)
        return WRONG_USAGE
    except DedupError as error:
        print(f"dedup: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("dedup: interrupted", file=sys.stderr)
        return INTERRUPTED


def entry() -> NoReturn:
    """The console script. Ends the process without waiting for the threads that an engine leaves behind."""
    _open_standard_streams()
    code = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        code = code or FAILED
    os._exit(code)


def _open_standard_streams() -> None:
    """A service manager may start us without: then the next file that is opened would have the number of one of them, and
    children would take it for theirs.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STANDARD_ERROR:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _main(arguments: Sequence[str]) -> int:
    started = time.monotonic()
    given, rest = parser.parse(arguments)
    if given.help or not arguments:
        print(parser.parser().format_help(), end="")
        return DONE
    if given.version:
        from beam_dedup import __version__

        print(f"dedup {__version__}")
        return DONE
    _check_names()
    _set_up_logging()
    if given.beam_help:
        from beam_dedup.runners import select

        print(select.beam_help(), end="")
        return DONE
    if given.dump_dir is None and len(rest) == 1 and os.path.isdir(rest[0]):
        raise UsageError(f"-i is missing: did you mean -i {rest[0]}?")
    config = checks.configure(given)
    checks.check_input(config)
    if config.stream:
        from beam_dedup.stream import run as stream_run

        return stream_run.run(config, rest, started)
    from beam_dedup.batch import run

    return run.run(config, rest, started)


def _set_up_logging() -> None:
    """Before the engine is imported, which logs while it is."""
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    logging.basicConfig(
        level=logging.INFO if debug else logging.ERROR, format="%(levelname)s %(name)s: %(message)s"
    )
    if not debug:
        # What fails is told in one sentence at the end; the engine would print a page for each attempt.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def _check_names() -> None:
    """`transforms` is a common name: makes sure that it is ours, and says whose it is if not."""
    spec = importlib.util.find_spec("transforms")
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))) if spec and spec.origin else None
    if found is None or os.path.realpath(found) != os.path.realpath(ours):
        where = spec.origin if spec else "nowhere"
        raise DedupError(
            f"the package 'transforms' of this program is hidden by {where}: "
            "install dedup into an environment of its own, or run it from another folder"
        )
