"""Checks, before any work is done, that a run can read its input and write its outputs, and can harm neither."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from beam_dedup.absolute_paths import with_absolute_paths
from beam_dedup.core.errors import UsageError
from beam_dedup.core.names import shown
from beam_dedup.core.paths import PARTIAL_PREFIX, is_remote
from beam_dedup.core.reading import input_paths
from beam_dedup.core.reading.selection import Exclusions
from beam_dedup.options.config import DedupConfig
from beam_dedup.options.defaults import DEFAULT_OUTPUT_JSON
from beam_dedup.options.option import quoted
from beam_dedup.review.writer import check_directory
from beam_dedup.runners import select
from beam_dedup.texts import excluded_text
from transforms.storage import files as storage
from transforms.storage import objects
from transforms.storage.listing import list_inputs
from transforms.storage.own_files import is_own, read_head
from transforms.write import is_prefix

_NOT_OURS = b"?"


@dataclasses.dataclass(frozen=True, slots=True)
class Prepared:
    """A run whose options, inputs and outputs were checked.

    Attributes:
      config: the options of `dedup`.
      beam_options: the options of Beam.
      is_local: whether this process and its children do the work.
      has_workers_here: whether the workers run in this process or in its children, also those of another runner.
    """

    config: DedupConfig
    beam_options: PipelineOptions
    is_local: bool
    has_workers_here: bool


def prepare(config: DedupConfig, beam_arguments: Sequence[str]) -> Prepared:
    """Checks the options of Beam, and that the inputs can be read and the outputs written.

    Args:
      config: the options of `dedup`.
      beam_arguments: all other arguments.

    Returns:
      The checked options; `portable_names` is set if the output directory does not distinguish `A` and `a`.

    Raises:
      UsageError: an option is unknown or wrong, or an input or output can't be used.
    """
    options = select.beam_options(beam_arguments)
    if config.stream:
        select.check_stream_runner(options)
    FileSystems.set_options(options)  # a pipeline does so too, but the checks access files before
    check_file_systems(config)
    check_outputs(config)
    if config.output_dir and folds_names(config.output_dir):
        config = dataclasses.replace(config, portable_names=True)
    local = select.is_local(options)
    here = local or select.has_workers_here(options)
    if local:
        check_places(config)
    elif select.is_dataflow(options):
        check_reachable(config)
    else:
        select.check_job_server(options)
    if config.preview and not local:
        raise UsageError("--preview works only on this machine; leave out --runner")
    if config.report and not here:
        raise UsageError(
            "--report works only with workers on this machine; run dedup report RECORDS -o DIR after the run"
        )
    if not local and not config.stream:
        check_not_empty(config, remote=here)
    return Prepared(config if here else with_absolute_paths(config), options, local, here)


def check_outputs(config: DedupConfig) -> None:
    """Makes the directories of local outputs, and tries to write there.

    Raises:
      UsageError: a directory can't be written, or an output would change the input or replace a file that
        `dedup` did not write.
    """
    for flag, path in config.output_files.items():
        if not is_remote(path):
            _check_output_file(flag, path, bool(config.stream))
    if config.place != "copy":
        for flag, path in (("-d", config.output_dir), *((config.input_flag, path) for path in config.inputs)):
            if is_remote(path):
                raise UsageError(f"--place {config.place} works only with local files, but {flag} is {path}")
    if config.output_dir and is_remote(config.output_dir):
        for path in config.inputs:
            if is_remote(path) and input_paths.holds(config.output_dir, path):
                raise UsageError(
                    f"-d: the input {path} lies in {config.output_dir}, so copies would become input; name another directory"
                )
    elif config.output_dir:
        _check_output_folder(config)
    if config.report:
        check_directory(config.report, "--report")
        _try_to_write("--report", config.report)


def _check_output_file(flag: str, path: str, resumable: bool) -> None:
    """Checks a local output file, or a directory of files if the path ends in /. A resumable run may add files to it."""
    if path.endswith("/"):
        if not path.isprintable():
            raise UsageError(
                f"{flag}: the directory name {quoted(path)} has characters that can't be printed; choose another name"
            )
        _try_to_write(flag, path)
        if not resumable and any(name.startswith("records-") for name in os.listdir(path)):
            raise UsageError(
                f"{flag}: {path} already contains records; remove them, or name another directory"
            )
        return
    if os.path.isdir(path):
        raise UsageError(f"{flag} needs a file name, but {path} is a directory")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            check_ours(flag, path, read_head(file))
    elif os.path.lexists(path):
        check_ours(flag, path, _NOT_OURS)  # a pipe or a device, which a file would replace
    _try_to_write(flag, os.path.dirname(path) or ".")


def _check_output_folder(config: DedupConfig) -> None:
    output = config.output_dir
    folders = [input_paths.root(path) or "." for path in config.inputs if not is_remote(path)]
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"-d needs a directory, but {output} is a file")
    for folder in folders:
        if input_paths.is_inside(folder, output):
            raise UsageError(
                f"-d: the input {folder} lies in {output}, so copies could replace input images; name another directory"
            )
    if config.preview:
        return
    _try_to_write("-d", output)
    for folder in folders:
        if config.place == "hardlink" and os.stat(folder).st_dev != os.stat(output).st_dev:
            raise UsageError(
                f"--place hardlink needs {folder} and {output} on one device; use --place copy or symlink"
            )


def folds_names(folder: str) -> bool:
    """Returns whether the file system of a local directory treats two different names as the same.

    Such names are A and a, or the two Unicode forms of an accented letter. The directory need not exist yet.
    Returns False for remote paths and for directories without write permission.
    """
    if is_remote(folder):
        return False
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK):
        return False
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{PARTIAL_PREFIX}A\u00c5") as file:
        head, name = os.path.split(file.name)
        others = name.replace("A\u00c5", "a\u00c5"), name.replace("A\u00c5", "AA\u030a")
        return any(os.path.exists(os.path.join(head, other)) for other in others)


def check_ours(flag: str, path: str, head: bytes) -> None:
    """Checks that an existing file was written by an earlier run with the same option, or is empty.

    Args:
      flag: the option.
      path: the file.
      head: what `read_head` returns of it.

    Raises:
      UsageError: the file begins differently from the files that this option writes.
    """
    if not is_own(flag, head):
        if flag == "--drop_list":
            raise UsageError(
                f"{flag}: {path} already exists, and a list does not show who wrote it; name another file, or remove it"
            )
        raise UsageError(
            f"{flag}: {path} already exists and was not written by {flag}; name another file, or remove it"
        )


def taken_outputs(config: DedupConfig) -> dict[str, str]:
    """Returns, by option, which local output files somebody else has put in place during a run, in one line each.

    They are not replaced: the output of the run has another name.
    """
    taken = {}
    for flag, path in config.output_files.items():
        # A list of this run looks like one of somebody else.
        if flag == "--drop_list" or is_remote(path) or is_prefix(path) or not os.path.lexists(path):
            continue
        head = _NOT_OURS
        if os.path.isfile(path):
            with open(path, "rb") as file:
                head = read_head(file)
        if not is_own(flag, head):
            taken[flag] = (
                f"{flag}: {path} was put there by somebody else during the run and is not replaced; "
                f"the output of this run is in {storage.other_name(path)}"
            )
    return taken


def _try_to_write(flag: str, folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder, prefix=PARTIAL_PREFIX).close()
    except OSError as error:
        where = "the current directory" if folder == "." else folder
        hint = f" ({DEFAULT_OUTPUT_JSON} goes there by default; -o '' writes none)" if flag == "-o" else ""
        raise UsageError(f"{flag}: can't write to {where}: {error.strerror}{hint}") from error


def check_file_systems(config: DedupConfig) -> None:
    """Raises UsageError if Beam has no file system for a path, or its packages are not installed."""
    for flag, path in _remote_inputs(config):
        if why := storage.unusable(path):
            raise UsageError(f"{flag}: {path} can't be read: {why}")
    for flag, path in _remote_outputs(config):
        if why := storage.unusable(path):
            raise UsageError(f"{flag}: {path} can't be written: {why}")


def check_places(config: DedupConfig) -> None:
    """Checks remote inputs and outputs by accessing them.

    Only for runs on this machine: workers elsewhere may have other permissions.

    Raises:
      UsageError: an input has no files, an output would replace something that `dedup` did not write, or
        access is denied.
    """
    for flag, path in _remote_inputs(config):
        with _access_errors(f"{flag}: {path} can't be read"):
            if next(list_inputs([path]), None) is None:
                raise UsageError(f"{flag}: there is no file at {path}")
    for flag, path in _remote_outputs(config):
        with _access_errors(f"{flag}: {path} can't be written"):
            objects.check_bucket(path)
            if flag in config.output_files and not config.stream:
                _check_remote_output(flag, path)


def check_not_empty(config: DedupConfig, *, remote: bool) -> None:
    """Raises UsageError if an input has no files, or the metadata file no rows.

    For batches on another runner, which would end as if they had succeeded.

    Args:
      config: the options of the run.
      remote: whether remote inputs are listed too: workers elsewhere may have other permissions.
    """
    for path in config.inputs:
        if remote or not is_remote(path):
            with _access_errors(f"{config.input_flag}: {shown(path)} can't be read"):
                exclusions = Exclusions()
                found = list_inputs(
                    [path], config.excluded_paths, selection=config.selection, exclusions=exclusions
                )
                if next(found, None) is None:
                    excluded = excluded_text(exclusions.as_fields())
                    others = f" but those that are left out: {excluded}" if excluded else ""
                    raise UsageError(f"{config.input_flag}: there are no files in {shown(path)}{others}")
    path = config.json_metadata
    if path and not is_remote(path) and os.path.getsize(path) == 0:
        raise UsageError(f"-l: there are no rows in {shown(path)}")


def check_reachable(config: DedupConfig) -> None:
    """Raises UsageError if a path is on this machine, where workers of Dataflow can't reach it."""
    for flag, path in (*_given_inputs(config), *_given_outputs(config)):
        if path and not is_remote(path):
            hint = ", or -o '' for none" if flag == "-o" else ""
            raise UsageError(
                f"{flag}: {path} is on this machine, where workers of Dataflow can't reach it; name a path in a bucket{hint}"
            )


