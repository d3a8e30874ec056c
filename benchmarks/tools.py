"""The tools that are measured beside each other: how each is run, and how what it found is read."""

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

Groups = list[list[str]]  # names relative to the folder; a pair is a group of two


@dataclasses.dataclass(frozen=True)
class Tool:
    """A program that finds near duplicates in a folder.

    version: "" where it isn't installed. get: how to install it. command: from a folder, a file to write and the number
    of processes or threads. groups: reads that file.
    """

    name: str
    setting: str
    version: str
    get: str
    command: Callable[[Path, Path, int], timing.Command]
    groups: Callable[[Path, Path], Groups]

    @property
    def installed(self) -> bool:
        return bool(self.version)


def ours() -> Tool:
    return Tool(
        "dedup -n",
        "defaults; groups",
        "this",
        "",
        lambda folder, out, jobs: timing.dedup(folder, "-n", "-j", str(jobs), output=str(out)),
        _dedup_groups,
    )


def peers(czkawka: str, python: str) -> list[Tool]:
    """The peers, installed or not.

    Args:
      czkawka: its program. python: that of an environment with the Python libraries.
    """
    found = _library_versions(python)
    return [
        Tool(
            "czkawka_cli",
            "defaults: 5 of 256 bits, files from 16 kB; groups",
            _czkawka_version(czkawka),
            "`cargo install czkawka_cli`, `--czkawka PATH`",
            lambda folder, out, jobs: _czkawka_command(czkawka, folder, out, jobs),
            _czkawka_groups,
        ),
        *(_library(name, found.get(name, ""), python) for name in _LIBRARIES),
    ]


def loop(python: str = sys.executable) -> Tool:
    """imagehash in a plain loop, which is installed with us."""
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
    told = subprocess.run([python, str(_PEER_RUNS), "versions"], capture_output=True, text=True, check=True)
    return dict(json.loads(told.stdout))


def _czkawka_version(czkawka: str) -> str:
    if not shutil.which(czkawka):
        return ""
    told = subprocess.run([czkawka, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.split()[1]  # after its name; lines about the build follow


def _czkawka_command(czkawka: str, folder: Path, out: Path, jobs: int) -> timing.Command:
    # No cache: or the second round would read the hashes of the first. It exits with 11 where it finds something, less -W.
    command = [czkawka, "image", "-d", str(folder), "-T", str(jobs)]
    return [*command, "--disable-cache", "-W", "--do-not-print-results", "-C", str(out)]


def _czkawka_groups(folder: Path, out: Path) -> Groups:
    if not out.exists():  # nothing found
        return []
    return [
        [os.path.relpath(entry["path"], folder) for entry in group] for group in json.loads(out.read_text())
    ]


def _dedup_groups(folder: Path, out: Path) -> Groups:
    groups = json.loads(out.read_text()).values()
    return [[os.path.relpath(entry["filename"], folder) for entry in group] for group in groups]


def _json_groups(_: Path, out: Path) -> Groups:
    return list(json.loads(out.read_text())["groups"])
