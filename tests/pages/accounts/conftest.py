"""What the tests of the door share."""

import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from allauth.mfa.totp.internal import auth
from django.core.cache import cache


@pytest.fixture(autouse=True)
def _forget_guesses() -> Iterator[None]:
    """Forget what was counted: the next test's people have the same ids."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture(autouse=True)
def _one_step_of_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test's codes be checked at the time when it began: none runs out between an app and the form."""
    began_at = time.time()
    clock = SimpleNamespace(time=lambda: began_at)
    monkeypatch.setattr(auth, "time", clock)
    monkeypatch.setattr("tests.pages.accounts.totp.time", clock)
