"""Lets processes meet a full disk: their output files can be created but not written."""

import os
from pathlib import Path

from tests.app.cli_runs import ROOT

# Output files are written under a temporary name. Here /dev/full is opened instead: it can be opened, but not written.
_SITE = """
import os

real = os.open

def opened(path, flags, *rest, **more):
    descriptor = real(path, flags, *rest, **more)
    if flags & os.O_CREAT and os.fspath(path).endswith(".part"):
        os.close(descriptor)
        return real("/dev/full", os.O_WRONLY)
    return descriptor

os.open = opened
"""


def python_path(folder: Path) -> str:
    """Returns a value of PYTHONPATH with which Python processes meet a full disk; makes a module in the folder for it."""
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE)
    return os.pathsep.join((str(folder), str(ROOT)))
