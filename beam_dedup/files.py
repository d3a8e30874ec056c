"""Checks, before any work is done, that a run can read its input and write its outputs, and can harm neither."""

import os
import tempfile

from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import PARTIAL_PREFIX
from beam_dedup.options import DedupConfig


def check_outputs(config: DedupConfig) -> None:
    """Makes the folders that outputs go to, and tries to write there.

    Raises:
      UsageError: that fails, or an output would change the input or a file that is not ours.
    """
    for flag, path in config.output_files.items():
        if not is_remote(path):
            _check_output_file(flag, path, config)
    if config.output_dir and is_remote(config.output_dir):
        if config.place != "copy":
            raise UsageError(
                f"--place {config.place} links files of this machine, but -d is {config.output_dir}"
            )
    elif config.output_dir:
        _check_output_folder(config)


def is_remote(path: str) -> bool:
    """Whether a path names a file system of Beam's, as in gs://bucket/name."""
    return "://" in path


def check_input(config: DedupConfig) -> None:
    """Raises UsageError if there is no folder to read."""
    _check_folder("-i", config.folder)
    if config.reference:
        _check_folder("--reference", config.reference)
        if _is_inside(config.folder, config.reference):
            raise UsageError(
                f"-i: {config.folder} lies in the folder of --reference, {config.reference}: all is known"
            )


def _check_folder(flag: str, folder: str) -> None:
    if is_remote(folder):
        raise UsageError(f"{flag} reads folders of this machine only, got {folder}")
    if not os.path.exists(folder):
        raise UsageError(f"{flag}: there is no folder {folder}")
    if not os.path.isdir(folder):
        raise UsageError(f"{flag} needs a folder, but {folder} is a file")
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UsageError(f"{flag}: the folder {folder} can't be listed: {error.strerror}") from error


def _check_output_file(flag: str, path: str, config: DedupConfig) -> None:
    if path.endswith("/"):
        _try_to_write(flag, path)
        return
    if os.path.isdir(path):
        raise UsageError(f"{flag} needs a file name, but {path} is a folder")
    if _is_inside(path, config.folder) and os.path.exists(path) and not _is_ours(path):
        raise UsageError(f"{flag}: {path} is a file of the input, which is never changed; name another")
    if (
        config.output_dir
        and _is_inside(path, config.output_dir)
        and os.path.exists(path)
        and not _is_ours(path)
    ):
        raise UsageError(
            f"{flag}: {path} is a file in the output folder, and not one of this kind; name another"
        )
    _try_to_write(flag, os.path.dirname(path) or ".")


def _check_output_folder(config: DedupConfig) -> None:
    output, folder = config.output_dir, config.folder
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"-d needs a folder, but {output} is a file")
    if _is_inside(folder, output):
        raise UsageError(
            f"-d: the input {folder} lies in {output}; copies could replace images of the input: name another folder"
        )
    if config.preview:
        return
    _try_to_write("-d", output)
    if config.place == "hardlink" and os.stat(folder).st_dev != os.stat(output).st_dev:
        raise UsageError(
            f"--place hardlink needs {folder} and {output} on one device; use --place copy or symlink"
        )


def _is_inside(path: str, folder: str) -> bool:
    """Whether a path is a folder or lies in it, links resolved."""
    real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    return os.path.commonpath([real, real_folder]) == real_folder


def _is_ours(path: str) -> bool:
    """Whether a file could be an earlier run's: a JSON object, Avro, or nothing."""
    with open(path, "rb") as file:
        head = file.read(4)
    return head[:1] in (b"", b"{") or head == b"Obj\x01"


def _try_to_write(flag: str, folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder, prefix=PARTIAL_PREFIX).close()
    except OSError as error:
        raise UsageError(f"{flag}: nothing can be written to {folder}: {error.strerror}") from error
