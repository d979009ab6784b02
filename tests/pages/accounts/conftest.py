"""What the tests of accounts share."""

from collections.abc import Iterator

import pytest
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _forget_guesses() -> Iterator[None]:
    """Forget what was counted: the next test's people have the same ids."""
    cache.clear()
    yield
    cache.clear()
