"""Runs the command `dedup`: parses and checks the arguments, then runs the pipeline and returns the exit code.

Beam and the modules of the pipeline are imported only when the options are known to be right, so that help and usage errors appear
at once.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from beam_dedup import service_log
from beam_dedup.core.errors import DEBUG_VARIABLE, DedupError, LeakError, UsageError
from beam_dedup.options import help_text, parser
from beam_dedup.options.option import quoted
from beam_dedup.options.suggest import pasteable
from beam_dedup.output import log, sign_of_life, write
from beam_dedup.signals import wake_main_thread_on_signals

if TYPE_CHECKING:
    from beam_dedup.options.config import DedupConfig

_STANDARD_ERROR = 2

COMMANDS = ("clean", "report", "undo")  # other than the run itself
DONE, FAILED, WRONG_USAGE, LEAKS, INTERRUPTED = 0, 1, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
      arguments: without the name of the program; None takes those of this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with service_log.failures_are_errors():
            return _main(arguments)
    except UsageError as error:
        command = f"{arguments[0]} " if arguments and arguments[0] in COMMANDS else ""
        log(f"{error} (see dedup {command}--help)")
        return WRONG_USAGE
    except LeakError as error:
        log(str(error))
        return LEAKS
    except DedupError as error:
        log(str(error))
        return FAILED
    except KeyboardInterrupt:
        log("interrupted")
        return INTERRUPTED


def entry() -> NoReturn:
    """Runs the console script. Ends the process without waiting for the threads that a runner leaves behind."""
    _open_standard_streams()
    _exit_on_signals()
    wake_main_thread_on_signals()
    service_log.set_up("dedup")
    try:
        code = main()
        signal.signal(signal.SIGINT, _exit)  # from here on Ctrl-C raises no exception
    except KeyboardInterrupt:  # while an error was handled, or at the very end
        code = INTERRUPTED
    # All text for the standard streams was flushed when it was written.
    os._exit(code)


def _exit_on_signals() -> None:
    """Makes SIGTERM and SIGHUP end this process with 128 plus the number of the signal, from its start to its end.

    A run replaces these handlers by others, which also clean up (`beam_dedup.shutdown`). A signal that is ignored remains ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _exit)


def _exit(number: int, _frame: object) -> None:
    with contextlib.suppress(OSError):  # stderr may be closed
        os.write(_STANDARD_ERROR, service_log.encoded("\ndedup: interrupted\n"))
    os._exit(128 + number)


def _open_standard_streams() -> None:
    """Opens /dev/null for each standard stream that is closed.

    A service manager may start the process without them. Then the next file to be opened would get the number of a standard
    stream, and child processes would take it for that stream.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= _STANDARD_ERROR:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _main(arguments: Sequence[str]) -> int:
    started = time.monotonic()
    if arguments and arguments[0] == "report":
        from beam_dedup.review import command as report_command

        return report_command.run(arguments[1:])
    if arguments and arguments[0] in COMMANDS:
        from beam_dedup.cleaning import command

        return command.run(arguments[0], arguments[1:])
    topic = parser.help_topic(arguments)
    if topic is not None:
        write(help_text.option_help(topic))
        return DONE
    given, beam_arguments = parser.parse(arguments)
    if given.help or not arguments:
        write(help_text.short_help())
        return DONE
    if given.version:
        from beam_dedup import __version__

        write(f"dedup {__version__}\n")
        return DONE
    _check_transforms_package()
    _set_up_logging()
    if given.beam_help:
        from beam_dedup.runners import select

        write(select.beam_help())
        return DONE
    if given.dump_dir is None and len(beam_arguments) == 1 and os.path.isdir(beam_arguments[0]):
        [path] = beam_arguments
        advice = f". Try -i {pasteable(path)}" if pasteable(path) else ""
        raise UsageError(f"-i is required before an input; got {quoted(path)}{advice}")
    config = _configure(given, beam_arguments)
    with contextlib.nullcontext() if config.quiet else sign_of_life("loading Apache Beam"):
        from beam_dedup import preflight

        prepared = preflight.prepare(config, beam_arguments)
        if config.stream:
            from beam_dedup.stream.run import run
        else:
            from beam_dedup.batch.run import run
    return run(prepared, started)


def _configure(given: argparse.Namespace, beam_arguments: Sequence[str]) -> "DedupConfig":
    """Returns the checked configuration.

    Raises:
      UsageError: an option is unknown or wrong, or an input can't be read. An unknown option comes first: it may be a
        misspelling of the one that is missing.
    """
    from beam_dedup.options import checks
    from beam_dedup.options.decisions_file import load_decisions

    try:
        config = checks.configure(given)
        checks.check_input(config)
        config = dataclasses.replace(config, decisions=load_decisions(config.decisions_file))
    except UsageError:
        if beam_arguments:
            from beam_dedup.runners import select

            select.check_known(beam_arguments)
        raise
    return config


def _set_up_logging() -> None:
    """Configures logging; called before Beam is imported, which logs while it is."""
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    logging.basicConfig(
        level=service_log.level(logging.INFO if debug else logging.ERROR),
        handlers=[service_log.handler("%(levelname)s %(name)s: %(message)s")],
    )
    if not debug and not os.environ.get(service_log.LEVEL_VARIABLE):
        # A failure is reported in one line at the end; the runner would log a page for each attempt.
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def _check_transforms_package() -> None:
    """Checks that the package `transforms`, a common name, is the one of this program.

    Raises:
      DedupError: another package of that name comes first in the module path.
    """
    spec = importlib.util.find_spec("transforms")
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))) if spec and spec.origin else None
    if found is None or os.path.realpath(found) != os.path.realpath(ours):
        where = spec.origin if spec else "not found"
        raise DedupError(
            f"the package 'transforms' must be the one of this program; got {where}. "
            "Install dedup into a separate environment, or run it from another directory"
        )
