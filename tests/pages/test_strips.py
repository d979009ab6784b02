"""How long a server's pages show what its last job did, and how a failure is dismissed."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import Job, JobStage, JobState
from jobs.pages.server_strips import NEWS_FOR
from servers.models import Blueprint, ConsoleCommand, Crash, Membership, Run, Server
from tests.pages.conftest import sign_in
from tests.states import record_state

pytestmark = pytest.mark.django_db

URL = "/servers/alpha/"
PRIMARY = re.compile(r'data-kind="primary"(?: aria-label="([^"]*)")?')


def has_strip(browser: Client, tab: str = "") -> bool:
    return 'class="strip"' in browser.get(URL + tab).content.decode()


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.CANCELLED])
def test_what_went_well_is_soon_old_news(as_alice: Client, server: Server, state: str) -> None:
    job = Job.objects.create(operation="start", server=server, state=state)
    for ago, is_news in ((timedelta(0), True), (NEWS_FOR, False)):
        Job.objects.update(finished_at=timezone.now() - ago)
        assert has_strip(as_alice) == is_news
    assert has_strip(as_alice, "history/") is False
    assert job.get_absolute_url() in as_alice.get(f"{URL}history/").content.decode()


def test_a_failure_is_told_until_it_is_dismissed_by_each(
    as_alice: Client, server: Server, failed_job: Job, bob: User
) -> None:
    Membership.objects.create(server=server, user=bob, role="viewer")
    as_bob = sign_in(bob)
    Server.objects.update(last_error=f"Start: {failed_job.error}")
    Job.objects.update(finished_at=timezone.now() - timedelta(days=3))
    assert has_strip(as_alice)
    dismiss = reverse("jobs:failure_dismiss", args=["alpha"])
    assert dismiss in as_alice.get(URL).content.decode()
    answer = as_alice.post(dismiss, {"next": f"{URL}history/"})
    assert (answer.status_code, answer["Location"]) == (303, f"{URL}history/")
    # Its error is not shown in another strip now.
    assert not has_strip(as_alice)
    assert has_strip(as_bob)
    failed_job.pk, failed_job.created_at = None, timezone.now()
    failed_job.save()
    assert has_strip(as_alice), "that is another failure"


def test_a_restart_that_was_cancelled_after_the_stop_says_so_and_offers_a_start(
    as_alice: Client, server: Server
) -> None:
    def strip() -> str:
        page = " ".join(as_alice.get(URL).content.decode().split())
        return page.partition('class="strip"')[2].partition("</section>")[0]

    now = timezone.now()
    Job.objects.create(operation="restart", server=server, state="cancelled", finished_at=now)
    record_state(server, "stopped")
    assert "stopped already" not in strip(), "it had not begun"
    Job.objects.update(started_at=now)
    assert "The server was stopped already when the restart was cancelled." in strip()
    assert 'name="operation" value="start"' in strip()
    assert "The server was stopped already." in as_alice.get(f"{URL}history/").content.decode()
    record_state(server, "running")
    assert "stopped already" not in strip(), "it had not come so far"


@pytest.mark.parametrize(
    ("operation", "stage", "is_known"),
    [
        ("restart", "Checking", True),
        ("restart", "Starting", False),
        ("initialize", "Preparing", True),
    ],
)
def test_the_head_forgets_the_run_that_a_job_has_ended(
    as_alice: Client, server: Server, operation: str, stage: str, is_known: bool
) -> None:
    record_state(server, "running")
    Server.objects.update(players=2, max_players=4, map="c1m1_hotel")
    Job.objects.create(operation=operation, server=server, state="running", stage=stage)
    page = as_alice.get(URL).content.decode()
    assert ("2/4" in page, 'id="ask-restart-alpha"' in page) == (is_known, is_known)
    assert Server.objects.get().players == 2


def test_stop_and_restart_ask_too_while_it_does_not_answer_and_people_have_not_left(
    as_alice: Client, server: Server
) -> None:
    record_state(server, "running")
    Server.objects.update(players=None)
    assert "ask-restart-alpha" not in as_alice.get(URL).content.decode()
    now = timezone.now()
    server.player_sessions.create(steam_id="STEAM_1:0:1", name="Zoey", joined_at=now, seen_at=now)
    page = as_alice.get(URL).content.decode()
    assert 'id="ask-restart-alpha"' in page
    assert "The panel does not know how many people are on." in page
    # The clicker's page was opened while nobody was on.
    answer = as_alice.post(f"{URL}jobs/", {"operation": "stop", "people": "0"})
    assert (answer.status_code, Job.objects.count()) == (409, 0)
    assert "Somebody may be on" in answer.content.decode()
    as_alice.post(f"{URL}jobs/", {"operation": "stop"})
    assert Job.objects.count() == 1


def test_a_failure_is_over_once_the_server_has_been_started_since(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    record_state(server, "running")
    run = Run.objects.create(server=server, started_at=timezone.now() - timedelta(hours=1))
    assert has_strip(as_alice)
    Run.objects.filter(pk=run.pk).update(started_at=timezone.now() + timedelta(seconds=1))
    assert not has_strip(as_alice)


def test_what_cannot_be_started_as_it_is_has_to_be_edited_and_not_tried_again(
    as_alice: Client, server: Server, failed_job: Job, blueprint: Blueprint
) -> None:
    retry = reverse("jobs:retry", args=[failed_job.pk])
    assert retry in as_alice.get(URL).content.decode()
    assert retry in as_alice.get(failed_job.get_absolute_url()).content.decode()
    Blueprint.objects.update(arguments="-port 1")
    for url in (URL, failed_job.get_absolute_url()):
        page = as_alice.get(url).content.decode()
        assert retry not in page
        assert f'href="{URL}edit/">Edit the server</a>' in page


def test_a_failed_start_has_one_primary_button_and_lines_of_its_last_stage(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    page = as_alice.get(URL).content.decode()
    assert "Starting the game" in page
    assert PRIMARY.findall(page) == ["Retry the job Start"]
    stage = JobStage.objects.create(
        job=failed_job, name="Waiting for the game", first_seq=3, started_at=timezone.now()
    )
    page = as_alice.get(URL).content.decode()
    assert "Starting the game" not in page
    assert "already in use" in page, "that went to standard error"
    JobStage.objects.filter(pk=stage.pk).update(first_seq=1)
    assert "Starting the game" in as_alice.get(URL).content.decode()
    Job.objects.update(state=JobState.SUCCEEDED)
    assert len(PRIMARY.findall(as_alice.get(URL).content.decode())) == 1


def test_a_crash_is_told_once_and_not_beside_the_start_before_it(
    as_alice: Client, server: Server
) -> None:
    Job.objects.create(
        operation="start", server=server, state=JobState.SUCCEEDED, finished_at=timezone.now()
    )
    record_state(server, "crashed")
    assert has_strip(as_alice)
    words = "Its last line was: bye"
    Crash.objects.create(server=server, exit_signal="SIGSEGV", detail=f"Crashed (SIGSEGV). {words}")
    Server.objects.update(last_error=f"Crashed (SIGSEGV). {words}")
    assert has_strip(as_alice), "nothing else tells it"
    remark = f"Crashed (SIGSEGV). It ended without having been asked to. {words}"
    Server.objects.update(state_note="restarting (1 of 5)", state_detail=remark)
    page = as_alice.get(URL).content.decode()
    assert (page.count(words), ">succeeded<" in page, has_strip(as_alice)) == (1, False, False)
    Server.objects.update(last_error="Start: Port 27015 is taken.")
    assert "Port 27015 is taken." in as_alice.get(URL).content.decode()


# --- Without scripts --------------------------------------------------------------------------


def test_who_has_kicked_somebody_can_reload_the_page(as_alice: Client, server: Server) -> None:
    record_state(server, "running")
    as_alice.post(f"{URL}players/say/", {"text": "hi"})
    assert "Reload the page" in as_alice.get(f"{URL}players/").content.decode()
    ConsoleCommand.objects.update(state="answered")
    assert "Reload the page" not in as_alice.get(f"{URL}players/").content.decode()


# --- On the tabs that are about something else ------------------------------------------------


def test_it_is_one_line_with_a_fold_on_the_tabs_that_are_about_something_else(
    as_alice: Client, server: Server, running_job: Job
) -> None:
    assert "strip-line" not in as_alice.get(URL).content.decode()
    page = as_alice.get(f"{URL}players/").content.decode()
    line = page.partition('class="strip-line"')[2].partition('class="strip"')[0]
    assert 'class="strip-line-words">Downloading</span>' in line
    assert '<progress max="100" value="10"' in line
    assert reverse("jobs:cancel", args=[running_job.pk]) in page.rpartition("</details>")[2]


def test_its_line_says_why_a_job_failed(as_alice: Client, server: Server, failed_job: Job) -> None:
    page = as_alice.get(f"{URL}players/").content.decode()
    assert 'class="strip-line-words">Port 27015 is taken.</span>' in page
    line = " ".join(page.partition('class="strip-line"')[2].partition("</summary>")[0].split())
    assert '<span class="state" data-state="failed">Start failed:</span>' in line
    assert reverse("jobs:retry", args=[failed_job.pk]) in page.rpartition("</details>")[2]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("succeeded", r"Start finished <time [^>]* data-ago>"),
        ("cancelled", r"Start was cancelled <time [^>]* data-ago>"),
        ("running", r"Start runs: Preparing"),
        ("queued", r"Start waits: Waits for a worker"),
    ],
)
def test_its_line_is_a_sentence_that_says_what_and_when(
    as_alice: Client, server: Server, state: str, words: str
) -> None:
    is_final = state in ("succeeded", "cancelled")
    Job.objects.create(
        operation="start",
        server=server,
        state=state,
        stage="Preparing",
        finished_at=timezone.now() if is_final else None,
    )
    page = as_alice.get(f"{URL}players/").content.decode()
    line = page.partition("<summary>")[2].partition("</summary>")[0]
    assert re.match(words, " ".join(re.sub("</?span[^>]*>", "", line).split()))


def test_a_failure_sets_the_name_that_its_sentence_begins_with_apart(
    as_alice: Client, server: Server, failed_job: Job
) -> None:
    Job.objects.update(error="alpha cannot be started. Edit it.")
    page = as_alice.get(f"{URL}players/").content.decode()
    assert 'class="strip-line-words">“alpha” cannot be started.</span>' in page
    assert "<h2>“alpha” cannot be started.</h2>" in page
