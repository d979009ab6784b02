"""How many servers, waiting jobs and streams one person may have, and what people are told about it."""

import asyncio
import threading
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import AsyncClient, Client, override_settings
from django.urls import reverse
from django.utils import timezone

from jobs.live.fan_out import Hub
from jobs.models import Job
from jobs.queue import enqueue
from l4d2site.accounts.models import OwnQuotas
from servers import quotas
from servers.models import Blueprint, Host, Overlay, Server
from servers.quotas import TooManyServersError, take_server_place
from tests.jobs.queue.test_quotas import is_somebody_waiting
from tests.pages.accounts.test_admin_rights import make_staff
from tests.pages.conftest import sign_in
from tests.pages.test_servers import NEW, form_of
from tests.waiting import wait_until

JSON = {"Accept": "application/json"}


@pytest.fixture(autouse=True)
def few() -> Any:
    """Let people have two servers, and two waiting jobs."""
    with override_settings(SERVERS_PER_OWNER=2, WAITING_JOBS_PER_OWNER=2):
        yield


def own(person: User, host: Host, blueprint: Blueprint, count: int) -> list[Server]:
    """Give a person servers."""
    return [
        Server.objects.create(
            name=f"{person.username}-{number}", owner=person, host=host, blueprint=blueprint
        )
        for number in range(count)
    ]


# --- Servers ----------------------------------------------------------------------------------


def test_one_server_more_than_one_may_have_is_refused_and_the_form_is_kept(
    as_alice: Client, alice: User, host: Host, blueprint: Blueprint
) -> None:
    own(alice, host, blueprint, 1)
    assert as_alice.post(NEW, form_of(blueprint, name="second")).status_code == 302
    response = as_alice.post(NEW, form_of(blueprint, name="third", config="hostname x"))
    page = response.content.decode()
    assert response.status_code == 429
    assert "You have 2 servers, and you may have 2. Remove one that you no longer need" in page
    assert 'value="third"' in page
    assert "hostname x" in page
    assert Server.objects.count() == 2


def test_a_program_is_told_in_json(
    as_alice: Client, alice: User, host: Host, blueprint: Blueprint
) -> None:
    own(alice, host, blueprint, 2)
    response = as_alice.post(NEW, form_of(blueprint), headers=JSON)
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) > 0
    assert response.json()["error"].startswith("You have 2 servers, and you may have 2.")


def test_the_empty_form_says_it_before_it_is_filled_in(
    as_alice: Client, alice: User, host: Host, blueprint: Blueprint
) -> None:
    own(alice, host, blueprint, 1)
    assert "you may have" not in as_alice.get(NEW).content.decode()
    OwnQuotas.objects.create(user=alice, servers=1)
    page = as_alice.get(NEW).content.decode()
    assert "You have 1 server, and you may have 1." in page


def test_a_superuser_has_no_limit_and_a_persons_own_value_wins(
    as_alice: Client, as_dana: Client, alice: User, dana: User, host: Host, blueprint: Blueprint
) -> None:
    own(alice, host, blueprint, 2)
    own(dana, host, blueprint, 2)
    blueprint.is_shared = True
    blueprint.save()
    assert as_dana.post(NEW, form_of(blueprint, name="danas")).status_code == 302
    OwnQuotas.objects.create(user=alice, servers=3)
    assert as_alice.post(NEW, form_of(blueprint, name="third")).status_code == 302
    assert as_alice.post(NEW, form_of(blueprint, name="fourth")).status_code == 429


def test_who_has_more_than_they_may_changes_and_removes_them_all_the_same(
    as_alice: Client, alice: User, host: Host, blueprint: Blueprint
) -> None:
    server = own(alice, host, blueprint, 4)[0]
    edit = reverse("servers:edit", args=[server.name])
    assert as_alice.post(edit, form_of(blueprint, config="hostname y")).status_code == 302
    remove = reverse("servers:remove", args=[server.name])
    Server.objects.update(actual_state="absent")
    assert as_alice.post(remove).status_code == 302
    assert Server.objects.count() == 3


