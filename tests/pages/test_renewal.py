"""How pages without scripts follow running jobs: by themselves, or by a link if they have a form."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from playwright.sync_api import expect

from jobs.models import Job, JobState
from jobs.queue.transitions import finish_job
from servers.models import ActualState, Host, Server
from tests.pages.browsing import OpenPage
from tests.states import record_state

pytestmark = pytest.mark.django_db

META = '<noscript><meta http-equiv="refresh" content="5"></noscript>'
BY_HAND = "without JavaScript this page does not follow it."


def renewal(client: Client, url: str) -> str:
    """Return how a page says that it is renewed, judging by its content."""
    page = client.get(url, follow=True).content.decode()
    assert not (META in page and BY_HAND in page)
    return "itself" if META in page else "by-hand" if BY_HAND in page else ""


@pytest.fixture
def addresses(server: Server, running_job: Job) -> dict[str, str]:
    """Return pages that show a running job, and how each is renewed."""
    return {
        running_job.get_absolute_url(): "itself",
        f"{running_job.get_absolute_url()}?q=line": "by-hand",
        reverse("jobs:list"): "itself",
        reverse("jobs:hosts"): "itself",
        server.host.get_absolute_url(): "itself",
        server.get_absolute_url(): "itself",
        f"{reverse('servers:create')}?made=alpha": "itself",
        reverse("servers:history", args=["alpha"]): "itself",
        reverse("servers:list"): "by-hand",
        reverse("jobs:players", args=["alpha"]): "by-hand",
        reverse("jobs:bans", args=["alpha"]): "by-hand",
    }


def test_pages_renew_themselves_only_while_something_runs_and_without_a_form(
    as_dana: Client, addresses: dict[str, str], running_job: Job
) -> None:
    assert {url: renewal(as_dana, url) for url in addresses} == addresses
    Job.objects.update(state=JobState.SUCCEEDED)
    assert {renewal(as_dana, url) for url in addresses} == {""}


def test_a_running_server_whose_job_waits_can_be_typed_to(
    as_alice: Client, server: Server, alice: User
) -> None:
    record_state(server, ActualState.RUNNING)
    still = "Without JavaScript, new lines do not appear by themselves."
    assert still in as_alice.get(server.get_absolute_url()).content.decode()
    job = Job.objects.create(operation="stop", server=server, requested_by=alice)
    assert renewal(as_alice, server.get_absolute_url()) == "by-hand"
    Job.objects.filter(pk=job.pk).update(state=JobState.RUNNING)
    assert renewal(as_alice, server.get_absolute_url()) == "itself"
    assert still not in as_alice.get(server.get_absolute_url()).content.decode()


def test_a_page_with_a_code_to_enter_is_left_alone(as_dana: Client, host: Host) -> None:
    job = Job.objects.create(operation="install", state=JobState.RUNNING)
    assert renewal(as_dana, job.get_absolute_url()) == "itself"
    Job.objects.update(stage="Waiting for a Steam Guard code")
    job.refresh_from_db()
    assert job.asks_for_code
    assert renewal(as_dana, job.get_absolute_url()) == "by-hand"
    assert renewal(as_dana, reverse("servers:create")) == "by-hand"


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_without_scripts_a_jobs_page_shows_its_end(open_page: OpenPage, running_job: Job) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(running_job.get_absolute_url())
    expect(page.get_by_role("searchbox")).to_have_count(0)
    finish_job(running_job, exit_code=0)
    expect(page.get_by_text("Exit code")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_visible()
    page.goto("/servers/")
    expect(page.get_by_text(BY_HAND)).to_have_count(0)
