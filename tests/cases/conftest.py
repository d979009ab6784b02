"""What the cases need: Alice in her browser, and a host with the simulated game."""

from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from servers.models import Blueprint
from tests.hostops.hosts import end_everything, write_control


class BlueprintForm:
    """The form in which Alice writes launch arguments and a config."""

    def __init__(self, alice: User) -> None:
        self._browser = Client()
        self._browser.force_login(alice)

    def save(self, *, arguments: str = "", config: str = "") -> str:
        """Send the form; return what the page says, or nothing if the blueprint was saved."""
        response = self._browser.post(
            reverse("servers:blueprint_create"),
            {"name": "night", "arguments": arguments, "config": config},
        )
        if response.status_code == 302:
            return ""
        assert not Blueprint.objects.filter(name="night").exists()
        return unescape(response.content.decode())


@pytest.fixture
def form(alice: User) -> BlueprintForm:
    """Return the form of a new blueprint."""
    return BlueprintForm(alice)


@pytest.fixture
def root(settings: Any, tmp_path: Path) -> Iterator[Path]:
    """Return the root of a host with nothing on it except a simulator that takes no time."""
    root = tmp_path / "host"
    root.mkdir()
    settings.HOST_ROOT = root
    write_control(root)
    yield root
    end_everything(root)
