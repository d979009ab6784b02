"""The pages of one server: the head that all have, what its job does, and where a click leads."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs import queue
from jobs.models import DeferredAction, Job, JobState, Worker
from jobs.pages.server_pages import JOBS_PER_PAGE
from servers.models import Crash, Membership, Overlay, Run, Server
from tests.pages.conftest import sign_in
from tests.pages.queries import assert_same_queries, count_queries

pytestmark = pytest.mark.django_db

MOST_QUERIES = 25


def url(tab: str = "") -> str:
    return f"/servers/alpha/{tab}"


def text(browser: Client, address: str) -> str:
    return browser.get(address).content.decode()


@pytest.fixture
def running(server: Server, worker: Worker) -> Server:
    """Return Alice's server, which has been running for nine minutes, with three people on it."""
    server.actual_state = server.desired_state = "running"
    server.actual_state_at = timezone.now()
    server.players, server.max_players, server.map = 3, 8, "c1m1_hotel"
    server.save()
    Run.objects.create(server=server, started_at=timezone.now() - timedelta(minutes=9, seconds=5))
    return server


# --- The head ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tab", ["", "config/", "console/", "history/", "crashes/", "people/"])
def test_every_page_of_a_server_has_its_head_and_leads_to_the_others(
    as_alice: Client, running: Server, tab: str
) -> None:
    page = text(as_alice, url(tab))
    assert '<h1><span class="name">alpha</span></h1>' in page
    assert "9 min</time>" in page
    for other in ("", "config/", "history/", "crashes/", "people/"):
        assert f'<a href="{url(other)}"' in page
    assert page.count('aria-current="page"') == 1
    assert f'name="next" value="{url(tab)}"' in page


def test_a_viewer_has_no_tab_for_what_they_may_not_read(bob: User, running: Server) -> None:
    Membership.objects.create(server=running, user=bob, role="viewer")
    page = text(sign_in(bob), url())
    assert f'href="{url("config/")}"' not in page
    assert "data-menu" not in page


def test_an_automatic_restart_resets_the_time(as_alice: Client, running: Server) -> None:
    two_minutes_ago = timezone.now() - timedelta(minutes=2)
    Server.objects.update(console_run_started_at=two_minutes_ago.timestamp())
    assert "2 min</time>" in text(as_alice, url())


def test_nobody_says_for_how_long_a_server_runs_that_is_not_heard_of(
    as_alice: Client, running: Server
) -> None:
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(hours=1))
    page = text(as_alice, url())
    assert "not heard from since" in page
    assert "data-lasts" not in page


def test_a_crash_is_told_in_the_head_with_its_time_and_signal(
    as_alice: Client, running: Server
) -> None:
    Server.objects.update(actual_state="crashed")
    crash = Crash(server=running, exit_signal="SIGSEGV", at=timezone.now())
    Crash.record(running, [crash])
    head = text(as_alice, url()).partition("server-state-word")[2].partition("</p>")[0]
    assert crash.at.astimezone().isoformat(timespec="seconds")[:16] in head
    assert "SIGSEGV" in head


def test_restart_is_the_first_choice_only_while_something_waits_for_it(
    as_alice: Client, running: Server
) -> None:
    Server.objects.update(players=0)
    primary = 'data-kind="primary" aria-label="Restart alpha"'
    assert primary not in text(as_alice, url())
    running.host.build_id = "2"
    running.host.save()
    Server.objects.update(running_build_id="1")
    assert primary in text(as_alice, url())


# --- What it has loaded -----------------------------------------------------------------------


def note_loaded(**check: object) -> None:
    """Let the run have the result of a check of its plugins."""
    whole = {"kind": "plugin", "expected": 41, "not_loaded": [], "more_count": 0}
    checks = [whole | {"none_because": "", "unknown": ""} | check]
    ten_minutes_ago = timezone.now() - timedelta(minutes=10)
    Run.objects.update(loaded={"checks": checks, "unasked": ""}, loaded_at=ten_minutes_ago)


