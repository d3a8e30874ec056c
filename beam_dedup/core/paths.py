"""Derives the path of a copy from the name of the image, and the name from the path.

The path depends on the name alone, so placing an image twice writes the same file. A name is the path of
the image relative to its input. Names come from strangers, so no name may lead out of the output directory,
and two names never get the same path. Parts that would break this are escaped as `%XX`, and so is a `%`
that would read as such an escape. Escaped are: parts that lead elsewhere (`..`, a leading `/`, a drive
letter, backslashes), control characters, empty parts, and names that the pipeline itself uses.
`name_of_copy` reverses the escapes. Names too long for file systems are shortened and end in a hash, `%~`
and 32 hex digits; such a path cannot be reversed, but the records have the whole name.

Ordinary names are not escaped, although not every file system can hold them side by side: file systems that
ignore case, or normalise Unicode, treat two names as one (`collision_key`), and Windows reserves some words
and characters. The verdict on such a collision must not depend on which name was written first. So each
name also has a `portable` form, which depends on nothing but the name: it escapes everything that has an
upper case, an accent or a meaning on Windows. It is hard to read, so it is used only for names that need
it.
"""

import hashlib
import os
import re
import unicodedata
from urllib.parse import unquote

DUPLICATES_FOLDER = "_duplicates"
PARTIAL_PREFIX = ".dedup-"  # of the name of a file that is being written; it is renamed when it is complete
PARTIAL_SUFFIX = ".part"
SEPARATOR = "!"  # between an archive and its member in a URI

_MOST_BYTES = 255  # of one part of a path, on the file systems in use
_MOST_PATH_BYTES = 3000  # of a path; Linux allows 4,096 including the output directory
_MOST_PARTS = 200  # of a path: os.makedirs recurses once per directory
_CUT = "%~"
_IS_CUT = re.compile(r"%~[0-9a-f]{32}")
_LOOKS_ESCAPED = re.compile(r"%(?=[0-9A-Fa-f]{2}|~[0-9a-f]{32})")
_ESCAPES = re.compile(r"(?:%[0-9A-F]{2})+")
_LETTERS = re.compile(r"%[0-9A-F]{2}|.", re.DOTALL)  # an escape counts as one letter
_EMPTY = "%2F"  # an empty part, as in a//b
_ALL_EMPTY = re.compile(rf"(?:{_EMPTY})+")
_NOT_KEPT = re.compile(r"[\x00-\x1f\x7f\\]")
_SURROGATES = re.compile("[\ud800-\udfff]+")
_DRIVE = re.compile(r"[A-Za-z]:")
_WINDOWS = frozenset('<>:"|?*')
_LOOKS_LIKE_SEPARATOR = re.compile("%(?=21|25)")
_FILE_URI = re.compile(r"file:(?://(?:localhost)?)?(?=/(?!/))", re.IGNORECASE)
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9]|conin\$|conout\$)(?:\.|$)")


def is_remote(path: str) -> bool:
    """Returns whether a path is the URL of a Beam file system, such as gs://bucket/name."""
    return "://" in path


def local_path(path: str) -> str:
    """Returns the path that a URI like file:///a/b%20c names; every other path as it is.

    >>> local_path("file:///a/b%20c.jpg"), local_path("file:/a"), local_path("file://localhost/a")
    ('/a/b c.jpg', '/a', '/a')
    >>> local_path("/100%25"), local_path("gs://bucket/a"), local_path("file://server/share/a")
    ('/100%25', 'gs://bucket/a', 'file://server/share/a')
    """
    if match := _FILE_URI.match(path):
        return unquote(path[match.end() :], errors="surrogateescape")
    return path


def escaped_path(path: str) -> str:
    """Returns a path with `!` escaped, which separates an archive from its member in a URI; see `members.file_uri`."""
    if SEPARATOR not in path and "%2" not in path:
        return path
    return _LOOKS_LIKE_SEPARATOR.sub("%25", path).replace(SEPARATOR, "%21")


