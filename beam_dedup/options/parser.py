"""The command line's options: how they are named, grouped and explained."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from beam_dedup.core.algorithms import ALGORITHMS, DCT, DEFAULT_VIEWS, SIMHASH, Views
from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.rank import KeepPolicy
from beam_dedup.core.thresholds import DEFAULT_VERIFY, LONG_BITS
from beam_dedup.options.config import DEFAULT_EXPECTED, DEFAULT_OUTPUT_JSON, DEFAULT_RECORDS, DEFAULT_REMEMBER

_DESCRIPTION = """\
Finds duplicate images. Keeps one of each, says of every other which kept image it duplicates, and copies the kept
ones where you want them. Nothing in the input is ever changed or deleted."""

_EPILOG = f"""\
examples:
  dedup -n -i ~/Pictures -d unique -s
      near duplicates too; the kept pictures go to unique/, the duplicates to unique/_duplicates/<key>/, to look through
  dedup -i ~/Pictures --records r.jsonl --counts c.json
      equal files only; what became of each image, and how many of each kind there are
  dedup -n -k 4 -i crawl -o groups.json --quiet
      stricter: pictures that differ in at most 4 bits
  dedup -n --views crops --turns -i crawl -d unique
      pictures that were cut, framed, mirrored or turned are duplicates, too
  dedup -n --watch -i incoming -d unique
      stay, and judge each picture when it arrives; Ctrl-C ends
  dedup -n -i new --reference collection -d add --keep largest --preview
      what of new/ is not in collection/ yet, the largest copy of each; only says what would be copied

Every option of Apache Beam can be given as well (--runner, --temp_location, ...): dedup --beam_help lists them.
Without --runner the work is done on this machine; -j processes decode.

exit codes: 0 done (images that were rejected are listed, they are not an error), 1 failed, 2 wrong usage,
130 interrupted. Every run also writes {DEFAULT_OUTPUT_JSON} unless -o names another file; -o '' writes none."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=118)


def parser() -> argparse.ArgumentParser:
    """The options that are ours; each has its group and, where there is one, its default in the help."""
    made = _Parser(
        prog="dedup",
        usage="dedup [-e | -n] [-i DUMP_DIR | -l JSON_METADATA] [-o OUTPUT_JSON] [-d OUTPUT_DIR] [-s] [-j NUM_JOBS] [-k BIT_DISTANCE] ...",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
        add_help=False,
    )
    read = made.add_argument_group("what to read").add_mutually_exclusive_group()
    read.add_argument(
        "-i",
        "--dump_dir",
        metavar="DUMP_DIR",
        action="append",
        help="what to search for images: a folder, with all folders below it; a file; a quoted pattern ('crawl/**/*.jpg'); a "
        "path of another file system (gs://..., s3://...). Archives (tar, zip, WARC) are searched like folders. Files are "
        "known by their content, not their name. Can be given several times",
    )
    read.add_argument(
        "-l",
        "--json_metadata",
        metavar="FILE",
        default="",
        help="instead of -i: a file that names images and says something of them, a JSON object a line (or Avro, parquet): "
        "__path__ and metadata as Tika has them. Images that can't be opened are compared by their metadata",
    )
    match = made.add_argument_group("what is a duplicate")
    mode = match.add_mutually_exclusive_group()
    mode.add_argument("-e", "--exact_duplicates", action="store_true", help="equal files (default)")
    mode.add_argument(
        "-n",
        "--near_duplicates",
        action="store_true",
        help="equal files, and pictures that look the same: resized, re-encoded, lightly edited",
    )
    _add_matching(match)
    match.add_argument(
        "--keep",
        metavar="POLICY",
        choices=list(KeepPolicy),
        default=KeepPolicy.FIRST.value,
        help="which copy is kept: first (by path; default), largest (most pixels, then bytes), oldest or newest "
        "(by time of modification); ties end at the path",
    )
    match.add_argument(
        "--reference",
        metavar="DIR",
        default="",
        help="folder (or archive, ...) with images that you have already: what duplicates one of them is a duplicate; they are "
        "never judged, copied or counted themselves",
    )
    _add_limits(made.add_argument_group("what a file may ask for"))
    _add_output(made.add_argument_group("what to write"))
    _add_stream(made.add_argument_group("to stay, and judge what arrives"))
    run = made.add_argument_group("how to run")
    run.add_argument(
        "-j",
        "--num_jobs",
        metavar="N",
        type=whole_number,
        help="processes that decode at a time (default: one per core)",
    )
    run.add_argument(
        "--force_plan",
        action="store_true",
        help="with -n: do the work even if it grows with the square of the number of images",
    )
    run.add_argument("--quiet", action="store_true", help="no progress and no summary; errors only")
    run.add_argument("-h", "--help", action="store_true", help="show this help")
    run.add_argument("--beam_help", action="store_true", help="list the options of Apache Beam")
    run.add_argument("--version", action="store_true", help="show the version")
    return made


