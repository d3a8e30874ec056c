r"""Matches images with globs over their paths.

A glob is matched against two paths of an image: its absolute path, or URI in a store, and its path below the
input, which is the name of its copy, after a `/`. It matches the image if it matches the whole path or
a directory in it, beginning at any directory. A glob that begins with `/`, or with a scheme such as `gs://`, begins
where the path begins. A member of an archive has the path of the archive as a directory: `/a/b.zip/c.jpg`.

    *       any characters but /          ?       one character but /
    [a-z]   one of these characters       [!a-z]  one character but these and /
    /**/    any number of directories     \x      the character x itself
    x/      only directories

Paths are bytes, so that names that are not UTF-8 match too. The globs become patterns of RE2, whose time is
linear in the length of the path.
"""

import functools
import os
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.codes import BoolArray

_ONE = (
    r"(?:[\x01-\x7f]|[\xc0-\xff][\x80-\xbf]*|[\x80-\xbf])"  # one character of UTF-8, or a byte that is none
)
_ONE_BUT_SLASH = _ONE.replace(r"\x01-\x7f", r"\x01-\x2e\x30-\x7f")
_ANY_BUT_SLASH = "[^/]*"
_MOST_BYTES = 4096  # of a glob; Linux has no longer paths
_ANCHORED = re.compile(r"/|[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_RELATIVE = re.compile(r"\.\.?(?:/|$)")


def absolute_glob(glob: str, directory: str) -> str:
    r"""Returns a glob with a leading `~/`, `./` or `../` replaced; every other glob as it is.

    >>> absolute_glob("./raw/*.jpg", "/in [1]"), absolute_glob("raw", "/in")
    ('/in \\[1\\]/raw/*.jpg', 'raw')
    """
    if _RELATIVE.match(glob):
        escaped = re.sub(r"([\\*?\[\]])", r"\\\1", directory)
        made = os.path.normpath(f"{escaped}/{glob}")
        return f"{made}/" if glob.endswith("/") else made
    return os.path.expanduser(glob)


def check_glob(glob: str) -> None:
    """Raises ValueError, with what a glob must be, if it matches nothing or is written wrongly.

    >>> check_glob("!a")
    Traceback (most recent call last):
    ValueError: must not begin with !, which excludes nothing here; write \\! for the character
    """
    if not glob.strip("/"):
        raise ValueError("must name a file or directory")
    if glob.startswith("!"):
        raise ValueError("must not begin with !, which excludes nothing here; write \\! for the character")
    if "\0" in glob or len(to_bytes(glob)) > _MOST_BYTES:
        raise ValueError(f"must be a path of at most {_MOST_BYTES} bytes without zero bytes")
    pattern(glob)


@functools.lru_cache(256)
def pattern(glob: str) -> str:
    """Returns the RE2 pattern that finds a glob in the bytes of a path.

    Raises:
      ValueError: the glob is written wrongly.

    >>> pattern("raw/*.jpg")
    '(?s)/raw/[^/]*\\\\.jpg(?:/|$)'
    """
    start = "^" if _ANCHORED.match(glob) else "/"
    parts, at, body = [], 0, glob.rstrip("/")
    while body.startswith("**/"):
        body = body[len("**/") :]
    inside = body.endswith("/**")
    body = body.removesuffix("/**")
    while at < len(body):
        made, at = _part(body, at)
        parts.append(made)
    end = "/" if inside or glob.endswith("/") else "(?:/|$)"
    return f"(?s){start}{''.join(parts)}{end}"


def _part(glob: str, at: int) -> tuple[str, int]:
    """Returns the pattern of what a glob has at a position, and the next position."""
    if glob.startswith("/**/", at):
        while glob.startswith("/**/", at):
            at += len("/**")
        return "/(?:.*/)?", at + 1
    letter = glob[at]
    if letter == "*":
        end = at
        while glob.startswith("*", end):
            end += 1
        return _ANY_BUT_SLASH, end
    if letter == "?":
        return _ONE_BUT_SLASH, at + 1
    if letter == "[":
        return _class(glob, at)
    if letter == "\\":
        if at + 1 == len(glob):
            raise ValueError("must not end with a backslash")
        return _literal(glob[at + 1]), at + 2
    return _literal(letter), at + 1


def _literal(text: str) -> str:
    return "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 0x80) or byte == 0x2F else rf"\x{byte:02x}"
        for byte in to_bytes(text)
    ).replace(r"\x2e", r"\.")


