"""Decoding in a process of its own: starts it, asks it, and knows what to make of its end."""

import contextlib
import dataclasses
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import IO, BinaryIO, cast

from beam_dedup.core import decoder, tables
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.decoder import receive, send
from beam_dedup.core.errors import DEBUG_VARIABLE
from beam_dedup.core.model import ImageRef, Reason, Rejection, Verdict

DECODE_SECONDS = 120.0  # for one image: a hundred times what the largest that is let pass takes

_MOST_IDLE_ENDS = 5  # of the process in one request, without an image in work

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came of some references."""

    fingerprints: bytes = b""  # block of FINGERPRINTS, or empty
    rejections: list[bytes] = dataclasses.field(default_factory=list)  # blocks of VERDICTS
    bytes_read: int = 0
    known_rejected: int = 0

    def with_rejected(self, rejected: Sequence[Verdict]) -> "Answer":
        """The same, and images that are rejected besides."""
        block, known = tables.rejections_block(rejected)
        rejections = [*self.rejections, block] if block else self.rejections
        return dataclasses.replace(self, rejections=rejections, known_rejected=self.known_rejected + known)


class _EndedError(Exception):
    """The process ended in the midst of a request."""

    def __init__(self, done: int | None, code: int) -> None:
        super().__init__(done, code)
        self.done = done  # images it had finished; None if it had not begun
        self.code = code


class IsolatedDecoder:
    """Fingerprints images in a process of its own, which is started when it is first needed, and again when it died.

    An image that ends the process or takes longer than `timeout` seconds is rejected for that; all others are answered.
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
        environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the default takes 128 MiB for a few bytes
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            # -P: no module is looked for in the current folder, which may be the one with strangers' files.
            [sys.executable, "-P", "-m", decoder.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get(DEBUG_VARIABLE) else subprocess.DEVNULL,
            pass_fds=[self._progress.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C goes to all processes of a terminal's session; this one ends with its parent
        )
        recipe = self._recipe and dataclasses.asdict(self._recipe)
        setup = {"recipe": recipe, "progress": self._progress.fileno(), "timeout": self._timeout}
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

    def read(self, references: Sequence[ImageRef], data: bytes | None = None) -> Answer:
        """Digests and codes of images.

        data: the bytes of the only one, if it is none of this machine's files.

        Raises:
          RuntimeError: the process can't be started.
        """
        todo = list(references)
        harmful: list[Verdict] = []
        suspects: set[ImageRef] = set()
        idle_ends = 0
        while todo:
            try:
                answered = self._ask(todo, data)
                break
            except _EndedError as died:
                done = len(todo) if died.done is None else died.done
                # Before or after its work it is no image's fault, unless it goes on and on: then the last one is blamed.
                if done >= len(todo) and died.code != -signal.SIGALRM and idle_ends < _MOST_IDLE_ENDS:
                    idle_ends += 1
                    continue
                image = todo[min(done, len(todo) - 1)]
                # It may have been killed from outside, for want of memory say: so a crash must happen twice, though
                # not twice running: then two images that crash now and then would take turns for ever.
                if died.code == -signal.SIGALRM or image in suspects:
                    todo.remove(image)
                    harmful.append(Verdict.of_rejection(_rejection(image, died.code, self._timeout)))
                suspects.add(image)
        else:
            answered = Answer()
        return answered.with_rejected(harmful)

    def _ask(self, references: Sequence[ImageRef], data: bytes | None) -> Answer:
        if self._process is not None and self._is_ready and self._process.poll() is not None:
            self.close()  # it was killed while it had nothing to do: no image's fault
        if self._process is None:
            self.start()
        if not self._is_ready:
            self._wait_until_ready()
        fields = [[ref.uri, ref.name, ref.metadata, ref.known] for ref in references]
        frames = [json.dumps({"references": fields, "data": data is not None}).encode()]
        assert self._progress is not None
        # What it did for an earlier request says nothing of this one.
        os.ftruncate(self._progress.fileno(), 0)
        try:
            send(self._stdin, *frames, *([] if data is None else [data]))
            counts = json.loads(receive(self._stdout))
            fingerprints, rejections = receive(self._stdout), receive(self._stdout)
        except (EOFError, BrokenPipeError):
            raise self._died() from None
        blocks = [rejections] if rejections else []
        return Answer(fingerprints, blocks, counts["bytes"], counts["known_rejected"])

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        with contextlib.suppress(EOFError):
            self._is_ready = receive(self._stdout) == decoder.READY
        if not self._is_ready:
            code = self._process.wait()
            self.close()
            raise RuntimeError(
                f"the process that decodes images can't be started: {sys.executable} -m {decoder.__name__} ended with "
                f"{code}; set {DEBUG_VARIABLE}=1 to see why"
            )

    def _died(self) -> _EndedError:
        assert self._process is not None
        assert self._progress is not None
        code = self._process.wait()
        done = os.pread(self._progress.fileno(), 8, 0)
        self.close()
        return _EndedError(struct.unpack("<Q", done)[0] if done else None, code)

    @property
    def _stdin(self) -> BinaryIO:
        assert self._process is not None
        return cast(BinaryIO, self._process.stdin)

    @property
    def _stdout(self) -> BinaryIO:
        assert self._process is not None
        return cast(BinaryIO, self._process.stdout)


def _rejection(image: ImageRef, code: int, timeout: float) -> Rejection:
    if code == -signal.SIGALRM:
        return Rejection(image, Reason.TIMEOUT, f"decoding took longer than {timeout:g} s")
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Rejection(image, Reason.DECODER_CRASHED, f"the decoder ended with {ended}")
