"""Bytes of an image -> its fingerprint: digest, format, and the codes of its picture."""

import dataclasses
import hashlib
import io
import os
from typing import BinaryIO, NamedTuple

import numpy as np

from beam_dedup.core.algorithms import ALGORITHMS, DCT, Recipe
from beam_dedup.core.codes import TURNS
from beam_dedup.core.errors import DecodeError, ImageError
from beam_dedup.core.imaging import dct, formats
from beam_dedup.core.imaging.animation import Motion, motion_of
from beam_dedup.core.imaging.decode import (
    Opened,
    check_decoded,
    colours,
    decoding,
    loaded,
    opened,
    oriented,
    prepare_decoders,
    square,
    thumbnail,
)
from beam_dedup.core.imaging.library_hashes import hash_of
from beam_dedup.core.imaging.truncated import CutShortError
from beam_dedup.core.imaging.views import squares
from beam_dedup.core.limits import Limits
from beam_dedup.core.metadata.fallback import codes_of
from beam_dedup.core.model import BASE_VIEW, Code, CodeKind, Fingerprint, Flag, ImageRef, Reason
from beam_dedup.core.thresholds import SHORT_BITS

__all__ = ["fingerprint", "prepare_decoders"]  # all that a worker needs

TINY_SIDE = 24  # pixels: a picture with a shorter side below this has no long code

_CHUNK_BYTES = 1 << 20
BUFFERED_BYTES = 1 << 26  # a file up to here is read once, as a whole; a larger one is digested in a stream


class Picture(NamedTuple):
    """What is learnt by decoding."""

    format: str
    width: int  # pixels, as a viewer shows it
    height: int
    codes: tuple[Code, ...]  # the base view first
    flags: tuple[Flag, ...]
    detail: str = ""  # what a reader should know besides


def decode(stream: BinaryIO, recipe: Recipe, limits: Limits = Limits()) -> Picture:  # noqa: B008  frozen
    """Decodes a picture and makes its codes.

    Raises:
      DecodeError: Pillow can't open or decode it, or it has too many pixels to try.
    """
    algorithm = ALGORITHMS[recipe.algorithm]
    is_dct = recipe.algorithm == DCT
    with decoding():
        picture = opened(stream, scaled=is_dct, heavy=algorithm.is_heavy, allowed=limits)
        motion = motion_of(stream, picture.image)
        picture = loaded(stream, picture, scaled=is_dct)
        source = thumbnail(picture.image, "L")
    whole = oriented(square(source, "L"), picture.orientation if is_dct else 1)
    base = dct.coefficients(whole)
    flags, detail = _peculiar(picture, motion)
    is_flat = dct.active(base) < dct.FLAT_ACTIVE
    if flags and (is_flat or not is_dct):
        codes: tuple[Code, ...] = ()  # a plain part, or first frame, tells nothing of the rest
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
        codes = _full_codes(base, squares(recipe.views, picture, source, whole), recipe.turns)
    if motion is not None:
        codes = tuple(dataclasses.replace(code, data=motion.mixed(code.data)) for code in codes)
    return Picture(picture.format, picture.width, picture.height, codes, flags, detail)


def _peculiar(picture: Opened, motion: Motion | None) -> tuple[tuple[Flag, ...], str]:
    """The flags of what is cut short or moves, and what is said of it."""
    flags, said = [], []
    if picture.share is not None:
        flags.append(Flag.TRUNCATED)
        said.append(f"cut short: {picture.share:.0%} of its rows are there")
    if motion is not None:
        flags.append(Flag.ANIMATED)
        said.append(f"{motion.frames} frames, {motion.milliseconds} ms")
    return tuple(flags), "; ".join(said)


def _flat_code(stream: BinaryIO, picture: Opened, is_turned: bool) -> Code:
    # Flat pictures are rare, so a second decode of a JPEG costs less than colour for all.
    with decoding():
        source = thumbnail(colours(stream, picture), "RGB")
    pixels = square(source, "RGB")
    return Code(CodeKind.FLAT, dct.profiles(oriented(pixels, picture.orientation if is_turned else 1)))


