"""The images of one reference: the file itself, or, if it is an archive, its members.

What a reference names is a path; what comes out has a URI (`beam_dedup.core.archives.members`), with which a member can be found
again. Both tell the same file, but for a `!` in the path.
"""

import contextlib
import dataclasses
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple, cast

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives.containers import Container, container_of, members
from beam_dedup.core.archives.members import BadMember, Member, Skipped, file_uri, member_uri
from beam_dedup.core.archives.nutch import refusal
from beam_dedup.core.archives.other_archives import unsupported
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.fingerprint import fingerprint
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata import fallback
from beam_dedup.core.model import REASONS, Fingerprint, ImageRef, Reason, Rejection
from beam_dedup.core.reading.local_files import open_local

Found = Fingerprint | Rejection | Skipped


class DecodeStep(NamedTuple):
    """A piece of work that may end the process: to get at an image, or, for a member of an archive, to decode it."""

    image: int  # counted from 0 in the reference
    decoding: bool = False


Harmful = Mapping[DecodeStep, tuple[Reason, str]]


def read_images(
    reference: ImageRef,
    path: str,
    recipe: Recipe | None,
    begin: Callable[[DecodeStep], None],
    start: int = 0,
    harmful: Harmful | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Iterator[Found]:
    """Opens a reference and yields one item for each image from number `start` on; the archive is one if it is damaged.

    The same file gives the same images in the same order, so that a broken-off reading can be gone on with.

    path: of the local file in which the bytes are. begin: called before each step, and while a long one makes progress.
    harmful: steps that are not taken, and what the image, or the rest of the archive, is rejected for instead.
    limits: what a file may ask for; the time is the caller's to watch.
    """
    if reference.refused:
        reason, detail = reference.refused
        yield Rejection(reference, REASONS[reason], detail)
        return
    walk = _Walk(recipe, limits, begin, harmful or {})
    try:
        with _within_memory():
            yield from walk.images(reference, path, start)
    except ImageError as error:
        if walk.step == _FIRST and start == 0:
            yield instead(reference, error, recipe)
        elif walk.step.image >= start:
            yield Rejection(of_file(reference), error.reason, error.detail)


def instead(reference: ImageRef, why: ImageError, recipe: Recipe | None) -> Fingerprint | Rejection:
    """What becomes of an image that can't be opened."""
    image = of_file(reference)
    return fallback.fingerprint_from_metadata(image, why, recipe) or Rejection(image, why.reason, why.detail)


@contextlib.contextmanager
def _within_memory() -> Iterator[None]:
    """Want of memory is the doing of what is read, not of us. While a picture is decoded the decoder's caller sees to it."""
    try:
        yield
    except MemoryError as error:
        raise ImageError(Reason.TOO_LARGE, "reading it takes more memory than there is for it") from error


def of_file(reference: ImageRef) -> ImageRef:
    """A reference as the image that it is if it is no archive."""
    uri = file_uri(reference.uri)
    return reference if uri == reference.uri else dataclasses.replace(reference, uri=uri)


def of_member(reference: ImageRef, name: str, metadata: Mapping[str, object] | None = None) -> ImageRef:
    """A member of an archive. What the archive says of it goes before what is said of the archive."""
    said = reference.metadata
    if metadata:
        # In ASCII: what a stranger wrote may hold what no encoding can carry.
        said = json.dumps({**(json.loads(said) if said else {}), **metadata})
    return ImageRef(member_uri(reference.uri, name), f"{reference.name}/{name}", said, reference.known)


_FIRST = DecodeStep(0)


class _Walk:
    """Goes through a file step by step."""

    def __init__(
        self, recipe: Recipe | None, limits: Limits, begin: Callable[[DecodeStep], None], harmful: Harmful
    ) -> None:
        self._recipe = recipe
        self._limits = limits
        self._begin = begin
        self._harmful = harmful
        self.step = _FIRST

    def go_to(self, step: DecodeStep) -> None:
        self.step = step
        self._begin(step)
        if self._harmful and (harm := self._harmful.get(step)):
            raise ImageError(*harm)

    def go_on(self) -> None:
        self._begin(self.step)

    def images(self, reference: ImageRef, path: str, start: int) -> Iterator[Found]:
        self.go_to(_FIRST)
        is_itself = path == reference.uri  # and not a copy of what lies elsewhere
        with open_local(path, reference.generation if is_itself else "") as (stream, size_bytes, modified_ms):
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            if container := container_of(head):
                yield from self._members(reference, stream, container, start)
            elif why := refusal(head):
                raise ImageError(Reason.LOSSY_DUMP, why)
            elif kind := unsupported(head):
                raise ImageError(Reason.UNSUPPORTED, kind)
            elif start == 0:
                modified_ms = modified_ms if is_itself else 0  # a copy's time says nothing
                yield self._fingerprint(of_file(reference), stream, size_bytes, modified_ms)

    def _fingerprint(self, ref: ImageRef, stream: BinaryIO, size_bytes: int, modified_ms: int) -> Fingerprint:
        return fingerprint(ref, stream, size_bytes, modified_ms, self._recipe, self._limits)

    def _members(
        self, reference: ImageRef, stream: BinaryIO, container: Container, start: int
    ) -> Iterator[Found]:
        items = members(cast(BinaryIO, _Watched(stream, self.go_on)), container, self._limits)
        image = 0
        while True:
            self.go_to(DecodeStep(image))
            item = next(items, None)
            if item is None:
                return
            if image >= start:
                yield self._found(reference, item, image)
            image += 1

    def _found(self, reference: ImageRef, item: Member | BadMember | Skipped, image: int) -> Found:
        if isinstance(item, Skipped):
            return item
        if isinstance(item, BadMember):
            found = of_member(reference, item.name) if item.name else of_file(reference)
            return Rejection(found, item.reason, item.detail, item.size_bytes)
        member = of_member(reference, item.name, item.metadata)
        try:
            self.go_to(DecodeStep(image, decoding=True))
            with _within_memory():
                return self._fingerprint(member, io.BytesIO(item.data), len(item.data), item.modified_ms)
        except ImageError as error:
            return Rejection(member, error.reason, error.detail)


class _Watched(io.IOBase):
    """A stream that tells whenever it is read from: an archive with nothing for us in it may take its time."""

    def __init__(self, stream: BinaryIO, tell_of_it: Callable[[], None]) -> None:
        self._stream = stream
        self._tell_of_it = tell_of_it

    def read(self, size: int = -1) -> bytes:
        self._tell_of_it()
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True
