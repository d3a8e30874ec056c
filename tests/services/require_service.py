"""Skips a test whose service is not installed; in CI, fails it."""

import contextlib
import os
from collections.abc import Iterator
from typing import TypeVar

import pytest

from tests.conftest import CI_VARIABLE
from tests.services.servers import MissingError

T = TypeVar("T")


@contextlib.contextmanager
def required(service: "contextlib.AbstractContextManager[T]") -> Iterator[T]:
    """Starts a service, for as long as the block lasts. Skips or fails the test if the service is not installed."""
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(service)
        except MissingError as missing:
            if os.environ.get(CI_VARIABLE):
                pytest.fail(f"{missing} (a failure, not a skip, because {CI_VARIABLE} is set)", pytrace=False)
            pytest.skip(str(missing))
        yield started
