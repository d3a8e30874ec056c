"""Checks the option that names the field of a list with the paths."""

import argparse
import posixpath

from beam_dedup.core.errors import UsageError
from beam_dedup.options.option import quoted


def path_field(options: argparse.Namespace) -> str:
    """Returns the field of a list with the path of an image; "" for the default.

    Raises:
      UsageError: `--path_field` is given without `-l`.
    """
    if options.path_field and not options.json_metadata:
        raise UsageError(
            "--path_field applies only with -l, the list of images; got --path_field "
            f"{quoted(options.path_field)} without it. Add -l FILE or remove --path_field"
        )
    return str(options.path_field)


def list_directory(path: str, field: str) -> str:
    """Returns the directory to which the paths in a list are relative; "" for the current one.

    >>> (
    ...     list_directory("a/list.csv", "file_name"),
    ...     list_directory("gs://b/list.csv", "f"),
    ...     list_directory("a/l", ""),
    ... )
    ('a', 'gs://b', '')
    """
    return posixpath.dirname(path) if field else ""
