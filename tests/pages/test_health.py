"""What a monitor learns, what the panel's operators learn, and how soon."""

import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from time import monotonic, time
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.db.backends.signals import connection_created
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone
from psycopg import errors

from hostops import __version__
from jobs.models import Job, JobState, Worker
from jobs.queue import register_worker
from l4d2site.health import pages
from l4d2site.health.looks import Looks
from servers.models import Host, Server
from tests.jobs.live.stream_server import Panel, Watcher
from tests.pages.conftest import sign_in
from tests.waiting import wait_until

HEALTHZ = reverse("healthz")
TOKEN = "a-token-that-only-the-tests-have"

# Health is checked in a thread of its own, which does not see another one's uncommitted changes.
pytestmark = pytest.mark.django_db(transaction=True)


PATIENCE_SECONDS = pages.PATIENCE_SECONDS


@pytest.fixture(autouse=True)
def has_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give the panel a token, and the time that a busy machine needs; make it forget earlier tests."""
    monkeypatch.setattr(pages, "PATIENCE_SECONDS", 60.0)
    monkeypatch.setattr(pages, "health", pages.Health())
    with override_settings(HEALTH_TOKEN=TOKEN):
        yield


def ask(client: Client, **headers: str) -> HttpResponse:
    """Return the answer of a check that is made now."""
    pages.health.looks.forget()
    response: HttpResponse = client.get(HEALTHZ, headers=headers)  # type: ignore[assignment]
    return response


def facts(status: int = 200) -> Any:
    """Return the facts that a client with the token gets."""
    response = ask(Client(), Authorization=f"Bearer {TOKEN}")
    assert response.status_code == status, response.content
    return response.json()  # type: ignore[attr-defined]


# --- Who is told what -------------------------------------------------------------------------


def test_a_stranger_gets_the_word_and_nothing_else(client: Client, worker: Worker) -> None:
    response = ask(client)
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}  # type: ignore[attr-defined]
    Worker.objects.all().delete()
    response = ask(client)
    assert response.status_code == 503
    assert response.json() == {"status": "unhealthy"}  # type: ignore[attr-defined]


def test_an_owner_is_a_stranger_here_and_staff_are_told(
    as_alice: Client, as_dana: Client, worker: Worker
) -> None:
    assert ask(as_alice).json() == {"status": "ok"}  # type: ignore[attr-defined]
    assert ask(as_dana).json()["database"] == "ok"  # type: ignore[attr-defined]


def test_staff_who_owe_a_second_factor_are_strangers_till_then(dana: User, worker: Worker) -> None:
    with override_settings(REQUIRE_STAFF_MFA=True):
        assert ask(sign_in(dana)).json() == {"status": "ok"}  # type: ignore[attr-defined]


def test_the_token_shows_the_facts(worker: Worker) -> None:
    Host.objects.update(driver="systemd")
    Worker.objects.update(version=__version__)
    told = facts()
    assert (told["status"], told["web"], told["database"]) == ("ok", "ok", "ok")
    assert told["faults"] == told["notes"] == []
    (of_worker,) = told["workers"]
    assert 0 <= of_worker["heartbeat_age_seconds"] < 30
    assert {**of_worker, "heartbeat_age_seconds": 0} == {
        "host": "local",
        "pid": 4312,
        "version": __version__,
        "concurrency": 4,
        "heartbeat_age_seconds": 0,
        "is_claiming": True,
    }
    (of_host,) = told["hosts"]
    assert of_host["driver"] == "systemd"
    assert of_host["last_heard_at"] == worker.heartbeat_at.isoformat()


@pytest.mark.parametrize("header", [f"Bearer {TOKEN}x", "Bearer ", "Bearer", f"bearer x{TOKEN}"])
def test_a_wrong_token_is_refused(client: Client, worker: Worker, header: str) -> None:
    response = ask(client, Authorization=header)
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert b"workers" not in response.content


def test_no_token_is_right_where_none_is_set(client: Client, worker: Worker) -> None:
    with override_settings(HEALTH_TOKEN=""):
        assert ask(client, Authorization="Bearer ").status_code == 401
        assert ask(client).status_code == 200


def test_a_token_in_the_address_is_refused_even_if_it_is_right(
    client: Client, worker: Worker
) -> None:
    response = client.get(HEALTHZ, {"token": TOKEN})
    assert response.status_code == 400
    assert "Authorization: Bearer" in response.json()["reason"]


def test_other_credentials_are_not_ours_to_judge(client: Client, worker: Worker) -> None:
    assert ask(client, Authorization="Basic YTpi").status_code == 200


def test_no_cache_keeps_the_answer(client: Client, worker: Worker) -> None:
    assert "no-store" in ask(client).headers["Cache-Control"]


def test_the_page_shows_staff_what_is_wrong(
    as_dana: Client, as_alice: Client, client: Client, server: Server
) -> None:
    html = as_dana.get(reverse("health")).content.decode()
    assert "No worker has sent a heartbeat in the last 30 seconds." in html
    assert 'id="health-local"' in html
    assert as_alice.get(reverse("health")).status_code == 403
    assert client.get(reverse("health")).status_code == 302


# --- What is looked at ------------------------------------------------------------------------


def test_it_is_not_well_without_a_worker() -> None:
    assert facts(503)["reason"] == "No worker has sent a heartbeat in the last 30 seconds."


def test_workers_that_stopped_or_do_not_beat_do_not_count(worker: Worker) -> None:
    Worker.objects.update(stopped_at=timezone.now())
    facts(503)
    Worker.objects.update(stopped_at=None, heartbeat_at=timezone.now() - timedelta(hours=1))
    facts(503)


def test_a_heartbeat_from_the_future_is_none(worker: Worker, server: Server) -> None:
    """The clock was set back while the worker was frozen, or dead."""
    ahead = timezone.now() + timedelta(hours=1)
    Worker.objects.update(heartbeat_at=ahead)
    assert "not heard from since the clock was set back" in facts(503)["reason"]
    Worker.objects.update(heartbeat_at=timezone.now() + timedelta(seconds=10))  # a clock ahead
    facts()


def make_far_host(**fields: Any) -> Host:
    """Return a host whose worker was last heard of an hour ago."""
    far = Host.objects.create(name="far", **fields)
    long_ago = timezone.now() - timedelta(hours=1)
    Worker.objects.create(
        host=far,
        pid=1,
        process_started=1,
        concurrency=1,
        started_at=long_ago,
        heartbeat_at=long_ago,
    )
    return far


def test_a_host_whose_servers_nobody_can_start_is_a_fault(worker: Worker, server: Server) -> None:
    Server.objects.update(host=make_far_host())
    told = facts(503)
    assert told["reason"] == (
        "Host far: its worker was last heard from 1 h 0 min ago. Its servers cannot be started or stopped."
    )


def test_a_silent_host_without_servers_or_that_is_drained_is_only_noted(
    worker: Worker, server: Server
) -> None:
    far = make_far_host()
    assert facts()["notes"] == ["Host far: its worker was last heard from 1 h 0 min ago."]
    Server.objects.update(host=far)
    facts(503)
    Host.objects.update(is_draining=True)
    assert "Host far: its worker was last heard from 1 h 0 min ago." in facts()["notes"]


def test_what_a_hosts_doctor_found_is_noted_and_everything_works_only_without(
    dana: User, worker: Worker
) -> None:
    def read() -> str:
        pages.health.looks.forget()
        return " ".join(sign_in(dana).get("/health/").content.decode().split())

    assert "has not checked yet" in read()
    Host.objects.update(findings_at=timezone.now())
    assert "found nothing wrong" in read()
    assert "Everything works." in read()
    finding = {"subject": "Box", "severity": "fault", "text": "No box.", "cure": ""}
    Host.objects.update(findings=[finding, finding, finding | {"severity": "todo"}])
    page = read()
    assert "Everything works." not in page
    assert "Host local: its doctor found 2 faults, 1 thing to do." in page
    assert '<a href="/hosts/local/#problems">2 faults, 1 thing to do</a>' in page
    assert facts()["notes"] == ["Host local: its doctor found 2 faults, 1 thing to do."]


def test_two_machines_that_go_by_one_name_are_a_fault(worker: Worker) -> None:
    other = Worker.objects.get()
    other.pk, other.boot_id = None, "another boot"
    other.save()
    assert "workers of several machines go by this name" in facts(503)["reason"]
    # As after a reboot: the worker from before is not heard from any more.
    other.heartbeat_at = timezone.now() - timedelta(seconds=20)
    other.save()
    assert "several machines" not in facts()["reason"]


def test_a_worker_of_another_version_is_noted(worker: Worker) -> None:
    Worker.objects.update(version="0.0.1")
    (note,) = facts()["notes"]
    assert note.startswith(
        f"Host local: its worker runs version 0.0.1, the panel version {__version__}"
    )


@pytest.fixture
def waiting(worker: Worker, server: Server) -> Job:
    """Return a job that has waited for two minutes beside a free thread of a live worker."""
    long_ago = timezone.now() - timedelta(minutes=2)
    Worker.objects.update(started_at=long_ago)
    job = Job.objects.create(operation="start", server=server, created_at=long_ago)
    Job.objects.update(updated_at=long_ago)
    return job


def test_a_worker_that_beats_and_does_nothing_is_a_fault(waiting: Job) -> None:
    reason = facts(503)["reason"]
    assert reason.startswith(f"Host local: job {waiting.pk} could have run for 60 s")


@pytest.mark.parametrize("column", ["finished_at", "created_at", "worker"])
def test_what_was_before_the_clock_was_set_back_is_long_ago(waiting: Job, column: str) -> None:
    ahead = timezone.now() + timedelta(hours=1)
    if column == "worker":
        Worker.objects.update(started_at=ahead)
    elif column == "created_at":
        Job.objects.update(created_at=ahead)
    else:
        Job.objects.create(
            operation="check", host=waiting.host, state=JobState.SUCCEEDED, finished_at=ahead
        )
    assert facts(503)["reason"].startswith(f"Host local: job {waiting.pk} could have run")


def test_a_job_that_waits_for_another_one_is_none(waiting: Job) -> None:
    long_ago = timezone.now() - timedelta(minutes=2)
    Job.objects.create(
        operation="stop", server=waiting.server, state=JobState.RUNNING, started_at=long_ago
    )
    Job.objects.update(updated_at=long_ago)
    facts()


@pytest.mark.parametrize("column", ["started_at", "finished_at"])
def test_a_worker_that_has_just_done_something_is_not_stuck(waiting: Job, column: str) -> None:
    Job.objects.create(
        operation="check",
        host=waiting.host,
        state=JobState.SUCCEEDED,
        **{"started_at": None, column: timezone.now()},
    )
    facts()


def test_a_worker_whose_threads_are_all_busy_is_not_stuck(waiting: Job) -> None:
    long_ago = timezone.now() - timedelta(minutes=2)
    Worker.objects.update(concurrency=1)
    Job.objects.create(
        operation="check", host=waiting.host, state=JobState.RUNNING, started_at=long_ago
    )
    Job.objects.update(updated_at=long_ago)
    facts()


def test_a_worker_that_is_not_to_claim_or_has_just_come_is_not_stuck(waiting: Job) -> None:
    Worker.objects.update(is_claiming=False)
    assert facts()["notes"] == ["Host local: its worker takes no more jobs."]
    Worker.objects.update(is_claiming=True, started_at=timezone.now())
    facts()


def test_a_job_that_has_not_waited_long_is_none(waiting: Job) -> None:
    Job.objects.update(created_at=timezone.now())
    facts()


# --- The database -----------------------------------------------------------------------------


@contextmanager
def on_new_connections(statement_or_error: str | Exception, *, of: str = "") -> Iterator[None]:
    """Make every new connection execute a statement first, or fail with the error at each containing `of`."""

    def refuse(execute: Any, sql: str, *arguments: Any) -> Any:
        assert isinstance(statement_or_error, Exception)
        if of in sql:
            raise OperationalError("password=hunter2") from statement_or_error
        return execute(sql, *arguments)

    def prepare(connection: Any, **_: Any) -> None:
        if isinstance(statement_or_error, str):
            connection.cursor().execute(statement_or_error)
        else:
            connection.execute_wrappers.append(refuse)

    connection_created.connect(prepare)
    try:
        yield
    finally:
        connection_created.disconnect(prepare)


def test_a_database_that_is_away_is_told_without_its_own_words(
    client: Client, worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    with on_new_connections(errors.AdminShutdown()):
        told = facts(503)
        assert (told["database"], told["reason"]) == ("away", "The database does not answer.")
        assert ask(client).json() == {"status": "unhealthy"}  # type: ignore[attr-defined]
    assert "hunter2" not in str(told)
    assert "hunter2" in caplog.text


def test_who_is_signed_in_is_answered_too_when_the_database_is_away(
    as_dana: Client, worker: Worker
) -> None:
    with on_new_connections(errors.AdminShutdown()):
        assert ask(as_dana).json() == {"status": "unhealthy"}  # type: ignore[attr-defined]


def test_a_database_older_than_the_code_says_what_to_run(worker: Worker) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM django_migrations WHERE app = 'jobs' ORDER BY name DESC")
        newest = cursor.fetchall()[0][0]
        cursor.execute("UPDATE django_migrations SET name = 'away' WHERE name = %s", [newest])
        try:
            told = facts(503)
        finally:
            cursor.execute("UPDATE django_migrations SET name = %s WHERE name = 'away'", [newest])
    assert told["database"] == "schema behind"
    assert "run manage.py migrate" in told["reason"]


@pytest.mark.skipif(not settings.IS_SQLITE, reason="only SQLite is told the names of indexes")
def test_a_missing_index_that_lists_of_jobs_name_is_a_fault_that_says_what_makes_it_again(
    worker: Worker, as_alice: Client, server: Server
) -> None:
    names = ("jobs_of_server", "unfinished_jobs_of_server", "unsuccessful_jobs_of_server")
    assert facts()["faults"] == []
    for name in names:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP INDEX {name}")
        (fault,) = facts(503)["faults"]
        assert fault.startswith(f"The database lacks the index {name}, so lists of jobs fail.")
        with connection.cursor() as cursor:
            cursor.execute(fault.partition("enter: ")[2])
        assert facts()["faults"] == []
        for state in ("", "?state=failed", "?state=queued"):
            assert as_alice.get(f"/jobs/{state}").status_code == 200


@pytest.mark.skipif(not settings.IS_SQLITE, reason="only SQLite is told the names of indexes")
def test_an_index_that_has_only_the_name_of_one_is_a_fault_too(
    worker: Worker, as_alice: Client, server: Server
) -> None:
    names = ("jobs_of_server", "unfinished_jobs_of_server", "unsuccessful_jobs_of_server")
    for name in names:
        for columns in ("(state) WHERE state = 'queued'", "(id, server_id)"):
            with connection.cursor() as cursor:
                cursor.execute(f"DROP INDEX {name}")
                cursor.execute(f"CREATE INDEX {name} ON jobs_job {columns}")
            (fault,) = facts(503)["faults"]
            assert fault.startswith(f"The database's index {name} is another one than lists")
            connection.connection.executescript(fault.partition("enter: ")[2])
            assert facts()["faults"] == []
    assert as_alice.get("/jobs/?state=failed").status_code == 200


@pytest.mark.skipif(not settings.IS_SQLITE, reason="only SQLite is told the names of indexes")
@pytest.mark.parametrize(
    ("name", "rest", "is_good"),
    [
        ("unfinished_jobs_of_server", "(server_id,id) where (finished_at is null)", True),
        ("unfinished_jobs_of_server", "([server_id], id DESC) WHERE finished_at ISNULL", True),
        ("jobs_of_server", "(server_id ASC, id ASC) -- by hand", True),
        ("jobs_of_server", "(server_id)", True),  # An index always has the id at its end.
        ("jobs_of_server", "(server_id, created_at)", False),
        ("unsuccessful_jobs_of_server", "WHERE state IN ('cancelled', 'failed')", False),
        ("unsuccessful_jobs_of_server", "WHERE state IN ('FAILED', 'CANCELLED')", False),
        ("unsuccessful_jobs_of_server", "WHERE state IN (' failed', 'cancelled')", False),
        ("unsuccessful_jobs_of_server", "WHERE state = 'failed'", False),
    ],
)
def test_an_index_that_was_made_by_hand_is_as_good_if_lists_can_use_it(
    worker: Worker, as_alice: Client, server: Server, name: str, rest: str, is_good: bool
) -> None:
    columns = "" if rest.startswith("(") else "(server_id, state, id) "
    with connection.cursor() as cursor:
        cursor.execute("SELECT sql FROM sqlite_master WHERE name = %s", [name])
        [usual] = cursor.fetchone()
        cursor.execute(f"DROP INDEX {name}")
        cursor.execute(f"create index if not exists {name} on jobs_job {columns}{rest}")
    try:
        if is_good:
            assert facts()["faults"] == []
            for state in JobState:
                assert as_alice.get(f"/jobs/?state={state}").status_code == 200
        else:
            (fault,) = facts(503)["faults"]
            assert fault.startswith(f"The database's index {name} is another one than lists")
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP INDEX {name}")
            cursor.execute(usual)


@pytest.mark.skipif(
    settings.IS_SQLITE,
    reason="a standby is PostgreSQL's; SQLite's read-only file is tested by itself",
)
def test_a_read_only_server_is_told(worker: Worker) -> None:
    with on_new_connections("SET default_transaction_read_only = on"):
        told = facts(503)
    assert told["database"] == "read-only"
    assert told["workers"], "what can be read is still told"


@pytest.mark.skipif(settings.IS_SQLITE, reason="SQLite's disk is looked at directly")
def test_a_full_disk_of_the_server_is_told_by_a_write_that_fails(worker: Worker) -> None:
    with on_new_connections("SET temp_file_limit = 0"):
        # A different limit, which only a write to the server's disk can reach.
        assert facts(503)["database"] == "away"
    with on_new_connections(errors.DiskFull(), of="generate_series"):
        assert facts(503)["database"] == "disk full"


@pytest.mark.skipif(
    not settings.IS_SQLITE, reason="PostgreSQL's is tested by the server's own word"
)
def test_a_read_only_file_is_told(tmp_path: Path, worker: Worker) -> None:
    databases = [tmp_path / name / "saferoom.sqlite3" for name in ("ok", "file", "folder", "gone")]
    _ok, file, folder, gone = databases
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as source:
        for database in databases:
            database.parent.mkdir()
            with closing(sqlite3.connect(database)) as copy:
                source.backup(copy)
    file.chmod(0o400)
    folder.parent.chmod(0o500)
    gone.unlink()
    assert states_of(databases) == ["ok", "read-only", "read-only", "away"]
    assert not gone.exists(), "the look has made a database"
    folder.parent.chmod(0o700)


def states_of(databases: list[Path]) -> list[str]:
    """Return what is found by a process that has only the permissions of the files' owner."""
    program = (
        "import sys, django; django.setup()\n"
        "from django.db import connection\n"
        "from l4d2site.health.database_state import find_database_state\n"
        "for path in sys.argv[1:]:\n"
        "    connection.settings_dict['NAME'] = path\n"
        "    print(find_database_state().value, end=';')\n"
        "    connection.close()"
    )
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    done = subprocess.run(
        [
            *(unprivileged if os.geteuid() == 0 else []),
            *(sys.executable, "-c", program, *map(str, databases)),
        ],
        cwd=settings.BASE_DIR,
        env=os.environ
        | {
            "DATABASE_URL": f"sqlite:///{databases[0]}",
            "DJANGO_SETTINGS_MODULE": "l4d2site.settings",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.removesuffix(";").split(";")


@pytest.mark.skipif(not settings.IS_SQLITE, reason="PostgreSQL has a disk of its own")
def test_a_full_disk_below_the_file_is_told(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("l4d2site.health.database_state.LEAST_FREE_BYTES", 2**62)
    told = facts(503)
    assert (told["database"], told["faults"]) == (
        "disk full",
        ["The disk of the database is full: nothing can be stored."],
    )


@pytest.mark.skipif(not settings.IS_SQLITE, reason="only SQLite has one lock for all who write")
def test_a_database_that_others_keep_locked_is_told(worker: Worker) -> None:
    assert facts()["database"] == "ok"
    was_written(-11)
    assert facts()["database"] == "ok"
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as another:
        another.execute("BEGIN IMMEDIATE")
        for seconds in (-11, 11):
            was_written(seconds)
            began_at = monotonic()
            told = facts(503)
            assert monotonic() - began_at < PATIENCE_SECONDS / 2
    assert told["database"] == "locked"
    assert told["faults"] == [
        "Another program keeps the database locked: nothing can be stored until it is done."
    ]


@pytest.mark.skipif(not settings.IS_SQLITE, reason="only SQLite has one lock for all who write")
def test_a_long_transaction_and_busy_workers_are_no_fault_and_cost_no_time(worker: Worker) -> None:
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as another:
        another.execute("BEGIN IMMEDIATE")
        was_written(-9)
        began_at = monotonic()
        assert facts()["database"] == "ok"
        assert monotonic() - began_at < 0.4


def was_written(seconds: int) -> None:
    """Set when the database was last written, from now."""
    for path in Path(connection.settings_dict["NAME"]).parent.glob(
        f"{Path(connection.settings_dict['NAME']).name}*"
    ):
        os.utime(path, (time() + seconds, time() + seconds))


def test_little_space_on_the_panels_own_disk_is_noted(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("l4d2site.health.facts.LOW_FREE_BYTES", 2**62)
    with override_settings(VAR_DIR=tmp_path):
        (note,) = facts()["notes"]
    assert note.startswith(f"The panel's own disk, {tmp_path}, has ")


# --- How soon, and at what cost ---------------------------------------------------------------


def test_not_being_well_is_told_once_and_is_no_error_in_the_process_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        assert ask(client).status_code == 503
    assert "healthz" not in caplog.text
    assert caplog.text.count("health: No worker has sent a heartbeat") == 1
    client.get("/no/such/page/")
    assert "/no/such/page/" in caplog.text


def test_a_fault_whose_numbers_change_is_told_once(
    client: Client, worker: Worker, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    other = Host.objects.create(name="host-2")
    register_worker(other, concurrency=1, is_claiming=True)
    for minutes in (20, 30):
        silent = timezone.now() - timedelta(minutes=minutes)
        Worker.objects.filter(pk=worker.pk).update(heartbeat_at=silent)
        assert ask(client).status_code == 503
    assert caplog.text.count("health: Host local: its worker was last heard from") == 1
    Server.objects.filter(pk=server.pk).update(host=other)
    Worker.objects.update(heartbeat_at=silent)
    assert ask(client).status_code == 503
    assert "Host host-2: its worker was last heard from" in caplog.text


def test_who_asks_often_is_given_what_was_found_a_moment_ago(
    client: Client, worker: Worker
) -> None:
    looked: list[None] = []

    def count(connection: Any, **_: Any) -> None:
        looked.append(None)

    connection_created.connect(count)
    try:
        pages.health.looks.forget()
        began_at = monotonic()
        for _ in range(50):
            client.get(HEALTHZ)
        assert len(looked) <= 1 + int(monotonic() - began_at)
    finally:
        connection_created.disconnect(count)


def test_a_look_that_hangs_keeps_nobody_and_gets_no_company() -> None:
    released = Event()
    begun: list[None] = []

    def hang() -> str:
        begun.append(None)
        assert released.wait(60)
        return "found"

    looks = Looks(hang, kept_seconds=60, patience_seconds=0.05)
    assert looks.latest() is None
    began_at = monotonic()
    assert [looks.latest() for _ in range(20)] == [None] * 20
    assert monotonic() - began_at < 1, "each waited again for a check that is known to hang"
    assert len(begun) == 1
    released.set()
    assert wait_until(looks.latest, 5, "the look has not come back") == "found"


class MutePanel(Panel):
    """A panel whose database accepts connections and says nothing."""

    def _answers(self) -> bool:
        try:
            return self.place.ask("/livez", "localhost")[0] == 200
        except OSError:
            return False


def test_it_answers_within_two_seconds_when_the_database_hangs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgres://panel:secret@127.0.0.1:{mute.getsockname()[1]}/panel"
        panel = MutePanel(tmp_path / "var")
        panel.start(DATABASE_URL=url, HEALTH_TOKEN=TOKEN)
        try:
            for cookie in ("", "sessionid=somebody"):
                began_at = monotonic()
                with Watcher(panel.port, "/healthz", cookie).open() as response:
                    assert response.status == 503
                    assert response.read() == b'{"status": "unhealthy"}'
                assert monotonic() - began_at < 2
        finally:
            panel.stop()
