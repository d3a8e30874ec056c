"""Reads the images of one reference: the file itself, or, if it is an archive, its members.

The URI of a reference is a path; the URI of an image found there (`beam_dedup.core.archives.members`) also
names the member. For an image that is no member the two are equal, unless the path contains a `!`, which is
escaped in URIs.
"""

import contextlib
import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple, cast

from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.archives import arrow_images
from beam_dedup.core.archives.arrow_messages import looks_like_arrow
from beam_dedup.core.archives.containers import Container, container_of, members
from beam_dedup.core.archives.members import BadMember, Member, Skipped, file_uri, member_uri
from beam_dedup.core.archives.nutch import check_size, refusal
from beam_dedup.core.archives.other_archives import unsupported
from beam_dedup.core.archives.parquet_images import PARQUET_MAGIC, advice
from beam_dedup.core.archives.tfrecord import looks_like_tfrecord
from beam_dedup.core.arrivals import without_own_fields
from beam_dedup.core.errors import ImageError
from beam_dedup.core.imaging.fingerprint import fingerprint
from beam_dedup.core.imaging.formats import HEAD_BYTES
from beam_dedup.core.limits import Limits
from beam_dedup.core.links import FileName, file_name
from beam_dedup.core.metadata import fallback
from beam_dedup.core.model import ACCESS_REASONS, REASONS, Fingerprint, Flag, ImageRef, Reason, Rejection
from beam_dedup.core.reading.local_files import open_local, size_of

Found = Fingerprint | Rejection | Skipped

# After these a file is not touched again, not even for its size: it is gone, or ended or blocked this process.
_NOT_TOUCHED_AGAIN = (Reason.NOT_FOUND, Reason.DECODER_CRASHED, Reason.TIMEOUT, *ACCESS_REASONS)


class DecodeStep(NamedTuple):
    """A piece of work that a harmful file may crash: reading an image, or decoding a member of an archive."""

    image: int  # number of the image in the reference, from 0
    decoding: bool = False


# Makes the result for one image of: reference, stream, size in bytes, time of modification, recipe, limits.
MakeResult = Callable[[ImageRef, BinaryIO, int, int, Recipe | None, Limits], Fingerprint]

Harmful = Mapping[DecodeStep, tuple[Reason, str]]  # steps to leave out, and the rejections to yield instead


def read_images(
    reference: ImageRef,
    path: str,
    recipe: Recipe | None,
    begin: Callable[[DecodeStep], None],
    start: int = 0,
    harmful: Harmful | None = None,
    limits: Limits = Limits(),  # noqa: B008  frozen
    make: MakeResult | None = None,
) -> Iterator[Found]:
    """Opens a reference and yields one item for each image, and one for the archive itself if it is damaged.

    The same file always gives the same images in the same order, so a reading that was interrupted can be
    continued.

    Args:
      reference: the image or archive.
      path: the local file that holds its bytes.
      recipe: the codes to compute; None to compute digests only.
      begin: called before each step, and repeatedly while a long step makes progress.
      start: number of the first image to yield.
      harmful: steps to leave out, and the reason and detail with which the image, or the rest of the
        archive, is rejected instead.
      limits: limits on images and archives. The caller has to enforce `decode_seconds`.
      make: makes the result for an image; None computes its fingerprint.
    """
    if reference.refused:
        reason, detail = reference.refused
        yield Rejection(reference, REASONS[reason], detail)
        return
    walk = _Walk(recipe, limits, begin, harmful or {}, make or fingerprint)
    try:
        with _memory_errors_as_rejections():
            yield from walk.images(reference, path, start)
    except ImageError as error:
        if walk.step == _FIRST and start == 0:
            yield fallback_or_rejection(reference, error, recipe, path)
        elif walk.step.image >= start:
            yield _rejection(file_ref(reference), error, size_of(path))


def fallback_or_rejection(
    reference: ImageRef, error: ImageError, recipe: Recipe | None, path: str = ""
) -> Fingerprint | Rejection:
    """Returns the result for an image that can't be opened.

    It is a fingerprint of the metadata if the reference allows that, else a rejection.

    Args:
      reference: the image.
      error: why it can't be opened.
      recipe: which codes to compute.
      path: the local file with the bytes; "" if there is none.
    """
    image = file_ref(reference)
    # A file that is gone may have been replaced by one that is not meant, whose size says nothing.
    size_bytes = size_of(path) if path and error.reason not in _NOT_TOUCHED_AGAIN else 0
    return fallback.fingerprint_from_metadata(image, error, recipe) or _rejection(image, error, size_bytes)


def _rejection(image: ImageRef, error: ImageError, size_bytes: int) -> Rejection:
    return Rejection(image, error.reason, error.detail, size_bytes, format=error.content_format)


@contextlib.contextmanager
def _memory_errors_as_rejections() -> Iterator[None]:
    """Reports out of memory while reading as an error of the input.

    While a picture is decoded, the decoder itself handles it.
    """
    try:
        yield
    except MemoryError as error:
        raise ImageError(Reason.TOO_LARGE, "out of memory while reading it") from error


