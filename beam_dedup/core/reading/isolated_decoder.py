"""Decoding in a process of its own: starts it, asks it, and knows what to make of its end."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, BinaryIO, cast

import pyarrow as pa

from beam_dedup.core import blocks, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.core.limits import Limits
from beam_dedup.core.model import Fingerprint, ImageRef, Reason, Rejection, Verdict
from beam_dedup.core.reading import decoder_process
from beam_dedup.core.reading.decoder_process import (
    BUG,
    PROGRESS_BYTES,
    DecodePosition,
    read_position,
    receive,
    send,
)
from beam_dedup.core.reading.reader import DecodeStep, of_file

_MOST_IDLE_ENDS = 5  # of the process between two answers, without an image in work

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))


@dataclasses.dataclass(frozen=True, slots=True)
class DecodeResult:
    """What came of some references."""

    fingerprints: list[bytes] = dataclasses.field(default_factory=list)  # blocks of FINGERPRINTS
    rejections: list[bytes] = dataclasses.field(default_factory=list)  # blocks of VERDICTS
    bytes_read: int = 0
    known_rejected: int = 0
    skipped: int = 0  # records of crawls that are no images

    @classmethod
    def of(cls, image: Fingerprint | Rejection) -> "DecodeResult":
        """Of one image that was not asked for."""
        if isinstance(image, Rejection):
            return cls().with_rejected([Verdict.of_rejection(image)])
        return cls([blocks.dump(tables.fingerprints_table([image]))])

    def with_rejected(self, rejected: Sequence[Verdict]) -> "DecodeResult":
        """The same, and images that are rejected besides."""
        block, known = tables.rejections_block(rejected)
        return self.plus(DecodeResult([], [block] if block else [], known_rejected=known))

    def plus(self, other: "DecodeResult") -> "DecodeResult":
        """Both together."""
        return DecodeResult(
            [*self.fingerprints, *other.fingerprints],
            [*self.rejections, *other.rejections],
            self.bytes_read + other.bytes_read,
            self.known_rejected + other.known_rejected,
            self.skipped + other.skipped,
        )


class _EndedError(Exception):
    """The process ended in the midst of a request."""

    def __init__(self, position: DecodePosition | None, code: int) -> None:
        super().__init__(position, code)
        self.position = position  # where it was; None if it had no image in work
        self.code = code


class _Request:
    """What is asked, how much of it is answered, and which steps ended the process."""

    def __init__(self, references: Sequence[ImageRef], path: str) -> None:
        self._references = references
        self._path = path
        self._harmful: dict[DecodePosition, tuple[Reason, str]] = {}
        self._suspects: set[DecodePosition] = set()
        self._idle_ends = 0
        self._next = DecodePosition(0, DecodeStep(0))
        self.answer = DecodeResult()
        self.is_answered = not references

    def frame(self) -> bytes:
        request = {
            "references": [_fields(ref) for ref in self._references],
            "path": self._path,
            "next": (self._next.reference, self._next.step.image),
            "harmful": [
                (position.reference, *position.step, *harm) for position, harm in self._harmful.items()
            ],
        }
        return json.dumps(request).encode()

    def add(self, said: dict[str, Any], fingerprints: bytes, rejections: bytes) -> None:
        """Takes an answer.

        Raises:
          RuntimeError: some of it is missing.
        """
        reference, image = said["next"]
        images = _rows(fingerprints, blocks.FINGERPRINTS) + _rows(rejections, blocks.VERDICTS)
        if images + said["known_rejected"] != said["images"] or (
            said["last"] and reference != len(self._references)
        ):
            raise RuntimeError(f"of {len(self._references)} references not all images were answered: {said}")
        self.answer = self.answer.plus(
            DecodeResult(
                [fingerprints] if fingerprints else [],
                [rejections] if rejections else [],
                said["bytes"],
                said["known_rejected"],
                said["skipped"],
            )
        )
        self._next = DecodePosition(reference, DecodeStep(image))
        self._idle_ends = 0
        self.is_answered = said["last"]

    def blame(self, died: _EndedError, timeout: float) -> None:
        """Notes at which step the process ended, and if that is its fault; what can't be asked any more is answered."""
        position = died.position
        if position is None or position in self._harmful:
            # Before or after its work it is no image's fault, unless it goes on and on: then the last one is blamed.
            self._idle_ends += 1
            if self._idle_ends <= _MOST_IDLE_ENDS:
                return
            position = list(self._left())[-1]
        # It may have been killed from outside, for want of memory say: so a crash must happen twice, though not twice
        # running: then two images that crash now and then would take turns for ever.
        if died.code == -signal.SIGALRM or position in self._suspects:
            self._harmful[position] = _harm(died.code, timeout)
        self._suspects.add(position)
        if not any(self._left()):
            unread = range(self._next.reference, len(self._references))
            rejections = [
                Rejection(of_file(self._references[number]), *self._harmful[self._beginning(number)])
                for number in unread
            ]
            self.answer = self.answer.with_rejected([Verdict.of_rejection(one) for one in rejections])
            self.is_answered = True

    def told(self, what: str, traceback: str, position: DecodePosition | None) -> str:
        """What to say of a bug: the last line is a sentence for the user."""
        where = f" at {self._references[position.reference].uri!r}" if position else ""
        sentence = f"the process that decodes failed{where}, which is no fault of the image: {what}"
        return f"{traceback}\n{sentence}; set {DEBUG_VARIABLE}=1 to see where, and please report it"

    def _left(self) -> Iterator[DecodePosition]:
        """Where references begin that are not answered, and are not known to be harmful as a whole."""
        for number in range(self._next.reference, len(self._references)):
            if (position := self._beginning(number)) not in self._harmful:
                yield position

    def _beginning(self, number: int) -> DecodePosition:
        return self._next if number == self._next.reference else DecodePosition(number, DecodeStep(0))


