"""Checks, before any work is done, that a run can read its input and write its outputs, and can harm neither."""

import glob
import os
import re
import tempfile

from beam_dedup.core import sources
from beam_dedup.core.errors import UsageError
from beam_dedup.core.paths import PARTIAL_PREFIX, is_remote
from beam_dedup.options import DedupConfig
from beam_dedup.output_options import DEFAULT_OUTPUT_JSON

HEAD_BYTES = 4096  # of a file that tell whose it is
_NOT_OURS = b"?"
# How the files begin that we write: what begins otherwise is not replaced.
_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    "-o": (rb'\{\s*"[0-9a-f]{64}": \[', rb"\{\}\s*$"),
    "--records": (rb'\{"uri": "', rb"Obj\x01[\s\S]*beam_dedup"),
    "--counts": (rb'\{\s*"Initial_Image_Count": ',),
}


def check_outputs(config: DedupConfig) -> None:
    """Makes the folders that outputs go to, and tries to write there.

    Raises:
      UsageError: that fails, or an output would change the input or a file that is not ours.
    """
    for flag, path in config.output_files.items():
        if not is_remote(path):
            _check_output_file(flag, path, bool(config.stream))
    if config.place != "copy":
        for flag, path in (("-d", config.output_dir), *(("-i", path) for path in config.inputs)):
            if is_remote(path):
                raise UsageError(f"--place {config.place} links files of this machine, but {flag} is {path}")
    if config.output_dir and is_remote(config.output_dir):
        for path in config.inputs:
            if is_remote(path) and sources.holds(config.output_dir, path):
                raise UsageError(
                    f"-d: the input {path} lies in {config.output_dir}; copies would be taken for input: name another folder"
                )
    elif config.output_dir:
        _check_output_folder(config)


def check_input(config: DedupConfig) -> None:
    """Raises UsageError if there is nothing to read, or the same would be read twice. What is not of this machine is not
    looked at.
    """
    if config.json_metadata and not is_remote(config.json_metadata):
        if not os.path.isfile(config.json_metadata):
            raise UsageError(f"-l: there is no file {config.json_metadata}")
        _check_readable("-l", config.json_metadata)
    for path in config.inputs:
        _check_readable("-i", path)
    if overlap := sources.overlapping(config.inputs):
        raise UsageError(f"-i: {overlap[0]} and {overlap[1]} hold the same files: leave out one of them")
    if config.reference:
        if sources.is_pattern(config.reference):
            raise UsageError(f"--reference takes a folder or a file, not a pattern, got {config.reference}")
        _check_readable("--reference", config.reference)
        for path in config.inputs:
            if sources.holds(config.reference, path):
                raise UsageError(f"-i: {path} lies in that of --reference, {config.reference}: all is known")


def _check_readable(flag: str, path: str) -> None:
    if is_remote(path):
        return
    if sources.is_pattern(path):
        if next(glob.iglob(path, recursive=True), None) is None:
            raise UsageError(f"{flag}: there is no folder or file that matches {path}")
        return
    if not os.path.exists(path):
        raise UsageError(f"{flag}: there is no folder {path}, nor a file or pattern of that name")
    try:
        if os.path.isdir(path):
            os.scandir(path).close()
        elif not os.path.isfile(path):
            raise UsageError(f"{flag} needs a folder or a file, but {path} is neither")
        else:
            open(path, "rb").close()
    except OSError as error:
        what = "folder {} can't be listed" if os.path.isdir(path) else "file {} can't be read"
        raise UsageError(f"{flag}: the {what.format(path)}: {error.strerror}") from error


def _check_output_file(flag: str, path: str, goes_on: bool) -> None:
    if path.endswith("/"):
        if not path.isprintable():
            raise UsageError(
                f"{flag}: the name of the folder {path!r} has characters that can't be printed; name another"
            )
        _try_to_write(flag, path)
        if not goes_on and any(name.startswith("records-") for name in os.listdir(path)):
            raise UsageError(f"{flag}: {path} holds records already; remove them, or name another folder")
        return
    if os.path.isdir(path):
        raise UsageError(f"{flag} needs a file name, but {path} is a folder")
    if os.path.isfile(path):
        with open(path, "rb") as file:
            check_ours(flag, path, file.read(HEAD_BYTES))
    elif os.path.lexists(path):
        check_ours(flag, path, _NOT_OURS)  # a pipe or a device: a file would take its name
    _try_to_write(flag, os.path.dirname(path) or ".")


def _check_output_folder(config: DedupConfig) -> None:
    output = config.output_dir
    folders = [sources.root(path) or "." for path in config.inputs if not is_remote(path)]
    if os.path.exists(output) and not os.path.isdir(output):
        raise UsageError(f"-d needs a folder, but {output} is a file")
    for folder in folders:
        if sources.is_inside(folder, output):
            raise UsageError(
                f"-d: the input {folder} lies in {output}; copies could replace images of the input: name another folder"
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
    """Whether the file system of a local folder, which may not be there yet, takes two names for one: A and a, or the two forms
    of an accented letter.
    """
    if is_remote(folder):
        return False
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK):
        return False  # nothing will be written there
    with tempfile.NamedTemporaryFile(dir=folder, prefix=f"{PARTIAL_PREFIX}A\u00c5") as file:
        head, name = os.path.split(file.name)
        others = name.replace("A\u00c5", "a\u00c5"), name.replace("A\u00c5", "AA\u030a")
        return any(os.path.exists(os.path.join(head, other)) for other in others)


def check_ours(flag: str, path: str, head: bytes) -> None:
    """Raises UsageError unless a file that is there is an earlier run's, by how it begins, or empty."""
    if head and not any(re.match(beginning, head) for beginning in _BEGINNINGS[flag]):
        raise UsageError(
            f"{flag}: {path} is there already and is no file of this kind; name another, or remove it"
        )


def _try_to_write(flag: str, folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder, prefix=PARTIAL_PREFIX).close()
    except OSError as error:
        where = "the current folder" if folder == "." else folder
        hint = f" (where {DEFAULT_OUTPUT_JSON} goes by default; -o '' writes none)" if flag == "-o" else ""
        raise UsageError(f"{flag}: nothing can be written to {where}: {error.strerror}{hint}") from error