def test_an_admin_gives_a_server_to_an_owner_who_is_full(
    as_dana: Client, alice: User, bob: User, host: Host, blueprint: Blueprint
) -> None:
    own(bob, host, blueprint, 2)
    server = own(alice, host, blueprint, 1)[0]
    values = {
        **form_of(blueprint, name=server.name, port=str(server.port)),
        "owner": bob.pk,
        "host": host.pk,
        "bind_address": "",
    }
    url = reverse("admin:servers_server_change", args=[server.pk])
    assert as_dana.post(url, values).status_code == 302
    assert Server.objects.filter(owner=bob).count() == 3


@pytest.mark.django_db(transaction=True)
def test_two_servers_made_at_one_moment_do_not_both_get_the_last_place(
    alice: User, host: Host, blueprint: Blueprint
) -> None:
    attic = Host.objects.create(name="attic")
    own(alice, host, blueprint, 1)
    refusals: list[TooManyServersError] = []

    def make(name: str, on: Host) -> None:
        take_server_place(alice)
        Server.objects.create(name=name, owner=alice, host=on, blueprint=blueprint, port=27100)

    def make_beside() -> None:
        try:
            with transaction.atomic():
                make("beside", attic)
        except TooManyServersError as refusal:
            refusals.append(refusal)
        finally:
            connection.close()

    second = threading.Thread(target=make_beside)
    with transaction.atomic():
        make("here", host)
        second.start()
        if connection.vendor == "postgresql":
            wait_until(lambda: is_somebody_waiting() or not second.is_alive(), 10, "it waits")
    second.join(30)
    assert len(refusals) == 1
    assert Server.objects.count() == 2


# --- Waiting jobs -----------------------------------------------------------------------------


def test_a_click_too_many_is_a_429_with_words_and_stopping_and_cancelling_go_on(
    as_alice: Client, alice: User, stopped_server: Server
) -> None:
    for _ in range(2):
        enqueue("initialize", server=stopped_server, requested_by=alice)
    url = reverse("jobs:create", args=[stopped_server.name])
    refused = as_alice.post(url, {"operation": "start"})
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0
    assert "2 jobs that you asked for wait, and the limit is 2." in refused.content.decode()
    told = as_alice.post(url, {"operation": "start"}, headers=JSON)
    assert told.status_code == 429
    assert told.json()["error"].startswith("2 jobs that you asked for wait")
    assert as_alice.post(url, {"operation": "stop"}).status_code == 303
    waiting = Job.objects.queued()[0]
    assert as_alice.post(reverse("jobs:cancel", args=[waiting.pk])).status_code == 303
    assert Job.objects.queued().count() == 2


def test_the_retry_of_a_failed_job_obeys(
    as_alice: Client, alice: User, stopped_server: Server, failed_job: Job
) -> None:
    for _ in range(2):
        enqueue("initialize", server=stopped_server, requested_by=alice)
    assert as_alice.post(reverse("jobs:retry", args=[failed_job.pk])).status_code == 429


# --- Streams ----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@override_settings(STREAMS_PER_PERSON=2)
def test_streams_have_a_persons_own_limit_and_superusers_none(
    alice: User, bob: User, dana: User
) -> None:
    OwnQuotas.objects.create(user=alice, streams=1)
    OwnQuotas.objects.create(user=dana, streams=1)

    async def ask(person: User, already: int) -> Any:
        client = AsyncClient()
        await client.aforce_login(person)
        places = [Hub.of_running_loop().open_streams.add(person.pk) for _ in range(already)]
        response = await asyncio.create_task(client.get("/events"))
        for place in places:
            place.leave()
        return response

    async def scenario() -> list[Any]:
        cases = [(alice, 0), (alice, 1), (bob, 1), (bob, 2), (dana, 9)]
        return [await ask(person, already) for person, already in cases]

    responses = asyncio.run(scenario())
    assert [one.status_code for one in responses] == [200, 429, 200, 429, 200]
    assert "your limit of pages that follow this panel live (1)" in responses[1].content.decode()


# --- In the admin -----------------------------------------------------------------------------


