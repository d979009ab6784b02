"""A host's builds of the game on its page, and the requests for a whole host from there."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import Job, JobState, Worker
from servers.models import Host, Server

pytestmark = pytest.mark.django_db

PAGE = "/hosts/local/"
JOBS = "/hosts/local/jobs/"
ROLLBACK = {"operation": "rollback", "from": "17840213", "to": "17000000"}


def read(client: Client) -> str:
    """Return the page with each run of blanks collapsed."""
    return " ".join(client.get(PAGE).content.decode().split())


# --- What is told -----------------------------------------------------------------------------


def test_it_tells_which_servers_run_which_build(
    as_dana: Client, two_releases: Host, server: Server
) -> None:
    Server.objects.update(running_build_id="17000000")
    page = read(as_dana)
    older = page.partition("Build 17000000")[2]
    assert "current</span>" not in older
    assert server.get_absolute_url() in older.partition("</li>")[0]
    assert "restart to take build 17840213" in older
    assert "Roll back to build 17000000" in page
    assert "Steam has not been asked yet" in page  # nobody invents what Steam would say


@pytest.mark.parametrize(
    ("latest", "said"),
    [
        ("17840213", "Build 17840213 is the latest. Checked "),
        ("18000000", "Build 18000000 is available. Checked "),
        ("17000000", "It is installed here, but not current. Checked "),
    ],
)
def test_it_tells_what_steam_said_and_when(
    as_dana: Client, two_releases: Host, latest: str, said: str
) -> None:
    Host.objects.update(latest_build_id=latest, latest_build_at=timezone.now())
    page = read(as_dana)
    assert said in page
    assert ("Update to build 18000000" in page) == (latest == "18000000")


def test_an_update_without_news_says_so_and_asks_for_no_restart(
    as_dana: Client, two_releases: Host, server: Server
) -> None:
    Server.objects.update(running_build_id="17840213")
    job = Job.objects.create(operation="install", state=JobState.SUCCEEDED, stage="Cleaning up")
    assert "Cleaning up" not in read(as_dana)
    said = "Build 17840213 is the newest; nothing was changed."
    Job.objects.update(stage=said)
    page = read(as_dana)
    assert said in page
    assert "restart to take build" not in page
    assert said in as_dana.get(job.get_absolute_url()).content.decode()


def test_what_an_install_would_fetch_is_told_where_there_is_no_game(
    as_dana: Client, host: Host
) -> None:
    now = timezone.now()
    Host.objects.update(latest_build_id="18000000", latest_build_at=now, reported_at=now)
    page = read(as_dana)
    assert "Build 18000000 is what an install would fetch." in page
    assert "is available" not in page


def test_a_look_that_failed_is_told_beside_what_is_known(
    as_dana: Client, two_releases: Host
) -> None:
    Host.objects.update(latest_build_id="17840213", latest_build_at=timezone.now())
    job = Job.objects.create(
        operation="check", host=two_releases, state=JobState.FAILED, error="Steam is away."
    )
    page = read(as_dana)
    assert f'there may be a newer one: Steam is away. <a href="{job.get_absolute_url()}"' in page
    Job.objects.create(operation="check", host=two_releases, state=JobState.SUCCEEDED)
    assert "there may be a newer one" not in read(as_dana)


def test_after_a_rollback_the_later_build_is_told(as_dana: Client, two_releases: Host) -> None:
    two_releases.releases.update(is_current=False)
    two_releases.releases.filter(build_id="17000000").update(is_current=True)
    page = read(as_dana)
    assert "Build 17840213 is installed and later than the current one." in page
    assert "Switch to build 17840213" in page


@pytest.mark.parametrize("has_reported", [True, False])
def test_a_host_without_the_game_says_so(as_dana: Client, host: Host, has_reported: bool) -> None:
    if has_reported:
        Host.objects.update(reported_at=timezone.now())
    page = read(as_dana)
    assert ("is not installed here yet" if has_reported else "has not reported yet") in page
    assert 'value="rollback"' not in page


# --- What is asked ----------------------------------------------------------------------------


@pytest.mark.parametrize("operation", ["install", "check"])
def test_a_button_asks_once_and_stays_on_the_page(
    as_dana: Client, dana: User, host: Host, worker: Worker, operation: str
) -> None:
    for _ in range(2):
        answer = as_dana.post(JOBS, {"operation": operation})
        assert (answer.status_code, answer.headers["Location"]) == (303, PAGE)
    job = Job.objects.get()
    assert (job.operation, job.host, job.server, job.requested_by) == (operation, host, None, dana)
    page = read(as_dana)
    assert f"is already waiting or running: job {job.pk}" in page
    assert "Starts in a moment." in page  # the strip, with what it waits for
    assert f'action="{job.get_absolute_url()}cancel"' in page


def test_a_running_install_shows_how_far_it_is(as_dana: Client, host: Host) -> None:
    Job.objects.create(
        operation="install", host=host, state=JobState.RUNNING, stage="Downloading", progress=37
    )
    page = read(as_dana)
    assert '<progress max="100" value="37"' in page
    assert "Downloading" in page


def test_a_failed_install_is_told_with_retry_until_another_job_is_over(
    as_dana: Client, host: Host
) -> None:
    job = Job.objects.create(
        operation="install", host=host, state=JobState.FAILED, error="The disk is full."
    )
    page = read(as_dana)
    assert "The disk is full." in page
    assert f'action="{job.get_absolute_url()}retry"' in page
    Job.objects.create(operation="check", host=host, state=JobState.SUCCEEDED)
    assert f'action="{job.get_absolute_url()}retry"' not in read(as_dana)


def test_a_rollback_goes_from_the_build_of_the_page_to_the_other(
    as_dana: Client, dana: User, two_releases: Host
) -> None:
    assert as_dana.post(JOBS, ROLLBACK).status_code == 303
    job = Job.objects.get()
    assert (job.operation, job.build_id) == ("rollback", "17000000")
    assert (job.host, job.server, job.requested_by) == (two_releases, None, dana)
    said = "Roll back the game to build 17000000"
    assert said in as_dana.get(job.get_absolute_url()).content.decode()


def test_a_rollback_that_is_retried_goes_to_the_same_build(
    as_dana: Client, two_releases: Host
) -> None:
    job = Job.objects.create(
        operation="rollback", host=two_releases, build_id="17000000", state=JobState.FAILED
    )
    as_dana.post(reverse("jobs:retry", args=[job.pk]))
    assert Job.objects.latest("pk").build_id == "17000000"


def test_only_an_admin_looks_for_updates(as_alice: Client, server: Server) -> None:
    assert as_alice.post(JOBS, {"operation": "check"}).status_code == 403
    of_server = f"{server.get_absolute_url()}jobs/"
    assert as_alice.post(of_server, {"operation": "check"}).status_code == 409
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"to": "1"}, "build 1 is not installed on host local"),
        ({"from": "17000000"}, "build 17840213 is now current on host local"),
        ({"operation": "start"}, "start"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    as_dana: Client, two_releases: Host, changes: dict[str, str], said: str
) -> None:
    answer = as_dana.post(JOBS, ROLLBACK | changes)
    assert answer.status_code == 409
    assert said in answer.content.decode()
    assert not Job.objects.exists()


def test_a_host_that_is_not_there_is_not_found(as_dana: Client) -> None:
    assert as_dana.get("/hosts/attic/").status_code == 404
    assert as_dana.post("/hosts/attic/jobs/", {"operation": "install"}).status_code == 404