def _class(glob: str, at: int) -> tuple[str, int]:
    """Returns the pattern of the characters in brackets at a position, and the position after them."""
    end = glob.find("]", at + 2 if glob[at + 1 : at + 2] not in ("!", "^") else at + 3)
    if end < 0:
        raise ValueError("must have a ] for each [; write \\[ for the character")
    content = glob[at + 1 : end]
    is_negated = content[0] in "!^"
    ascii_part, others, rest = "", [], content[is_negated:]
    while rest:
        if len(rest) >= 3 and rest[1] == "-":
            first, last, rest = rest[0], rest[2], rest[3:]
            if not first <= last < "\x80":
                raise ValueError(
                    f"must have ranges of ASCII characters in [...], in order; got {first}-{last}"
                )
            ascii_part += f"{_literal(first)}-{_literal(last)}"
            continue
        letter, rest = rest[0], rest[1:]
        if letter < "\x80":
            ascii_part += _literal(letter)
        else:
            others.append(_literal(letter))
    if not is_negated:
        options = [f"[{ascii_part}]"] if ascii_part else []
        return f"(?:{'|'.join([*options, *others])})", end + 1
    if others:
        raise ValueError("must have only ASCII characters in [!...]")
    return _ONE.replace(r"[\x01-\x7f]", rf"[^{ascii_part}/\x80-\xff]"), end + 1


def matches(paths: Sequence[pa.Array], globs: Sequence[str]) -> BoolArray:
    """Returns which images match one of the globs.

    Args:
      paths: as `glob_paths` returns them.
      globs: that `check_glob` accepts.
    """
    found = np.zeros(len(paths[0]), bool)
    for glob in globs:
        for column in paths:
            found |= np.asarray(pc.match_substring_regex(column, pattern=pattern(glob)))
    return found


def glob_paths(uris: pa.Array, names: pa.Array, directory: str) -> tuple[pa.Array, pa.Array]:
    """Returns the paths of images against which globs are matched, as binaries: absolute, and below the input.

    Args:
      uris: of the images, as binaries.
      names: of their copies, as binaries.
      directory: to which relative paths in URIs are relative.
    """
    special = np.zeros(len(uris), bool)
    for text in ("!", "%", "//", "./"):
        special |= np.asarray(pc.match_substring(uris, text))
    special &= ~np.asarray(pc.match_substring_regex(uris, pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://[^!%]*$"))
    relative = ~np.asarray(pc.match_substring_regex(uris, pattern=r"^/|^[A-Za-z][A-Za-z0-9+.-]*://"))
    base = to_bytes(directory.rstrip("/"))
    joined = pc.binary_join_element_wise(pa.scalar(base), uris, pa.scalar(b"/"))
    absolute = pc.if_else(pa.array(relative), joined, uris)
    if special.any():
        rows = np.flatnonzero(special).tolist()
        made = pa.array([_path(to_text(uris[row].as_py()), directory) for row in rows], pa.binary())
        absolute = pc.replace_with_mask(absolute, pa.array(special), made)
    return absolute, pc.binary_join_element_wise(pa.scalar(b""), names, pa.scalar(b"/"))


def _path(uri: str, directory: str) -> bytes:
    path, member = split_uri(uri)
    if "://" not in path:
        path = os.path.normpath(os.path.join(directory, path))
    return to_bytes(f"{path}/{member}" if member else path)
