"""Defines the tools that are compared: the command that runs each, and the reader of its output."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import timing

_PEER_RUNS = Path(__file__).with_name("peer_runs.py")
_LIBRARIES = ("imagededup", "perception")

Groups = list[list[str]]  # paths relative to the directory; a pair is a group of two


@dataclasses.dataclass(frozen=True)
class Tool:
    """A program that finds near duplicates in a directory."""

    name: str
    setting: str  # its settings, and whether it reports groups or pairs
    version: str  # "" if it is not installed
    get: str  # how to install it
    command: Callable[
        [Path, Path, int], timing.Command
    ]  # of a directory, an output file, and a number of processes
    groups: Callable[[Path, Path], Groups]  # reads the groups in a directory from the output file

    @property
    def installed(self) -> bool:
        return bool(self.version)


def ours() -> Tool:
    """Returns `dedup -n` of this checkout."""
    return Tool(
        "dedup -n",
        "defaults; groups",
        "this",
        "",
        lambda folder, out, jobs: timing.dedup(folder, "-n", "-j", str(jobs), output=str(out)),
        _dedup_groups,
    )


def peers(czkawka: str, python: str) -> list[Tool]:
    """Returns the peers, whether installed or not.

    Args:
      czkawka: the program czkawka_cli.
      python: the Python of an environment that has the Python libraries.
    """
    found = _library_versions(python)
    return [
        Tool(
            "czkawka_cli",
            "defaults: 5 of 256 bits, files from 16 kB; groups",
            _czkawka_version(czkawka),
            "`cargo install czkawka_cli`, `--czkawka PATH`",
            lambda folder, out, jobs: _czkawka_command(czkawka, folder, out, jobs),
            czkawka_groups,
        ),
        *(_library(name, found.get(name, ""), python) for name in _LIBRARIES),
    ]


def loop(python: str = sys.executable) -> Tool:
    """Returns imagehash in a plain loop. It is a dependency of this package, so it is always installed."""
    return _library("imagehash", _library_versions(python).get("imagehash", ""), python)


def _library(name: str, version: str, python: str) -> Tool:
    settings = {"imagededup": "PHash, 10 bits; pairs", "perception": "PHash 16 x 16, 0.2; pairs"}
    return Tool(
        name,
        settings.get(name, ""),
        version,
        f"`pip install {name}` into an environment of its own, `--python PATH`",
        lambda folder, out, jobs: [python, str(_PEER_RUNS), name, str(folder), str(out), "-j", str(jobs)],
        _json_groups,
    )


def _library_versions(python: str) -> dict[str, str]:
    if not shutil.which(python):
        return {}
    done = subprocess.run([python, str(_PEER_RUNS), "versions"], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def _czkawka_version(czkawka: str) -> str:
    if not shutil.which(czkawka):
        return ""
    done = subprocess.run([czkawka, "--version"], capture_output=True, text=True, check=True)
    return done.stdout.split()[1]  # "czkawka VERSION", followed by lines about the build


def _czkawka_command(czkawka: str, folder: Path, out: Path, jobs: int) -> timing.Command:
    # --disable-cache: with the cache, the second round would read the hashes of the first. -W: exit with 0, not 11, after
    # finding duplicates.
    command = [czkawka, "image", "-d", str(folder), "-T", str(jobs)]
    return [*command, "--disable-cache", "-W", "--do-not-print-results", "-C", str(out)]


def czkawka_groups(folder: Path, out: Path) -> Groups:
    if not out.exists():  # czkawka writes no file if it finds nothing
        return []
    return [
        [os.path.relpath(entry["path"], folder) for entry in group] for group in json.loads(out.read_text())
    ]


def _dedup_groups(folder: Path, out: Path) -> Groups:
    groups = json.loads(out.read_text()).values()
    return [[os.path.relpath(entry["filename"], folder) for entry in group] for group in groups]


def _json_groups(_: Path, out: Path) -> Groups:
    return list(json.loads(out.read_text())["groups"])
