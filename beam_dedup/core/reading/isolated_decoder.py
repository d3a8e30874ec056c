"""Decodes images in a decoder process: starts it, sends requests, and rejects the image that ended it."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
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
from beam_dedup.core.reading.local_files import size_of
from beam_dedup.core.reading.reader import DecodeStep, file_ref

_MOST_IDLE_ENDS = 5  # times that the process may end between two replies while it works on no image

# The environment that the process gets. Nothing else, since it may hold the keys of stores. `HOME` and the
# search paths are needed to find Python's packages and libraries, wherever they are installed.
PASSED_VARIABLES = ("HOME", "LANG", "PATH", "TMPDIR", "TZ", "VIRTUAL_ENV", "GLIBC_TUNABLES")
PASSED_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_")

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))


@dataclasses.dataclass(frozen=True, slots=True)
class DecodeResult:
    """The result of decoding some references: fingerprints and rejections as blocks, and counts."""

    fingerprints: list[bytes] = dataclasses.field(default_factory=list)  # blocks of FINGERPRINTS
    rejections: list[bytes] = dataclasses.field(
        default_factory=list
    )  # blocks of VERDICTS, of new images only
    bytes_read: int = 0
    known_rejected: int = 0  # known images that can't be read
    skipped: int = 0  # records of crawls that are not images

    @classmethod
    def of(cls, image: Fingerprint | Rejection) -> "DecodeResult":
        """Returns the result for one image that was not read by a decoder process."""
        if isinstance(image, Rejection):
            return cls().with_rejected([Verdict.of_rejection(image)])
        return cls([blocks.dump(tables.fingerprints_table([image]))])

    def with_rejected(self, rejected: Sequence[Verdict]) -> "DecodeResult":
        """Returns this result plus some rejected images."""
        block, known = tables.rejections_block(rejected)
        return self.plus(DecodeResult([], [block] if block else [], known_rejected=known))

    def plus(self, other: "DecodeResult") -> "DecodeResult":
        """Returns both results as one."""
        return DecodeResult(
            [*self.fingerprints, *other.fingerprints],
            [*self.rejections, *other.rejections],
            self.bytes_read + other.bytes_read,
            self.known_rejected + other.known_rejected,
            self.skipped + other.skipped,
        )


class _ProcessEndedError(Exception):
    """The decoder process ended during a request."""

    def __init__(self, position: DecodePosition | None, code: int) -> None:
        super().__init__(position, code)
        self.position = position  # the step it was working on; None if it was working on no image
        self.code = code  # exit code; -n if signal n ended it


class _Request:
    """The state of a request: which images are answered, and which steps ended the decoder process."""

    def __init__(self, references: Sequence[ImageRef], paths: Sequence[str]) -> None:
        if paths and len(paths) != len(references):
            raise ValueError(f"{len(references)} references need as many paths, got {len(paths)}")
        self._references = references
        self._paths = paths or [reference.uri for reference in references]
        self._has_copies = bool(paths)
        self._harmful: dict[DecodePosition, tuple[Reason, str]] = {}
        self._suspects: set[DecodePosition] = set()
        self._idle_ends = 0
        self._next = DecodePosition(0, DecodeStep(0))
        self.result = DecodeResult()
        self.is_complete = not references

    def frame(self) -> bytes:
        """Returns the request for the images that are not answered yet, as one frame."""
        request = {
            "references": [_fields(ref) for ref in self._references],
            "paths": self._paths if self._has_copies else [],
            "next": (self._next.reference, self._next.step.image),
            "harmful": [
                (position.reference, *position.step, *harm) for position, harm in self._harmful.items()
            ],
        }
        return json.dumps(request).encode()

    def add(self, header: dict[str, Any], fingerprints: bytes, rejections: bytes) -> None:
        """Adds a reply to the result.

        Raises:
          RuntimeError: an image is missing in the reply.
        """
        reference, image = header["next"]
        images = _rows(fingerprints, blocks.FINGERPRINTS) + _rows(rejections, blocks.VERDICTS)
        if images + header["known_rejected"] != header["images"] or (
            header["last"] and reference != len(self._references)
        ):
            raise RuntimeError(
                f"the decoder process did not answer for all images (references: {len(self._references)}): {header}"
            )
        self.result = self.result.plus(
            DecodeResult(
                [fingerprints] if fingerprints else [],
                [rejections] if rejections else [],
                header["bytes"],
                header["known_rejected"],
                header["skipped"],
            )
        )
        self._next = DecodePosition(reference, DecodeStep(image))
        self._idle_ends = 0
        self.is_complete = header["last"]

    def blame(self, ended: _ProcessEndedError, timeout: float) -> None:
        """Finds out which image is to blame for the end of the process.

        Once every remaining reference is known to be harmful, rejects them all and completes the request.
        """
        position = ended.position
        if position is None or position in self._harmful:
            # The process was not working on an image, so no image is to blame; unless it happens again and
            # again: then the last image is blamed, so that the request ends.
            self._idle_ends += 1
            if self._idle_ends <= _MOST_IDLE_ENDS:
                return
            position = list(self._unread())[-1]
        # Something else may have killed the process, such as the system when it is out of memory. So an
        # image is rejected only if it crashes the process twice. The two crashes need not be consecutive,
        # or two images that crash now and then could alternate without end.
        if ended.code == -signal.SIGALRM or position in self._suspects:
            self._harmful[position] = _harm(ended.code, timeout)
        self._suspects.add(position)
        if not any(self._unread()):
            unread = range(self._next.reference, len(self._references))
            rejections = [
                Rejection(
                    file_ref(self._references[number]),
                    *self._harmful[self._start_of(number)],
                    size_of(self._paths[number]),
                )
                for number in unread
            ]
            self.result = self.result.with_rejected([Verdict.of_rejection(one) for one in rejections])
            self.is_complete = True

    def bug_message(self, summary: str, traceback: str, position: DecodePosition | None) -> str:
        """Returns the message for a bug in the decoder process: the traceback, then one line for the user."""
        where = f" at {self._references[position.reference].uri!r}" if position else ""
        line = f"the decoder process failed{where}, which is no fault of the image: {summary}"
        return f"{traceback}\n{line}; set {DEBUG_VARIABLE}=1 to see the traceback, and please report it"

    def _unread(self) -> Iterator[DecodePosition]:
        """Yields the start of each reference that is neither answered nor known to be harmful as a whole."""
        for number in range(self._next.reference, len(self._references)):
            if (position := self._start_of(number)) not in self._harmful:
                yield position

    def _start_of(self, number: int) -> DecodePosition:
        """Returns the first position of a reference that is not answered."""
        return self._next if number == self._next.reference else DecodePosition(number, DecodeStep(0))


def _fields(reference: ImageRef) -> list[Any]:
    return [getattr(reference, name) for name in ImageRef.__slots__]


def _rows(block: bytes, schema: pa.Schema) -> int:
    return int(blocks.batch(block, schema).num_rows) if block else 0


class IsolatedDecoder:
    """Computes fingerprints in a decoder process.

    The process is started when it is first needed, and again after it ended.

    An image that ends the process, or takes longer than the limits allow, is rejected for that reason; all
    other images are answered. An archive that does so while it is read, as opposed to while a member is
    decoded, is rejected from that point on. Not thread-safe.

    Args:
      recipe: the codes to compute; None to compute digests only.
      limits: limits on each image and archive.
      module: the module that the process runs.
    """

    def __init__(
        self,
        recipe: Recipe | None,
        limits: Limits = Limits(),  # noqa: B008  frozen
        module: str = decoder_process.__name__,
    ) -> None:
        self._recipe = recipe
        self._limits = limits
        self._module = module
        self.process: subprocess.Popen[bytes] | None = None  # None while no process is running
        self._progress: IO[bytes] | None = None

    def start(self) -> None:
        """Starts the process without waiting for it."""
        self._progress = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        # Written before it is mapped: a full disk then fails here, and does not end the process and blame
        # an image.
        os.write(self._progress.fileno(), bytes(PROGRESS_BYTES))
        environment = {
            name: value
            for name, value in os.environ.items()
            if name in PASSED_VARIABLES or name.startswith(PASSED_PREFIXES)
        }
        environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # the default pool takes 128 MiB for a few bytes
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            # -P: imports no modules from the current directory, which may be the one with strangers' files.
            [sys.executable, "-P", "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get(DEBUG_VARIABLE) else subprocess.DEVNULL,
            pass_fds=[self._progress.fileno()],
            env=environment,
            # Ctrl-C reaches all processes of a terminal's session. This process ends with its parent instead.
            start_new_session=True,
        )
        recipe = self._recipe and dataclasses.asdict(self._recipe)
        limits = dataclasses.asdict(self._limits)
        settings = {"recipe": recipe, "limits": limits, "progress": self._progress.fileno()}
        self._is_ready = False
        with contextlib.suppress(BrokenPipeError):  # it ended at once: `_wait_until_ready` reports that
            send(self._stdin, json.dumps(settings).encode())

    def close(self) -> None:
        """Ends the process, if it is running."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
        if self._progress is not None:
            self._progress.close()
            self._progress = None

    def read(
        self,
        references: Sequence[ImageRef],
        paths: Sequence[str] = (),
        on_images: Callable[[int], None] = lambda _: None,
        on_reply: Callable[[DecodeResult], None] | None = None,
    ) -> DecodeResult:
        """Returns fingerprints or rejections of all images that references lead to.

        Args:
          references: what to read.
          paths: the local files that hold the bytes, one for each reference; none if the URIs of the references are
            local paths.
          on_images: called with the number of images that were read since it was last called.
          on_reply: gets the result of each reply of the process, which is then not returned, so that the results of an
            archive need not fit in memory together.

        Raises:
          RuntimeError: the process can't be started, does not answer for all images, or has a bug.
        """
        request = _Request(references, paths)
        while not request.is_complete:
            try:
                self._ask(request, on_images, on_reply)
            except _ProcessEndedError as ended:
                request.blame(ended, self._limits.decode_seconds)
        return request.result

    def _ask(
        self,
        request: _Request,
        on_images: Callable[[int], None],
        on_reply: Callable[[DecodeResult], None] | None,
    ) -> None:
        """Sends a request and adds the replies to it, until it is complete or the process ends."""
        if self.process is not None and self._is_ready and self.process.poll() is not None:
            self.close()  # it was killed between two requests: no image's fault
        if self.process is None:
            self.start()
        if not self._is_ready:
            self._wait_until_ready()
        try:
            send(self._stdin, request.frame())
            while not request.is_complete:
                header = json.loads(receive(self._stdout))
                if bug := header.get(BUG):
                    summary, traceback = bug
                    raise RuntimeError(request.bug_message(summary, traceback, self._ended().position))
                request.add(header, receive(self._stdout), receive(self._stdout))
                on_images(header["images"])
                if on_reply:
                    on_reply(request.result)
                    request.result = DecodeResult()
        except (EOFError, BrokenPipeError):
            raise self._ended() from None

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        with contextlib.suppress(EOFError):
            self._is_ready = receive(self._stdout) == decoder_process.READY
        if not self._is_ready:
            code = self.process.wait()
            self.close()
            raise RuntimeError(
                f"the decoder process can't be started: {sys.executable} -m {self._module} ended with "
                f"{code}; set {DEBUG_VARIABLE}=1 to see why"
            )

    def _ended(self) -> _ProcessEndedError:
        """Waits for the end of the process, and returns how and where it ended."""
        assert self.process is not None
        assert self._progress is not None
        code = self.process.wait()
        position = read_position(self._progress.fileno())
        self.close()
        return _ProcessEndedError(position, code)

    @property
    def _stdin(self) -> BinaryIO:
        assert self.process is not None
        return cast(BinaryIO, self.process.stdin)

    @property
    def _stdout(self) -> BinaryIO:
        assert self.process is not None
        return cast(BinaryIO, self.process.stdout)


def _harm(code: int, timeout: float) -> tuple[Reason, str]:
    """Returns reason and detail of the rejection of an image that ended the process with an exit code."""
    if code == -signal.SIGALRM:
        return Reason.TIMEOUT, f"reading or decoding took longer than {timeout:g} s"
    ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return Reason.DECODER_CRASHED, f"the decoder ended with {ended}"