def beside(path: str, name: str) -> str:
    """Returns the path or URI of a file in the directory of another one.

    >>> beside("in/a.jpg", "a.xmp"), beside("a.jpg", "a.xmp")
    ('in/a.xmp', 'a.xmp')
    """
    directory, slash, _ = path.rpartition("/")
    return f"{directory}{slash}{name}"


def partial_prefix(process: int) -> str:
    """Returns the prefix of the names of incomplete files of one process.

    Args:
      process: the process id.
    """
    return f"{PARTIAL_PREFIX}{process}-"


_PARTIAL = re.compile(rf"{re.escape(PARTIAL_PREFIX)}(\d+)-\w+{re.escape(PARTIAL_SUFFIX)}")


def partial_process(name: str) -> int | None:
    """Returns the number of the process that has begun a file of this name; None if `is_partial` is False.

    >>> partial_process(".dedup-17-a.part"), partial_process("a.part")
    (17, None)
    """
    match = _PARTIAL.fullmatch(name)
    return int(match[1]) if match else None


def is_partial(name: str) -> bool:
    """Returns whether this is the name of an incomplete file that a run of this pipeline began."""
    return _PARTIAL.fullmatch(name) is not None


def copy_name(name: str, portable: bool = False) -> str:
    r"""Returns the path of a kept image's copy, relative to the output directory.

    >>> copy_name("a/b.jpg"), copy_name("/etc/x"), copy_name("../x"), copy_name("a//b"), copy_name("50%.jpg")
    ('a/b.jpg', '%2Fetc/x', '%2E%2E/x', 'a/%2Fb', '50%.jpg')
    >>> copy_name("C:\\x\n"), copy_name("A.jpg", portable=True), copy_name("nul. ", portable=True)
    ('C%3A%5Cx%0A', '%41.jpg', '%6Eul.%20')
    """
    escaped = _NOT_KEPT.sub(_escape, _LOOKS_ESCAPED.sub("%25", name))
    if _DRIVE.match(escaped):
        escaped = f"{escaped[0]}%3A{escaped[2:]}"
    parts: list[str] = []
    pending = ""
    for part in escaped.split("/"):
        if part == "":
            pending += _EMPTY
        else:
            parts.append(pending + (part.replace(".", "%2E") if part in (".", "..") else part))
            pending = ""
    if pending:
        parts.append(pending)
    if portable:
        parts = [_portable(part) for part in parts]
    # Ignores case, as the file system may.
    for at, clash in ((0, parts[0].lower() == DUPLICATES_FOLDER), (-1, is_partial(parts[-1].lower()))):
        if clash:
            parts[at] = f"%{ord(parts[at][0]):02X}{parts[at][1:]}"
    path = "/".join(_shortened(part) for part in parts)
    if len(_encoded(path)) > _MOST_PATH_BYTES or len(parts) > _MOST_PARTS:
        return f"{_CUT}{_hash(path)}/{_shortened(parts[-1])}"
    return path


def name_of_copy(path: str) -> str | None:
    """Returns the name from which `copy_name` made a path, portable or not; None if the path was shortened.

    >>> name_of_copy("a/%2Fb%25.jpg"), name_of_copy("%2E%2E/%41"), name_of_copy("%~" + 32 * "0")
    ('a//b%.jpg', '../A', None)
    """
    if _IS_CUT.search(path):
        return None
    *folders, last = path.split("/")
    if _ALL_EMPTY.fullmatch(
        last
    ):  # one escape per empty part; a `/` precedes each, except the first part of the name
        count = len(last) // len(_EMPTY)
        return _unescaped("/".join(folders)) + "/" * (count if folders else count - 1)
    return _unescaped(path)


