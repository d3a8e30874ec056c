"""Prepares the decoders for the tests of the core."""

import pytest

from beam_dedup.core.imaging.fingerprint import prepare_decoders


@pytest.fixture(scope="session", autouse=True)
def _decoders() -> None:
    """Prepares Pillow as every process of a run does; otherwise Pillow's own limit and warnings would apply."""
    prepare_decoders()
