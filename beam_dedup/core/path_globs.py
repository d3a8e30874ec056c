r"""Matches tables of images with globs over their paths.

A glob is a pattern of `beam_dedup.core.globs`. It is matched with two paths of an image: its absolute path, or URI in a
store, and its path below the input, which is the name of its copy, after a `/`. With several inputs such a name begins with the label of the input, and is
matched without the label too. The glob matches the image if it matches the whole path or a directory in it, beginning at
any directory. A glob that begins with `/`, or with a scheme such as `gs://`, begins where the path begins. A member of an archive has the path of the archive as a directory: `/a/b.zip/c.jpg`.

Why a glob with a `/` in its middle, such as `a/b`, begins at any directory, other than in a gitignore file: records do not
say where the inputs begin, and the same glob shall match the same images in a run and when its duplicates are cleaned up.
"""

import functools
import os
import re
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import globs
from beam_dedup.core.archives.members import split_uri
from beam_dedup.core.blocks import to_bytes, to_text
from beam_dedup.core.codes import BoolArray

_URI = "[A-Za-z][A-Za-z0-9+.-]*://"  # the beginning of one
_SCHEME = re.compile(f"{_URI}(?!/)")
_RELATIVE = re.compile(r"\.\.?(?:/|$)")


def absolute_glob(glob: str, directory: str) -> str:
    r"""Returns a glob with a leading `~/`, `./` or `../` replaced; every other glob as it is.

    >>> absolute_glob("./raw/*.jpg", "/in [1]"), absolute_glob("raw", "/in")
    ('/in \\[1\\]/raw/*.jpg', 'raw')
    """
    if _RELATIVE.match(glob):
        escaped = re.sub(r"([\\*?\[\]])", r"\\\1", directory)
        made = os.path.normpath(os.path.join(escaped, glob))
        return f"{made}/" if glob.endswith("/") else made
    return os.path.expanduser(glob)


def check_glob(glob: str) -> None:
    """Raises ValueError, with what a glob must be, if it matches nothing or is written wrongly.

    >>> check_glob("!a")
    Traceback (most recent call last):
    ValueError: must not begin with !, which excludes nothing here; write \\! for the character
    """
    if glob.startswith("!"):
        raise ValueError("must not begin with !, which excludes nothing here; write \\! for the character")
    _regex(glob)


@functools.lru_cache(256)
def _regex(glob: str) -> bytes:
    """Returns the regular expression of RE2 that finds a glob in a path.

    Raises:
      ValueError: the glob is written wrongly.

    >>> _regex("raw/*.jpg"), _regex("gs://b/in/")
    (b'(?s)/raw/[^/]*\\\\.jpg(?:/|$)', b'(?s)^gs://b/in/')
    """
    scheme = _SCHEME.match(glob)
    parsed = globs.parse(glob[scheme.end() :] if scheme else glob)
    start = f"^{re.escape(scheme[0])}" if scheme else "^/" if glob.startswith("/") else "/"
    end = "/" if parsed.only_directories else "(?:/|$)"
    return globs.for_re2(f"{start}{parsed.regex.pattern}{end}")


def matches(paths: Sequence[pa.Array], patterns: Sequence[str]) -> BoolArray:
    """Returns which images match one of the globs.

    Args:
      paths: the paths of all images, as `glob_paths` or `as_texts` returns them; several for each image.
      patterns: globs that `check_glob` accepts.
    """
    found = np.zeros(len(paths[0]), bool)
    for glob in patterns:
        for column in paths:
            found |= np.asarray(pc.match_substring_regex(column, pattern=_regex(glob)))
    return found


def glob_paths(
    uris: pa.Array, names: pa.Array, directory: str, has_labels: bool = False
) -> tuple[pa.Array, ...]:
    """Returns the paths of images against which globs are matched: absolute, and below the input.

    They are strings as `as_texts` makes them.

    Args:
      uris: of the images, as binaries.
      names: of their copies, as binaries.
      directory: to which relative paths in URIs are relative.
      has_labels: whether the names begin with the label of their input. Paths below the input are then returned with
        and without it.
    """
    special = np.zeros(len(uris), bool)
    for text in ("!", "%", "//", "./"):
        special |= np.asarray(pc.match_substring(uris, text))
    special &= ~np.asarray(pc.match_substring_regex(uris, pattern=f"^{_URI}[^!%]*$"))
    relative = ~np.asarray(pc.match_substring_regex(uris, pattern=f"^/|^{_URI}"))
    base = to_bytes(directory.rstrip("/"))
    joined = pc.binary_join_element_wise(pa.scalar(base), uris, pa.scalar(b"/"))
    absolute = pc.if_else(pa.array(relative), joined, uris)
    if special.any():
        rows = np.flatnonzero(special).tolist()
        made = pa.array([_path(to_text(uris[row].as_py()), directory) for row in rows], pa.binary())
        absolute = pc.replace_with_mask(absolute, pa.array(special), made)
    below = pc.binary_join_element_wise(pa.scalar(b""), names, pa.scalar(b"/"))
    paths = [absolute, below]
    if has_labels:
        paths.append(pc.replace_substring_regex(below, "^/[^/]*/", "/"))
    return tuple(map(_decoded, paths))


def as_texts(paths: Iterable[str]) -> pa.Array:
    """Returns paths as strings, in which a surrogate (a byte that is not UTF-8) is encoded like other characters."""
    encoded = [path.encode("utf-8", "surrogatepass") for path in paths]
    return pa.array(encoded, pa.binary()).view(pa.string())


def _decoded(paths: pa.Array) -> pa.Array:
    """Returns binaries as `as_texts` does."""
    try:
        return paths.cast(pa.string())
    except pa.ArrowInvalid:
        return as_texts(map(to_text, paths.to_pylist()))


def _path(uri: str, directory: str) -> bytes:
    path, member = split_uri(uri)
    if "://" not in path:
        path = os.path.normpath(os.path.join(directory, path))
    return to_bytes(f"{path}/{member}" if member else path)
