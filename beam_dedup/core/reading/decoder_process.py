"""The process that opens and decodes images, so that no image can harm more than itself.

Crawled files are written by strangers, and decoders are written in C: a file that crashes one, or keeps it busy for
ever, ends this process, and the one that started it (`beam_dedup.core.reading.isolated_decoder`) learns which file it was. It also
decodes beside the others of its kind, whatever Python's lock is doing, and starts sooner than a worker of an engine.

    standard input   how to decode (JSON), then requests (JSON): references, and where to go on
    standard output  "ready", then for each request answers, of so many images each, until one says that it is the last:
                     what it answers (JSON), a block of FINGERPRINTS, a block of VERDICTS
    progress         a file of `PROGRESS_BYTES`: whether a step is being taken, and which

All of them travel as frames: their length in 8 bytes, then so many bytes. An exception that nobody expected is a bug of ours,
and no image is to be blamed for it: it is sent in place of an answer, and ends the process.
"""

import json
import mmap
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives.members import Skipped
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import REASONS, Fingerprint, ImageRef, Reason, Verdict
from beam_dedup.core.reading.reader import DecodeStep, Found, Harmful, read_images

READY = b"ready"
BUG = "bug"  # the only key of what is sent in place of an answer: what it is in one line, and the traceback
ANSWERED_AT_ONCE = 512  # images: an archive may hold a million
# What one image may take of memory beyond files: enough for all that core/limits.py lets pass. A decoder that wants more
# is refused by the system, and the picture counts as one that can't be decoded.
MEMORY_BYTES = 1 << 30

_LENGTH = struct.Struct("<Q")
_PROGRESS = struct.Struct("<?QQ?")

PROGRESS_BYTES = _PROGRESS.size


class DecodePosition(NamedTuple):
    """A step within a request."""

    reference: int  # its number in the request
    step: DecodeStep


def read_position(progress: int) -> DecodePosition | None:
    """At what the process is that writes to an open file of progress; None if no image is in work."""
    is_working, reference, image, decoding = _PROGRESS.unpack(os.pread(progress, PROGRESS_BYTES, 0))
    return DecodePosition(reference, DecodeStep(image, decoding)) if is_working else None


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


class _Answer:
    """What was found of late and is not sent yet."""

    def __init__(self) -> None:
        self.read: list[Fingerprint] = []
        self.rejected: list[Verdict] = []
        self.skipped = self.images = 0

    def add(self, found: Found, known: bool) -> None:
        if isinstance(found, Skipped):
            self.skipped += 0 if known else found.count
            return
        self.images += 1
        if isinstance(found, Fingerprint):
            self.read.append(found)
        else:
            self.rejected.append(Verdict.of_rejection(found))

    def frames(self, reference: int, image: int, is_last: bool) -> tuple[bytes, bytes, bytes]:
        """reference, image: where to go on after this answer. Known images that are rejected are counted only."""
        rejections, known_rejected = tables.rejections_block(self.rejected)
        said = {
            "last": is_last,
            "next": [reference, image],
            "images": self.images,
            "bytes": sum(image.size_bytes for image in self.read),
            "known_rejected": known_rejected,
            "skipped": self.skipped,
        }
        fingerprints = blocks.dump(tables.fingerprints_table(self.read)) if self.read else b""
        return json.dumps(said).encode(), fingerprints, rejections


class _Setup:
    """How to decode, and what an image may take."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.recipe = said["recipe"] and Recipe(**said["recipe"])
        self.limits = Limits(**said["limits"])
        # Not by calls of the system: it is written for every image, and microseconds count.
        self._progress = mmap.mmap(said["progress"], PROGRESS_BYTES)
        _, self._most_memory = resource.getrlimit(resource.RLIMIT_DATA)
        is_free = self._most_memory == resource.RLIM_INFINITY
        self._memory = MEMORY_BYTES if is_free else min(MEMORY_BYTES, self._most_memory)

    def begin(self) -> None:
        """Images are worked on from now on."""
        resource.setrlimit(resource.RLIMIT_DATA, (self._memory, self._most_memory))

    def step(self, position: DecodePosition) -> None:
        """A step is taken from now on."""
        self._progress[:] = _PROGRESS.pack(True, position.reference, *position.step)
        signal.setitimer(signal.ITIMER_REAL, self.limits.decode_seconds)

    def end(self) -> None:
        """No image is in work: whatever happens now is none's fault."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._progress[:] = bytes(PROGRESS_BYTES)
        # Want of memory for the answer would end the process, and an image be blamed for it.
        resource.setrlimit(resource.RLIMIT_DATA, (self._most_memory, self._most_memory))


class _Answering:
    """Answers one request."""

    def __init__(self, request: dict[str, Any], setup: _Setup, answers: BinaryIO) -> None:
        self._references = [ImageRef(*fields) for fields in request["references"]]
        self._path = request["path"]
        self._first, self._start = request["next"]
        self._harmful: dict[int, dict[DecodeStep, tuple[Reason, str]]] = {}
        for reference, image, decoding, reason, detail in request["harmful"]:
            self._harmful.setdefault(reference, {})[DecodeStep(image, decoding)] = REASONS[reason], detail
        self._setup = setup
        self._answers = answers

    def answer(self) -> None:
        """Reads what is asked for; an answer is sent whenever there is enough of it."""
        answer = _Answer()
        start = self._start
        self._setup.begin()
        for number in range(self._first, len(self._references)):
            reference = self._references[number]
            for image, found in enumerate(self._images(number, start), start):
                answer.add(found, reference.known)
                if answer.images >= ANSWERED_AT_ONCE:
                    self._send(answer, number, image + 1)
                    answer = _Answer()
                    self._setup.begin()
            start = 0
        self._send(answer, len(self._references), 0, is_last=True)

    def _images(self, number: int, start: int) -> Iterator[Found]:
        def begin(step: DecodeStep) -> None:
            self._setup.step(DecodePosition(number, step))

        reference = self._references[number]
        path = self._path or reference.uri
        harmful: Harmful = self._harmful.get(number, {})
        return read_images(reference, path, self._setup.recipe, begin, start, harmful, self._setup.limits)

    def _send(self, answer: _Answer, reference: int, image: int, is_last: bool = False) -> None:
        self._setup.end()  # it may be read late: that is no image's fault
        send(self._answers, *answer.frames(reference, image, is_last))


def main() -> None:
    """Answers requests until there are no more."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a decoder that prints would garble the answers
    setup = _Setup(json.loads(receive(requests)))
    prepare_decoders()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, also in the midst of a decoder
    send(answers, READY)
    while True:
        try:
            request = json.loads(receive(requests))
        except EOFError:
            return
        try:
            _Answering(request, setup, answers).answer()
        except (
            MemoryError,
            BrokenPipeError,
        ):  # the system's doing: the one that asked sees how this process ends
            raise
        except Exception as error:
            what = " ".join(f"{type(error).__name__}: {error}".split())
            send(answers, json.dumps({BUG: [what, traceback.format_exc()]}).encode())
            raise


if __name__ == "__main__":
    main()
