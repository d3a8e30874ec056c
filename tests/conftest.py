"""Fixtures for tests of several layers, and the option to run slow tests."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from beam_dedup.core.threads import cores
from beam_dedup.samples import make_samples
from tests.images import run_script

# If this environment variable is set, whatever its value, all tests run, and every service must be available.
CI_VARIABLE = "DEDUP_CI"
SLOW = ("slow", "processes")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read by `datasets` when it is imported
LONG_TESTS = ("tests/services/", "tests/app/", "tests/core/reading/", "tests/docs/")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow or processes as well")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """With `-n auto`, runs one more worker than there are cores, since many tests wait; but not in CI."""
    return None if os.environ.get(CI_VARIABLE) else cores() + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begins with the directories of long tests, so that at the end no worker is left alone with one of their files.

    Skips slow tests unless `--slow` or the environment variable of CI is set.
    """
    items.sort(key=lambda item: not item.nodeid.startswith(LONG_TESTS))
    if config.getoption("--slow") or os.environ.get(CI_VARIABLE):
        return
    left_out = pytest.mark.skip(reason="slow: run by `make test-all`, and in CI")
    for item in items:
        if any(map(item.get_closest_marker, SLOW)):
            item.add_marker(left_out)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Makes Beam's pipelines start faster, if tests of Beam were collected; but not in CI."""
    if "apache_beam" in sys.modules and not os.environ.get(CI_VARIABLE):
        from tests.faster_beam import remember_what_beam_finds

        patch = pytest.MonkeyPatch()
        remember_what_beam_finds(patch)
        session.config.add_cleanup(patch.undo)


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of sample pictures that `make demo` uses. Read-only."""
    folder = tmp_path_factory.mktemp("samples")
    make_samples(folder)
    return folder


@pytest.fixture(scope="session")
def image_context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory in which `make image` builds. Read-only."""
    folder = tmp_path_factory.mktemp("context") / "image"
    run_script("context.sh", folder)
    return folder


@pytest.fixture(scope="session")
def image_environment(image_context: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environment that the images contain: our wheel and the pinned packages.

    Read-only. Takes minutes to build.
    """
    environment = tmp_path_factory.mktemp("environment") / "dedup"
    run_script("install.sh", environment, image_context)
    return environment


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file, neither of which this user may read.

    Skips the test for root, who may read everything.
    """
    folder = tmp_path / "refused"
    folder.mkdir()
    file = folder / "file"
    file.write_bytes(b"GIF89a")
    file.chmod(0)
    folder.chmod(0)
    try:
        if _can_list(folder):
            pytest.skip("this user (root) may read everything, whatever the permissions")
        yield folder
    finally:
        folder.chmod(0o700)


def _can_list(folder: Path) -> bool:
    try:
        list(folder.iterdir())
    except PermissionError:
        return False
    return True
