"""Browsers in which Alice, Bob and Dana are signed in, and things for them to look at."""

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect, sync_playwright

from jobs.models import Job, JobLog, JobState, Worker
from jobs.queue.liveness import Heartbeat
from servers.models import ActualState, Host, Release, Server
from tests.chromium import CHROMIUM_ARGUMENTS, note_errors
from tests.floors import find_page_browser
from tests.pages.browsing import OpenPage, add_lines
from tests.pages.forked_webserver import ForkedWebServer, WebServerForks
from tests.pages.webserver import WebServer
from tests.states import record_state


@pytest.fixture
def as_alice(alice: User) -> Client:
    """Return the browser of the owner."""
    return sign_in(alice)


@pytest.fixture
def as_bob(bob: User) -> Client:
    """Return the browser of the stranger."""
    return sign_in(bob)


@pytest.fixture
def as_dana(dana: User) -> Client:
    """Return the browser of the admin."""
    return sign_in(dana)


def sign_in(user: User) -> Client:
    """Return a browser in which `user` is signed in."""
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def installed_host(host: Host) -> Host:
    """Return the host with the game on it."""
    host.build_id = "17840213"
    host.game_source = "steam"
    host.reported_at = timezone.now()
    host.save()
    return host


@pytest.fixture
def two_releases(installed_host: Host) -> Host:
    """Return a host with an older release beside the current one."""
    now = timezone.now()
    for build_id, is_current, days in (("17840213", True, 0), ("17000000", False, 30)):
        Release.objects.create(
            host=installed_host,
            build_id=build_id,
            is_current=is_current,
            installed_at=now - timedelta(days=days),
        )
    return installed_host


@pytest.fixture
def worker(host: Host) -> Worker:
    """Return a worker with a current heartbeat."""
    now = timezone.now()
    return Worker.objects.create(
        host=host,
        pid=4312,
        boot_id="boot",
        pid_namespace="namespace",
        process_started=1,
        concurrency=4,
        started_at=now,
        heartbeat_at=now,
    )


@pytest.fixture
def beating_worker(worker: Worker) -> Iterator[Worker]:
    """Return a worker whose heartbeat stays current: a browser may be slow."""
    with Heartbeat(worker, is_claiming=lambda: True):
        yield worker


@pytest.fixture
def stopped_server(server: Server, installed_host: Host) -> Server:
    """Return Alice's server with an instance that does not run."""
    server.host = installed_host
    record_state(server, ActualState.STOPPED)
    return server


@pytest.fixture
def failed_job(server: Server, alice: User) -> Job:
    """Return a start of Alice's server that failed after some last lines."""
    now = timezone.now()
    job = Job.objects.create(
        operation="start",
        server=server,
        requested_by=alice,
        state=JobState.FAILED,
        stage="Waiting for the game",
        exit_code=7,
        error="Port 27015 is taken.",
        started_at=now,
        finished_at=now,
    )
    lines = [("stdout", "Starting the game"), ("stderr", "bind: <b>Address</b> already in use")]
    JobLog.objects.bulk_create(
        JobLog(job=job, seq=seq, stream=stream, line=line)
        for seq, (stream, line) in enumerate(lines, start=1)
    )
    return job


# --- A real browser ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def web_server_forks() -> Iterator[WebServerForks]:
    """Return the process whose forks are the web servers."""
    forks = WebServerForks()
    yield forks
    forks.close()


@pytest.fixture
def store(tmp_path: Path, settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give this process and the web server, which must start after this, the same store."""
    settings.CONTENT_ROOT = tmp_path / "content"
    monkeypatch.setenv("CONTENT_ROOT", str(settings.CONTENT_ROOT))
    return tmp_path / "content"


@pytest.fixture
def site(transactional_db: None, web_server_forks: WebServerForks) -> Iterator[WebServer]:
    """Return a web server on the tests' database."""
    site = ForkedWebServer(web_server_forks)
    site.start()
    yield site
    site.stop()
    connections.close_all()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless Chromium."""
    chromium = find_page_browser()
    assert chromium, "there is no chromium: apt install chromium"
    # Playwright's synchronous interface runs an event loop in this thread, in which Django would
    # refuse to touch the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_page(browser: Browser, site: WebServer, alice: User) -> Iterator[OpenPage]:
    """Return a function that opens an empty page of a browser in which Alice is signed in.

    No script may fail on it, and nothing may violate the content security policy.
    """
    errors: list[str] = []
    contexts = []

    def open_page(**options: object) -> Page:
        context = browser.new_context(base_url=site.url, **options)  # type: ignore[arg-type]
        contexts.append(context)
        # Through the form, as in test_door_browser.py, each browser would load two more pages first.
        session = sign_in(alice).cookies["sessionid"].value
        context.add_cookies([{"name": "sessionid", "value": session, "url": site.url}])
        page = context.new_page()
        note_errors(page, errors)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def running_job(server: Server, alice: User) -> Job:
    """Return a running job with enough lines to scroll."""
    job = Job.objects.create(
        operation="start",
        server=server,
        requested_by=alice,
        state=JobState.RUNNING,
        started_at=timezone.now(),
        stage="Downloading",
        progress=10,
    )
    add_lines(job, 1, 200)
    return job
