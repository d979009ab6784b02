"""The web server for the pages, in forks of a process that has the project loaded already.

Loading it takes most of a second, and each test in a browser has its own server.
"""

import json
import subprocess
import sys

from django.conf import settings

from tests.pages.webserver import WebServer

# Each line of its input is a server to start; the answer is the server's pid. It loads what gunicorn and a
# first request would load, but starts no thread and opens no connection, which a fork would share.
PROGRAM = """
import json, os, signal, sys, threading
import tests.pages.webserver
tests.pages.webserver.make_application()
import gunicorn.app.wsgiapp, gunicorn.arbiter, gunicorn.workers.gasgi, l4d2site.urls
from django.db import connection
assert threading.active_count() == 1 and connection.connection is None
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # A server that has ended is gone at once.
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(2, 1)
        os.environ.update(request["environment"])
        sys.argv = ["gunicorn", *request["arguments"]]
        gunicorn.app.wsgiapp.run()
    print(child, flush=True)
"""
READ_BY_EACH_SERVER = ("CHECK_SECONDS",)
"""Variables that are read after the fork."""


class WebServerForks:
    """The process that forks. It starts when it is first used, and again for a different environment."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._environment: dict[str, str] = {}

    def fork(self, arguments: list[str], environment: dict[str, str]) -> int:
        """Start a server; return its pid, which is also its process group's number."""
        own = {name: environment[name] for name in READ_BY_EACH_SERVER if name in environment}
        loaded = {
            name: value
            for name, value in environment.items()
            if name not in (*READ_BY_EACH_SERVER, "PYTEST_CURRENT_TEST")
        }
        if self._process is None or loaded != self._environment:
            self.close()
            self._environment = loaded
            self._process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                cwd=settings.BASE_DIR,
                env=loaded,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(
                json.dumps({"arguments": arguments, "environment": own}) + "\n"
            )
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BaseException:
            # A test that ran into its time limit here leaves an unread answer, which the next test would
            # read.
            self._process.kill()
            self.close()
            raise
        assert answer, "the project could not be loaded: see above"
        return int(answer)

    def close(self) -> None:
        """End the process; the servers that it forked keep running."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


class ForkedWebServer(WebServer):
    """The web server, which has loaded the project before it starts."""

    def __init__(self, forks: WebServerForks) -> None:
        super().__init__()
        self._forks = forks

    def _run(self, arguments: list[str], environment: dict[str, str]) -> None:
        self._pid = self._forks.fork(arguments, environment)
