"""Parses the arguments of `dedup clean` and `dedup undo`, and runs them."""

import os
from collections.abc import Sequence

from beam_dedup.cleaning.clean import CleanConfig, clean
from beam_dedup.cleaning.steps import LINKS, How
from beam_dedup.cleaning.undo import undo
from beam_dedup.core.errors import UsageError
from beam_dedup.options.decisions_file import load_decisions
from beam_dedup.options.option import quoted
from beam_dedup.options.parser import Parser
from beam_dedup.options.preference_checks import checked_glob
from beam_dedup.output import write

_CLEAN_HELP = """\
usage: dedup clean RECORDS [OPTION ...]

Takes duplicates out of the way, according to the records of a run (--records).
Without --yes it only prints what it would do. Before it touches a file, it
reads the file and its witness (the kept image that it duplicates): both must
have the content that they had when they were judged, else the file is left as
it is. A journal is written first; with it, `dedup undo` puts everything back.

  RECORDS                what --records wrote: a file or a directory
  --how HOW              trash (default), move:DIRECTORY, hardlink, reflink,
                         symlink, delete, or script (prints a shell script and
                         changes nothing)
  --near                 include near duplicates; without it, only files of
                         equal bytes
  --protect GLOB         never touch files or directories whose path matches, as
                         with `dedup --protect` (repeatable)
  --decisions FILE       what you decided (JSON Lines): `keep` is never touched,
                         nor a duplicate that is `different` from its witness;
                         `drop` is taken too (--how trash or move:DIRECTORY)
  --accepted             of near duplicates, take only those that you accepted:
                         the `same` as their witness, by --decisions
  --directory DIRECTORY  where the run was started, if its records have relative
                         paths (default: the current directory)
  --journal FILE         the journal (default: RECORDS.clean-TIME.jsonl)
  --yes                  do it
  --quiet                print only what could not be done

Companions (side-cars, RAW files, movies of live photos) of a duplicate go with
it to the trash or directory, or are deleted. One that belongs to a file that
is left, or whose bytes no companion of the kept image has, is left.

Links take the place of files with equal bytes only, so near duplicates can't
become links. Members of archives, objects in stores and images of --reference
are never touched.

Examples:
  dedup -e -i ~/Pictures --records r.jsonl && dedup clean r.jsonl
  dedup clean r.jsonl --yes
  dedup clean r.jsonl --how move:/backup --near --protect originals --yes

Exit codes:
  0    done
  1    some files were left; the output says why
  2    wrong usage
  130  interrupted by Ctrl-C (129 by SIGHUP, 143 by SIGTERM) between two files
"""
_UNDO_HELP = """\
usage: dedup undo JOURNAL [--quiet]

Puts back what `dedup clean` did, the last file first. Files return from the
trash, or from the directory to which they were moved. Links become files again,
with their permissions and times. Deleted files are made anew from files of
equal bytes, if there are any. Nothing is overwritten. It can be repeated.

Exit codes:
  0  all is as it was
  1  some files could not be restored; the output says why
  2  wrong usage
"""
_MOVE = "move:"


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs a command and returns its exit code.

    Args:
      name: "clean" or "undo".
      arguments: without the name.

    Raises:
      UsageError: the arguments are wrong.
      DedupError: the command failed.
    """
    if {"-h", "--help"} & set(arguments) or not arguments:
        write(_CLEAN_HELP if name == "clean" else _UNDO_HELP)
        return 0
    if name == "undo":
        parser = Parser(prog=name, add_help=False, allow_abbrev=False)
        parser.add_argument("journal", metavar="JOURNAL")
        parser.add_argument("--quiet", action="store_true")
        given = parser.parse_args(arguments)
        return undo(given.journal, given.quiet)
    return clean(clean_config(arguments))


def clean_config(arguments: Sequence[str]) -> CleanConfig:
    """Returns the options of `dedup clean`.

    Raises:
      UsageError: they are wrong.
    """
    parser = Parser(prog="clean", add_help=False, allow_abbrev=False)
    parser.add_argument("records", metavar="RECORDS")
    parser.add_argument("--how", default=How.TRASH.value)
    parser.add_argument("--near", action="store_true")
    parser.add_argument("--protect", action="append", default=[])
    parser.add_argument("--decisions", default="")
    parser.add_argument("--accepted", action="store_true")
    parser.add_argument("--directory", default="")
    parser.add_argument("--journal", default="")
    parser.add_argument("--yes", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    how, target = _how(given.how)
    if given.accepted and not given.decisions:
        raise UsageError("--accepted requires --decisions, the file that says what you accepted")
    if (given.near or given.accepted) and how in LINKS:
        raise UsageError(
            f"--{'near' if given.near else 'accepted'} can't be combined with --how {how}: a link to another content would lose the file's own"
        )
    if given.directory and not os.path.isdir(given.directory):
        raise UsageError(f"--directory must be a directory; got {quoted(given.directory)}")
    directory = os.path.abspath(given.directory or os.curdir)
    return CleanConfig(
        records=given.records,
        how=how,
        target=target,
        near=given.near or given.accepted,
        accepted=given.accepted,
        protect=tuple(checked_glob("--protect", glob, directory) for glob in given.protect),
        directory=given.directory,
        journal=given.journal,
        yes=given.yes,
        quiet=given.quiet,
        decisions=load_decisions(os.path.expanduser(given.decisions)),
    )


def _how(text: str) -> tuple[How, str]:
    if text.startswith(_MOVE) and len(text) > len(_MOVE):
        return How.MOVE, os.path.abspath(os.path.expanduser(text.removeprefix(_MOVE)))
    if text in [how.value for how in How if how is not How.MOVE]:
        return How(text), ""
    choices = ", ".join("move:DIRECTORY" if how is How.MOVE else how.value for how in How)
    raise UsageError(f"--how must be one of {choices}; got {quoted(text)}")
