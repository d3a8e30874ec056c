"""Fixtures of the tests of composites."""

from collections.abc import Iterator

import pytest

from tests.transforms.object_store import Store


@pytest.fixture
def store() -> Iterator[dict[str, bytes]]:
    """Yields the objects of an empty object store, by URI."""
    Store.objects.clear()
    yield Store.objects
    Store.objects.clear()
