"""The process that opens and decodes images, so that no image can harm more than itself.

Crawled files are written by strangers, and decoders are written in C: a file that crashes one, or keeps it busy for
ever, ends this process, and the one that started it (`beam_dedup.core.isolation`) learns which file it was. It also
decodes beside the others of its kind, whatever Python's lock is doing, and starts sooner than a worker of an engine.

    standard input   how to decode (JSON), then requests: references (JSON), each followed by the bytes of the image if
                     they say so
    standard output  "ready", then for each request: counts (JSON), a block of FINGERPRINTS, a block of VERDICTS
    progress         a file: how many images of the request are done

All of them travel as frames: their length in 8 bytes, then so many bytes.
"""

import contextlib
import io
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import ImageError
from beam_dedup.core.fingerprints import fingerprint, prepare_decoders
from beam_dedup.core.local import open_local
from beam_dedup.core.model import Fingerprint, ImageRef, Rejection, Verdict

READY = b"ready"
# What one image may take of memory beyond files: enough for all that core/limits.py lets pass. A decoder that wants more
# is refused by the system, and the picture counts as one that can't be decoded.
MEMORY_BYTES = 1 << 30

_LENGTH = struct.Struct("<Q")


def send(stream: BinaryIO, *frames: bytes) -> None:
    """Writes frames."""
    for frame in frames:
        stream.write(_LENGTH.pack(len(frame)))
        stream.write(frame)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Reads a frame.

    Raises:
      EOFError: the other side has gone.
    """
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(length)
    frame = stream.read(size)
    if len(frame) < size:
        raise EOFError
    return frame


def decode_all(
    references: Sequence[ImageRef], data: bytes | None, recipe: Recipe | None, done: Any
) -> tuple[list[Fingerprint], list[Verdict]]:
    """Fingerprints of images, and verdicts on those that are rejected.

    data: the bytes of the one image there is, if it can't be opened here. done: called after each image.
    """
    read: list[Fingerprint] = []
    rejected: list[Verdict] = []
    for reference in references:
        try:
            opened = open_local(reference.uri) if data is None else contextlib.nullcontext(_in_memory(data))
            with opened as (stream, size_bytes, modified_ms):
                read.append(fingerprint(reference, stream, size_bytes, modified_ms, recipe))
        except ImageError as error:
            rejected.append(Verdict.of_rejection(Rejection(reference, error.reason, error.detail)))
        done()
    return read, rejected


def _in_memory(data: bytes) -> tuple[BinaryIO, int, int]:
    return io.BytesIO(data), len(data), 0


def answer(read: Sequence[Fingerprint], rejected: Sequence[Verdict]) -> tuple[bytes, bytes, bytes]:
    """The frames that are sent back. Known images that are rejected are counted only: they get no verdict."""
    rejections, known = tables.rejections_block(rejected)
    counts = {"bytes": sum(image.size_bytes for image in read), "known_rejected": known}
    fingerprints = blocks.dump(tables.fingerprints_table(read)) if read else b""
    return json.dumps(counts).encode(), fingerprints, rejections


def main() -> None:
    """Answers requests until there are no more."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a decoder that prints would garble the answers
    setup = json.loads(receive(requests))
    recipe = setup["recipe"] and Recipe(**setup["recipe"])
    progress, seconds = setup["progress"], setup["timeout"]
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    memory = MEMORY_BYTES if most == resource.RLIM_INFINITY else min(MEMORY_BYTES, most)
    prepare_decoders()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, also in the midst of a decoder
    send(answers, READY)
    while True:
        try:
            request = json.loads(receive(requests))
        except EOFError:
            return
        data = receive(requests) if request["data"] else None
        finished = 0

        def done() -> None:
            nonlocal finished
            finished += 1
            os.pwrite(progress, _LENGTH.pack(finished), 0)
            signal.setitimer(signal.ITIMER_REAL, seconds)

        os.pwrite(progress, _LENGTH.pack(0), 0)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        references = [ImageRef(*fields) for fields in request["references"]]
        # While it decodes only: want of memory for the answer would end the process, and an image be blamed for it.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, most))
        found = decode_all(references, data, recipe, done)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        signal.setitimer(signal.ITIMER_REAL, 0)
        send(answers, *answer(*found))


if __name__ == "__main__":
    main()