def test_what_a_server_has_not_loaded_is_told_with_each_and_why(
    as_alice: Client, running: Server
) -> None:
    lack = {"file": "stats/<b>.smx", "title": "Skill Detect", "reason": 'Native "X" was not found'}
    bare = {"file": "a.smx", "title": "", "reason": ""}
    note_loaded(not_loaded=[lack, bare], more_count=1)
    page = text(as_alice, url())
    assert "3 of 41 plugins are not loaded." in page
    assert "stats/&lt;b&gt;.smx</span> (Skill Detect):" in page
    assert "Native &quot;X&quot; was not found" in page
    assert "The server gives no reason." in page
    assert "1 more." in page
    assert "The server was asked <time" in page
    Server.objects.update(actual_state="stopped")
    assert "not loaded" not in text(as_alice, url())


def test_what_is_not_known_to_be_loaded_is_not_said_to_be_missing(
    as_alice: Client, running: Server
) -> None:
    note_loaded()
    assert (
        "loaded"
        not in text(as_alice, url()).partition('data-live="server-notes"')[2].partition("</div>")[0]
    )
    note_loaded(unknown="The server gave no list.")
    page = text(as_alice, url())
    assert "What it has loaded is not fully known. The server gave no list." in page
    assert "are not loaded" not in page
    note_loaded(none_because="SourceMod needs MetaMod, which is not loaded.")
    assert "None of its 41 plugins of SourceMod is loaded. SourceMod needs MetaMod" in text(
        as_alice, url()
    )


# --- A click stays ----------------------------------------------------------------------------


def test_a_form_of_the_page_leads_back_and_the_page_says_what_the_job_waits_for(
    as_alice: Client, stopped_server: Server
) -> None:
    answer = as_alice.post(
        reverse("jobs:create", args=["alpha"]), {"operation": "start", "next": url("history/")}
    )
    assert (answer.status_code, answer["Location"]) == (303, url("history/"))
    page = text(as_alice, answer["Location"])
    strip = page.partition('class="strip"')[2].partition("</section>")[0]
    assert "Waits for a worker: none is running on host local." in strip
    assert reverse("jobs:cancel", args=[Job.objects.get().pk]) in strip


def test_a_job_that_runs_is_shown_with_stage_and_bar_and_those_behind_it(
    as_alice: Client, running: Server
) -> None:
    for operation, state in (("restart", JobState.RUNNING), ("stop", JobState.QUEUED)):
        Job.objects.create(
            operation=operation,
            server=running,
            state=state,
            stage="Waiting for the map",
            progress=40,
        )
    strip = text(as_alice, url()).partition('class="strip"')[2].partition("</section>")[0]
    assert "Waiting for the map" in strip
    assert '<progress max="100" value="40"' in strip
    assert "1 more job of this server waits." in strip


@pytest.mark.parametrize("operation", ["start", "restart"])
def test_a_server_is_starting_while_a_job_starts_it(
    as_alice: Client, stopped_server: Server, worker: Worker, operation: str
) -> None:
    Server.objects.update(desired_state="running")
    job = Job.objects.create(
        operation=operation,
        server=stopped_server,
        host=stopped_server.host,
        state=JobState.RUNNING,
        worker=worker,
        started_at=timezone.now(),
    )
    page = text(as_alice, url())
    assert "Server alpha is starting." in " ".join(page.split())
    assert 'class="should-be"' not in page
    job.state = JobState.CANCELLED
    job.save()
    page = " ".join(text(as_alice, url()).split())
    assert "Server alpha is stopped, should be running." in page


