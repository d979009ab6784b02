"""Which port a server may have, who may give it, and what is offered if another program holds it."""

import re

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from hostops.specs import PORT_RANGE
from servers.models import ActualState, Blueprint, Host, NoFreePortError, Server
from servers.models.ports import find_panel_ports
from servers.models.servers import ALL_ADDRESSES
from tests.states import record_state

NEW = reverse("servers:create")


def form_of(blueprint: Blueprint, /, **changes: str) -> dict[str, str]:
    """Return what the form for a new server sends."""
    values = {"name": "beta", "port": "", "blueprint": str(blueprint.pk)}
    return {**values, "arguments": "", "config": "", **changes}


def admin_form_of(server: Server, **changes: str) -> dict[str, str]:
    """Return what the admin's form of a server sends."""
    values = {
        "name": server.name,
        "owner": str(server.owner_id),
        "host": str(server.host_id),
        "port": str(server.port),
        "blueprint": str(server.blueprint_id),
        "arguments": "",
        "config": "",
    }
    return {**values, **changes}


def take(host: Host, *ports: int) -> None:
    """Store that other programs hold these ports."""
    Host.objects.filter(pk=host.pk).update(taken_ports=list(ports))


@pytest.fixture
def owned_by_dana(server: Server, dana: User) -> Server:
    """Return a server that the admin owns."""
    server.owner = dana
    server.save()
    return server


# --- Who may choose which ---------------------------------------------------------------------


