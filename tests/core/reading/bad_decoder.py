"""The process that decodes, with a decoder that some pictures are too much for: by what their bytes hold."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from beam_dedup.core.reading import decoder_process, reader

CRASH, HANG, CRASH_ONCE = b"crashes", b"hangs", b"crashes once"
CRASH_WHEN_READ = (
    "crashes when read"  # the name of a member; one whose name ends in lost.png is left out of the answer
)
MARK = "BAD_DECODER_MARK"  # in the environment: a file that is made at the crash that happens once

_fingerprint, _members, _add = reader.fingerprint, reader.members, decoder_process._Answer.add


def fingerprint(ref: Any, stream: Any, *arguments: Any) -> Any:
    data = stream.read()
    stream.seek(0)
    if data.endswith(CRASH):
        os.kill(os.getpid(), signal.SIGSEGV)
    if data.endswith(HANG):
        time.sleep(60)
    if data.endswith(CRASH_ONCE) and not Path(os.environ[MARK]).exists():
        Path(os.environ[MARK]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _fingerprint(ref, stream, *arguments)


def members(*arguments: Any) -> Iterator[Any]:
    for item in _members(*arguments):
        if getattr(item, "name", "") == CRASH_WHEN_READ:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield item


def add(self: Any, found: Any, known: bool) -> None:
    _add(self, found, known)
    if getattr(getattr(found, "ref", None), "name", "").endswith("lost.png"):
        self.read.pop()


if __name__ == "__main__":
    reader.fingerprint, reader.members = fingerprint, members  # type: ignore[assignment]
    decoder_process._Answer.add = add  # type: ignore[method-assign]
    decoder_process.ANSWERED_AT_ONCE = 3
    decoder_process.main()
