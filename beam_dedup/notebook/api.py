"""Deduplicates images from Python code: `beam_dedup.dedup`."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from beam_dedup.core.errors import DedupError, UsageError
from beam_dedup.notebook import inputs, status, tables
from beam_dedup.notebook.process import run_command
from beam_dedup.notebook.result import DedupResult, Source, read_result
from beam_dedup.options import checks, parser
from beam_dedup.options.decisions_file import load_decisions
from beam_dedup.options.option import quoted
from beam_dedup.options.option_table import find

Path = str | os.PathLike[str]
Several = Path | Iterable[Path]

# The words for options whose keyword is not their long flag.
_KEYWORDS = {
    "near_duplicates": "near=True",
    "exact_duplicates": "near=False",
    "bit_distance": "k",
    "dump_dir": "images",
    "json_metadata": "a table",
}
_FLAG = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w/-])(?:-k/)?(?:--[a-z]\w+|-[a-z]\b)')
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
    with tempfile.TemporaryDirectory(prefix="dedup-") as scratch, _errors_for_python(scratch):
        arguments = list(_arguments(options, scratch))
        table = column = given = None
        if tables.is_table(images):
            table = tables.arrow_table(images)
            column = tables.find_column(table, image_column, path_field)
            arguments += inputs.arguments(column, scratch)
        else:
            if path_field is not None:
                raise UsageError(
                    f"path_field applies only to a table; got {quoted(path_field)} with paths. Remove path_field"
                )
            arguments += (f"--dump_dir={path}" for path in _paths(images))
            arguments += _arguments({"image_column": image_column})
        parsed, _ = parser.parse(arguments)
        config = checks.configure(parsed)
        if table is not None and column is not None:
            given = inputs.write_input(table, column, scratch, config.jobs)
        checks.check_input(config)
        load_decisions(config.decisions_file)
        directory = os.getcwd()
        with status.StatusLine(status.is_shown(progress)) as line:
            summary = run_command(arguments, scratch, line.show)
        bytes_table = table if column is not None and column.has_bytes else None
        source = Source(directory, config.read_limits, bytes_table, column)
        with open(os.path.join(scratch, _COUNTS), encoding="utf-8") as file:
            counts = json.load(file)
        return read_result(os.path.join(scratch, _RECORDS), counts, summary, source, given)


def _arguments(options: Mapping[str, object], scratch: str = "") -> Iterator[str]:
    """Yields arguments of the command line for options by their long flags; with a directory, also those that name outputs."""
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
        is_single = isinstance(value, str) or not isinstance(value, Iterable)
        values: Iterable[object] = [value] if is_single else cast(Iterable[object], value)
        for one in values:
            yield f"--{name}={os.fspath(one) if isinstance(one, os.PathLike) else one}"


def _paths(images: object) -> list[str]:
    """Returns the given paths as text.

    Raises:
      UsageError: something else was given, or nothing.
    """
    is_single = isinstance(images, str | os.PathLike | Mapping) or not isinstance(images, Iterable)
    paths = []
    given: Iterable[object] = [images] if is_single else cast(Iterable[object], images)
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise UsageError(f"images must be paths or a table; got {type(path).__name__}")
        paths.append(os.fsdecode(path))
    if not paths:
        raise UsageError("images must name at least one path; got none")
    if not all(paths):
        raise UsageError('images must name paths; got ""')
    return paths


@contextlib.contextmanager
def _errors_for_python(scratch: str) -> Iterator[None]:
    """Raises errors of the command line in the words of this module: keywords instead of flags, no temporary files."""
    try:
        yield
    except DedupError as error:
        message = re.sub(rf"{re.escape(scratch)}(/[\w./]*)?", "the table", str(error))
        raise type(error)(_FLAG.sub(_keyword, message)) from error.__cause__


def _keyword(match: re.Match[str]) -> str:
    """Returns a flag as the keyword of `dedup`; quoted text as it is.

    >>> _FLAG.sub(_keyword, '-k applies only with -n; got "-k". Add -n or remove --turns')
    'k applies only with near=True; got "-k". Add near=True or remove turns'
    """
    text = match[0]
    if text.startswith('"'):
        return text
    option = find(text.removeprefix("-k/"))
    return _KEYWORDS.get(option.name, option.name) if option else text
