"""Passwords of servers on the pages: set, shown to people who may change the server, and to nobody else."""

import re
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from servers.models import Blueprint, Host, Server
from servers.secrets.encryption import ServerSecret

RCON, JOIN = ServerSecret.RCON_PASSWORD, ServerSecret.JOIN_PASSWORD
HOSTS = reverse("jobs:hosts")


@pytest.fixture
def server(server: Server) -> Server:
    """Return Alice's server with both passwords."""
    server.set_secret(RCON, "hunter2-of-rcon")
    server.set_secret(JOIN, "sesame-to-join")
    server.save()
    return server


def show(client: Client, secret: ServerSecret = RCON, **options: Any) -> Any:
    """Ask for a password of Alice's server."""
    return client.post(f"/servers/alpha/secrets/{secret.value}/", **options)


def edit(client: Client, server: Server, **changes: str) -> Any:
    """Post the form of a server with `changes`."""
    values = {"port": str(server.port), "blueprint": str(server.blueprint_id)}
    texts = {"arguments": server.arguments, "config": server.config}
    return client.post(f"/servers/{server.name}/edit/", {**values, **texts, **changes}, follow=True)


def passwords(server: Server) -> tuple[str, str]:
    """Return the RCON and the join password that are stored for a server."""
    server.refresh_from_db()
    return server.read_secret(RCON), server.read_secret(JOIN)


# --- Showing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/servers/alpha/", "/servers/alpha/edit/", "/servers/"])
def test_no_page_has_them_or_their_tokens(as_alice: Client, server: Server, path: str) -> None:
    page = as_alice.get(path).content.decode()
    for text in ("hunter2", "sesame", server.rcon_password_token, server.join_password_token):
        assert text not in page


def test_the_owner_is_shown_one_on_a_page_of_its_own(as_alice: Client, server: Server) -> None:
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert 'action="/servers/alpha/secrets/rcon_password/"' in page
    answer = show(as_alice, HTTP_ACCEPT="text/html,application/xhtml+xml,*/*;q=0.8")
    assert answer.status_code == 200
    assert "<code>hunter2-of-rcon</code>" in answer.content.decode()
    assert "sesame" not in answer.content.decode()
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_script_is_told_the_bare_password(as_alice: Client, server: Server) -> None:
    answer = show(as_alice, JOIN, HTTP_ACCEPT="text/plain")
    assert answer.content == b"sesame-to-join"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_an_admin_is_shown_it_too(as_dana: Client, server: Server) -> None:
    assert "hunter2-of-rcon" in show(as_dana).content.decode()


def test_a_stranger_is_told_that_there_is_no_such_page(as_bob: Client, server: Server) -> None:
    answer = show(as_bob)
    assert answer.status_code == 404
    assert "hunter2" not in answer.content.decode()


def test_somebody_signed_out_is_led_to_the_login(client: Client, server: Server) -> None:
    answer = show(client)
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/accounts/login/")


