"""A whole Saferoom on a free port, started as the README says, and a client that uses it over HTTP."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http.client import HTTPMessage
from http.cookiejar import CookieJar
from pathlib import Path
from typing import IO, Any

from tests.ports import find_free_port
from tests.waiting import wait_until

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent
PASSWORD = "a-password-for-the-tour"
HEALTH_TOKEN = "a-token-that-only-the-tour-has"


@dataclass(frozen=True)
class Answer:
    """What the web server answered; `path` is where redirects led."""

    status: int
    path: str
    text: str

    @property
    def job_id(self) -> int:
        """The job whose page this is."""
        match = re.fullmatch(r"/jobs/(\d+)/", self.path)
        assert match, f"{self.path} is not the page of a job: {self.text[:2000]}"
        return int(match[1])


class Client:
    """A person whose browser has no JavaScript."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self._cookies), SeeOther()
        )

    def get(self, path: str) -> Answer:
        """Fetch a page."""
        return self._open(urllib.request.Request(self.url + path))

    def post(self, path: str, **fields: str | int) -> Answer:
        """Send a form, as from the page at the same address."""
        fields["csrfmiddlewaretoken"] = next(
            (cookie.value or "" for cookie in self._cookies if cookie.name == "csrftoken"), ""
        )
        data = urllib.parse.urlencode(fields).encode()
        return self._open(urllib.request.Request(self.url + path, data))

    def sign_in(self, name: str = "admin", password: str = PASSWORD) -> None:
        """Sign in through the form."""
        self.get("/accounts/login/")
        answer = self.post("/accounts/login/", username=name, password=password)
        assert answer.path == "/servers/", answer.text

    def events(self, path: str) -> Iterator[tuple[str, str]]:
        """Follow a stream as (event, data), until the server ends it."""
        with self._opener.open(self.url + path, timeout=60) as response:
            event, data = "message", ""
            for raw in response:
                name, _, value = raw.decode().rstrip("\n").partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data = value
                elif not name and (data or event != "message"):
                    yield event, data
                    event, data = "message", ""

    def _open(self, request: urllib.request.Request) -> Answer:
        try:
            response = self._opener.open(request, timeout=30)
        except urllib.error.HTTPError as error:
            response = error
        with response:
            path = urllib.parse.urlsplit(response.geturl()).path
            return Answer(response.status, path, response.read().decode())


class SeeOther(urllib.request.HTTPRedirectHandler):
    """Follows 302 and 303 as browsers do: with a GET."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that follows."""
        return urllib.request.Request(newurl)


