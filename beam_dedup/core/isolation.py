"""Decoding in a process of its own: starts it, asks it, and knows what to make of its end."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa

from beam_dedup.core import blocks, decoder
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.decoder import Place, read_place, receive, send, write_place
from beam_dedup.core.inputs import Step
from beam_dedup.core.model import ImageRef, Reason

DECODE_SECONDS = 120.0  # for one image: a hundred times what the largest that is let pass takes

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclasses.dataclass(slots=True)
class Answer:
    """What came of some references."""

    fingerprints: list[bytes] = dataclasses.field(default_factory=list)  # blocks of FINGERPRINTS
    rejections: list[bytes] = dataclasses.field(default_factory=list)  # blocks of VERDICTS
    bytes_read: int = 0
    known_rejected: int = 0
    skipped: int = 0  # records of crawls that are no images


class _EndedError(Exception):
    """The process ended in the midst of a request."""

    def __init__(self, place: Place, code: int) -> None:
        super().__init__(place, code)
        self.place = place  # where it was
        self.code = code


class _Request:
    """What is asked, how much of it is answered, and which steps ended the process."""

    def __init__(self, references: Sequence[ImageRef], path: str) -> None:
        self._references = [[ref.uri, ref.name, ref.metadata, ref.known] for ref in references]
        self._path = path
        self._harmful: dict[Place, tuple[Reason, str]] = {}
        self._suspect: Place | None = None
        self.next = Place(0, Step(0))
        self.answer = Answer()

    def frame(self) -> bytes:
        harmful = [(place.reference, *place.step, *harm) for place, harm in self._harmful.items()]
        going_on = (self.next.reference, self.next.step.image)
        request = {"references": self._references, "path": self._path, "next": going_on, "harmful": harmful}
        return json.dumps(request).encode()

    def add(self, said: dict[str, Any], fingerprints: bytes, rejections: bytes) -> None:
        """Takes an answer.

        Raises:
          RuntimeError: some of it is missing.
        """
        reference, image = said["next"]
        self.next = Place(reference, Step(image))
        images = _rows(fingerprints, blocks.FINGERPRINTS) + _rows(rejections, blocks.VERDICTS)
        if images + said["known_rejected"] != said["images"] or (
            said["last"] and reference != len(self._references)
        ):
            raise RuntimeError(f"of {len(self._references)} references not all images were answered: {said}")
        answer = self.answer
        answer.fingerprints += [fingerprints] if fingerprints else []
        answer.rejections += [rejections] if rejections else []
        answer.bytes_read += said["bytes"]
        answer.known_rejected += said["known_rejected"]
        answer.skipped += said["skipped"]

    def blame(self, died: _EndedError, timeout: float) -> None:
        """Notes at which step the process ended, and if that is its fault.

        Raises:
          RuntimeError: it ended though the step was not taken.
        """
        if died.place in self._harmful:
            raise RuntimeError(f"the process that decodes images ended with {died.code} at no image")
        # It may have been killed from outside, for want of memory say: so a crash must happen twice.
        if died.code == -signal.SIGALRM or died.place == self._suspect:
            self._harmful[died.place] = _harm(died.code, timeout)
        self._suspect = died.place


def _rows(block: bytes, schema: pa.Schema) -> int:
    return int(pa.ipc.read_record_batch(pa.py_buffer(block), schema).num_rows) if block else 0


class IsolatedDecoder:
    """Fingerprints images in a process of its own, which is started when it is first needed, and again when it died.

    An image that ends the process or takes longer than `timeout` seconds is rejected for that; all others are answered.
    An archive that does so while it is read, not decoded, is rejected from there on.
    Not for use by several threads at once.
    """

    def __init__(self, recipe: Recipe | None, timeout: float = DECODE_SECONDS) -> None:
        self._recipe = recipe
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._progress: IO[bytes] | None = None

    def start(self) -> None:
        """Starts the process without waiting for it."""
        self._progress = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", decoder.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("DEDUP_DEBUG") else subprocess.DEVNULL,
            pass_fds=[self._progress.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C goes to all processes of a terminal's session; this one ends with its parent
        )
        recipe = self._recipe and dataclasses.asdict(self._recipe)
        setup = {"recipe": recipe, "progress": self._progress.fileno(), "timeout": self._timeout}
        send(self._stdin, json.dumps(setup).encode())
        self._is_ready = False

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def read(self, references: Sequence[ImageRef], path: str = "") -> Answer:
        """Digests and codes of the images that references lead to.

        path: of a local file with the bytes of the only reference, if it is none of this machine's files.

        Raises:
          RuntimeError: the process can't be started, or does not answer all.
        """
        request = _Request(references, path)
        while True:
            try:
                self._ask(request)
                return request.answer
            except _EndedError as died:
                request.blame(died, self._timeout)

    def _ask(self, request: _Request) -> None:
        if self._process is None:
            self.start()
        if not self._is_ready:
            self._wait_until_ready()
        assert self._progress is not None
        write_place(self._progress.fileno(), request.next)
        try:
            send(self._stdin, request.frame())
            is_last = False
            while not is_last:
                said = json.loads(receive(self._stdout))
                request.add(said, receive(self._stdout), receive(self._stdout))
                is_last = said["last"]
        except (EOFError, BrokenPipeError):
            raise self._died() from None

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        with contextlib.suppress(EOFError):
            self._is_ready = receive(self._stdout) == decoder.READY
        if not self._is_ready:
            code = self._process.wait()
            self.close()
            raise RuntimeError(
                f"the process that decodes images can't be started: {sys.executable} -m {decoder.__name__} ended with "
                f"{code}; set DEDUP_DEBUG=1 to see why"
            )

    def _died(self) -> _EndedError:
        assert self._process is not None
        assert self._progress is not None
        code = self._process.wait()
        place = read_place(self._progress.fileno())
        self.close()
        return _EndedError(place, code)

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process is not None
        return cast(BinaryIO, self._process.stdin)

    @property
    def _stdout(self) -> BinaryIO:
        assert self._process is not None
        return cast(BinaryIO, self._process.stdout)


def _harm(code: int, timeout: float) -> tuple[Reason, str]:
    if code == -signal.SIGALRM:
        return Reason.TIMEOUT, f"reading or decoding took longer than {timeout:g} s"
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Reason.DECODER_CRASHED, f"the decoder ended with {ended}"
