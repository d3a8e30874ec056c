"""Deduplicates images from Python code: `beam_dedup.dedup`."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence

from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.notebook import inputs, status, tables
from beam_dedup.notebook.process import run_command
from beam_dedup.notebook.result import DedupResult, Source, read_result
from beam_dedup.options import checks, parser
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.decisions_file import load_decisions
from beam_dedup.options.option import quoted
from beam_dedup.options.option_table import find

Path = str | os.PathLike[str]
Several = Path | Iterable[Path]

_RECORDS, _COUNTS = "records.parquet", "counts.json"


def dedup(
    images: Several | tables.AnyTable,
    *,
    near: bool = True,
    k: int | None = None,
    verify: int | None = None,
    algorithm: str | None = None,
    views: str | None = None,
    turns: bool = False,
    keep: str | Sequence[str] | None = None,
    protect: str | Sequence[str] | None = None,
    reference: Path | None = None,
    decisions: Path | None = None,
    image_column: str | None = None,
    path_field: str | None = None,
    exclude: str | Sequence[str] | None = None,
    include: str | Sequence[str] | None = None,
    no_default_excludes: bool = False,
    min_size: int | str | None = None,
    one_file_system: bool = False,
    links: str | None = None,
    companions: str | None = None,
    allow: str | Sequence[str] | None = None,
    union: bool = False,
    max_bytes: int | str | None = None,
    max_pixels: int | None = None,
    decode_timeout: float | None = None,
    num_jobs: int | None = None,
    force_plan: bool = False,
    progress: bool | None = None,
) -> DedupResult:
    """Finds duplicate images, and returns the verdict on each. Changes no file.

        from beam_dedup import dedup

        result = dedup("pictures")
        result.to_pandas()

    The verdicts are those of the command `dedup`, which runs in a process of its own. Each keyword but `near`, `k`
    (`--bit_distance`) and `progress` is the option of that name (docs/reference/options.md); None stands for its default.

    Args:
      images: a path, or several: directories, files, archives, patterns, prefixes of object stores. Or a table with one image
        per row, with a column of their bytes (also structs of `bytes` and `path`, as Hugging Face `datasets` has them) or
        of their paths; its other columns become metadata. Tables are those of pandas, polars, pyarrow, DuckDB and all
        others that hand out Arrow data. Bytes are written to temporary files for the time of the run.
      near: finds pictures that look the same too; False finds equal bytes only.
      k: bits by which the codes of two pictures may differ.
      verify: bits by which their long codes may differ.
      algorithm: the perceptual hash.
      views: finds cropped and framed copies: "none", "trim", "centre" or "crops".
      turns: finds mirrored and turned copies too.
      keep: rules that say which copy is kept, such as "largest". By default the first one by path; in a table of bytes, the
        first row.
      protect: patterns of paths that are kept whatever they duplicate.
      reference: known images, with which the images are compared too.
      decisions: a file of decisions about earlier duplicates.
      image_column: the column with the bytes of images, of a table or of Parquet files. A table with one such column
        needs no name.
      path_field: the column of a table with the paths. A table with one column of text, and none of bytes, needs no
        name. Relative paths are relative to the current directory.
      exclude: patterns of files and directories to leave out.
      include: patterns of the only files to read.
      no_default_excludes: reads directories of thumbnails, trash and such too.
      min_size: leaves out smaller files, in bytes or as "10kB".
      one_file_system: leaves out what is mounted below a directory.
      links: "inside" rejects links that lead out of the directory.
      companions: "none" judges files that belong to an image by themselves.
      allow: prefixes of the paths that a table may name.
      union: adds to the records of kept images what the metadata of their duplicates say, and whether labels conflict.
      max_bytes: rejects larger files, in bytes or as "10MB".
      max_pixels: compares larger pictures by their bytes only.
      decode_timeout: seconds after which an image is rejected.
      num_jobs: number of decoder processes; by default one per core.
      force_plan: runs even if the work grows with the square of the number of images.
      progress: shows progress on stderr; None shows it on terminals and in notebooks.

    Returns:
      The verdicts; see `DedupResult`.

    Raises:
      UsageError: an option is wrong, an input is missing, or the table has no column with images.
      DedupError: the run failed, or every image was rejected. UsageError is a DedupError.
    """
    options: dict[str, object] = {
        "near_duplicates": near,
        "bit_distance": k,
        "verify": verify,
        "algorithm": algorithm,
        "views": views,
        "turns": turns,
        "keep": keep,
        "protect": protect,
        "reference": reference,
        "decisions": decisions,
        "exclude": exclude,
        "include": include,
        "no_default_excludes": no_default_excludes,
        "min_size": min_size,
        "one_file_system": one_file_system,
        "links": links,
        "companions": companions,
        "allow": allow,
        "union": union,
        "max_bytes": max_bytes,
        "max_pixels": max_pixels,
        "decode_timeout": decode_timeout,
        "num_jobs": num_jobs,
        "force_plan": force_plan,
    }
    with tempfile.TemporaryDirectory(prefix="dedup-") as scratch:
        arguments = list(_arguments(options, scratch))
        table = column = given = None
        if tables.is_table(images):
            table = tables.arrow_table(images)
            column = tables.find_column(table, image_column, path_field)
            arguments += inputs.arguments(column, scratch)
            config = _configured(arguments)
            given = inputs.write_input(table, column, scratch, config.jobs)
        else:
            if path_field is not None:
                raise UsageError(
                    f"path_field applies only to a table; got path_field={quoted(path_field)} with paths. Remove it"
                )
            arguments += (f"--dump_dir={path}" for path in _paths(images))
            arguments += _arguments({"image_column": image_column}, "")
            config = _configured(arguments)
        with _without_temporary_names(scratch):
            _check_files(config)
            with status.StatusLine(status.is_shown(progress)) as line:
                summary = run_command(arguments, scratch, line.show)
        bytes_table = table if column is not None and column.has_bytes else None
        source = Source(os.getcwd(), config.read_limits, bytes_table, column)
        with open(os.path.join(scratch, _COUNTS), encoding="utf-8") as file:
            counts = json.load(file)
        return read_result(os.path.join(scratch, _RECORDS), counts, summary, source, given)


def _arguments(options: Mapping[str, object], scratch: str) -> Iterator[str]:
    """Yields arguments of the command line for options by their long flags, and those that name the outputs."""
    if scratch:
        yield "--output_json="
        yield f"--records={os.path.join(scratch, _RECORDS)}"
        yield f"--counts={os.path.join(scratch, _COUNTS)}"
    for name, value in options.items():
        if value is None or value is False:
            continue
        option = find(name)
        assert option is not None
        if option.is_switch:
            yield f"--{name}"
            continue
        values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
        for one in values:
            yield f"--{name}={os.fspath(one) if isinstance(one, os.PathLike) else one}"


def _paths(images: object) -> list[str]:
    """Returns the given paths as text.

    Raises:
      UsageError: something else was given, or nothing.
    """
    several = (
        [images] if isinstance(images, str | os.PathLike) or not isinstance(images, Iterable) else images
    )
    paths = []
    for path in several:
        if not isinstance(path, str | os.PathLike) or not (text := os.fsdecode(path)):
            what = '""' if path == "" else f"a {type(path).__name__}"
            raise UsageError(f"images must be paths, or a table; got {what}")
        paths.append(text)
    if not paths:
        raise UsageError("images must name at least one path; got none")
    return paths


def _configured(arguments: Sequence[str]) -> DedupConfig:
    """Returns the configuration of some arguments. Touches no file.

    Raises:
      UsageError: an option is wrong.
    """
    options, _ = parser.parse(arguments)
    return checks.configure(options)


def _check_files(config: DedupConfig) -> None:
    """Raises UsageError if an input is missing, cannot be read, or overlaps another one."""
    checks.check_input(config)
    load_decisions(config.decisions_file)


@contextlib.contextmanager
def _without_temporary_names(scratch: str) -> Iterator[None]:
    """Replaces the names of temporary files in errors, which are those of a table."""
    try:
        yield
    except DedupError as error:
        message = re.sub(rf"{re.escape(scratch)}(/[\w./]*)?", "the table", str(error))
        raise type(error)(message) from error.__cause__
