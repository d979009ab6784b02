"""A fake host under the worker."""

import pytest

from jobs import operations
from tests.fakes import FakeHost


@pytest.fixture
def fake_host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """Put a fake where the worker gets its host layer."""
    fake = FakeHost()
    monkeypatch.setattr(operations, "get_host", lambda _name: fake)
    return fake