def test_an_admin_sets_a_persons_own_values(as_dana: Client, alice: User, dana: User) -> None:
    url = reverse("admin:auth_user_change", args=[alice.pk])
    page = as_dana.get(url).content.decode()
    assert "Empty: 2, as for everybody." in page
    values = {
        "username": "alice",
        "is_active": "on",
        "date_joined_0": "2026-01-01",
        "date_joined_1": "00:00:00",
        "own_quotas-TOTAL_FORMS": "1",
        "own_quotas-INITIAL_FORMS": "0",
        "own_quotas-0-user": alice.pk,
        "own_quotas-0-servers": "7",
        "own_quotas-0-waiting_jobs": "",
        "own_quotas-0-streams": "0",
    }
    assert as_dana.post(url, values).status_code == 302
    limits = OwnQuotas.objects.get()
    assert (limits.user, limits.servers, limits.waiting_jobs, limits.streams) == (alice, 7, None, 0)
    own_page = as_dana.get(reverse("admin:auth_user_change", args=[dana.pk])).content.decode()
    assert "own_quotas" not in own_page


@pytest.mark.parametrize("kind", [Server, Blueprint, Overlay])
def test_staff_give_nobody_more_than_they_may_have(
    kind: Any,
    alice: User,
    bob: User,
    host: Host,
    blueprint: Blueprint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "BLUEPRINTS_PER_OWNER", 1)
    monkeypatch.setattr(quotas, "OVERLAYS_PER_OWNER", 1)
    OwnQuotas.objects.create(user=bob, servers=1)
    for person in (alice, bob):
        own(person, host, blueprint, 1)
        Overlay.objects.create(name=person.username, owner=person)
    Blueprint.objects.create(name="bobs", owner=bob)
    model = kind._meta.model_name
    rights = [f"{verb}_{model}" for verb in ("add", "change", "delete")]
    others = {"view_blueprint", "bring_native_code", *rights}
    client = sign_in(make_staff(*others))
    values = {
        **form_of(blueprint),
        "owner": bob.pk,
        "host": host.pk,
        "blueprint_overlays-TOTAL_FORMS": "0",
        "blueprint_overlays-INITIAL_FORMS": "0",
    }
    answer = client.post(reverse(f"admin:servers_{model}_add"), values)
    assert f"bob has as many {model}s as they may have." in answer.content.decode()
    # Nor by giving them somebody else's. What they have can be changed.
    for owner, status in ((alice, 200), (bob, 302)):
        row = kind.objects.get(owner=owner)
        url = reverse(f"admin:servers_{model}_change", args=[row.pk])
        assert client.post(url, {**values, "name": row.name}).status_code == status
    assert kind.objects.filter(owner=bob).count() == 1


def test_staff_give_nobody_an_overlay_that_they_have_no_room_for(alice: User, bob: User) -> None:
    overlay = Overlay.objects.create(name="big", owner=alice)
    numbers = {"number": 1, "files": 1, "size_bytes": 9, "added_bytes": 9}
    overlay.versions.create(digest="d", reference="big@1", looked_at=timezone.now(), **numbers)
    OwnQuotas.objects.create(user=bob, content_bytes=8)
    client = sign_in(make_staff("change_overlay"))
    url = reverse("admin:servers_overlay_change", args=[overlay.pk])
    page = client.post(url, {"name": "big", "owner": bob.pk}).content.decode()
    assert "are more than bob has room for" in page
    overlay.refresh_from_db()
    assert overlay.owner == alice


def test_only_a_superuser_takes_an_overlay_from_everybody(alice: User, as_dana: Client) -> None:
    """What nobody owns counts for nobody."""
    overlay = Overlay.objects.create(name="big", owner=alice)
    url = reverse("admin:servers_overlay_change", args=[overlay.pk])
    page = sign_in(make_staff("change_overlay")).post(url, {"name": "big", "owner": ""})
    assert "Only a superuser can take an overlay from its owner" in page.content.decode()
    overlay.refresh_from_db()
    assert overlay.owner == alice
    assert as_dana.post(url, {"name": "big", "owner": ""}).status_code == 302
    overlay.refresh_from_db()
    assert overlay.owner is None
