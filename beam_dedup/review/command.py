"""Parses the arguments of `dedup report`, and runs it."""

import os
from collections.abc import Sequence

from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import Limits
from beam_dedup.options.option import quoted
from beam_dedup.options.parser import Parser
from beam_dedup.options.suggest import pasteable
from beam_dedup.output import write
from beam_dedup.review.report import ReportConfig, make_report
from beam_dedup.review.writer import check_directory

MAX_JOBS = 1024
_HELP = """\
usage: dedup report RECORDS -o DIRECTORY [OPTION ...]

Writes a page to look through the duplicates that a run found, and to decide on
them: DIRECTORY/index.html, which opens in a browser without network. Decisions
are saved as decisions.jsonl for `dedup clean --decisions` and for the next run.

  RECORDS                what --records wrote: a file or a directory, also of a
                         stream
  -o, --output DIRECTORY where to write the page: a new or empty directory, or
                         that of an earlier report, which is replaced
  --files PATTERN        of a directory of records, only files whose names match,
                         for example 'records-20261130*' for one day of a stream
  --counts FILE          show these counts too, which --counts wrote
  --directory DIRECTORY  where the run was started, if its records have relative
                         paths (default: the current directory)
  --image_column NAME    column with the images, if they come from Parquet files
  -j, --num_jobs N       decode N pictures at once (default: one per core)
  --quiet                print no progress

Pictures are read again for their thumbnails, and are not changed. Members of
archives get thumbnails, objects in stores do not.

Examples:
  dedup -n -i ~/Pictures --records r.jsonl && dedup report r.jsonl -o review
  dedup report image_records/ -o review --files 'records-20261130*'

Exit codes: 0 done, 1 failed, 2 wrong usage
"""


def run(arguments: Sequence[str]) -> int:
    """Runs the command and returns its exit code.

    Args:
      arguments: without the name of the command.

    Raises:
      UsageError: the arguments are wrong.
      DedupError: the command failed.
    """
    if {"-h", "--help"} & set(arguments) or not arguments:
        write(_HELP)
        return 0
    config = report_config(arguments)
    path = make_report(config)
    if not config.quiet:
        write(f"Review page: {pasteable(os.path.abspath(path)) or path}\n")
    return 0


def report_config(arguments: Sequence[str]) -> ReportConfig:
    """Returns the options of `dedup report`.

    Raises:
      UsageError: they are wrong.
    """
    parser = Parser(prog="report", add_help=False, allow_abbrev=False)
    parser.add_argument("records", metavar="RECORDS")
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("--files", default="")
    parser.add_argument("--counts", default="")
    parser.add_argument("--directory", default="")
    parser.add_argument("--image_column", default="")
    parser.add_argument("-j", "--num_jobs", type=int, default=0)
    parser.add_argument("--quiet", action="store_true")
    given = parser.parse_args(arguments)
    if given.directory and not os.path.isdir(given.directory):
        raise UsageError(f"--directory must be a directory; got {quoted(given.directory)}")
    if not 0 <= given.num_jobs <= MAX_JOBS:
        raise UsageError(f"-j must be between 1 and {MAX_JOBS}; got {given.num_jobs}")
    if given.files and not os.path.isdir(given.records):
        raise UsageError(
            f"--files chooses files of a directory of records; {quoted(given.records)} is none. Remove --files"
        )
    check_directory(given.output, "-o")
    return ReportConfig(
        records=given.records,
        output=given.output,
        files=given.files,
        counts=given.counts,
        directory=given.directory,
        jobs=given.num_jobs,
        quiet=given.quiet,
        limits=Limits(image_column=given.image_column),
    )
