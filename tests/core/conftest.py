"""Set-up of the core's tests."""

import pytest

from beam_dedup.core.imaging.fingerprint import prepare_decoders


@pytest.fixture(scope="session", autouse=True)
def _decoders() -> None:
    """As every process of a run does; without it Pillow's own limit and warnings would apply."""
    prepare_decoders()