def _given_inputs(config: DedupConfig) -> list[tuple[str, str]]:
    given = [(config.input_flag, path) for path in config.inputs]
    return [*given, ("-l", config.json_metadata), ("--reference", config.reference)]


def _given_outputs(config: DedupConfig) -> list[tuple[str, str]]:
    return [*config.output_files.items(), ("-d", config.output_dir)]


def _remote_inputs(config: DedupConfig) -> list[tuple[str, str]]:
    return [(flag, path) for flag, path in _given_inputs(config) if is_remote(path)]


def _remote_outputs(config: DedupConfig) -> list[tuple[str, str]]:
    return [(flag, path) for flag, path in _given_outputs(config) if is_remote(path)]


@contextlib.contextmanager
def _access_errors(sentence: str) -> Iterator[None]:
    """Turns errors of a file system into a UsageError that begins with a sentence."""
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"{sentence}: there is no such bucket") from error
    except OSError as error:
        raise UsageError(f"{sentence}: {error.strerror or error}") from error


def _check_remote_output(flag: str, path: str) -> None:
    """Raises UsageError if a remote output would replace something that `dedup` did not write."""
    if is_prefix(path):
        if next(objects.list_objects(f"{path}records-"), None) is not None:
            raise UsageError(
                f"{flag}: {path} already contains records; remove them, or name another directory"
            )
    elif objects.exists(path):
        with storage.open_bytes(path) as stream:
            check_ours(flag, path, read_head(stream))
