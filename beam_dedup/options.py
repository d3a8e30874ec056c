"""The command line's options and what they mean, as one checked configuration. Knows nothing of Beam."""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from typing import NoReturn

from beam_dedup import limit_options, matching_options, output_options, stream_options
from beam_dedup.core.algorithms import Recipe
from beam_dedup.core.errors import UsageError
from beam_dedup.core.limits import Limits
from beam_dedup.core.paths import is_remote
from beam_dedup.core.rank import Keep
from beam_dedup.core.within import Within
from beam_dedup.output_options import DEFAULT_OUTPUT_JSON, DEFAULT_RECORDS
from beam_dedup.stream_options import StreamConfig

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


@dataclasses.dataclass(frozen=True, slots=True)
class DedupConfig:
    """What a run does. Paths are as the user gave them; "" stands for an output that is not wanted."""

    inputs: tuple[str, ...] = ()
    json_metadata: str = ""  # instead of inputs
    near: bool = False
    within: Within = dataclasses.field(default_factory=Within)
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    limits: Limits = dataclasses.field(default_factory=Limits)
    keep: Keep = Keep.FIRST
    reference: str = ""
    output_json: str = DEFAULT_OUTPUT_JSON
    output_dir: str = ""
    show_duplicates: bool = False
    place: str = "copy"
    preview: bool = False
    portable_names: bool = False
    records: str = ""
    counts: str = ""
    jobs: int = 1
    force_plan: bool = False
    quiet: bool = False
    stream: StreamConfig | None = None  # of a run that stays; then records and counts are folders

    @property
    def output_files(self) -> dict[str, str]:
        """Path of each wanted output file by its flag; a prefix of several files counts as one."""
        files = {"-o": self.output_json, "--records": self.records, "--counts": self.counts}
        return {flag: path for flag, path in files.items() if path}

    @property
    def not_input(self) -> tuple[str, ...]:
        """What is not listed, though it may lie in the input folder."""
        return (*self.outputs, self.reference) if self.reference else self.outputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """All that is written, and therefore is not input."""
        return tuple(path for path in (*self.output_files.values(), self.output_dir) if path)


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
    matching_options.add(match, whole_number)
    match.add_argument(
        "--keep",
        metavar="POLICY",
        choices=list(Keep),
        default=Keep.FIRST.value,
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
    limit_options.add(made.add_argument_group("what a file may ask for"), whole_number)
    output_options.add(made.add_argument_group("what to write"))
    stream_options.add(made.add_argument_group("to stay, and judge what arrives"), whole_number)
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


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"a whole number is needed, got {text!r}") from None


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Our options, and what is left for Beam.

    Raises:
      UsageError: a value is of the wrong form, or two options exclude each other.
    """
    return parser().parse_known_args(arguments)


def configure(options: argparse.Namespace) -> DedupConfig:
    """Checks options for what can be said without touching any file.

    Raises:
      UsageError: flag, rule and value in one sentence.
    """
    stream = stream_options.stream(options)
    named = options.json_metadata or options.subscription
    if not named and not (options.dump_dir and all(options.dump_dir)):
        raise UsageError(
            "-i is missing (or -l): name the folder with the images, as in: dedup -n -i ~/Pictures"
        )
    matching_options.check_mode(options)
    if options.show_duplicates and not options.output_dir:
        raise UsageError("-s copies duplicates below the output folder: it needs -d DIR")
    of_folder = ("place", "preview", "portable_names")
    for flag, given in ((f"--{name}", getattr(options, name)) for name in of_folder):
        if given and not options.output_dir:
            raise UsageError(f"{flag} is about the output folder: it needs -d DIR")
    jobs = os.cpu_count() or 1 if options.num_jobs is None else options.num_jobs
    _check_range("-j", jobs, 1, 1024)
    output_json = options.output_json
    if output_json is None:
        output_json = "" if options.preview or stream else DEFAULT_OUTPUT_JSON
    records = options.records
    if records is None:
        records = DEFAULT_RECORDS if stream else ""
    counts = options.counts
    if stream:
        records, counts = (path and os.path.join(path, "") for path in (records, counts))
    config = DedupConfig(
        inputs=tuple(_normal(path) for path in options.dump_dir or ()),
        json_metadata=options.json_metadata,
        near=options.near_duplicates,
        within=matching_options.within(options),
        recipe=matching_options.recipe(options),
        limits=limit_options.limits(options),
        keep=Keep(options.keep),
        reference=options.reference and _normal(options.reference),
        output_json=output_json,
        output_dir=options.output_dir,
        show_duplicates=options.show_duplicates,
        place=options.place or "copy",
        preview=options.preview,
        portable_names=options.portable_names,
        records=records,
        counts=counts,
        jobs=jobs,
        force_plan=options.force_plan,
        quiet=options.quiet,
        stream=stream,
    )
    _check_distinct(config)
    return config


def _normal(path: str) -> str:
    """A path as the user named it, but ./a/ is a; what is no path of this machine is not touched."""
    return path if is_remote(path) else os.path.normpath(path)


def _check_range(flag: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{flag} must be between {least} and {most}, got {value}")


def _check_distinct(config: DedupConfig) -> None:
    named: dict[str, str] = {}
    for flag, path in config.output_files.items():
        other = named.setdefault(os.path.realpath(path), flag)
        if other != flag:
            raise UsageError(f"{other} and {flag} name the same file, {path}: give each its own")
