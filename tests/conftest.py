"""What tests of several rings share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_dedup.samples import make_samples


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of sample pictures that `make demo` uses. Only for reading."""
    folder = tmp_path_factory.mktemp("samples")
    make_samples(folder)
    return folder


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file in it, both of which the system refuses to show; impossible for root."""
    folder = tmp_path / "refused"
    folder.mkdir()
    file = folder / "file"
    file.write_bytes(b"GIF89a")
    file.chmod(0)
    folder.chmod(0)
    try:
        if _can_list(folder):
            pytest.skip("permissions do not bind this user (root): nothing is refused here")
        yield folder
    finally:
        folder.chmod(0o700)


def _can_list(folder: Path) -> bool:
    try:
        list(folder.iterdir())
    except PermissionError:
        return False
    return True