@pytest.mark.parametrize(
    ("operation", "stage", "word"),
    [
        ("restart", "Stopping", "restarting"),
        ("restart", "Starting", "restarting"),
        ("stop", "Stopping", "stopping"),
    ],
)
def test_what_the_last_run_was_is_not_said_of_a_server_that_is_stopped_or_restarted(
    as_alice: Client, running: Server, worker: Worker, operation: str, stage: str, word: str
) -> None:
    page = text(as_alice, url())
    assert "steam://connect/" in page
    assert "data-lasts" in page.partition("server-head")[2].partition("</header>")[0]
    Job.objects.create(
        operation=operation,
        server=running,
        host=running.host,
        state=JobState.RUNNING,
        stage=stage,
        worker=worker,
        started_at=timezone.now(),
    )
    page = text(as_alice, url())
    assert f"Server alpha is {word}." in " ".join(page.split())
    assert "steam://connect/" not in page
    assert "data-lasts" not in page.partition("server-head")[2].partition("</header>")[0]


def test_a_config_that_ends_the_game_is_refused_in_the_form(
    as_alice: Client, server: Server
) -> None:
    values = {"port": str(server.port), "blueprint": str(server.blueprint.pk), "arguments": ""}
    page = as_alice.post(url("edit/"), {**values, "config": "sv_lan 0\nquit"}).content.decode()
    assert "Line 2 of the config runs quit, which it must not: it would end" in page
    server.refresh_from_db()
    assert server.config == ""


