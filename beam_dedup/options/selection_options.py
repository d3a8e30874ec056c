"""Describes the options that choose which files of the inputs are read.

See `beam_dedup.options.option_table` for how the texts are used.
"""

from beam_dedup.core.reading.selection import DEFAULT_EXCLUDES
from beam_dedup.options.option import Action, Group, Option, byte_size

_DEFAULTS = ", ".join(f"`{pattern}`" for pattern in DEFAULT_EXCLUDES)

SELECTION_OPTIONS: tuple[Option, ...] = (
    Option(
        flags=("--exclude",),
        group=Group.INPUT,
        metavar="GLOB",
        action=Action.APPEND,
        help="Leave out files and directories that match this gitignore pattern.",
        details="""
            A pattern has the form that it has in a gitignore file:

            - `*.tif` matches files and directories of this name at any depth, `thumbs/` directories only.
              `*`, `?`, `[a-z]` and `[!a-z]` match no `/`; a backslash escapes one character.
            - A pattern with a `/` before its end is relative to the input: `/raw` and `raw/2024` match
              there only. `**` matches any number of directories: `**/raw/*.tif`, `raw/**`, `raw/**/a`.
            - `!` at the beginning takes back what an earlier pattern excludes. The last pattern that
              matches decides.
            - An excluded directory is not walked, so nothing below it can be taken back.

            Paths are relative to each `-i` and to `--reference`; of a pattern, to the directory before its
            first wildcard; in a store, to the prefix. With `--subscription` they are relative to the
            prefix of `--allow`. With `-l` they are the paths as the rows have them, without bucket and
            without `/` at the beginning. Of a file that `-i` names, only the name is matched. Links count
            as what they lead to, under the name of the link.

            Members of archives are not matched: an archive is read as a whole or not at all. Upper and
            lower case differ: write `*.[jJ][pP][gG]` for `a.jpg` and `a.JPG`. What is left out is no input:
            it is counted (`Excluded_Count`, `Excluded_Directory_Count`), and the summary says how much, but
            it has no record. The guide docs/guides/folders.md compares the options that take patterns.
            """,
        examples=("dedup -n -i ~/Pictures --exclude '*.tif' --exclude '/raw/' --exclude '!cover.tif'",),
    ),
    Option(
        flags=("--include",),
        group=Group.INPUT,
        metavar="GLOB",
        action=Action.APPEND,
        help="Read only files that match this gitignore pattern.",
        details="""
            Patterns have the form that they have for `--exclude`, and are relative to the same directory. A
            file is read if the last pattern that matches it, or else the nearest directory above it that a
            pattern matches, has no `!`: `'2024/'` reads all files below directories of this name. With both
            options a file must match `--include` and must not match `--exclude`, whatever their order on the
            command line.
            """,
        examples=("dedup -n -i ~/Pictures --include '*.jpg' --include '*.jpeg' --exclude 'thumbs/'",),
    ),
    Option(
        flags=("--no_default_excludes",),
        group=Group.INPUT,
        action=Action.SWITCH,
        help="Read directories of thumbnails, trash and snapshots, .git and such too.",
        details=f"""
            Some directories hold no originals: thumbnails, trash, snapshots, and copies that programs keep.
            By default they are left out below `-i`, `--reference` and prefixes of `--subscription`, and
            counted: {_DEFAULTS}.

            A directory that `-i` names itself is read. Take a single one back by `--exclude` with `!`, for
            example `!.git/`. The rows of `-l` name images one by one: nothing is left out by default.
            """,
        examples=("dedup -n -i ~/Pictures --no_default_excludes",),
    ),
    Option(
        flags=("--min_size",),
        group=Group.INPUT,
        metavar="BYTES",
        convert=byte_size,
        default="0",
        help="Leave out files of fewer bytes; units such as 10kB are accepted.",
        details="""
            Requires `-i`; applies to `--reference` too. The size is that of the file or object; of a link,
            that of the file it leads to. Archives are files: the size of their members does not matter. A
            watched file is read once it is large enough.
            """,
        examples=("dedup -n -i ~/Pictures --min_size 10kB",),
    ),
    Option(
        flags=("--one_file_system",),
        group=Group.INPUT,
        action=Action.SWITCH,
        help="Do not walk directories on other file systems than their -i.",
        details="""
            Requires `-i`; applies to `--reference` too. It leaves out what is mounted below an input, and
            directories on other devices that links lead to. The device of a pattern is that of the
            directory before its first wildcard. Object stores have none.
            """,
        examples=("dedup -n -i ~/Pictures --one_file_system",),
    ),
)
