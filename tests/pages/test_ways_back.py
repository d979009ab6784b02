"""Where forms lead when they are done: back to a page of the panel, and never elsewhere."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from jobs.models import Job
from servers.models import Server

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(server: Server, alice: User) -> Job:
    """Return a waiting job."""
    return Job.objects.create(operation="start", server=server, requested_by=alice)


def led_to(client: Client, job: Job, **fields: str) -> str:
    answer = client.post(f"{job.get_absolute_url()}cancel", fields)
    assert answer.status_code == 303
    return answer.headers["Location"]


def test_a_form_leads_back_to_the_page_that_it_names(as_alice: Client, job: Job) -> None:
    assert led_to(as_alice, job, next="/servers/?made=alpha") == "/servers/?made=alpha"


def test_without_a_page_it_leads_to_the_job_as_ever(as_alice: Client, job: Job) -> None:
    assert led_to(as_alice, job) == job.get_absolute_url()


@pytest.mark.parametrize(
    "address",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "///evil.example",
        "javascript:alert(1)",
        "evil.example",
        pytest.param("/servers/?" + "a" * 2_000, id="long"),
    ],
)
def test_it_leads_nowhere_but_to_the_panel(as_alice: Client, job: Job, address: str) -> None:
    assert led_to(as_alice, job, next=address) == job.get_absolute_url()
