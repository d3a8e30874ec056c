"""Computes the fingerprint of an image from its bytes: digest, format, and the codes of its picture."""

import dataclasses
import hashlib
import io
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from beam_dedup.core.algorithms import ALGORITHMS, DCT, Recipe
from beam_dedup.core.codes import TURNS
from beam_dedup.core.errors import DecodeError, ImageError, OtherFormatError, OutOfMemoryError
from beam_dedup.core.full_reads import FullReads
from beam_dedup.core.imaging import dct, detail_code, formats, other_kinds
from beam_dedup.core.imaging.animation import Animation, animation_of, mixed_with
from beam_dedup.core.imaging.decode import (
    Opened,
    Thumbnail,
    check_decoded,
    colours,
    decoding,
    has_fine_detail,
    is_invisible,
    load_picture,
    measurements,
    open_picture,
    oriented,
    other_renderings,
    prepare_decoders,
    reduced,
    square,
    thumbnail,
)
from beam_dedup.core.imaging.detail_code import has_plain_ground
from beam_dedup.core.imaging.facts import Facts, facts_of
from beam_dedup.core.imaging.library_hashes import hash_of
from beam_dedup.core.imaging.truncated import TruncatedError
from beam_dedup.core.imaging.views import squares
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.fallback import metadata_codes
from beam_dedup.core.model import BASE_VIEW, Code, CodeKind, Fingerprint, Flag, ImageRef, Reason
from beam_dedup.core.thresholds import SHORT_BITS

__all__ = ["fingerprint", "prepare_decoders"]  # all that a worker needs

TINY_SIDE = 24  # pixels; a picture whose shorter side has fewer gets no long code

_CHUNK_BYTES = 1 << 20
BUFFERED_BYTES = 1 << 26  # a file up to this size is read into memory; a larger one is digested in chunks


class Picture(NamedTuple):
    """The result of decoding an image."""

    format: str
    width: int  # pixels, as a viewer shows it
    height: int
    codes: tuple[Code, ...]  # the base view first
    flags: tuple[Flag, ...]
    detail: str = ""  # a text about the flags, for the record
    facts: Facts = Facts()


