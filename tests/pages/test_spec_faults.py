"""Rows that break a rule made after they were stored: they stay, and every page says so."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from jobs.models import Job, JobState
from jobs.queue import enqueue
from jobs.worker import run_worker_once
from servers.models import Blueprint, Server
from tests.fakes import FakeHost

HIDDEN_PORT = '+hostname "Night crew -port 27097"'
SENTENCE = "The value of “+hostname” contains “-port”, and Saferoom sets -port itself"

pytestmark = pytest.mark.django_db


@pytest.fixture
def stored(server: Server) -> Server:
    """A server whose arguments were stored by the previous version."""
    Server.objects.filter(pk=server.pk).update(arguments=HIDDEN_PORT, config="log on\fsv_lan 0")
    server.refresh_from_db()
    return server


def test_a_server_says_all_that_keeps_it_from_starting(stored: Server, as_alice: Client) -> None:
    page = as_alice.get(stored.get_absolute_url()).content.decode()
    assert f"In the server’s own launch arguments: Line 1: {SENTENCE}" in page
    assert "In the server’s own config: Line 1 of the config contains" in page
    assert "cannot be started as it is" in as_alice.get(reverse("servers:list")).content.decode()


def test_a_server_that_passes_says_nothing(server: Server, as_alice: Client) -> None:
    assert server.spec_faults == ()
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "cannot be started as it is" not in page


def test_the_start_is_refused_with_the_same_sentence(stored: Server, fake_host: FakeHost) -> None:
    job = enqueue("start", server=stored, requested_by=stored.owner)
    run_worker_once(stored.host)
    job = Job.objects.get(pk=job.pk)
    assert job.state == JobState.FAILED
    assert all(" ".join(fault.split()) in job.error for fault in stored.spec_faults)
    assert not fake_host.specs


def test_a_blueprint_says_so_for_all_its_servers(
    server: Server, as_alice: Client, as_dana: Client
) -> None:
    Blueprint.objects.filter(pk=server.blueprint_id).update(arguments="-binary /bin/echo")
    server = Server.objects.get(pk=server.pk)
    sentence = "“-binary” cannot be used"
    for address in (server.blueprint.get_absolute_url(), server.get_absolute_url()):
        assert sentence in as_alice.get(address).content.decode()
    listed = as_dana.get(reverse("admin:index")).content.decode()
    assert f"Blueprint {server.blueprint.name}" in listed
    assert sentence in listed
    assert f"Server {server.name}" not in listed


def test_the_admin_finds_them_listed(stored: Server, as_dana: Client) -> None:
    page = as_dana.get(reverse("admin:index")).content.decode()
    assert f"Server {stored.name}</a> of {stored.owner}" in page
    assert SENTENCE in page
    Server.objects.filter(pk=stored.pk).update(arguments="", config="")
    assert (
        "Cannot be started as they are" not in as_dana.get(reverse("admin:index")).content.decode()
    )


@pytest.mark.parametrize("field", ["arguments", "config"])
def test_a_form_tells_all_faults_at_once(
    server: Server, as_alice: Client, alice: User, field: str
) -> None:
    text = {"arguments": "-port 1\n–x\n-binary y", "config": "a é\nhostport 1\nb —"}[field]
    data = {"port": server.port, "blueprint": server.blueprint_id, "arguments": "", "config": ""}
    response = as_alice.post(reverse("servers:edit", args=[server.name]), {**data, field: text})
    assert response.status_code == 200
    errors = response.context["form"].errors[field]
    assert len(errors) == 3
    assert Server.objects.get(pk=server.pk).arguments == server.arguments
