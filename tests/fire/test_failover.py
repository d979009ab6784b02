"""Somebody clicks while the database fails over and restarts: no click fails, and none is half done."""

import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests.endtoend.panel import PASSWORD, PROJECT_DIR, Answer, Client
from tests.fire.failover import ReplicatedPostgres
from tests.pages.webserver import WebServer
from tests.waiting import wait_until

pytestmark = pytest.mark.postgres

PREPARE = f"""
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
User.objects.create_superuser("admin", password="{PASSWORD}")
"""


@dataclass
class Clicks:
    """A person who makes blueprints, one after the other, and looks at the servers in between."""

    client: Client
    statuses: Counter[int] = field(default_factory=Counter)
    done: list[str] = field(default_factory=list)
    not_done: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    read_only: list[str] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def click_on(self) -> None:
        """Go on until it is over."""
        for number in count():
            if self.is_over.is_set():
                return
            self._note(self.client.get("/servers/"))
            name = f"b{number}"
            answer = self.client.post("/blueprints/new/", name=name, arguments="+map c1m1_hotel")
            self._note(answer)
            if answer.path.startswith(f"/blueprints/{name}/"):
                self.done.append(name)
            elif "was not carried out" in answer.text:
                self.not_done.append(name)

    def _note(self, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if "can only be read" in answer.text:
            self.read_only.append(answer.path)
        if answer.status not in (200, 503):
            self.faults.append(f"{answer.status} {answer.path} {answer.text[:300]}")


@pytest.fixture
def servers() -> Iterator[ReplicatedPostgres]:
    """Return a server and its standby."""
    with tempfile.TemporaryDirectory(prefix="saferoom-failover-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user.
        servers = ReplicatedPostgres(Path(folder) / "postgres")
        servers.start()
        yield servers
        servers.stop()


@pytest.fixture
def site(
    servers: ReplicatedPostgres,
    capfd: pytest.CaptureFixture[str],  # Before it starts, because it inherits what is captured.
) -> Iterator[tuple[WebServer, str]]:
    """Return a web server on that database, and the URL of the database."""
    url = servers.make_database("panel")
    subprocess.run(
        [sys.executable, str(PROJECT_DIR / "manage.py"), "shell", "-v0", "-c", PREPARE],
        env={**os.environ, "DATABASE_URL": url},
        check=True,
    )
    site = WebServer()
    site.start(DATABASE_URL=url)
    yield site, url
    site.stop()


def test_no_click_is_a_fault_and_none_is_half_done(
    servers: ReplicatedPostgres, site: tuple[WebServer, str], capfd: pytest.CaptureFixture[str]
) -> None:
    server, url = site
    clicks = Clicks(Client(server.url))
    clicks.client.sign_in()
    clicking = threading.Thread(target=clicks.click_on)
    clicking.start()

    def wait_for_clicks(number: int) -> None:
        until = len(clicks.done) + number
        wait_until(lambda: len(clicks.done) >= until, 60, "no click succeeds")

    try:
        wait_for_clicks(3)
        servers.lose_primary()
        wait_until(lambda: clicks.read_only, 60, "no click was told of the standby")
        servers.promote()
        wait_for_clicks(3)
        servers.primary.restart()
        wait_for_clicks(3)
        servers.primary.crash()
        servers.primary.start()
        wait_for_clicks(3)
    finally:
        clicks.is_over.set()
        clicking.join()
    assert not clicks.faults
    with psycopg.connect(url) as connection:
        stored = {name for (name,) in connection.execute("SELECT name FROM servers_blueprint")}
    assert stored.issuperset(clicks.done)
    assert stored.isdisjoint(clicks.not_done)
    assert clicks.read_only[0].startswith("/blueprints/new/")
    assert "Traceback" not in capfd.readouterr().err