def decode(stream: BinaryIO, recipe: Recipe, limits: Limits = Limits()) -> Picture:  # noqa: B008  frozen
    """Decodes a picture and computes its codes.

    Args:
      stream: the file, seekable.
      recipe: which codes to compute.
      limits: of the number of pixels.
    Raises:
      DecodeError: Pillow cannot open or decode the picture, too much of it is missing, or it is too large.
    """
    algorithm = ALGORITHMS[recipe.algorithm]
    is_dct = recipe.algorithm == DCT
    with decoding():
        picture = open_picture(stream, scaled=is_dct, heavy=algorithm.is_heavy, allowed=limits)
        facts = facts_of(picture.image) if recipe.facts else Facts()
        animation = animation_of(stream, picture.image)
        picture = load_picture(stream, picture, scaled=is_dct)
        source = reduced(picture)
    invisible = is_invisible(source)
    orientation = picture.orientation if is_dct else 1
    whole, base, is_flat = _base_view(source, orientation)
    flags, detail = _flags_and_detail(picture, animation)
    if is_flat and is_dct:
        with decoding():
            for other in other_renderings(picture.image):
                view = _base_view(other, orientation)
                if not view.is_flat:
                    source, (whole, base, is_flat) = other, view
                    break
    if is_flat and not flags:
        with decoding():
            if has_fine_detail(stream, picture, source, limits):
                flags = (Flag.FINE,)
    if flags and (is_flat or not is_dct):
        # A flat part or first frame does not represent the whole, nor do the colours of a picture its details. A code of
        # another algorithm must equal the code of a complete still picture, as the library computes it.
        codes: tuple[Code, ...] = ()
    elif is_flat:
        codes = (_flat_code(stream, picture, is_dct),)
        flags = (Flag.FLAT,)
    elif not is_dct:
        with decoding():
            codes = (hash_of(picture.image, algorithm),)
    elif min(picture.width, picture.height) < TINY_SIDE:
        codes = (Code(CodeKind.TINY, dct.code_bits(base)[: SHORT_BITS // 8].tobytes()),)
        flags = (*flags, Flag.TINY)
    else:
        codes = _full_codes(recipe, picture, source, whole, base)
    descriptions = [animation.description] if animation else []
    if (
        is_dct and invisible and not is_flat
    ):  # it is compared as if it were visible, but a viewer shows a blank page
        descriptions.append("invisible")
    if is_dct and (samples := measurements(picture.image)):
        descriptions.append(samples)
    for description in descriptions:
        codes = tuple(dataclasses.replace(code, data=mixed_with(description, code.data)) for code in codes)
    return Picture(picture.format, picture.width, picture.height, codes, flags, detail, facts)


class _BaseView(NamedTuple):
    pixels: dct.Pixels  # (64, 64)
    coefs: dct.Coefficients  # (16, 16)
    is_flat: bool


def _base_view(source: Thumbnail, orientation: int) -> _BaseView:
    """Returns the whole picture as a viewer shows it, and whether it is flat."""
    pixels = oriented(square(source, "L"), orientation)
    coefs = dct.coefficients(pixels)
    return _BaseView(pixels, coefs, bool(dct.active(coefs) < dct.FLAT_ACTIVE))


def _flags_and_detail(picture: Opened, animation: Animation | None) -> tuple[tuple[Flag, ...], str]:
    """Returns the flags of a truncated picture or an animation, and the record's detail about them."""
    flags, details = [], []
    if picture.share is not None:
        flags.append(Flag.TRUNCATED)
        details.append(f"truncated: {picture.share:.0%} of its rows are present")
    if animation is not None:
        flags.append(Flag.ANIMATED)
        details.append(f"{animation.frames} frames, {animation.milliseconds} ms")
    return tuple(flags), "; ".join(details)


def _flat_code(stream: BinaryIO, picture: Opened, is_turned: bool) -> Code:
    """Returns the code of a flat picture: its colour profiles.

    Args:
      stream: the file, seekable.
      picture: the decoded picture.
      is_turned: whether the EXIF orientation is applied.
    """
    # Flat pictures are rare, so decoding these JPEGs again costs less than decoding all JPEGs in colour.
    with decoding():
        source = thumbnail(colours(stream, picture), "RGB")
    pixels = square(source, "RGB")
    return Code(CodeKind.FLAT, dct.profiles(oriented(pixels, picture.orientation if is_turned else 1)))


def _full_codes(
    recipe: Recipe, picture: Opened, source: Thumbnail, whole: dct.Pixels, base: dct.Coefficients
) -> tuple[Code, ...]:
    """Returns the base code, then the codes of the views, without flat views and repeated codes.

    Args:
      recipe: which views.
      picture: for its size and orientation.
      source: the decoded picture.
      whole: (64, 64) uint8, the pixels of the base view.
      base: (16, 16), their coefficients.
    """
    names, coefs = [BASE_VIEW], [base[None]]
    if views := squares(recipe.views, picture, source, whole):
        of_views = dct.coefficients(np.stack([pixels for _, pixels in views]))
        structured = dct.active(of_views) >= dct.FLAT_ACTIVE
        names += [name for (name, _), use in zip(views, structured.tolist(), strict=True) if use]
        coefs.append(of_views[structured])
    if recipe.turns:
        names += TURNS
        coefs.append(dct.turned(base))
    bits = [row.tobytes() for row in dct.code_bits(np.concatenate(coefs))]
    kind = CodeKind.FULL
    if min(picture.width, picture.height) >= detail_code.LEAST_SIDE and has_plain_ground(whole):
        kind = CodeKind.DETAILED
        details = _detail_codes(recipe, picture, source, whole, names)
        bits = [row + detail for row, detail in zip(bits, details, strict=True)]
    first: dict[bytes, str] = {}
    for name, data in zip(names, bits, strict=True):
        first.setdefault(data, name)
    return tuple(Code(kind, data, name) for data, name in first.items())


def _detail_codes(
    recipe: Recipe, picture: Opened, source: Thumbnail, whole: dct.Pixels, names: list[str]
) -> list[bytes]:
    """Returns the detail codes of the named views."""
    pixels = dict(squares(recipe.views, picture, source, whole, detail_code.SIDE)) if len(names) > 1 else {}
    pixels[BASE_VIEW] = oriented(square(source, "L", side=detail_code.SIDE), picture.orientation)
    coefs = detail_code.coefficients(np.stack([pixels[name] for name in names if name in pixels]))
    if recipe.turns:
        coefs = np.concatenate([coefs, dct.turned(coefs[0])])
    return [row.tobytes() for row in detail_code.detail_bits(coefs)]


class _Content(NamedTuple):
    """A file that was read once."""

    stream: BinaryIO  # to decode from
    head: bytes  # its first bytes
    digest: bytes  # SHA-256
    size_bytes: int


def _read(stream: FullReads, size_bytes: int, max_bytes: int) -> _Content:
    """Reads a file once, into memory if it has up to `BUFFERED_BYTES`.

    The file may have grown since `size_bytes` was found, and files of the system state the size 0. Reading
    stops after `max_bytes` + 1 bytes.
    """
    data = b""
    if size_bytes <= BUFFERED_BYTES:
        data = stream.read(size_bytes + 1)  # one more, to notice that the file has grown
        if len(data) > size_bytes:
            data += stream.read(max(min(BUFFERED_BYTES, max_bytes) + 1 - len(data), 0))
        if len(data) <= BUFFERED_BYTES:
            buffered = io.BytesIO(data)
            return _Content(buffered, data[: formats.HEAD_BYTES], hashlib.sha256(data).digest(), len(data))
    sha256, size = hashlib.sha256(data), len(data)
    while size <= max_bytes and (chunk := stream.read(min(max_bytes + 1 - size, _CHUNK_BYTES))):
        sha256.update(chunk)
        size += len(chunk)
    stream.seek(0)
    return _Content(cast(BinaryIO, stream), stream.read(formats.HEAD_BYTES), sha256.digest(), size)


def _check_size(size_bytes: int, limits: Limits) -> None:
    """Raises ImageError if a file has more bytes than the limit."""
    if size_bytes > limits.max_bytes:
        raise ImageError(Reason.TOO_LARGE, f"{size_bytes} bytes; an image may have {limits.max_bytes}")


def _undecodable(image_format: str, error: DecodeError) -> Picture:
    """Returns what is known of an image whose picture can't be decoded."""
    flags = [Flag.UNDECODABLE]
    if isinstance(error, TruncatedError):
        flags.append(Flag.TRUNCATED)
    if isinstance(error, OutOfMemoryError):
        flags.append(Flag.OUT_OF_MEMORY)
    return Picture(image_format, 0, 0, (), tuple(flags), str(error))


def fingerprint(
    ref: ImageRef,
    stream: BinaryIO,
    size_bytes: int,
    modified_ms: int = 0,
    recipe: Recipe | None = Recipe(),  # noqa: B008  frozen
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Fingerprint:
    """Computes the digest and the codes of one image.

    An image that cannot be decoded has a fingerprint without codes, with the flag `undecodable`; for lack of
    memory, also with `out_of_memory`.

    Args:
      ref: the image.
      stream: the file, seekable, at its beginning.
      size_bytes: expected size; a file of up to `BUFFERED_BYTES` is read into memory.
      modified_ms: modification time, milliseconds since the epoch; 0 if unknown.
      recipe: which codes to compute; with None (exact mode) the picture is not decoded.
      limits: of bytes and pixels.
    Raises:
      ImageError: the file is empty, has too many bytes, or is of no known image format.
      OSError: from reading the stream.
    """
    _check_size(size_bytes, limits)
    whole = FullReads(stream)
    content = _read(whole, size_bytes, limits.max_bytes)
    _check_size(content.size_bytes, limits)  # the file may have grown
    if not content.head:
        raise ImageError(Reason.EMPTY)
    known = formats.sniff(content.head)
    if known is None:
        raise ImageError(
            Reason.NOT_AN_IMAGE,
            f"first bytes: {content.head[:16]!r}",
            content_format=other_kinds.format_of(content.head),
        )
    picture = Picture(known, 0, 0, (), ())
    if recipe is not None and ALGORITHMS[recipe.algorithm].is_of_metadata:
        picture = picture._replace(codes=metadata_codes(ref, ALGORITHMS[recipe.algorithm].kind))
    elif recipe is not None:
        try:
            check_decoded(known)
            picture = decode(content.stream, recipe, limits)
        except MemoryError:  # in our own arithmetic; that of a decoder is a DecodeError
            picture = _undecodable(known, OutOfMemoryError("out of memory"))
        except DecodeError as error:
            actual = error.image_format if isinstance(error, OtherFormatError) else known
            picture = _undecodable(actual, error)
        if whole.failure:  # the decoder took it for damage of the file
            raise whole.failure
    return Fingerprint(
        ref=ref,
        digest=content.digest,
        size_bytes=content.size_bytes,
        modified_ms=modified_ms,
        format=picture.format,
        width=picture.width,
        height=picture.height,
        algorithm=recipe.name if recipe and picture.codes else "",
        codes=picture.codes,
        flags=picture.flags,
        detail=picture.detail,
        taken=picture.facts.taken,
        metadata_kinds=picture.facts.metadata,
    )
