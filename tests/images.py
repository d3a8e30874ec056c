"""What the container images hold, made without Docker."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "templates/image"


def in_new_folder(script: str, *arguments: Path) -> None:
    """Runs one of the scripts by which images are made, with the Python of the tests."""
    subprocess.run(
        [FOLDER / script, *arguments],
        check=True,
        timeout=600,
        capture_output=True,
        env={**os.environ, "PYTHON": sys.executable},
    )
