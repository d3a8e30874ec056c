"""Runs the decoder process: opens and decodes images on request.

A harmful image can end only this process.

Crawled files are written by strangers, and decoders are written in C: a file may crash a decoder, or keep
it busy without end. Either ends this process, and the process that started it
(`beam_dedup.core.reading.isolated_decoder`) finds out which file was the cause. Several decoder processes
also run in parallel, unaffected by Python's lock, and each starts sooner than a worker of a runner.

The two processes communicate by

    standard input   one frame of settings (JSON), then requests (JSON): references, and where to start
    standard output  the frame "ready", then one or more replies to each request; the last one is marked.
                     A reply covers up to `IMAGES_PER_REPLY` images and is three frames: header (JSON),
                     a block of FINGERPRINTS, a block of VERDICTS
    progress         a file of `PROGRESS_BYTES` bytes: whether an image is being worked on, and which step

A frame is its length in 8 bytes, followed by that many bytes. An exception that nobody expected is a bug in
this program and not the fault of an image: it is sent in place of a reply, and ends the process.
"""

import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives.members import Skipped
from beam_dedup.core.imaging.fingerprint import prepare_decoders
from beam_dedup.core.limits import MEMORY_BYTES, Limits
from beam_dedup.core.model import REASONS, Fingerprint, ImageRef, Reason, Verdict
from beam_dedup.core.reading.confinement import confine
from beam_dedup.core.reading.reader import DecodeStep, Found, Harmful, MakeResult, read_images

READY = b"ready"
BUG = "bug"  # the only key of a header that reports a bug: [the exception in one line, the traceback]
IMAGES_PER_REPLY = 512  # since an archive may hold a million
SECONDS_PER_REPLY = 1.0  # while an archive is read, if fewer images take so long

_LENGTH = struct.Struct("<Q")
_PROGRESS = struct.Struct("<?QQ?")  # is working, number of the reference, number of the image, is decoding

PROGRESS_BYTES = _PROGRESS.size


class DecodePosition(NamedTuple):
    """A step within a request."""

    reference: int  # number of the reference in the request
    step: DecodeStep


def read_position(progress: int) -> DecodePosition | None:
    """Returns the step that a decoder process is working on; None if it is working on no image.

    Args:
      progress: descriptor of the process's progress file.
    """
    is_working, reference, image, decoding = _PROGRESS.unpack(os.pread(progress, PROGRESS_BYTES, 0))
    return DecodePosition(reference, DecodeStep(image, decoding)) if is_working else None


def send(stream: BinaryIO, *frames: bytes) -> None:
    """Writes frames and flushes the stream."""
    for frame in frames:
        stream.write(_LENGTH.pack(len(frame)))
        stream.write(frame)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """Reads one frame.

    Raises:
      EOFError: the other process has ended.
    """
    length = stream.read(_LENGTH.size)
    if len(length) < _LENGTH.size:
        raise EOFError
    (size,) = _LENGTH.unpack(length)
    frame = stream.read(size)
    if len(frame) < size:
        raise EOFError
    return frame


class Reply:
    """The results that were found since the last reply was sent."""

    def __init__(self) -> None:
        self.read: list[Fingerprint] = []
        self.rejected: list[Verdict] = []
        self.skipped = self.images = 0

    def add(self, found: Found, known: bool) -> None:
        """Adds a result. known: whether the reference is one of known images."""
        if isinstance(found, Skipped):
            self.skipped += 0 if known else found.count
            return
        self.images += 1
        if isinstance(found, Fingerprint):
            self.read.append(found)
        else:
            self.rejected.append(Verdict.of_rejection(found))

    def frames(self, reference: int, image: int, is_last: bool) -> tuple[bytes, bytes, bytes]:
        """Returns the reply as frames. Rejections of known images are only counted.

        Args:
          reference, image: the position that follows this reply.
          is_last: whether the request is complete.
        """
        rejections, known_rejected = tables.rejections_block(self.rejected)
        header = {
            "last": is_last,
            "next": [reference, image],
            "images": self.images,
            "bytes": sum(image.size_bytes for image in self.read),
            "known_rejected": known_rejected,
            "skipped": self.skipped,
        }
        fingerprints = blocks.dump(tables.fingerprints_table(self.read)) if self.read else b""
        return json.dumps(header).encode(), fingerprints, rejections


