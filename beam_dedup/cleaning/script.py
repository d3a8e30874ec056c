"""Writes a POSIX shell script that deletes duplicates, and checks each pair of files by itself before."""

import shlex
from collections.abc import Collection, Sequence

from beam_dedup.cleaning import files
from beam_dedup.cleaning.duplicates import Duplicate
from beam_dedup.core.model import Reason
from beam_dedup.core.names import shown

_HEAD = """\
#!/bin/sh
# Deletes duplicates that dedup found. Written by: dedup clean {records} --how script
#
# Read it first. Remove the lines of files that you want to keep. `DRY_RUN=1 sh SCRIPT` checks everything and deletes
# nothing. A file is deleted only if it and the file that it duplicates are regular, different files, and have
# the content (SHA-256) that they had when they were compared. Exit code: 1 if a file was left, else 0.
set -u
left=0

digest() {{
  if command -v sha256sum >/dev/null 2>&1; then sha256sum <"$1"; else shasum -a 256 <"$1"; fi | cut -d ' ' -f 1
}}

leave() {{
  printf 'left: %s: %s\\n' "$1" "$2" >&2
  left=1
}}

# difference DUPLICATE DIGEST WITNESS DIGESTS_OF_WITNESS
difference() {{
  if [ "$(digest "$1")" != "$2" ]; then echo 'its content has changed'; return; fi
  if [ -L "$3" ] || [ ! -f "$3" ]; then echo 'its witness is no regular file'; return; fi
  case " $4 " in
    *" $(digest "$3") "*) ;;
    *) echo 'the content of its witness has changed' ;;
  esac
}}

# remove DUPLICATE DIGEST WITNESS DIGESTS_OF_WITNESS
remove() {{
  if [ -L "$1" ] || [ ! -f "$1" ]; then leave "$1" 'it is no regular file'; return; fi
  if [ -L "$3" ] || [ ! -f "$3" ]; then leave "$1" 'its witness is no regular file'; return; fi
  if [ "$1" -ef "$3" ]; then leave "$1" 'it is the same file as its witness'; return; fi
  if [ -n "${{DRY_RUN:-}}" ]; then
    reason=$(difference "$1" "$2" "$3" "$4")
    if [ -n "$reason" ]; then leave "$1" "$reason"; else printf 'would delete: %s\\n' "$1"; fi
    return
  fi
  # Its name is taken away first. So if another process relies on it and removes the witness, one of both sees that.
  aside="${{1%/*}}/.dedup-clean-$$"
  if [ -e "$aside" ] || [ -L "$aside" ] || ! mv -- "$1" "$aside"; then leave "$1" 'it cannot be renamed'; return; fi
  reason=$(difference "$aside" "$2" "$3" "$4")
  if [ -z "$reason" ] && rm -f -- "$aside"; then return; fi
  if [ -e "$1" ] || [ -L "$1" ] || ! mv -- "$aside" "$1"; then reason="$reason; it is now $aside"; fi
  leave "$1" "$reason"
}}
"""


def text(
    duplicates: Sequence[Duplicate],
    records: str,
    left: list[tuple[str, str]],
    unreliable: Collection[str] = (),
) -> str:
    """Returns the script.

    Args:
      duplicates: those to delete.
      records: where they were read from.
      left: what is not deleted, and why; receives what the script can't delete. It is in the script as comments.
      unreliable: files that are to be removed later, and are no witnesses.
    """
    to_delete = {duplicate.path for duplicate in duplicates}.union(unreliable)
    lines = [_HEAD.format(records=shown(records))]
    lines += [f"# left: {shown(path)}: {reason}" for path, reason in left]
    for duplicate in duplicates:
        reason = _reason_to_leave(duplicate, to_delete)
        if reason:
            left.append((duplicate.path, reason))
            lines.append(f"# left: {shown(duplicate.path)}: {reason}")
            continue
        same = "the same bytes as" if duplicate.reason is Reason.EXACT else "near"
        digests = " ".join(sorted(digest.hex() for digest in duplicate.witness_digests))
        arguments = (duplicate.path, duplicate.digest.hex(), duplicate.witness, digests)
        lines.append(f"remove {shlex.join(arguments)} # {same}")
    return "\n".join([*lines, "", 'exit "$left"', ""])


def _reason_to_leave(duplicate: Duplicate, to_delete: set[str]) -> str:
    if duplicate.is_kept:
        return "another record keeps it"
    if not duplicate.is_witness_local:
        return "its witness is no local file"
    if not (duplicate.path.isprintable() and duplicate.witness.isprintable()):
        return "a name has characters that a script can't hold"
    if files.real(duplicate.witness) in to_delete:
        return "its witness is a duplicate or dropped itself"
    if not duplicate.witness_digests:
        return "the records do not have the digest of its witness"
    return ""