class Panel:
    """`script/server` with its state in a folder of its own, which survives a stop and another start."""

    def __init__(self, var_dir: Path) -> None:
        self.var_dir = var_dir
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = Client(self.url)
        self.output: list[str] = []
        self.more_settings: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment of this panel's processes."""
        ours = (
            "SECRET_KEY",
            "SECRETS_KEYS",
            "DATABASE_URL",
            "HOST_ROOT",
            "GAME_SOURCE",
            "DJANGO_SETTINGS_MODULE",
        )
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return inherited | {
            "VAR_DIR": str(self.var_dir),
            "PORT": str(self.port),
            "SAFEROOM_ADMIN_PASSWORD": PASSWORD,
            "HEALTH_TOKEN": HEALTH_TOKEN,
            **self.more_settings,
        }

    @property
    def database(self) -> Path:
        """The file that is its database."""
        return self.var_dir / "saferoom.sqlite3"

    @property
    def host_root(self) -> Path:
        """Where the host layer keeps everything."""
        return self.var_dir / "host"

    def take_database(self, migrated: Path) -> None:
        """Let it start with a copy of a database that has all tables."""
        self.var_dir.mkdir()
        shutil.copy2(migrated, self.database)

    def start(self) -> None:
        """Start it, and wait for its ready line."""
        self.output = []
        self._process = subprocess.Popen(
            [PROJECT_DIR / "script/server"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.environment,
            start_new_session=True,
        )
        threading.Thread(target=self._read_output, args=[self._process], daemon=True).start()
        wait_until(self._is_ready, 90, "script/server did not print its ready line")

    def _read_output(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout
        for line in process.stdout:
            self.output.append(line.rstrip("\n"))

    def _is_ready(self) -> bool:
        assert self._process
        assert self._process.poll() is None, "\n".join(self.output)
        return f"Saferoom is ready at {self.url}/" in self.output

    @property
    def pid(self) -> int:
        """The process that `script/server` is."""
        assert self._process
        return self._process.pid

    def stop(self) -> int:
        """Ask it to stop, wait until it has, and return its exit code."""
        assert self._process
        self._process.send_signal(signal.SIGTERM)
        exit_code = self._process.wait(60)
        if self._process.stdout:
            self._process.stdout.close()
        self._process = None
        return exit_code

    def end(self) -> None:
        """Leave nothing behind: no panel, and no game server."""
        for path in self.host_root.glob("instances/*/run.json"):
            self.hostops("stop", path.parent.name)
        if self._process:
            self.stop()

    def set_simulator(self, **programs: dict[str, Any]) -> None:
        """Set how the simulated programs behave from now on."""
        self.host_root.mkdir(parents=True, exist_ok=True)
        (self.host_root / "simulator.json").write_text(json.dumps(programs))

    def hostops(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Use the host's command line on the same root."""
        command = [str(PROJECT_DIR / ".venv/bin/python"), "-m", "hostops"]
        options = ["--root", str(self.host_root), "--source", "simulator"]
        return subprocess.run(
            [*command, *options, *arguments],
            cwd=PROJECT_DIR,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def host_state(self, name: str) -> str:
        """Return what the host itself says about a server."""
        answer = self.hostops("status", "--json")
        statuses = json.loads(answer.stdout)
        return str(statuses[name]["state"]) if name in statuses else "absent"

    def health(self) -> dict[str, Any]:
        """Return what /healthz tells a client with the token."""
        authorization = {"Authorization": f"Bearer {HEALTH_TOKEN}"}
        request = urllib.request.Request(f"{self.url}/healthz", headers=authorization)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return json.load(response)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            return json.load(error)  # type: ignore[no-any-return]

    def worker_pid(self) -> int | None:
        """Return the pid of the worker that sends heartbeats, if one does."""
        workers = self.health()["workers"]
        return workers[0]["pid"] if workers else None

    def kill_worker(self) -> int:
        """Kill the worker with SIGKILL, and wait until another one sends heartbeats."""
        pid = self.worker_pid()
        assert pid
        os.kill(pid, signal.SIGKILL)

        def other_pid() -> int | None:
            now = self.worker_pid()
            return now if now and now != pid else None

        new = wait_until(other_pid, 30, "no worker came back")
        assert new
        return new

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Read from the panel's database."""
        connection = sqlite3.connect(self.database, timeout=20)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()

    def job(self, job_id: int) -> dict[str, Any]:
        """Return a job's row."""
        columns = ("state", "exit_code", "error", "stage", "operation")
        (row,) = self.query(f"SELECT {', '.join(columns)} FROM jobs_job WHERE id = {job_id}")
        return dict(zip(columns, row, strict=True))

    def log(self, job_id: int) -> list[str]:
        """Return a job's lines, after checking that their seqs have no gap."""
        rows = self.query(f"SELECT seq, line FROM jobs_joblog WHERE job_id = {job_id} ORDER BY seq")
        assert [seq for seq, _ in rows] == list(range(1, len(rows) + 1))
        return [line for _, line in rows]

    def wait_for_state(self, job_id: int, *states: str) -> dict[str, Any]:
        """Wait until a job is in one of the states, and return its row."""
        try:
            wait_until(
                lambda: self.job(job_id)["state"] in states, 60, f"job {job_id} is not {states}"
            )
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{self.job(job_id)}\n" + "\n".join(self.log(job_id) + self.output[-30:])
            ) from None
        return self.job(job_id)

    def succeed(self, job_id: int) -> None:
        """Wait until a job is over, and check that it succeeded."""
        job = self.wait_for_state(job_id, "succeeded", "failed", "cancelled")
        assert job["state"] == "succeeded", f"{job}\n" + "\n".join(self.log(job_id))
        assert job["exit_code"] == 0

    def install(self) -> int:
        """Press "Install or update the game" in the admin, and return the job's id."""
        answer = self.client.post("/admin/install")
        assert answer.path == "/admin/jobs/job/", answer.text
        ((job_id,),) = self.query("SELECT max(id) FROM jobs_job")
        return int(job_id)

    def operate(self, name: str, operation: str) -> int:
        """Press a button on a server's page, and return the job's id."""
        answer = self.client.post(f"/servers/{name}/jobs/", operation=operation)
        assert answer.status == 200, answer.text
        return answer.job_id

    def make_server(self, name: str) -> None:
        """Make a blueprint if there is none, and a server from it on a free port, through the forms."""
        if not self.query("SELECT id FROM servers_blueprint"):
            answer = self.client.post(
                "/blueprints/new/", name="coop", arguments="+map c1m1_hotel", config="sv_lan 0"
            )
            assert answer.path.startswith("/blueprints/coop/"), answer.text
        ((blueprint_id,),) = self.query("SELECT id FROM servers_blueprint")
        ((host_id,),) = self.query("SELECT id FROM servers_host")
        answer = self.client.post(
            "/servers/new/",
            name=name,
            blueprint=blueprint_id,
            host=host_id,
            # Another panel may just have chosen the same one of the ports that the panel offers.
            port=find_free_port(),
        )
        assert answer.path == f"/servers/{name}/", answer.text


def wait_for_line(panel: Panel, job_id: int, text: str) -> None:
    """Wait until a job's log contains `text`."""
    has_line = partial(lambda: any(text in line for line in panel.log(job_id)))
    wait_until(has_line, 60, f"no line of job {job_id} contains {text!r}")
