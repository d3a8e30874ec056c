"""What tests of several rings share, and which tests wait to be asked for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_dedup.samples import make_samples
from tests.images import run_script

CI_VARIABLE = (
    "DEDUP_CI"  # in the environment, set to anything: all tests run, and every service has to be there
)
SLOW = ("slow", "processes")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow or processes as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips slow tests where neither `--slow` nor CI asks for them."""
    if config.getoption("--slow") or os.environ.get(CI_VARIABLE):
        return
    left_out = pytest.mark.skip(reason="slow: run by `make test-all`, and in CI")
    for item in items:
        if any(map(item.get_closest_marker, SLOW)):
            item.add_marker(left_out)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of sample pictures that `make demo` uses. Only for reading."""
    folder = tmp_path_factory.mktemp("samples")
    make_samples(folder)
    return folder


@pytest.fixture(scope="session")
def image_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `make image` builds. Only for reading."""
    folder = tmp_path_factory.mktemp("context") / "image"
    run_script("context.sh", folder)
    return folder


@pytest.fixture(scope="session")
def image_environment(image_context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the images hold: an environment with our wheel, the pins, and nothing else. Only for reading. Takes minutes."""
    environment = tmp_path_factory.mktemp("environment") / "dedup"
    run_script("install.sh", environment, image_context)
    return environment


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
