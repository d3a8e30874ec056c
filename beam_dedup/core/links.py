"""Recognises the names of one file: hard links, symbolic links, and paths through linked directories.

A link is a name, not an image. Each image that is read from a local file gets an *identity*:

    order (1 byte) | device (8) | inode (8) | hash of the member's name (8) | hashes of directory entries (8 each)

Two names of one file agree in device, inode and member. The order ranks them: twice the number of symbolic links
that the name leads through, plus 1 if its directory is reached through a link. The entries are those that the
name leads through, by their real paths: its own one, and, of a symbolic link, those up to the file. If one of
them is deleted, the name no longer leads to the file. Other images have the identity b"".
"""

import functools
import os
import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from beam_dedup.core import blocks
from beam_dedup.core.codes import BoolArray, IntArray
from beam_dedup.core.model import Flag
from beam_dedup.core.paths import name_hash

_HEAD = struct.Struct(">BQQQ")
_HASH = struct.Struct(">Q")
_FILE = slice(1, _HEAD.size)  # the part of an identity that is equal for all names of a file
_MAX_LINKS = 40  # that the system follows for one name
_MOST = (1 << 64) - 1


class FileName(NamedTuple):
    """One name of a file.

    Attributes:
      identity: as described in the module docstring; b"" if it is unknown.
      is_link: whether the name is a symbolic link. A name below a linked directory is none.
    """

    identity: bytes = b""
    is_link: bool = False

    def member(self, name: str) -> "FileName":
        """Returns the name of a member of the archive that has this name."""
        if not self.identity:
            return self
        order, device, inode, _ = _HEAD.unpack_from(self.identity)
        head = _HEAD.pack(order, device, inode, name_hash(name))
        return self._replace(identity=head + self.identity[_HEAD.size :])


def file_name(path: str, status: os.stat_result) -> FileName:
    """Returns the name of a file.

    Args:
      path: the path by which it was opened.
      status: the status of the open file.
    """
    entries = _entries(path)
    directory, name = os.path.split(path)
    is_linked = entries[0] != os.path.join(os.path.abspath(directory), name)
    order = 2 * (len(entries) - 1) + is_linked
    head = _HEAD.pack(order, status.st_dev & _MOST, status.st_ino & _MOST, 0)
    hashes = (_HASH.pack(name_hash(entry)) for entry in entries)
    return FileName(head + b"".join(hashes), len(entries) > 1)


def _entries(path: str) -> list[str]:
    """Returns the real paths of the directory entries that a name leads through, the file's own entry last."""
    entries: list[str] = []
    while len(entries) <= _MAX_LINKS:
        directory, name = os.path.split(path)
        entries.append(os.path.join(_real_directory(directory), name))
        try:
            path = os.path.join(os.path.dirname(entries[-1]), os.readlink(entries[-1]))
        except OSError:  # no link, or gone by now
            break
    return entries


@functools.lru_cache(1024)
def _real_directory(directory: str) -> str:
    return os.path.realpath(directory)


def orders_of(identities: pa.Array) -> npt.NDArray[np.uint8]:
    """Returns the order of each identity; 0 for b""."""
    return np.array([identity[0] if identity else 0 for identity in identities.to_pylist()], np.uint8)


def without_links_to_new(images: pa.Table, is_known: BoolArray, same_bytes: IntArray) -> BoolArray:
    """Returns which images to use: all but known names that lead through an entry of a new image.

    A known image can be a witness. It must not be the witness of a file that it depends on.

    Args:
      images: rows of `blocks.IMAGES`.
      is_known: (images,) whether each is known.
      same_bytes: (images,) a number for each; equal numbers for equal bytes.
    """
    used = np.ones(len(images), bool)
    if is_known.any() and not is_known.all() and len(np.unique(same_bytes)) < len(images):
        identities = images["identity"].to_pylist()
        new = {_hashes(identities[row])[0] for row in np.flatnonzero(~is_known) if identities[row]}
        for row in np.flatnonzero(is_known).tolist():
            used[row] = not new.intersection(_hashes(identities[row]))
    return used


def _hashes(identity: bytes) -> list[bytes]:
    """Returns the hashes of the entries, each with that of the member."""
    member = identity[_HEAD.size - _HASH.size : _HEAD.size]
    return [member + identity[at : at + _HASH.size] for at in range(_HEAD.size, len(identity), _HASH.size)]


def depended_on(images: pa.Table, is_protected: BoolArray) -> BoolArray:
    """Returns the rows that are an entry which the name of a protected image leads through, such as the linked file.

    Without it the protected name leads nowhere.

    Args:
      images: rows of `blocks.IMAGES`.
      is_protected: (images,) whether each is protected.
    """
    found = np.zeros(len(images), bool)
    if is_protected.any() and not is_protected.all():
        identities = images["identity"].to_pylist()
        entries = {entry for row in np.flatnonzero(is_protected) for entry in _hashes(identities[row])}
        for row in np.flatnonzero(~is_protected).tolist():
            own = _hashes(identities[row])[:1]
            found[row] = bool(own) and own[0] in entries
    return found


def targets_of(images: pa.Table) -> IntArray:
    """Returns the row that the name of each image leads through last, the file itself if that is an image; -1 for no row.

    Args:
      images: rows of `blocks.IMAGES`.
    """
    found = np.full(len(images), -1)
    lengths = np.asarray(pc.binary_length(images["identity"].combine_chunks()))
    links = np.flatnonzero(lengths > _HEAD.size + _HASH.size)
    if len(links):
        identities = images["identity"].to_pylist()
        rows = {_hashes(identity)[0]: row for row, identity in enumerate(identities) if identity}
        for link in links.tolist():
            passed = (rows[entry] for entry in reversed(_hashes(identities[link])[1:]) if entry in rows)
            found[link] = next(passed, -1)
    return found


def with_link_flags(images: pa.Table, same_bytes: IntArray) -> pa.Table:
    """Returns the images with the flag `link` on each further name of a file.

    Args:
      images: rows of `blocks.IMAGES`, sorted by rank. The first name of each file is the file itself.
      same_bytes: (images,) a number for each; equal numbers for equal bytes.
    """
    if len(np.unique(same_bytes)) == len(images):
        return images
    file = _files(images, same_bytes)
    named = np.flatnonzero(file >= 0)
    firsts = named[np.unique(file[named], return_index=True)[1]]
    further = np.setdiff1d(named, firsts).tolist()
    if not further:
        return images
    flags = images["flags"].to_pylist()
    for row in further:
        if Flag.LINK.encode() not in flags[row].split():
            flags[row] = b" ".join(filter(None, (flags[row], Flag.LINK.encode())))
    at = images.schema.get_field_index("flags")
    return images.set_column(at, blocks.IMAGES.field("flags"), pa.array(flags, pa.binary()))


def _files(images: pa.Table, same_bytes: IntArray) -> IntArray:
    """Returns the number of each image's file; -1 if it is unknown.

    Two names that had different bytes when they were read are counted as different files.
    """
    identities = images["identity"].combine_chunks()
    encoded = pa.array([one[_FILE] for one in identities.to_pylist()], pa.binary()).dictionary_encode()
    numbers = np.asarray(encoded.indices).astype(np.int64)
    files = same_bytes * (len(encoded.dictionary) + 1) + numbers
    return np.where(np.asarray(pc.binary_length(identities)) > 0, files, -1)