def test_it_takes_a_post_with_a_token(server: Server, alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert show(client).status_code == 403
    assert client.get("/servers/alpha/secrets/rcon_password/").status_code == 405


def test_what_is_not_set_is_not_found(as_alice: Client, server: Server) -> None:
    Server.objects.update(join_password_token="")
    assert show(as_alice, JOIN).status_code == 404
    assert as_alice.post("/servers/alpha/secrets/owner/").status_code == 404


@pytest.mark.parametrize("keys", [[], [Fernet.generate_key().decode()]])
def test_one_that_cannot_be_decrypted_is_a_sentence_everywhere(
    as_alice: Client, server: Server, settings: Any, keys: list[str]
) -> None:
    settings.SECRETS_KEYS = keys
    for answer in (as_alice.get(server.get_absolute_url()), show(as_alice)):
        assert "The RCON password of server alpha cannot be" in answer.content.decode()
    assert show(as_alice).status_code == 409
    told = show(as_alice, HTTP_ACCEPT="text/plain")
    assert (told.status_code, told.content[:31]) == (409, b"The RCON password of server alp")
    assert as_alice.get("/servers/").status_code == 200
    assert as_alice.get("/servers/alpha/edit/").status_code == 200


# --- The form ---------------------------------------------------------------------------------


def test_the_form_sets_both(as_alice: Client, server: Server) -> None:
    edit(as_alice, server, rcon_password="new-rcon", join_password="new-join")
    assert passwords(server) == ("new-rcon", "new-join")


def test_empty_fields_keep_what_is_stored(as_alice: Client, server: Server) -> None:
    edit(as_alice, server, rcon_password="", join_password="")
    assert passwords(server) == ("hunter2-of-rcon", "sesame-to-join")


def test_the_join_password_can_be_removed(as_alice: Client, server: Server) -> None:
    assert "remove_join_password" in as_alice.get("/servers/alpha/edit/").content.decode()
    edit(as_alice, server, remove_join_password="on")
    assert passwords(server) == ("hunter2-of-rcon", "")
    assert "remove_join_password" not in as_alice.get("/servers/alpha/edit/").content.decode()


def test_removing_and_setting_at_once_is_refused(as_alice: Client, server: Server) -> None:
    answer = edit(as_alice, server, remove_join_password="on", join_password="new-join")
    assert "not both" in answer.content.decode()
    assert passwords(server) == ("hunter2-of-rcon", "sesame-to-join")


def test_one_that_was_typed_is_asked_for_again_if_the_form_is_refused_for_another_reason(
    as_alice: Client, server: Server, blueprint: Blueprint, host: Host
) -> None:
    again = "Enter it again: it is not saved yet."
    page = edit(as_alice, server, join_password="new-join", config="quit").content.decode()
    assert page.count(again) == 1
    assert "new-join" not in page
    assert again not in edit(as_alice, server, config="quit").content.decode()
    values = {"name": "NO", "port": "", "blueprint": str(blueprint.pk), "join_password": "sesame"}
    page = as_alice.post("/servers/new/", {**values, "arguments": "", "config": ""})
    assert again in page.content.decode()


@pytest.mark.parametrize("bad", ["two words", 'quo"te', "x" * 65, "end "])
def test_a_password_that_no_config_carries_is_refused(
    as_alice: Client, server: Server, bad: str
) -> None:
    page = edit(as_alice, server, rcon_password=bad).content.decode()
    assert "The RCON password must have at most 64" in page
    assert bad not in page
    assert passwords(server)[0] == "hunter2-of-rcon"


def test_a_new_server_takes_them_from_the_form(
    as_alice: Client, host: Host, blueprint: Blueprint
) -> None:
    values = {"name": "beta", "port": "", "blueprint": str(blueprint.pk), "join_password": "sesame"}
    as_alice.post("/servers/new/", {**values, "arguments": "", "config": ""})
    random, join = passwords(Server.objects.get(name="beta"))
    assert (len(random), join) == (24, "sesame")


def test_those_in_its_config_are_moved_and_it_is_said(as_alice: Client, server: Server) -> None:
    config = 'hostname x\nRCON_password "from-config"\nsv_lan 0'
    page = edit(as_alice, server, config=config).content.decode()
    assert "The RCON password was moved from the config" in page
    assert "from-config" not in page
    assert passwords(server) == ("from-config", "sesame-to-join")
    assert server.config == "hostname x\nsv_lan 0"


def test_one_typed_and_another_in_the_config_is_refused(as_alice: Client, server: Server) -> None:
    answer = edit(as_alice, server, config="rcon_password one", rcon_password="two")
    assert "Remove it here" in answer.content.decode()
    assert passwords(server)[0] == "hunter2-of-rcon"


def test_what_cannot_be_moved_is_named_on_the_page(as_alice: Client, server: Server) -> None:
    edit(as_alice, server, config="sv_lan 0; rcon_password from-config")
    page = as_alice.get(server.get_absolute_url()).content.decode()
    assert "Line 1 of the own config sets rcon_password together with other things" in page


def test_the_form_writes_nothing_that_it_does_not_show(as_alice: Client, server: Server) -> None:
    """A worker moves a password, or reports a state, while the form is on its way."""
    really_save = Server.save

    def save(row: Server, *args: Any, **kwargs: Any) -> None:
        token = Server.objects.get().rcon_password_token
        Server.objects.update(join_password_token=token, state_note="gave up")
        really_save(row, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "save", save)
        edit(as_alice, server, config="sv_lan 0")
    assert passwords(server) == ("hunter2-of-rcon", "hunter2-of-rcon")
    assert (server.state_note, server.config) == ("gave up", "sv_lan 0")


# --- Blueprints -------------------------------------------------------------------------------


def edit_blueprint(client: Client, config: str) -> Any:
    """Post the form of Alice's blueprint."""
    values = {"name": "coop", "arguments": "", "config": config}
    return client.post("/blueprints/coop/edit/", values, follow=True)


@pytest.mark.parametrize("line", ["rcon_password hunter2", 'alias x "sv_password hunter2"'])
def test_a_blueprint_with_a_password_is_refused_and_told_where_it_belongs(
    as_alice: Client, blueprint: Blueprint, line: str
) -> None:
    page = edit_blueprint(as_alice, f"sv_lan 0\n{line}").content.decode()
    assert "Line 2 sets" in page
    assert "on each server instead" in page
    blueprint.refresh_from_db()
    assert blueprint.config == ""


def test_its_form_says_who_reads_it(as_alice: Client, blueprint: Blueprint) -> None:
    page = as_alice.get("/blueprints/coop/edit/").content.decode()
    assert "Every owner may then read its launch arguments and config" in page
    assert "Only you and admins can change it." in page


def test_a_shared_blueprint_shows_none(
    as_alice: Client, as_bob: Client, blueprint: Blueprint, server: Server
) -> None:
    Blueprint.objects.update(
        is_shared=True,
        arguments="+sv_password 0pen-says-me -lv",
        config="sv_lan 0; rcon_password hunter2",
    )
    page = as_bob.get("/blueprints/coop/").content.decode()
    assert "sv_lan 0; rcon_password ••••" in page
    assert "+sv_password •••• -lv" in re.sub("<[^>]*>", "", page)
    for text in ("hunter2", "0pen-says-me", "cannot move it"):
        assert text not in page
    assert "Saferoom cannot move it" in as_alice.get("/blueprints/coop/").content.decode()


# --- Without keys -----------------------------------------------------------------------------


@pytest.fixture
def no_keys(settings: Any) -> None:
    """Take the keys away."""
    settings.SECRETS_KEYS = []


def test_without_keys_the_forms_are_as_before(
    no_keys: None, as_alice: Client, alice: User, host: Host, blueprint: Blueprint
) -> None:
    Server.objects.create(name="beta", owner=alice, host=host, blueprint=blueprint)
    page = as_alice.get("/servers/beta/edit/").content.decode()
    assert 'name="rcon_password"' not in page
    server = Server.objects.get()
    edit(as_alice, server, config="rcon_password hunter2", join_password="sesame")
    server.refresh_from_db()
    assert (server.config, server.stored_secrets) == ("rcon_password hunter2", [])
    edit_blueprint(as_alice, "rcon_password hunter2")
    assert Blueprint.objects.get().config == "rcon_password hunter2"


@pytest.mark.parametrize("path", [HOSTS, reverse("admin:index")])
def test_without_keys_an_admin_is_told_the_command(
    no_keys: None, as_dana: Client, host: Host, path: str
) -> None:
    assert "manage.py makesecretskey" in as_dana.get(path).content.decode()


@pytest.mark.parametrize("path", [HOSTS, reverse("admin:index")])
def test_with_keys_there_is_nothing_to_tell(as_dana: Client, host: Host, path: str) -> None:
    assert "makesecretskey" not in as_dana.get(path).content.decode()


# --- The Django admin -------------------------------------------------------------------------


def test_the_admin_shows_and_edits_no_token(as_dana: Client, server: Server) -> None:
    path = reverse("admin:servers_server_change", args=[server.pk])
    page = as_dana.get(path).content.decode()
    for text in ("_token", server.rcon_password_token, server.join_password_token, "hunter2"):
        assert text not in page


def test_a_password_in_a_config_of_the_admin_is_moved_too(as_dana: Client, server: Server) -> None:
    path = reverse("admin:servers_server_change", args=[server.pk])
    values = {
        "name": "alpha",
        "owner": server.owner_id,
        "host": server.host_id,
        "port": server.port,
        "blueprint": server.blueprint_id,
        "config": "rcon_password hunter3\nsv_lan 0",
        "rcon_password_token": "forged",
    }
    page = as_dana.post(path, values, follow=True).content.decode()
    assert "The RCON password was moved" in page
    assert passwords(server) == ("hunter3", "sesame-to-join")
    assert server.config == "sv_lan 0"
