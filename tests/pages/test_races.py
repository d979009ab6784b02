"""Simultaneous requests: limits hold, and no change is lost.

Where two have to meet, the first keeps its transaction open until the second waits for it. SQLite does not
show what the second waits for, so there the second may come after the first; PostgreSQL always shows the
race.
"""

import threading
from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from l4d2site.accounts import server_people_pages
from l4d2site.accounts.models import Invitation, OwnQuotas
from servers.config import READY_BLUEPRINTS
from servers.fleet import TagsError
from servers.fleet.tags import MOST_PER_SERVER, add_tag, rename_tag, set_tags
from servers.models import Ban, Blueprint, Host, Server, ServerTag
from servers.quotas import lock_person
from tests.jobs.queue.test_quotas import is_somebody_waiting
from tests.pages.conftest import sign_in
from tests.pages.test_servers import NEW, form_of
from tests.waiting import wait_until

AT_ONE_MOMENT = pytest.mark.django_db(transaction=True)


def meet(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Do `first` in a transaction that ends once `second`, in another thread, waits for it or is done."""
    errors: list[BaseException] = []

    def beside() -> None:
        try:
            second()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=beside)
    with transaction.atomic():
        first()
        thread.start()
        if connection.vendor == "postgresql":
            wait_until(lambda: is_somebody_waiting() or not thread.is_alive(), 10, "it waits")
    thread.join(30)
    for error in errors:
        raise error


def tag_names(server: Server) -> set[str]:
    return set(ServerTag.objects.filter(server=server).values_list("name", flat=True))


# --- Tags -------------------------------------------------------------------------------------


def test_a_tag_is_added_to_those_that_are_there_by_now(server: Server) -> None:
    (as_read_before,) = Server.objects.prefetch_related("tags")
    set_tags(server, ["EU"])
    assert add_tag([as_read_before], "race") == (1, [])
    assert tag_names(server) == {"EU", "race"}
    assert add_tag([as_read_before], "eu") == (0, [])


@AT_ONE_MOMENT
def test_two_who_add_a_tag_keep_to_the_limit(server: Server) -> None:
    set_tags(server, [f"tag {number}" for number in range(MOST_PER_SERVER - 1)])
    (mine,), (theirs,) = (Server.objects.prefetch_related("tags") for _ in range(2))
    refused: list[str] = []

    def add_another() -> None:
        _count, refusals = add_tag([theirs], "another")
        refused.extend(refusals)

    meet(lambda: add_tag([mine], "one"), add_another)
    assert len(tag_names(server)) == MOST_PER_SERVER
    assert "at most 10 tags" in " ".join(refused)


@AT_ONE_MOMENT
def test_a_tag_that_is_added_under_its_new_name_does_not_break_the_renaming(server: Server) -> None:
    set_tags(server, ["old"])
    (theirs,) = Server.objects.prefetch_related("tags")
    mine = Server.objects.filter(pk=server.pk)
    meet(lambda: add_tag([theirs], "new"), lambda: rename_tag(mine, "old", "new"))
    assert tag_names(server) == {"new"}


@AT_ONE_MOMENT
def test_two_forms_keep_to_the_limit_of_an_owner(
    server: Server, monkeypatch: pytest.MonkeyPatch, host: Host, blueprint: Blueprint
) -> None:
    monkeypatch.setattr("servers.fleet.tags.MOST_PER_OWNER", 1)
    other = Server.objects.create(name="o", owner=server.owner, host=host, blueprint=blueprint)
    with pytest.raises(TagsError):
        meet(lambda: set_tags(server, ["one"]), lambda: set_tags(other, ["another"]))
    assert ServerTag.objects.count() == 1


@AT_ONE_MOMENT
def test_a_form_locks_the_owner_before_the_server_and_its_host(server: Server, alice: User) -> None:
    """As requests for jobs do: two different orders would deadlock."""
    page = reverse("servers:edit", args=[server.name])
    client = sign_in(alice)
    version = client.get(page).context["form"].seen_version
    values = {"port": "", "blueprint": str(server.blueprint_id), "tags": "EU", "version": version}
    statuses: list[int] = []

    def save() -> None:
        statuses.append(client.post(page, values).status_code)
        if threading.current_thread() is not threading.main_thread():
            connection.close()

    def lock_the_rest() -> None:
        lock_person(alice)
        if connection.vendor == "postgresql":
            thread = threading.Thread(target=save)
            thread.start()
            wait_until(lambda: is_somebody_waiting() or not thread.is_alive(), 10, "it waits")
            threads.append(thread)
        rows = Server.objects.select_for_update(no_key=True, nowait=True)
        Host.objects.select_for_update(no_key=True, nowait=True).get(pk=server.host_id)
        rows.get(pk=server.pk)

    threads: list[threading.Thread] = []
    with transaction.atomic():
        lock_the_rest()
    if threads:
        threads[0].join(30)
    else:
        save()
    assert statuses == [302]
    assert tag_names(server) == {"EU"}


# --- Ready blueprints -------------------------------------------------------------------------

VERSUS = next(ready for ready in READY_BLUEPRINTS if ready.key == "versus")


def make_versus(owner: User, name: str = "versus", config: str = VERSUS.config) -> Blueprint:
    return Blueprint.objects.create(
        name=name, owner=owner, arguments=VERSUS.arguments, config=config
    )


@pytest.mark.parametrize("is_own", [True, False])
@AT_ONE_MOMENT
def test_servers_from_one_ready_blueprint_are_all_made(
    alice: User, bob: User, host: Host, is_own: bool
) -> None:
    client = sign_in(alice)
    statuses: list[int] = []

    def make_first() -> None:
        if is_own:
            lock_person(alice)
        make_versus(alice if is_own else bob)

    def make_second() -> None:
        form = form_of(Blueprint(pk=0), blueprint="ready:versus")
        statuses.append(client.post(NEW, form).status_code)

    meet(make_first, make_second)
    assert statuses == [302]
    made = Server.objects.get().blueprint
    assert made.owner == alice
    assert (made.name == "versus") is is_own
    assert made.arguments == VERSUS.arguments


# --- Links and limits -------------------------------------------------------------------------


@AT_ONE_MOMENT
def test_two_who_make_a_link_keep_to_the_limit(
    server: Server, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_people_pages, "MOST_INVITATIONS", 1)
    clients = [sign_in(alice), sign_in(alice)]
    url = reverse("server_invitation_make", args=[server.name])

    def make_with(client: Client) -> Callable[[], object]:
        return lambda: client.post(url, {"role": "viewer"})

    meet(*map(make_with, clients))
    assert Invitation.objects.count() == 1


@AT_ONE_MOMENT
def test_two_who_ban_keep_to_the_limit(
    server: Server, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.people.ban_forms.MOST_BANS", 1)
    url = reverse("jobs:bans", args=[server.name])

    def ban_with(client: Client, steam_id: str) -> Callable[[], object]:
        values = {"steam_id": steam_id, "length": "day", "where": "server"}
        return lambda: client.post(url, values)

    first, second = (ban_with(sign_in(alice), f"STEAM_1:0:{number}") for number in (1, 2))
    meet(first, second)
    assert Ban.objects.count() == 1


@AT_ONE_MOMENT
def test_two_admins_who_set_the_first_limits_of_a_person_both_do(dana: User, bob: User) -> None:
    clients = [sign_in(dana), sign_in(dana)]
    url = reverse("person_quotas", args=[bob.pk])
    statuses: list[int] = []

    def set_with(client: Client, servers: str) -> Callable[[], object]:
        return lambda: statuses.append(client.post(url, {"servers": servers}).status_code)

    meet(set_with(clients[0], "3"), set_with(clients[1], "4"))
    assert statuses == [302, 302]
    assert OwnQuotas.objects.get().servers == 4
