"""Fixtures."""

from collections.abc import Iterator

import pytest

from tests.transforms.object_store import Store


@pytest.fixture
def store() -> Iterator[dict[str, bytes]]:
    Store.objects.clear()
    yield Store.objects
    Store.objects.clear()