def test_the_next_free_port_is_none_that_a_program_or_the_panel_holds(
    server: Server, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(host, 27016, 27018)
    monkeypatch.setattr(settings, "PANEL_PORT", 27017)
    assert host.find_free_port() == 27019, "as stored, though this row was read before"
    take(host, *PORT_RANGE)
    with pytest.raises(NoFreePortError):
        host.find_free_port()


def test_an_owner_keeps_a_port_beyond_the_range(
    as_alice: Client, server: Server, blueprint: Blueprint
) -> None:
    Server.objects.update(port=28000)
    edit = reverse("servers:edit", args=["alpha"])
    as_alice.post(edit, form_of(blueprint, port="28000", config="sv_lan 1"))
    server.refresh_from_db()
    assert (server.port, server.config) == (28000, "sv_lan 1")
    for port in ("28001", "-5"):
        page = as_alice.post(edit, form_of(blueprint, port=port)).content.decode()
        assert "Choose a port from 27015 to 27115" in page


def test_an_admin_takes_other_ports(as_dana: Client, blueprint: Blueprint, host: Host) -> None:
    blueprint.is_shared = True
    blueprint.save()
    assert as_dana.post(NEW, form_of(blueprint, port="1024")).status_code == 302
    assert Server.objects.get(name="beta").port == 1024
    for port in ("1023", "-5"):
        page = as_dana.post(NEW, form_of(blueprint, name="gamma", port=port)).content.decode()
        assert "greater than or equal to 1024" in page


def test_nobody_takes_the_panels_own_ports(
    as_dana: Client, server: Server, blueprint: Blueprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PANEL_PORT", 8080)
    blueprint.is_shared = True
    blueprint.save()
    page = as_dana.post(NEW, form_of(blueprint, port="8080")).content.decode()
    assert "Saferoom itself needs port 8080." in page
    url = reverse("admin:servers_server_change", args=[server.pk])
    page = as_dana.post(url, admin_form_of(server, port="8080")).content.decode()
    assert "Saferoom itself needs port 8080." in page
    assert not Server.objects.filter(port=8080).exists()


@pytest.mark.parametrize(
    ("database", "ports"),
    [
        ({"HOST": "", "PORT": ""}, {8000, 5432}),
        ({"HOST": "127.0.0.1", "PORT": "5433"}, {8000, 5433}),
        ({"HOST": "/run/postgresql", "PORT": 5434}, {8000, 5434}),
        ({"HOST": "10.0.0.7", "PORT": ""}, {8000, 5432}),
        ({"HOST": "db.example.org", "PORT": "5433"}, {8000}),
    ],
)
def test_the_databases_port_is_the_panels_where_it_is_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, database: dict[str, object], ports: set[int]
) -> None:
    monkeypatch.setattr(settings, "PANEL_PORT", 8000)
    monkeypatch.setattr(settings, "HOST_ADDRESS", "10.0.0.7")
    monkeypatch.setattr(settings, "IS_SQLITE", False)
    monkeypatch.setattr(settings, "DATABASES", {"default": database})
    assert find_panel_ports() == ports
    monkeypatch.setattr(settings, "IS_SQLITE", True)
    assert find_panel_ports() == {8000}


def test_a_port_that_another_program_holds_is_refused_to_everybody(
    as_alice: Client, as_dana: Client, server: Server, blueprint: Blueprint, host: Host
) -> None:
    take(host, 27020)
    blueprint.is_shared = True
    blueprint.save()
    for client in (as_alice, as_dana):
        page = client.post(NEW, form_of(blueprint, port="27020")).content.decode()
        assert "Another program on host local uses port 27020. Choose another port" in page
    for url in (
        reverse("admin:servers_server_add"),
        reverse("admin:servers_server_change", args=[server.pk]),
    ):
        page = as_dana.post(url, admin_form_of(server, port="27020")).content.decode()
        assert "Another program on host local uses port 27020." in page
    assert not Server.objects.filter(port=27020).exists()


def test_a_port_that_a_server_still_runs_with_is_refused_to_others_alone(
    as_alice: Client, as_dana: Client, server: Server, blueprint: Blueprint
) -> None:
    record_state(server, ActualState.RUNNING)
    Server.objects.update(port=27030, running_port=27031)
    blueprint.is_shared = True
    blueprint.save()
    refusal = "A server on host local still runs with port 27031, until it is restarted."
    for client in (as_alice, as_dana):
        assert refusal in client.post(NEW, form_of(blueprint, port="27031")).content.decode()
    add = reverse("admin:servers_server_add")
    values = admin_form_of(server, name="beta", port="27031")
    assert refusal in as_dana.post(add, values).content.decode()
    edit = reverse("servers:edit", args=["alpha"])
    assert as_alice.post(edit, form_of(blueprint, port="27031")).status_code == 302
    assert Server.objects.get().port == 27031, "the server may have it again"
    elsewhere = Host.objects.create(name="basement")
    assert not elsewhere.find_port_obstacle(27031, is_any_allowed=False)


def test_a_server_whose_own_port_is_held_can_still_be_edited(
    as_alice: Client, as_dana: Client, server: Server, blueprint: Blueprint, host: Host
) -> None:
    take(host, server.port)
    edit = reverse("servers:edit", args=["alpha"])
    values = form_of(blueprint, port=str(server.port), config="sv_lan 1")
    assert as_alice.post(edit, values).status_code == 302
    url = reverse("admin:servers_server_change", args=[server.pk])
    assert as_dana.post(url, admin_form_of(server, config="sv_lan 0")).status_code == 302
    other = Host.objects.create(name="basement", taken_ports=[server.port])
    page = as_dana.post(url, admin_form_of(server, host=str(other.pk))).content.decode()
    assert "Another program on host basement uses port 27015." in page, "there it is another port"


# --- One click --------------------------------------------------------------------------------


def test_the_page_offers_another_port_and_one_click_takes_it(
    as_alice: Client, stopped_server: Server, host: Host
) -> None:
    take(host, 27015, 27016)
    page = as_alice.get(stopped_server.get_absolute_url()).content.decode()
    assert "Port 27015 is in use by another program on host local." in page
    assert "Use port 27017" in page

    move = reverse("servers:move_port", args=["alpha"])
    assert move in page
    response = as_alice.post(move, follow=True)
    page = response.content.decode()
    assert response.redirect_chain == [(stopped_server.get_absolute_url(), 302)]
    assert "Server alpha now has port 27017." in page
    assert "Start alpha" in page
    assert "in use by another program" not in page
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27017


def test_a_second_click_moves_it_no_further(
    as_alice: Client, stopped_server: Server, host: Host
) -> None:
    take(host, 27015)
    move = reverse("servers:move_port", args=["alpha"])
    as_alice.post(move)
    page = as_alice.post(move, follow=True).content.decode()
    assert "Port 27016 of server alpha is free, so it keeps it." in page
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27016


def test_two_who_saw_the_same_page_move_it_once(stopped_server: Server, host: Host) -> None:
    take(host, 27015)
    first, second = (Server.objects.select_related("host").get() for _ in range(2))
    assert first.is_port_taken
    assert second.is_port_taken
    assert (first.move_to_free_port(), second.move_to_free_port()) == (27016, None)
    assert Server.objects.get().port == 27016


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite locks no rows")
@pytest.mark.parametrize("way", ["button", "form", "admin form"])
def test_a_server_gets_another_port_without_a_lock_of_its_host(
    as_alice: Client,
    as_dana: Client,
    stopped_server: Server,
    blueprint: Blueprint,
    host: Host,
    way: str,
) -> None:
    """A worker locks a server and then its host, or the host and then servers: either could be a circle."""
    take(host, 27015)
    with CaptureQueriesContext(connection) as queries:
        if way == "button":
            as_alice.post(reverse("servers:move_port", args=["alpha"]))
        elif way == "form":
            as_alice.post(reverse("servers:edit", args=["alpha"]), form_of(blueprint))
        else:
            change = reverse("admin:servers_server_change", args=[stopped_server.pk])
            as_dana.post(change, admin_form_of(stopped_server, port=""))
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27016
    locked = [
        re.findall(r'FROM "(\w+)"', query["sql"])[0]
        for query in queries
        if "FOR NO KEY UPDATE" in query["sql"]
    ]
    assert "servers_host" not in locked


def test_a_server_that_runs_has_its_port(
    as_alice: Client, stopped_server: Server, host: Host
) -> None:
    take(host, 27015)
    record_state(stopped_server, ActualState.RUNNING)
    assert (
        "in use by another" not in as_alice.get(stopped_server.get_absolute_url()).content.decode()
    )
    as_alice.post(reverse("servers:move_port", args=["alpha"]))
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27015


def test_where_no_port_is_left_the_page_says_so(
    as_alice: Client, stopped_server: Server, host: Host
) -> None:
    take(host, *PORT_RANGE)
    page = as_alice.get(stopped_server.get_absolute_url()).content.decode()
    assert "Every port in the range is taken" in page
    assert "Use port" not in page
    page = as_alice.post(reverse("servers:move_port", args=["alpha"]), follow=True).content.decode()
    assert "has no free port between 27015 and 27115" in page


def test_only_who_may_change_the_server_moves_it_and_only_by_a_post_of_ours(
    as_bob: Client, as_alice: Client, alice: User, stopped_server: Server, host: Host
) -> None:
    take(host, 27015)
    move = reverse("servers:move_port", args=["alpha"])
    assert as_bob.post(move).status_code == 404
    assert Client().post(move).status_code == 302
    assert as_alice.get(move).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post(move).status_code == 403
    stopped_server.refresh_from_db()
    assert stopped_server.port == 27015


# --- The address ------------------------------------------------------------------------------


def test_an_admins_ip_becomes_the_bind_address(
    as_dana: Client, owned_by_dana: Server, blueprint: Blueprint
) -> None:
    edit = reverse("servers:edit", args=["alpha"])
    values = form_of(
        blueprint, port="27015", arguments="-insecure -ip 10.0.0.2\r\n+map c2m1_highway"
    )
    page = as_dana.post(edit, values, follow=True).content.decode()
    assert "-ip 10.0.0.2 is now the bind address of server alpha" in page
    page = as_dana.get(owned_by_dana.get_absolute_url()).content.decode()
    assert re.search(r"Binds to</dt><dd><code>10\.0\.0\.2", page)
    owned_by_dana.refresh_from_db()
    assert owned_by_dana.bind_address == "10.0.0.2"
    assert owned_by_dana.arguments.split() == ["-insecure", "+map", "c2m1_highway"]
    # The next edit, without -ip, leaves it as it is.
    as_dana.post(edit, form_of(blueprint, port="27015", arguments="-insecure"))
    owned_by_dana.refresh_from_db()
    assert owned_by_dana.bind_address == "10.0.0.2"


def test_what_is_left_of_an_admins_arguments_is_judged(
    as_dana: Client, owned_by_dana: Server, blueprint: Blueprint
) -> None:
    edit = reverse("servers:edit", args=["alpha"])
    for arguments, complaint in (
        ("-ip 10.0.0.2 -port 1", "Saferoom sets -port itself"),
        ("-ip ::1", "-ip takes one IPv4 address"),
        ('+hostname "x -ip 10.0.0.2"', "only an admin may set the address"),
    ):
        page = as_dana.post(edit, form_of(blueprint, port="27015", arguments=arguments))
        assert complaint in page.content.decode()
    owned_by_dana.refresh_from_db()
    assert (owned_by_dana.bind_address, owned_by_dana.arguments) == (None, "")


def test_an_owners_ip_is_refused_and_says_who_sets_it(
    as_alice: Client, server: Server, blueprint: Blueprint
) -> None:
    edit = reverse("servers:edit", args=["alpha"])
    values = form_of(blueprint, port="27015", arguments="-ip 10.0.0.2")
    assert "only an admin may set the address" in as_alice.post(edit, values).content.decode()
    as_alice.post(edit, {**values, "arguments": "", "bind_address": "10.0.0.2"})
    server.refresh_from_db()
    assert server.bind_address is None


def test_an_admin_sets_the_address_of_a_host_and_of_a_server(
    as_dana: Client, server: Server, host: Host
) -> None:
    url = reverse("admin:servers_host_change", args=[host.pk])
    as_dana.post(url, {"address": "play.example.org", "bind_address": "10.0.0.2"})
    server = Server.objects.get()
    assert server.own_address == "10.0.0.2"
    url = reverse("admin:servers_server_change", args=[server.pk])
    as_dana.post(url, admin_form_of(server, bind_address="10.0.0.3"))
    assert Server.objects.get().own_address == "10.0.0.3"
    as_dana.post(url, admin_form_of(server, bind_address=ALL_ADDRESSES))
    assert Server.objects.get().own_address == "", "that is all of them, whatever its host says"