def _full_codes(base: dct.Coefficients, views: list[tuple[str, dct.Pixels]], turns: bool) -> tuple[Code, ...]:
    """The base code, then those of the views which no earlier view has, flat ones left out."""
    names, coefs = [BASE_VIEW], [base[None]]
    if views:
        of_views = dct.coefficients(np.stack([pixels for _, pixels in views]))
        structured = dct.active(of_views) >= dct.FLAT_ACTIVE
        names += [name for (name, _), use in zip(views, structured.tolist(), strict=True) if use]
        coefs.append(of_views[structured])
    if turns:
        names += TURNS
        coefs.append(dct.turned(base))
    if len(names) == 1:
        return (Code(CodeKind.FULL, dct.code_bits(base).tobytes()),)
    bits = dct.code_bits(np.concatenate(coefs))
    first: dict[bytes, str] = {}
    for name, row in zip(names, bits, strict=True):
        first.setdefault(row.tobytes(), name)
    return tuple(Code(CodeKind.FULL, data, name) for data, name in first.items())


def _read(stream: BinaryIO, size_bytes: int, max_bytes: int) -> tuple[BinaryIO, bytes, bytes, int]:
    """One read of the file: (a stream to decode from, its first bytes, its SHA-256, its size)."""
    if size_bytes <= BUFFERED_BYTES:
        # As much as there should be: what is asked for is allocated. Then what a file that grew has besides.
        data = stream.read(size_bytes + 1) or b""
        if len(data) > size_bytes:
            data += stream.read(max(max_bytes + 1 - len(data), 0))
        return io.BytesIO(data), data[: formats.HEAD_BYTES], hashlib.sha256(data).digest(), len(data)
    sha256 = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        sha256.update(chunk)
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return stream, stream.read(formats.HEAD_BYTES), sha256.digest(), size_bytes


def _check_size(size_bytes: int, limits: Limits) -> None:
    if size_bytes > limits.max_bytes:
        raise ImageError(Reason.TOO_LARGE, f"{size_bytes} bytes; an image may have {limits.max_bytes}")


def fingerprint(
    ref: ImageRef,
    stream: BinaryIO,
    size_bytes: int,
    modified_ms: int = 0,
    recipe: Recipe | None = Recipe(),  # noqa: B008  frozen
    limits: Limits = Limits(),  # noqa: B008  frozen
) -> Fingerprint:
    """Digest and codes of one image.

    Args:
      stream: the file, seekable, at its beginning.
      size_bytes: its size, which decides how it is read.
      recipe: which codes; None leaves out decoding, for exact mode: digest and format only.
    Raises:
      ImageError: there are no bytes, too many, or they are not an image's.
      OSError: from reading the stream.
    """
    _check_size(size_bytes, limits)
    picture, head, digest, size_bytes = _read(stream, size_bytes, limits.max_bytes)
    _check_size(size_bytes, limits)  # it may have grown
    if not head:
        raise ImageError(Reason.EMPTY)
    known = formats.sniff(head)
    if known is None:
        raise ImageError(Reason.NOT_AN_IMAGE, f"first bytes: {head[:16]!r}")
    learnt = Picture(known, 0, 0, (), ())
    if recipe is not None and ALGORITHMS[recipe.algorithm].is_of_metadata:
        learnt = learnt._replace(codes=codes_of(ref, ALGORITHMS[recipe.algorithm].kind))
    elif recipe is not None:
        try:
            check_decoded(known)
            learnt = decode(picture, recipe, limits)
        except DecodeError as error:
            cut = isinstance(error, CutShortError)
            flags = (Flag.UNDECODABLE, Flag.TRUNCATED) if cut else (Flag.UNDECODABLE,)
            learnt = learnt._replace(flags=flags, detail=str(error))
    return Fingerprint(
        ref=ref,
        digest=digest,
        size_bytes=size_bytes,
        modified_ms=modified_ms,
        format=learnt.format,
        width=learnt.width,
        height=learnt.height,
        algorithm=recipe.name if recipe and learnt.codes else "",
        codes=learnt.codes,
        flags=learnt.flags,
        detail=learnt.detail,
    )
