"""The product's own web server on the tests' database, nginx in front of it, and a watcher that reconnects."""

import http.client
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from l4d2site.supervisor import Place
from tests.floors import find_nginx
from tests.ports import find_free_port
from tests.waiting import wait_until


def url_of_test_database() -> str:
    """Return the DATABASE_URL that another process needs."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


def cookie_of(user: User) -> str:
    """Return the cookie of a session of `user`."""
    client = Client()
    client.force_login(user)
    return f"sessionid={client.cookies['sessionid'].value}"


class Panel:
    """gunicorn as deployed, on a port or a Unix socket. It may be stopped and started again there."""

    def __init__(self, var_dir: Path, socket_path: Path | None = None) -> None:
        self.port = find_free_port()
        self.socket_path = socket_path
        bind = f"unix:{socket_path}" if socket_path else "127.0.0.1"
        self.place = Place(bind, self.port)
        self.var_dir = var_dir
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._process is not None

    def start(self, **environment: str) -> None:
        """Start it, and return once it answers.

        `environment` is added to that of its processes, and to that of later starts.
        """
        self._environment |= environment
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--config", "deploy/gunicorn.conf.py"),
                *("--log-level", "warning", "l4d2site.asgi:application"),
            ],
            cwd=settings.BASE_DIR,
            env=os.environ
            | {
                "DATABASE_URL": url_of_test_database(),
                "VAR_DIR": str(self.var_dir),
                "PORT": str(self.port),
                "BIND": self.place.bind,
                "ALLOWED_HOSTS": "localhost,127.0.0.1",
                **self._environment,
            },
        )
        try:
            wait_until(self._answers, 30, "the panel does not answer")
        except BaseException:
            self._process.kill()
            self._process.wait()
            self._process = None
            raise

    def _answers(self) -> bool:
        try:
            return self.place.ask("/accounts/login/", "localhost")[0] == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """The process that serves: the only child of gunicorn's first one."""
        assert self._process
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(path.read_text().split()[0])

    def sockets(self) -> int:
        """Return how many sockets the serving process has open."""
        count = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # It was closed meanwhile.
                count += descriptor.readlink().name.startswith("socket:")
        return count

    def stop(self) -> None:
        """Ask it to stop, as a service manager does, and wait until it has."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(30) == 0
        self._process = None


def unverified() -> ssl.SSLContext:
    """Return a context for an untrusted certificate, without those that the machine trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Watcher:
    """Follows a stream as a browser would, over HTTP, or over TLS with an untrusted certificate."""

    def __init__(self, port: int, path: str, cookie: str, *, is_tls: bool = False) -> None:
        self._port = port
        self._path = path
        self._cookie = cookie
        self._is_tls = is_tls
        self.seqs: list[int] = []
        self.is_over = False

    @contextmanager
    def open(self) -> Iterator[http.client.HTTPResponse]:
        """Send one request, and yield the response, whose body may last."""
        if self._is_tls:
            web: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self._port, timeout=20, context=unverified()
            )
        else:
            web = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        headers = {"Cookie": self._cookie, "Host": "localhost"}
        if self.seqs:
            headers["Last-Event-ID"] = str(self.seqs[-1])
        try:
            web.request("GET", self._path, headers=headers)
            response = web.getresponse()
            try:
                yield response
            finally:
                response.close()
        finally:
            web.close()

    def follow(self, until: int | None = None) -> None:
        """Read until the line `until`, the `end` event, or the end of the connection."""
        with self.open() as response:
            assert response.status == 200, response.status
            for line in response:
                name, _, value = line.decode().strip().partition(": ")
                if name == "id":
                    self.seqs.append(int(value))
                if (name, value) == ("event", "end"):
                    self.is_over = True
                    return
                if until is not None and self.seqs and self.seqs[-1] >= until:
                    return


class Nginx:
    """nginx with `deploy/nginx.conf`, in which only what differs between machines is replaced."""

    def __init__(self, folder: Path, panel: Panel) -> None:
        self.port = find_free_port()
        self._redirect_port = find_free_port()
        self._folder = folder
        self.error_log = folder / "error.log"
        self._panel = panel
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, is_http2: bool = True) -> None:
        """Start it, and return once it listens."""
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-nodes", "-days", "2"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"),
            ],
            cwd=self._folder,
            check=True,
            capture_output=True,
        )
        site = (settings.BASE_DIR / "deploy/nginx.conf").read_text()
        for own, ours in {
            "server unix:/run/saferoom/web.sock;": f"server unix:{self._panel.socket_path};",
            "listen 80;": f"listen 127.0.0.1:{self._redirect_port};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.port} ssl{' http2' if is_http2 else ''};",
            "listen [::]:80;": "",
            "listen [::]:443 ssl http2;": "",
            "/etc/letsencrypt/live/panel.example.org/fullchain.pem": f"{self._folder}/cert.pem",
            "/etc/letsencrypt/live/panel.example.org/privkey.pem": f"{self._folder}/key.pem",
            "root /var/lib/saferoom;": f"root {self._panel.var_dir};",
            "server_name panel.example.org;": "server_name localhost;",
            "/var/log/nginx/": f"{self._folder}/",
        }.items():
            assert own in site, own
            site = site.replace(own, ours)
        temporary = "".join(
            f"{kind}_temp_path {self._folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "nginx.conf").write_text(
            f"daemon off; pid {self._folder}/pid; error_log stderr warn; worker_processes 1;"
            "events { worker_connections 1000; }"
            f"http {{ access_log off; {temporary} types {{ text/css css; text/javascript js; }} {site} }}"
        )
        # Its workers have to read files in the test's folder, whoever owns it.
        user = f"user {Path(self._folder).owner()}; " if os.geteuid() == 0 else ""
        program = find_nginx() or "nginx"
        self._process = subprocess.Popen(
            [program, "-p", self._folder, "-c", self._folder / "nginx.conf", "-g", user]
        )
        wait_until(self._answers, 20, "nginx does not answer")

    def _answers(self) -> bool:
        try:
            with Watcher(self.port, "/accounts/login/", "", is_tls=True).open() as response:
                return response.status == 200
        except OSError:
            return False

    def wait_for_access(self, words: str) -> str:
        """Return its log of requests once that contains `words`."""
        log = self._folder / "access.log"
        wait_until(lambda: words in log.read_text(), 5, f"nginx does not log {words}")
        return log.read_text()

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)
