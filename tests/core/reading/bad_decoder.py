"""Runs a decoder process in which some images crash or hang the decoder, depending on their last bytes."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from beam_dedup.core.archives.containers import members as ordinary_members
from beam_dedup.core.imaging.fingerprint import fingerprint as ordinary_fingerprint
from beam_dedup.core.reading import decoder_process, reader
from beam_dedup.core.reading.decoder_process import Reply

CRASH, HANG, CRASH_ONCE = b"crashes", b"hangs", b"crashes once"  # last bytes of an image
CRASH_WHEN_READ = "crashes when read"  # name of a member at which reading the archive crashes
LOST = "lost.png"  # an image whose name ends so is missing in the reply
MARK = "BAD_DECODER_MARK"  # environment variable: path of a file made at the first crash of CRASH_ONCE


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
    return ordinary_fingerprint(ref, stream, *arguments)


def members(*arguments: Any) -> Iterator[Any]:
    for item in ordinary_members(*arguments):
        if getattr(item, "name", "") == CRASH_WHEN_READ:
            os.kill(os.getpid(), signal.SIGSEGV)
        yield item


class LossyReply(Reply):
    def add(self, found: Any, known: bool) -> None:
        super().add(found, known)
        if getattr(getattr(found, "ref", None), "name", "").endswith(LOST):
            self.read.pop()


if __name__ == "__main__":
    with mock.patch.multiple(reader, fingerprint=fingerprint, members=members):
        decoder_process.main(images_per_reply=3, reply_type=LossyReply, take_rights=lambda: None)