def file_ref(reference: ImageRef) -> ImageRef:
    """Returns a reference with the URI that its image has if the file is no archive."""
    uri = file_uri(reference.uri)
    return reference if uri == reference.uri else dataclasses.replace(reference, uri=uri)


def member_ref(
    reference: ImageRef, name: str, metadata: Mapping[str, object] | None = None, copy_name: str = ""
) -> ImageRef:
    """Returns a reference to a member of an archive. The member's own metadata override those of the archive."""
    merged = reference.metadata
    if metadata:
        # Written in ASCII: metadata from strangers may contain text that no encoding can represent.
        own = without_own_fields(metadata) if reference.arrived else metadata
        merged = json.dumps({**(json.loads(merged) if merged else {}), **own})
    return ImageRef(
        member_uri(reference.uri, name), f"{reference.name}/{copy_name or name}", merged, reference.known
    )


_FIRST = DecodeStep(0)


class _Walk:
    """Reads one file step by step; `step` is the current step."""

    def __init__(
        self,
        recipe: Recipe | None,
        limits: Limits,
        begin: Callable[[DecodeStep], None],
        harmful: Harmful,
        make: MakeResult,
    ) -> None:
        self._recipe = recipe
        self._limits = limits
        self._begin = begin
        self._harmful = harmful
        self._make = make
        self._name = FileName()
        self.step = _FIRST
        self._size_bytes = 0  # of the file

    def start_step(self, step: DecodeStep) -> None:
        """Begins a step. Raises ImageError if it is a harmful one."""
        self.step = step
        self._begin(step)
        if self._harmful and (harm := self._harmful.get(step)):
            raise ImageError(*harm)

    def restart_step(self) -> None:
        """Restarts the time limit of the current step, since it makes progress."""
        self._begin(self.step)

    def images(self, reference: ImageRef, path: str, start: int) -> Iterator[Found]:
        self.start_step(_FIRST)
        is_original = path == reference.uri  # as opposed to a local copy of an object
        version = reference.generation if is_original else ""
        roots = self._limits.roots if is_original and not reference.known else ()
        with open_local(path, version, roots, REASONS[self._limits.outside]) as (
            stream,
            size_bytes,
            modified_ms,
        ):
            if is_original:
                name = file_name(path, os.fstat(stream.fileno()))
                self._name = name._replace(is_link=name.is_link or reference.link)
            self._size_bytes = size_bytes
            head = stream.read(HEAD_BYTES)
            stream.seek(0)
            if container := container_of(head, self._limits.image_column):
                yield from self._members(reference, stream, container, start)
            elif head.startswith(PARQUET_MAGIC):
                raise ImageError(Reason.NOT_AN_IMAGE, advice(stream), "Parquet")
            elif looks_like_arrow(head):
                raise ImageError(Reason.NOT_AN_IMAGE, arrow_images.advice(stream), "Arrow")
            elif looks_like_tfrecord(head):
                raise ImageError(Reason.NOT_AN_IMAGE, "a TFRecord file", "TFRecord")
            elif detail := refusal(head):
                raise ImageError(Reason.LOSSY_DUMP, detail)
            elif kind := unsupported(head):
                raise ImageError(Reason.UNSUPPORTED, kind)
            elif start == 0:
                check_size(os.path.basename(reference.name), stream)
                modified_ms = modified_ms if is_original else 0  # a copy's own time is not the object's
                yield self._fingerprint(file_ref(reference), stream, size_bytes, modified_ms)

    def _fingerprint(
        self, ref: ImageRef, stream: BinaryIO, size_bytes: int, modified_ms: int, member: str = ""
    ) -> Fingerprint:
        found = self._make(ref, stream, size_bytes, modified_ms, self._recipe, self._limits)
        name = self._name.member(member) if member else self._name
        flags = (*found.flags, Flag.LINK) if name.is_link else found.flags
        return dataclasses.replace(found, flags=flags, identity=name.identity)

    def _members(
        self, reference: ImageRef, stream: BinaryIO, container: Container, start: int
    ) -> Iterator[Found]:
        watched = cast(BinaryIO, _WatchedStream(stream, self.restart_step))
        items = members(watched, container, self._limits)
        image = 0
        while True:
            self.start_step(DecodeStep(image))
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
            rejected = member_ref(reference, item.name) if item.name else file_ref(reference)
            size_bytes = item.size_bytes or (0 if item.name else self._size_bytes)
            return Rejection(rejected, item.reason, item.detail, size_bytes)
        member = member_ref(reference, item.name, item.metadata, item.copy_name)
        try:
            self.start_step(DecodeStep(image, decoding=True))
            with _memory_errors_as_rejections():
                data = io.BytesIO(item.data)
                return self._fingerprint(member, data, len(item.data), item.modified_ms, item.name)
        except ImageError as error:
            return _rejection(member, error, len(item.data))


class _WatchedStream(io.IOBase):
    """Calls a function at each read.

    So a long archive without any image in it does not count as hanging.
    """

    def __init__(self, stream: BinaryIO, on_read: Callable[[], None]) -> None:
        self._stream = stream
        self._on_read = on_read

    def read(self, size: int = -1) -> bytes:
        self._on_read()
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
