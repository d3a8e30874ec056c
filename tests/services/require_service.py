"""What a test does that needs a service which is not there: it is skipped, but fails in CI."""

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
    """A service that is there, or the end of the test."""
    with contextlib.ExitStack() as stack:
        try:
            started = stack.enter_context(service)
        except MissingError as missing:
            if os.environ.get(CI_VARIABLE):
                pytest.fail(f"{missing} (a failure because {CI_VARIABLE} is set)", pytrace=False)
            pytest.skip(str(missing))
        yield started
