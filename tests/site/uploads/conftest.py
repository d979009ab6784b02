"""An overlay of Alice's with an upload to it, and a store of the test's own."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User

from servers.models import Overlay, Upload
from servers.store import begin_upload


@pytest.fixture(autouse=True)
def store_below(tmp_path: Path, settings: LazySettings) -> None:
    """Give each test a store of its own."""
    settings.CONTENT_ROOT = tmp_path / "content"


@pytest.fixture
def overlay(alice: User) -> Overlay:
    """Return an overlay of Alice's without any version."""
    return Overlay.objects.create(name="maps", owner=alice, is_shared=False)


@pytest.fixture
def upload(overlay: Overlay, alice: User) -> Upload:
    """Return an upload that has no part yet."""
    return begin_upload(overlay, by=alice, adds_to_latest=True)
