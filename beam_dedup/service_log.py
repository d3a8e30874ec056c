"""Formats what a process writes to stderr: as text for people, or as one JSON object per line for log collectors.

Two environment variables control it:

    DEDUP_LOG_FORMAT    text (default) or json
    DEDUP_LOG_LEVEL     debug, info, warn or error: the lowest level of the log records that are shown

A JSON line has the fields `time` (RFC 3339, UTC), `severity`, `logger` and `message`, as Google's Cloud Logging
reads them. With `json`, everything that this process writes to stderr becomes such lines: messages, progress, log
records with their tracebacks, and what libraries print.
"""

import contextlib
import datetime
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

FORMAT_VARIABLE, LEVEL_VARIABLE = "DEDUP_LOG_FORMAT", "DEDUP_LOG_LEVEL"
TEXT, JSON = "text", "json"
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}


def is_json() -> bool:
    """Returns whether the environment asks for JSON lines. Any other value than `json` means text."""
    return os.environ.get(FORMAT_VARIABLE, "").lower() == JSON


def level(default: int) -> int:
    """Returns the level that the environment asks for, or the default if it names none that exists."""
    return LEVELS.get(os.environ.get(LEVEL_VARIABLE, "").lower(), default)


def json_line(message: str, severity: str = "INFO", logger: str = "dedup") -> str:
    """Returns one JSON object with the current time, without a newline.

    >>> json_line("2 judged")[:8], json_line("2 judged")[37:]
    ('{"time":', '"severity": "INFO", "logger": "dedup", "message": "2 judged"}')
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"time": now, "severity": severity, "logger": logger, "message": message})


def encoded(text: str) -> bytes:
    """Returns a text for file descriptor 2, for code that can't use `sys.stderr`, such as a signal handler."""
    if not is_json():
        return text.encode()
    lines = [line for line in text.splitlines() if line]
    return "".join(json_line(*_split(line, "dedup")) + "\n" for line in lines).encode()


class JsonLines(io.TextIOBase):
    """A text stream that writes each line as a JSON object to another stream.

    Attributes:
      target: the other stream.
      severity: of the lines that are written from now on.
    """

    def __init__(self, target: TextIO, logger: str) -> None:
        self.target = target
        self.severity = "INFO"
        self._logger = logger
        self._rest = ""  # of a line that has not ended yet
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            for line in lines:
                if line.strip():
                    message, severity, logger = _split(line, self._logger, self.severity)
                    self.target.write(json_line(message, severity, logger) + "\n")
        return len(text)

    def flush(self) -> None:
        self.target.flush()

    def fileno(self) -> int:
        return self.target.fileno()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        """Returns False, so that progress is shown as lines."""
        return False


def _split(line: str, logger: str, severity: str = "INFO") -> tuple[str, str, str]:
    """Returns the message, severity and logger of a line that may begin with the name of the program."""
    return line.strip().removeprefix(f"{logger}: "), severity, logger


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json_line(super().format(record), record.levelname, record.name)


def set_up(program: str) -> None:
    """Makes stderr a stream of JSON lines if the environment asks for it. Call it once, before anything is written.

    program: the name of the logger of lines that are not log records.
    """
    if is_json() and sys.stderr is not None and not isinstance(sys.stderr, JsonLines):
        sys.stderr = JsonLines(sys.stderr, program)


def handler(text_format: str) -> logging.Handler:
    """Returns a handler that writes log records to stderr, as JSON lines if the environment asks for it.

    text_format: the format otherwise.
    """
    target = sys.stderr.target if isinstance(sys.stderr, JsonLines) else sys.stderr
    made = logging.StreamHandler(target)
    made.setFormatter(_JsonFormatter() if is_json() else logging.Formatter(text_format))
    return made


@contextlib.contextmanager
def failures_are_errors() -> Iterator[None]:
    """Gives what is written to stderr after an exception of the block the severity ERROR."""
    stream = sys.stderr
    try:
        yield
    except BaseException:
        if isinstance(stream, JsonLines):
            stream.severity = "ERROR"
        raise