class _Guard:
    """Holds the settings of this process, and limits its time and memory while it decodes images.

    It also writes the progress file.
    """

    def __init__(self, settings: dict[str, Any], memory_bytes: int) -> None:
        self.recipe = settings["recipe"] and Recipe(**settings["recipe"])
        self.limits = Limits(**settings["limits"])
        # Mapped instead of written by system calls: it changes with every image, and microseconds count.
        self._progress = mmap.mmap(settings["progress"], PROGRESS_BYTES)
        _, self._hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
        is_unlimited = self._hard_limit == resource.RLIM_INFINITY
        self._memory = memory_bytes if is_unlimited else min(memory_bytes, self._hard_limit)

    def start_work(self) -> None:
        """Limits memory. Called before work on images begins, and again after each reply."""
        resource.setrlimit(resource.RLIMIT_DATA, (self._memory, self._hard_limit))

    def start_step(self, position: DecodePosition) -> None:
        """Notes the step that begins now, and starts its time limit."""
        self._progress[:] = _PROGRESS.pack(True, position.reference, *position.step)
        signal.setitimer(signal.ITIMER_REAL, self.limits.decode_seconds)

    def stop_work(self) -> None:
        """Lifts the limits and notes that no image is being worked on.

        So no image is blamed for whatever happens next.
        """
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._progress[:] = bytes(PROGRESS_BYTES)
        # Out of memory while writing the reply would end the process, and an image would be blamed.
        resource.setrlimit(resource.RLIMIT_DATA, (self._hard_limit, self._hard_limit))


class _RequestHandler:
    """Serves one request.

    Args:
      request: the parsed request.
      guard: limits the work on each image.
      replies: the stream for replies.
      images_per_reply: number of images after which a reply is sent.
      reply_type: `Reply`, or a subclass.
      make: makes the result for an image; None computes its fingerprint.
    """

    def __init__(
        self,
        request: dict[str, Any],
        guard: _Guard,
        replies: BinaryIO,
        images_per_reply: int,
        reply_type: type[Reply],
        make: MakeResult | None,
    ) -> None:
        self._references = [ImageRef(*fields) for fields in request["references"]]
        self._paths = request["paths"]
        self._first, self._start = request["next"]
        self._harmful: dict[int, dict[DecodeStep, tuple[Reason, str]]] = {}
        for reference, image, decoding, reason, detail in request["harmful"]:
            self._harmful.setdefault(reference, {})[DecodeStep(image, decoding)] = REASONS[reason], detail
        self._guard = guard
        self._replies = replies
        self._images_per_reply = images_per_reply
        self._reply_type = reply_type
        self._make = make

    def run(self) -> None:
        """Reads the requested images, and sends a reply whenever there are enough of them, or an archive takes long."""
        reply = self._reply_type()
        start, sent = self._start, time.monotonic()
        self._guard.start_work()
        for number in range(self._first, len(self._references)):
            reference = self._references[number]
            for image, found in enumerate(self._images(number, start), start):
                reply.add(found, reference.known)
                # A slow archive replies earlier, so that its members show in the progress.
                is_late = image > 0 and time.monotonic() - sent >= SECONDS_PER_REPLY
                if reply.images >= self._images_per_reply or (is_late and reply.images):
                    self._send(reply, number, image + 1)
                    reply = self._reply_type()
                    self._guard.start_work()
                    sent = time.monotonic()
            start = 0
        self._send(reply, len(self._references), 0, is_last=True)

    def _images(self, number: int, start: int) -> Iterator[Found]:
        def begin(step: DecodeStep) -> None:
            self._guard.start_step(DecodePosition(number, step))

        reference = self._references[number]
        path = self._paths[number] if self._paths else reference.uri
        harmful: Harmful = self._harmful.get(number, {})
        guard = self._guard
        return read_images(reference, path, guard.recipe, begin, start, harmful, guard.limits, self._make)

    def _send(self, reply: Reply, reference: int, image: int, is_last: bool = False) -> None:
        self._guard.stop_work()  # the other process may read the reply late, which is no image's fault
        send(self._replies, *reply.frames(reference, image, is_last))


def main(
    images_per_reply: int = IMAGES_PER_REPLY,
    memory_bytes: int = MEMORY_BYTES,
    reply_type: type[Reply] = Reply,
    take_rights: Callable[[], None] = confine,
    make: MakeResult | None = None,
) -> None:
    """Serves requests from standard input until it is closed.

    Args:
      images_per_reply: number of images after which a reply is sent.
      memory_bytes: memory that one image may take; less if the system's limit is lower. The system refuses
        more, and the picture is flagged.
      reply_type: `Reply`, or a subclass.
      take_rights: takes from this process the rights that it does not need.
      make: makes the result for an image; None computes its fingerprint.
    """
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a decoder that prints would garble the replies
    guard = _Guard(json.loads(receive(requests)), memory_bytes)
    prepare_decoders()
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, even inside a decoder
    take_rights()
    send(replies, READY)
    while True:
        try:
            request = json.loads(receive(requests))
        except EOFError:
            return
        try:
            _RequestHandler(request, guard, replies, images_per_reply, reply_type, make).run()
        except (MemoryError, BrokenPipeError):
            raise  # caused by the system, not a bug: the other process sees that this one ended
        except Exception as error:
            summary = " ".join(f"{type(error).__name__}: {error}".split())
            send(replies, json.dumps({BUG: [summary, traceback.format_exc()]}).encode())
            raise


if __name__ == "__main__":
    main()
