"""The streams as deployed: under gunicorn, behind nginx, across restarts and lost connections."""

import http.client
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPMessage
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.utils import timezone

from jobs.database.change_signals import Channel, announce
from jobs.logs.job_output import insert_lines
from jobs.models import Job, JobState
from l4d2site.security import CONTENT_SECURITY_POLICY
from servers.models import Server
from tests.jobs.live.stream_server import Nginx, Panel, Watcher, cookie_of, unverified
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(server: Server) -> Job:
    """Return a running job without a line."""
    return Job.objects.create(operation="start", server=server, state=JobState.RUNNING)


@pytest.fixture(scope="module")
def shared_panel(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[Panel]:
    """Return a panel for all tests without nginx, none of which leaves anything in it."""
    panel = Panel(make_var_dir(tmp_path_factory))
    yield panel
    panel.stop()


@pytest.fixture(scope="module")
def socket_panel(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[Panel]:
    """Return a panel on a Unix socket for all tests with nginx."""
    var_dir = make_var_dir(tmp_path_factory)
    panel = Panel(var_dir, var_dir.with_name("web.sock"))
    yield panel
    panel.stop()


@pytest.fixture
def panel(shared_panel: Panel, job: Job) -> Panel:
    """Return a panel that answers."""
    if not shared_panel.is_running:
        # Longer than a stop could take that waits for somebody.
        shared_panel.start(GUNICORN_CMD_ARGS="--graceful-timeout=600")
    return shared_panel


def make_var_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    var_dir = tmp_path_factory.mktemp("panel") / "var"
    (var_dir / "static").mkdir(parents=True)
    return var_dir


def write(job: Job, first: int, last: int) -> None:
    """Store the lines `first` to `last`, as a worker does."""
    lines = [("stdout", str(number), timezone.now()) for number in range(first, last + 1)]
    with transaction.atomic():
        insert_lines(job.pk, lines)
        announce(Channel.PAGES)


def finish(job: Job) -> None:
    with transaction.atomic():
        Job.objects.update(state=JobState.SUCCEEDED, exit_code=0, finished_at=timezone.now())
        announce(Channel.PAGES)


def in_thread(action: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def has_seen(watcher: Watcher, seq: int) -> Callable[[], bool]:
    return lambda: bool(watcher.seqs) and watcher.seqs[-1] == seq


def watch(panel: Panel, job: Job, user: User) -> Watcher:
    return Watcher(panel.port, f"/jobs/{job.pk}/events", cookie_of(user))


def test_a_restart_ends_the_streams_at_once_and_who_comes_back_goes_on(
    panel: Panel, job: Job, alice: User
) -> None:
    watchers = [watch(panel, job, alice) for _ in range(20)]
    write(job, 1, 10)
    threads = [in_thread(watcher.follow) for watcher in watchers]
    for watcher in watchers:
        wait_until(has_seen(watcher, 10), 10, "a watcher has not seen the lines")
    panel.stop()
    for thread in threads:
        thread.join(10)
    assert not any(watcher.is_over for watcher in watchers)
    write(job, 11, 20)
    panel.start()
    finish(job)
    for watcher in watchers:
        watcher.follow()
        assert watcher.is_over
        assert watcher.seqs == list(range(1, 21))


def test_who_leaves_is_forgotten_at_once(panel: Panel, job: Job, alice: User) -> None:
    write(job, 1, 1)
    before = panel.sockets()
    with ExitStack() as stack:
        for _ in range(20):
            response = stack.enter_context(watch(panel, job, alice).open())
            assert response.readline() == b"retry: 1000\n"
        # Not 20 more than before: the panel may not have closed earlier requests' sockets yet.
        during = panel.sockets()
        assert during >= 20
    most = min(before, during - 20)
    wait_until(lambda: panel.sockets() <= most, 5, "connections are still open")


def test_streams_survive_lost_database_connections(panel: Panel, job: Job, alice: User) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no connections to lose; the run on PostgreSQL has")
    watcher = watch(panel, job, alice)
    write(job, 1, 5)
    thread = in_thread(watcher.follow)
    wait_until(has_seen(watcher, 5), 10, "the watcher has not seen the lines")
    for _ in range(3):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        last = watcher.seqs[-1]
        write(job, last + 1, last + 5)
        wait_until(has_seen(watcher, last + 5), 10, "lines are lost with the connection")
    finish(job)
    thread.join(10)
    assert watcher.seqs == list(range(1, 21))


@pytest.mark.nginx
class TestBehindNginx:
    @pytest.fixture
    def panel(self, socket_panel: Panel, job: Job) -> Panel:
        """Return a panel on a Unix socket, which only nginx uses."""
        if not socket_panel.is_running:
            socket_panel.start(
                TRUSTED_PROXIES="unix", STREAMS_PER_ADDRESS="2", BEHIND_TLS_PROXY="true"
            )
        return socket_panel

    @pytest.fixture
    def nginx(self, tmp_path: Path, panel: Panel) -> Iterator[Nginx]:
        """Return nginx in front of the panel."""
        folder = tmp_path / "nginx"
        folder.mkdir()
        nginx = Nginx(folder, panel)
        try:
            nginx.start()
            yield nginx
        finally:
            nginx.stop()

    def test_lines_are_passed_on_as_they_are_stored(
        self, nginx: Nginx, job: Job, alice: User
    ) -> None:
        watcher = Watcher(nginx.port, f"/jobs/{job.pk}/events", cookie_of(alice), is_tls=True)
        thread = in_thread(watcher.follow)
        for number in range(1, 20):
            write(job, number, number)
            wait_until(has_seen(watcher, number), 5, "nginx holds a line back")
        finish(job)
        thread.join(10)
        assert watcher.is_over

    def test_a_restart_of_the_panel_loses_and_doubles_nothing(
        self, nginx: Nginx, panel: Panel, job: Job, alice: User
    ) -> None:
        watcher = Watcher(nginx.port, f"/jobs/{job.pk}/events", cookie_of(alice), is_tls=True)
        write(job, 1, 700)
        thread = in_thread(watcher.follow)
        wait_until(has_seen(watcher, 700), 10, "the watcher has not seen the lines")
        panel.stop()
        thread.join(10)
        panel.start()
        write(job, 701, 1500)
        finish(job)
        watcher.follow()
        assert watcher.is_over
        assert watcher.seqs == list(range(1, 1501))

    def test_who_leaves_nginx_leaves_the_panel(
        self, nginx: Nginx, panel: Panel, job: Job, alice: User
    ) -> None:
        write(job, 1, 1)
        kept = 32  # connections that nginx keeps for reuse
        before = panel.sockets()
        for _ in range(40):
            Watcher(nginx.port, f"/jobs/{job.pk}/events", cookie_of(alice), is_tls=True).follow(1)
        wait_until(lambda: panel.sockets() <= before + kept, 5, "connections are still open")

    def test_only_its_account_and_group_may_connect_to_the_socket(self, panel: Panel) -> None:
        assert panel.socket_path
        assert stat.S_IMODE(panel.socket_path.stat().st_mode) == 0o660

    def test_a_page_comes_through_with_the_headers_of_the_panel(self, nginx: Nginx) -> None:
        with Watcher(nginx.port, "/accounts/login/", "", is_tls=True).open() as page:
            assert page.status == 200
            assert page.headers.get_all("Content-Security-Policy") == [CONTENT_SECURITY_POLICY]
            assert page.headers.get_all("X-Content-Type-Options") == ["nosniff"]
            assert "Secure" in page.headers["Set-Cookie"]
            assert "Strict-Transport-Security" not in page.headers

    def test_limits_count_for_the_address_that_nginx_names_and_no_other(
        self, nginx: Nginx, job: Job, alice: User
    ) -> None:
        def follow(address: str, **headers: str) -> int:
            """Return the status of a stream that stays open, requested from an address of this machine."""
            web = http.client.HTTPSConnection(
                "127.0.0.1",
                nginx.port,
                timeout=20,
                context=unverified(),
                source_address=(address, 0),
            )
            stack.callback(web.close)
            own = {"Cookie": cookie_of(alice), "Host": "localhost"}
            web.request("GET", f"/jobs/{job.pk}/events", headers=own | headers)
            return web.getresponse().status

        with ExitStack() as stack:
            assert [follow("127.0.0.5") for _ in range(3)] == [200, 200, 429]
            assert follow("127.0.0.6") == 200
            forged = {"X-Forwarded-For": "127.0.0.7"}
            assert follow("127.0.0.5", **forged) == 429, "a client chose its own address"

    def test_a_huge_body_is_refused_before_it_is_sent(self, nginx: Nginx, tmp_path: Path) -> None:
        web = http.client.HTTPSConnection("127.0.0.1", nginx.port, timeout=20, context=unverified())
        with closing(web):
            web.putrequest("POST", "/accounts/login/")
            web.putheader("Content-Length", str(600 * 1024**2))
            web.endheaders(b"x" * 65536)
            assert web.getresponse().status == 413
        assert not [path for path in (tmp_path / "nginx").rglob("*") if path.stat().st_size > 65536]

    def test_it_serves_the_static_files_itself(
        self, nginx: Nginx, panel: Panel, capfd: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("page.0123456789ab.css", "page.css"):
            (panel.var_dir / "static" / name).write_text("body {}")
        # So that nobody else can be the one who serves them. As the last test, it starts no panel again.
        panel.stop()
        with Watcher(nginx.port, "/static/page.0123456789ab.css", "", is_tls=True).open() as hashed:
            assert hashed.status == 200
            assert hashed.headers["Content-Type"] == "text/css"
            assert "immutable" in hashed.headers["Cache-Control"]
            assert_static_headers(hashed.headers)
        with Watcher(nginx.port, "/static/page.css", "", is_tls=True).open() as plain:
            assert plain.status == 200
            assert "Cache-Control" not in plain.headers
            assert_static_headers(plain.headers)
        with Watcher(nginx.port, "/static/../saferoom.sqlite3", "", is_tls=True).open() as outside:
            assert outside.status != 200
        # Nor does a link get into its logs, even now.
        for link in (
            "invitation/t0ken",
            "reset/a/t0ken",
            "invitation/t0ken/?next=/accounts/reset/b",
            "second-factor/authenticate/?next=%252Faccounts%252Finvitation%252Ft0ken",
            "login/?next=%2faccounts%2Freset%2ft0ken",
        ):
            with Watcher(nginx.port, f"/accounts/{link}/", "", is_tls=True).open() as gone:
                assert gone.status == 502
        with Watcher(nginx.port, "/blobs/a?signed=abc", "", is_tls=True).open():
            nginx.wait_for_access("/blobs/a?signed=... ")
        logged = nginx.wait_for_access("login/?next=%2faccounts%2Freset%2f... ")
        assert '"GET /accounts/invitation/... HTTP/1.1" 502' in logged
        assert "t0ken" not in logged + capfd.readouterr().err + nginx.error_log.read_text()


def assert_static_headers(headers: HTTPMessage) -> None:
    """Check that a static file has the same headers as pages."""
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Content-Security-Policy") == [CONTENT_SECURITY_POLICY]
