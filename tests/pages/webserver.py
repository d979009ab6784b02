"""A web server for browsers: the project under ASGI, in a process of its own, on the tests' database."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

import django
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.handlers.asgi import ASGIHandler
from django.db import connection

from l4d2site.gate.answers import Application, Receive, Send
from tests.ports import find_free_port
from tests.waiting import wait_until


def make_application() -> Application:
    """Return the project's pages and upload door, with its static files as they are in the source."""
    django.setup()
    # Everything that needs it can only be imported now.
    from jobs.live import fan_out
    from l4d2site.asgi import serve
    from l4d2site.gate.entrance import Entrance
    from l4d2site.uploads import UploadDoor

    fan_out.CHECK_SECONDS = float(os.environ.get("CHECK_SECONDS", fan_out.CHECK_SECONDS))
    # Any ASGI application will do.
    pages = cast("Application", ASGIStaticFilesHandler(cast("ASGIHandler", serve)))
    door = Entrance(UploadDoor(pages), requests_per_address=1000, streams_per_address=1000)

    async def serve_all(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        application = door if scope.get("path", "").startswith("/uploads/") else pages
        await application(scope, receive, send)

    return serve_all


class WebServer:
    """Starts and ends it. It may be started again, on the same port."""

    def __init__(self) -> None:
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._pid = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        """Start it, and return once it answers."""
        self._run(
            [
                *("--worker-class", "asgi", "--bind", f"127.0.0.1:{self.port}"),
                *("--no-control-socket", "--graceful-timeout", "1", "--log-level", "warning"),
                "tests.pages.webserver:make_application()",
            ],
            {
                **os.environ,
                "DATABASE_URL": database_url(connection.settings_dict),
                **environment,
            },
        )
        wait_until(self._answers, 20, "the web server does not answer")

    def _run(self, arguments: list[str], environment: dict[str, str]) -> None:
        """Run gunicorn as the first of a process group of its own."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments],
            cwd=settings.BASE_DIR,
            env=environment,
            start_new_session=True,
        )
        self._pid = self._process.pid

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/accounts/login/", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """End it with all its processes."""
        if pid := self._pid:
            os.killpg(pid, signal.SIGKILL)
            # All of them: a dying one still holds the locks of its files, and the port.
            wait_until(lambda: not is_group_alive(pid), 20, f"processes of {pid} are still there")
        if self._process:
            self._process.wait()
        self._pid, self._process = 0, None


def is_group_alive(group: int) -> bool:
    """Whether a process of this group still has a live thread."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # The first thread may have ended before others, which still have all files open.
        state, of_group, threads = fields[0], int(fields[2]), int(fields[17])
        if of_group == group and (state != "Z" or threads > 1):
            return True
    return False


def database_url(database: dict[str, Any]) -> str:
    """Return the URL of the database that Django's settings describe."""
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    where = f"{database['HOST']}:{database['PORT']}/{database['NAME']}"
    return f"postgres://{database['USER']}:{database['PASSWORD']}@{where}"