def _fields(reference: ImageRef) -> list[Any]:
    return [getattr(reference, name) for name in ImageRef.__slots__]


def _rows(block: bytes, schema: pa.Schema) -> int:
    return int(blocks.batch(block, schema).num_rows) if block else 0


class IsolatedDecoder:
    """Fingerprints images in a process of its own, which is started when it is first needed, and again when it died.

    An image that ends the process, or takes longer than the limits allow, is rejected for that; all others are answered.
    An archive that does so while it is read, not decoded, is rejected from there on.
    Not for use by several threads at once.
    """

    def __init__(self, recipe: Recipe | None, limits: Limits = Limits()) -> None:  # noqa: B008  frozen
        self._recipe = recipe
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._progress: IO[bytes] | None = None

    def start(self) -> None:
        """Starts the process without waiting for it."""
        self._progress = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        # Written, so that a full disk is met here: in a mapped file it would end the process, and images be blamed.
        os.write(self._progress.fileno(), bytes(PROGRESS_BYTES))
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the default takes 128 MiB for a few bytes
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            # -P: no module is looked for in the current folder, which may be the one with strangers' files.
            [sys.executable, "-P", "-m", decoder_process.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get(DEBUG_VARIABLE) else subprocess.DEVNULL,
            pass_fds=[self._progress.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C goes to all processes of a terminal's session; this one ends with its parent
        )
        recipe = self._recipe and dataclasses.asdict(self._recipe)
        limits = dataclasses.asdict(self._limits)
        setup = {"recipe": recipe, "limits": limits, "progress": self._progress.fileno()}
        self._is_ready = False
        with contextlib.suppress(BrokenPipeError):  # it could not even start: seen when it is waited for
            send(self._stdin, json.dumps(setup).encode())

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def read(self, references: Sequence[ImageRef], path: str = "") -> DecodeResult:
        """Digests and codes of the images that references lead to.

        path: of a local file with the bytes of the only reference, if it is none of this machine's files.

        Raises:
          RuntimeError: the process can't be started, does not answer all, or has a bug.
        """
        request = _Request(references, path)
        while not request.is_answered:
            try:
                self._ask(request)
            except _EndedError as died:
                request.blame(died, self._limits.decode_seconds)
        return request.answer

    def _ask(self, request: _Request) -> None:
        if self._process is not None and self._is_ready and self._process.poll() is not None:
            self.close()  # it was killed while it had nothing to do: no image's fault
        if self._process is None:
            self.start()
        if not self._is_ready:
            self._wait_until_ready()
        try:
            send(self._stdin, request.frame())
            while not request.is_answered:
                said = json.loads(receive(self._stdout))
                if bug := said.get(BUG):
                    what, traceback = bug
                    raise RuntimeError(request.told(what, traceback, self._died().position))
                request.add(said, receive(self._stdout), receive(self._stdout))
        except (EOFError, BrokenPipeError):
            raise self._died() from None

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        with contextlib.suppress(EOFError):
            self._is_ready = receive(self._stdout) == decoder_process.READY
        if not self._is_ready:
            code = self._process.wait()
            self.close()
            raise RuntimeError(
                f"the process that decodes images can't be started: {sys.executable} -m {decoder_process.__name__} ended with "
                f"{code}; set {DEBUG_VARIABLE}=1 to see why"
            )

    def _died(self) -> _EndedError:
        assert self._process is not None
        assert self._progress is not None
        code = self._process.wait()
        position = read_position(self._progress.fileno())
        self.close()
        return _EndedError(position, code)

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
