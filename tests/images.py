"""Runs the scripts that make the content of the container images, without Docker."""

import os
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).parents[1] / "templates/image"


def run_script(script: str, *arguments: Path) -> None:
    """Runs a script of templates/image with the Python that runs the tests."""
    subprocess.run(
        [IMAGES / script, *arguments],
        check=True,
        timeout=600,
        capture_output=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