def test_a_failed_start_of_a_server_that_runs_all_the_same_asks_for_nothing(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    Server.objects.update(actual_state="running", actual_state_at=timezone.now())
    page = text(as_alice, url())
    assert "The server runs all the same, so there is nothing to do." in page
    assert reverse("jobs:retry", args=[failed_job.pk]) not in page
    Server.objects.update(actual_state="crashed")
    page = text(as_alice, url())
    assert "all the same" not in page
    assert reverse("jobs:retry", args=[failed_job.pk]) in page


def test_the_config_says_which_overlays_bring_mods_and_how_to_get_some(
    as_alice: Client, server: Server
) -> None:
    config = reverse("servers:config", args=["alpha"])
    mods = text(as_alice, config).partition('id="mods-heading"')[2].partition("</section>")[0]
    assert "has no overlays yet. Upload yours to" in " ".join(mods.split())
    assert "<li>" not in mods
    overlay = Overlay.objects.create(name="zonemod", is_host_folder=True)
    server.blueprint.set_overlays([overlay])
    page = text(as_alice, config)
    assert "Upload yours to" not in page
    assert overlay.get_absolute_url() in page


def test_a_failure_is_told_once_with_its_last_lines_and_a_retry(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    Server.objects.update(last_error="Start: Port 27015 is taken.")
    page = text(as_alice, url())
    strip = page.partition('class="strip"')[2].partition("</section>")[0]
    bold = strip.index("<h2>Port 27015 is taken.</h2>")
    assert bold < strip.index("Failed at “Waiting for the game”, exit code 7")
    assert strip.count("Port 27015 is taken.") == 1
    assert "&lt;b&gt;Address&lt;/b&gt; already in use" in strip
    assert reverse("jobs:retry", args=[failed_job.pk]) in strip
    assert "Last error" not in page


@pytest.mark.parametrize(
    ("error", "cause", "rest"),
    [
        (
            "Port 1 is taken. Choose another one. Or wait.",
            "Port 1 is taken.",
            "Choose another one. Or wait.",
        ),
        ("cfg/a.cfg has v. 2 in it", "cfg/a.cfg has v. 2 in it", ""),
        ("", "Failed at “Preparing”, exit code 7", ""),
    ],
)
def test_a_failures_cause_is_its_errors_first_sentence(error: str, cause: str, rest: str) -> None:
    job = Job(operation="start", state="failed", stage="Preparing", exit_code=7, error=error)
    assert (job.cause, job.after_cause) == (cause, rest)


def test_an_error_that_no_job_tells_is_told_too(as_alice: Client, server: Server) -> None:
    Server.objects.update(last_error="Crashed (SIGSEGV).")
    assert "Crashed (SIGSEGV)." in text(as_alice, url())


def test_older_jobs_are_a_page_further(as_alice: Client, server: Server) -> None:
    jobs = [
        Job.objects.create(operation="stop", server=server, state="succeeded")
        for _ in range(JOBS_PER_PAGE + 1)
    ]
    page = text(as_alice, url("history/"))
    assert f'{jobs[1].get_absolute_url()}"' in page
    assert f'?before={jobs[1].pk}"' in page
    older = text(as_alice, url(f"history/?before={jobs[1].pk}"))
    assert f'<a href="{jobs[0].get_absolute_url()}"' in older.partition("jobs-heading")[2]
    assert "Older jobs" not in older


def test_the_pages_cost_the_same_queries_however_much_has_happened(
    as_alice: Client, running: Server, failed_job: Job
) -> None:
    def make_more() -> None:
        for _ in range(10):
            Job.objects.create(operation="stop", server=running, state="succeeded")
            Crash.objects.create(server=running)
        failed_job.pk, failed_job.created_at = None, timezone.now()
        failed_job.save()

    Crash.objects.create(server=running)
    for tab in ("", "history/", "crashes/"):
        assert_same_queries(as_alice, url(tab), make_more)
        assert count_queries(as_alice, url(tab)) <= MOST_QUERIES


# --- With people on ---------------------------------------------------------------------------


def post(browser: Client, **fields: str | int) -> int:
    data = {"next": url(), **fields}
    return browser.post(reverse("jobs:create", args=["alpha"]), data).status_code


@pytest.mark.parametrize("operation", ["stop", "restart"])
def test_with_people_on_it_asks_now_or_when_empty(
    as_alice: Client, running: Server, operation: str
) -> None:
    page = text(as_alice, url())
    question = page.partition(f'id="ask-{operation}-alpha"')[2].partition("</details>")[0]
    assert "3 people are on." in question
    assert 'name="when" value="empty"' in question
    assert f'{operation.capitalize()} now on alpha"' in question
    Server.objects.update(players=0)
    assert f"ask-{operation}-alpha" not in text(as_alice, url())


def test_who_clicked_when_fewer_were_on_is_asked_again(as_alice: Client, running: Server) -> None:
    assert post(as_alice, operation="stop", people=2) == 409
    assert not Job.objects.exists()
    assert post(as_alice, operation="stop", people=3) == 303
    assert Job.objects.get().operation == "stop"


def test_a_program_that_says_nothing_of_people_is_not_asked(
    as_alice: Client, running: Server
) -> None:
    assert post(as_alice, operation="stop") == 303
    assert Job.objects.exists()


def test_when_empty_waits_says_for_whom_and_can_be_taken_back(
    as_alice: Client, running: Server
) -> None:
    assert post(as_alice, operation="restart", when="empty", hours=1) == 303
    action = DeferredAction.objects.get()
    assert timedelta(minutes=59) < action.until - timezone.now() <= timedelta(hours=1)
    assert not Job.objects.exists()
    for address in (url(), "/servers/"):
        assert "3 people are on" in text(as_alice, address)
    assert "Restart when empty: 3 people are on" in text(as_alice, "/servers/")
    as_alice.post(reverse("jobs:deferred_forget", args=["alpha"]))
    assert not DeferredAction.objects.exists()


@pytest.mark.parametrize("hours", ["0", "-1", "x", "999999999999"])
def test_an_odd_time_to_wait_is_bounded(as_alice: Client, running: Server, hours: str) -> None:
    post(as_alice, operation="stop", when="empty", hours=hours)
    left = DeferredAction.objects.get().until - timezone.now()
    assert timedelta(hours=11) < left <= timedelta(days=7)


def test_what_was_not_done_stays_told_until_somebody_has_read_it(
    as_alice: Client, running: Server
) -> None:
    post(as_alice, operation="stop", when="empty")
    queue.end_deferral(DeferredAction.objects.get(), "It was stopped in the meantime.")
    assert "was not done. It was stopped in the meantime." in text(as_alice, url())


def test_a_viewer_lets_nothing_wait(bob: User, running: Server) -> None:
    Membership.objects.create(server=running, user=bob, role="viewer")
    assert post(sign_in(bob), operation="stop", when="empty") == 403
    assert not DeferredAction.objects.exists()