def utf8_name(path: str) -> str:
    r"""Returns a path of `copy_name` in which bytes that are not UTF-8 are escaped too.

    It is for file systems whose names are text.

    >>> utf8_name("é/\udcff.jpg")
    'é/%FF.jpg'
    """
    return _SURROGATES.sub(_escape, path)


def collision_key(path: str) -> str:
    """Returns a key that is equal for two paths if some file system treats them as one.

    Such paths differ only in case or in their Unicode normalisation.

    >>> collision_key("A/É.jpg") == collision_key("a/e\u0301.JPG")
    True
    """
    return unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", path).casefold())


def _escape(match: re.Match[str]) -> str:
    return _escaped_text(match[0])


def _escaped_text(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in _encoded(text))


def _unescaped(text: str) -> str:
    return _ESCAPES.sub(
        lambda run: bytes.fromhex(run[0].replace("%", "")).decode("utf-8", "surrogateescape"), text
    )


def _portable(part: str) -> str:
    """Returns a part of a path in letters that every file system accepts and distinguishes."""
    kept = "".join(
        letter if letter.startswith("%") or _is_portable(letter) else _escaped_text(letter)
        for letter in _LETTERS.findall(part)
    )
    if kept[-1] in ". ":
        kept = kept[:-1] + _escaped_text(kept[-1])
    return _escaped_text(kept[0]) + kept[1:] if _RESERVED.match(kept) else kept


def _is_portable(letter: str) -> bool:
    if letter < "\x80":
        return letter not in _WINDOWS and not letter.isupper()
    # Letters of scripts without case that have a single Unicode form.
    return unicodedata.category(letter) == "Lo" and unicodedata.normalize("NFKD", letter) == letter


def _shortened(part: str) -> str:
    """Returns a part of at most 255 bytes: a longer one is shortened and ends in its hash and its extension."""
    data = _encoded(part)
    if len(data) <= _MOST_BYTES:
        return part
    stem, extension = os.path.splitext(part)
    tail = f"{_CUT}{_hash(part)}" + (extension if len(extension.encode("utf-8", "replace")) <= 16 else "")
    room = _MOST_BYTES - len(_encoded(tail))
    return _encoded(stem)[:room].decode("utf-8", "ignore") + tail


def _hash(text: str) -> str:
    return hashlib.sha256(_encoded(text)).hexdigest()[:32]


def _encoded(text: str) -> bytes:
    # File names never contain surrogates that stand for no byte, but JSON texts and tests may.
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def duplicate_name(group: str, name: str, portable: bool = False) -> str:
    """Returns the path of a duplicate's copy, relative to the output directory.

    Args:
      group: the digest of the kept image, in hex.
      name: the name of the duplicate.
      portable: whether to use the portable form of the name.

    >>> duplicate_name("ab12", "holiday/b.jpg")
    '_duplicates/ab12/holiday/b.jpg'
    """
    return f"{DUPLICATES_FOLDER}/{group}/{copy_name(name, portable)}"


def in_another_form(path: str, part: int) -> str:
    r"""Returns a path with one part written in another form, which no other name has.

    It is for a file whose name is also that of a directory, of which a file system holds only one.
    `name_of_copy` returns the same name as before.

    Args:
      path: as `copy_name` returns it.
      part: index of the part; -1 for the file.

    >>> in_another_form("a/img", -1), in_another_form("img/1.jpg", 0), in_another_form("%01b", -1)
    ('a/%69mg', '%69mg/1.jpg', '%01%62')
    """
    parts = path.split("/")
    parts[part] = _other_form(parts[part])
    return "/".join(parts)


def _other_form(part: str) -> str:
    letters = _LETTERS.findall(part)
    for at, letter in enumerate(letters):
        if not letter.startswith("%") and not _IS_CUT.search(part):
            return _shortened("".join([*letters[:at], _escaped_text(letter), *letters[at + 1 :]]))
    return f"{_CUT}{_hash(part)}"


def name_hash(name: str) -> int:
    """Returns a 64-bit hash of a name, the same in every process."""
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big")
