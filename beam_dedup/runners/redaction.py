"""Keeps secrets out of logs. Beam logs all options of a job, the keys of stores among them."""

import functools
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

HIDDEN = "[hidden]"

_SECRET = re.compile("secret|token|password|connection_string", re.IGNORECASE)
_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING")
_LEAST_LENGTH = 4  # a shorter text is no secret, and would be found in every line


def hide_secrets(options: Mapping[str, Any]) -> None:
    """Replaces secrets in whatever this process logs from now on.

    Args:
      options: of Beam, by name. Options whose names say so, such as `s3_secret_access_key`, are secret; so are
        the keys of stores in the environment.
    """
    factory = logging.getLogRecordFactory()
    if not isinstance(factory, _RedactingFactory):
        factory = _RedactingFactory(factory)
        logging.setLogRecordFactory(factory)
    factory.secrets.update(_secrets_in(options), (os.environ.get(name, "") for name in _VARIABLES))


class _RedactingFactory:
    """Makes log records without `secrets`."""

    def __init__(self, ordinary: Callable[..., logging.LogRecord]) -> None:
        self.secrets: set[str] = set()
        self._ordinary = ordinary

    def __call__(self, *arguments: Any, **options: Any) -> logging.LogRecord:
        record = self._ordinary(*arguments, **options)
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # reported where the record is written
            return record
        hidden = redacted(message, self.secrets)
        if hidden != message:
            record.msg, record.args = hidden, ()
        return record


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Returns a text without secrets, also where it quotes them as Python or JSON does, even several times.

    >>> redacted("{'s3_session_token': 'a\\'bc'}", ["a'bc"])
    "{'s3_session_token': '[hidden]'}"
    """
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _LEAST_LENGTH:
            text = _with_escapes(secret).sub(HIDDEN, text)
    return text


@functools.cache
def _with_escapes(secret: str) -> re.Pattern[str]:
    return re.compile("".join(r"\\+" if letter == "\\" else r"\\*" + re.escape(letter) for letter in secret))


def _secrets_in(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets_in(value)
        elif isinstance(value, str) and _SECRET.search(name):
            yield value
