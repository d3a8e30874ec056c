"""The checks of `beam_dedup.files` for what is not on this machine."""

import contextlib
from collections.abc import Iterator

from beam_dedup import files
from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import is_remote
from beam_dedup.options import DedupConfig
from transforms import storage, stores
from transforms.listing import list_inputs
from transforms.write import is_prefix


def check_file_systems(config: DedupConfig) -> None:
    """Raises UsageError if a path is of a file system that nobody has, or for which something must be installed."""
    for flag, path in _inputs(config):
        if why := storage.unusable(path):
            raise UsageError(f"{flag}: {path} can't be read: {why}")
    for flag, path in _outputs(config):
        if why := storage.unusable(path):
            raise UsageError(f"{flag}: {path} can't be written: {why}")


def check_places(config: DedupConfig) -> None:
    """Asks the file systems themselves: for runs on this machine, as workers elsewhere may see others.

    Raises:
      UsageError: there is nothing to read, or an output would replace what is not ours, or all of this is refused.
    """
    for flag, path in _inputs(config):
        with _refused(f"{flag}: {path} can't be read"):
            if next(list_inputs([path]), None) is None:
                raise UsageError(f"{flag}: there is no file at {path}")
    for flag, path in _outputs(config):
        with _refused(f"{flag}: {path} can't be written"):
            stores.check_place(path)
            if flag in config.output_files and not config.stream:
                _check_not_others(flag, path)


def check_reachable(config: DedupConfig) -> None:
    """Raises UsageError if a path is of this machine: for workers in a cloud."""
    for flag, path in (*_given_inputs(config), *_given_outputs(config)):
        if path and not is_remote(path):
            hint = ", or -o '' for none" if flag == "-o" else ""
            raise UsageError(
                f"{flag}: {path} is on this machine, and workers of Dataflow are not: name a path in a bucket{hint}"
            )


def _given_inputs(config: DedupConfig) -> list[tuple[str, str]]:
    given = [("-i", path) for path in config.inputs]
    return [*given, ("-l", config.json_metadata), ("--reference", config.reference)]


def _given_outputs(config: DedupConfig) -> list[tuple[str, str]]:
    return [*config.output_files.items(), ("-d", config.output_dir)]


def _inputs(config: DedupConfig) -> list[tuple[str, str]]:
    return [(flag, path) for flag, path in _given_inputs(config) if is_remote(path)]


def _outputs(config: DedupConfig) -> list[tuple[str, str]]:
    return [(flag, path) for flag, path in _given_outputs(config) if is_remote(path)]


@contextlib.contextmanager
def _refused(sentence: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(f"{sentence}: there is no such bucket") from error
    except OSError as error:
        raise UsageError(f"{sentence}: {error.strerror or error}") from error


def _check_not_others(flag: str, path: str) -> None:
    if is_prefix(path):
        if next(stores.list_objects(f"{path}records-"), None) is not None:
            raise UsageError(f"{flag}: {path} holds records already; remove them, or name another folder")
    elif stores.exists(path):
        with storage.open_bytes(path) as stream:
            files.check_ours(flag, path, stream.read(files.HEAD_BYTES))