def _add_matching(match: argparse._ArgumentGroup) -> None:
    dct = ALGORITHMS[DCT]
    match.add_argument(
        "-k",
        "--bit_distance",
        metavar="BITS",
        type=whole_number,
        help=f"with -n: how many bits of two pictures' codes may differ, 0 to {dct.max_k} of the {dct.bits} of their "
        f"short codes (default {dct.default_k}); for the codes of another --algorithm see there",
    )
    match.add_argument(
        "--verify",
        metavar="BITS",
        type=whole_number,
        help=f"with -n: how many of the {LONG_BITS} bits of their long codes may differ as well; {LONG_BITS} asks "
        f"for no such proof (default {DEFAULT_VERIFY})",
    )
    match.add_argument(
        "--algorithm",
        metavar="NAME",
        choices=list(ALGORITHMS),
        help=f"with -n: what makes the codes: {DCT} (default), or one of other libraries, for those who have such "
        f"codes already, or {SIMHASH}, of metadata (in brackets -k, default and largest): {_others()}",
    )
    match.add_argument(
        "--views",
        metavar="NAME",
        choices=list(Views),
        help="with -n: find pictures that were cut or framed, too: none, trim (without a border of one colour), centre "
        f"(trim, and crops of all sides), crops (centre, and crops of one or two sides; default {DEFAULT_VIEWS})",
    )
    match.add_argument(
        "--turns",
        action="store_true",
        help="with -n: find pictures that were mirrored or turned by 90 degrees, too",
    )


def _others() -> str:
    others = [algorithm for algorithm in ALGORITHMS.values() if algorithm.name != DCT]
    return ", ".join(f"{other.name} ({other.default_k}, {other.max_k})" for other in others)


def _add_limits(limit: argparse._ArgumentGroup) -> None:
    usual = Limits()
    limit.add_argument(
        "--max_bytes",
        metavar="BYTES",
        type=whole_number,
        help=f"an image of more bytes is rejected, unread (default {usual.max_bytes}); a member of an archive may have "
        f"{usual.max_member_bytes} at most",
    )
    limit.add_argument(
        "--max_pixels",
        metavar="PIXELS",
        type=whole_number,
        help=f"with -n: a picture of more pixels is not decoded, and compared by its bytes alone (default {usual.max_pixels}, "
        "which is also the most; of other pictures than JPEG fewer, by what they take of memory)",
    )
    limit.add_argument(
        "--decode_timeout",
        metavar="SECONDS",
        type=number,
        help="an image that takes longer to read or to decode is rejected, and so is the rest of an archive that can't be "
        f"read on for so long (default {usual.decode_seconds:g})",
    )


def _add_output(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-d",
        "--output_dir",
        metavar="DIR",
        default="",
        help="copy each kept image to its relative path below DIR",
    )
    group.add_argument(
        "-s",
        "--show_duplicates",
        action="store_true",
        help="with -d: copy duplicates too, to DIR/_duplicates/<key>/",
    )
    group.add_argument(
        "--place",
        metavar="HOW",
        choices=("copy", "hardlink", "symlink"),
        help="with -d: copy (default), or link instead; a hard link needs the same device, and writing to it writes "
        "to the input",
    )
    group.add_argument(
        "--preview",
        action="store_true",
        help="with -d: say what would be placed there, and write nothing but the files named by other options",
    )
    group.add_argument(
        "--portable_names",
        action="store_true",
        help="with -d: escape upper case, accents and what Windows forbids, so that no two names become one on any file "
        "system; by itself where that of DIR makes no difference between A and a",
    )
    group.add_argument(
        "-o",
        "--output_json",
        metavar="FILE",
        help='groups as JSON: {key: [{"filename": ...}, ...]}, the kept image first; the key is the SHA-256 of that '
        f"image (default {DEFAULT_OUTPUT_JSON})",
    )
    group.add_argument(
        "--records",
        metavar="FILE",
        help="one record per image, sorted by path: JSON Lines, or Avro if the name ends in .avro; "
        "a name ending in / is a folder for many unsorted JSON Lines files. With --watch or --subscription always a folder "
        f"(default {DEFAULT_RECORDS})",
    )
    group.add_argument("--counts", metavar="FILE", default="", help="the counts of the summary as JSON")


def _add_stream(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--watch",
        action="store_true",
        help="with -i: judge what is there, then stay and judge what arrives; Ctrl-C finishes what was read, and ends. "
        "The same command goes on where it left off",
    )
    group.add_argument(
        "--subscription",
        metavar="NAME",
        default="",
        help="instead of -i: judge what notifications of Pub/Sub tell of, projects/P/subscriptions/S: those of Cloud Storage, "
        'or JSON like {"uri": "gs://bucket/a.jpg"}',
    )
    group.add_argument(
        "--verdict_topic",
        metavar="NAME",
        default="",
        help="publish each record there as JSON, projects/P/topics/T",
    )
    group.add_argument(
        "--remember",
        metavar="DURATION",
        help="how long images are remembered to compare others with: 90m, 24h, 7d; time is cut into such stretches, and "
        f"at the end of each its images are forgotten (default {DEFAULT_REMEMBER})",
    )
    group.add_argument(
        "--window",
        metavar="DURATION",
        help="judge what arrives in each such stretch of time as a batch by itself, with files and counts of its own",
    )
    group.add_argument(
        "--expected_images",
        metavar="N",
        type=whole_number,
        help=f"how many may arrive within --remember, which the search is laid out for (default {DEFAULT_EXPECTED})",
    )


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number is needed, got {text!r}") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number is needed, got {text!r}") from None


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and what is left for Beam.

    Raises:
      UsageError: a value is of the wrong form, or two options exclude each other.
    """
    return parser().parse_known_args(arguments)
