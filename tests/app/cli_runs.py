"""Runs the command line, in this process or in one of its own, and reads what it wrote."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from beam_dedup.cli import main

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "beam_dedup")


def dedup(*arguments: object) -> int:
    """Runs `dedup` in this process and returns its exit code.

    Unless `-o` is given, without a file of groups; unless `-j` is given, with one decoder process, which starts sooner than
    two.
    """
    texts = [str(argument) for argument in arguments]
    for flag, value in (("-o", ""), ("-j", "1")):
        if flag not in texts:
            texts += [flag, value]
    return main(texts)


def dedup_apart(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Runs `dedup` as a process of its own, as a user does.

    Args:
      arguments: of the command line.
      options: of `subprocess.run`.
    """
    texts = [str(argument) for argument in arguments]
    environment = options.pop("env", None)
    options.setdefault("cwd", ROOT)
    return subprocess.run(
        [*COMMAND, *texts], capture_output=True, text=True, timeout=300, env=environment, **options
    )


def records_in(path: Path) -> dict[str, dict[str, Any]]:
    """Returns the records of a file by the base names of their URIs."""
    lines = path.read_text("utf-8").splitlines()
    return {Path(record["uri"]).name: record for record in map(json.loads, lines)}


def tree(folder: Path) -> dict[str, bytes]:
    """Returns the contents of every file below a directory by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
