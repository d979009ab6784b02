"""Who gets what: every address of the project, for a stranger to the panel, owner, another owner, admin."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponseBase
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from jobs.models import Job
from l4d2site.accounts.models import Invitation, PersonSession
from servers.models import Blueprint, Server
from servers.secrets import ServerSecret
from tests.pages.conftest import sign_in

LOGIN = "account_login"
PEOPLE = ("anonymous", "alice", "bob", "dana")


@dataclass(frozen=True)
class Case:
    """One request, and what each of the `PEOPLE` gets: a status, or LOGIN for the way to that page."""

    method: str
    url_name: str
    subject: str
    expected: tuple[int | str, int | str, int | str, int | str]
    data: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.url_name}"


MATRIX = [
    Case("GET", "servers:home", "", (302, 302, 302, 302)),
    Case("GET", "servers:list", "", (LOGIN, 200, 200, 200)),
    Case("GET", "servers:create", "", (LOGIN, 200, 200, 200)),
    Case("POST", "servers:create", "", (LOGIN, 200, 200, 200)),
    Case("GET", "servers:detail", "server", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:detail", "server", (405, 405, 405, 405)),
    Case("GET", "servers:config", "server", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:config", "server", (405, 405, 405, 405)),
    Case("GET", "servers:console", "server", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:console", "server", (405, 405, 405, 405)),
    Case("GET", "servers:console_text", "server", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:console_text", "server", (405, 405, 405, 405)),
    Case("GET", "servers:edit", "server", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:edit", "server", (LOGIN, 200, 404, 200)),
    Case("GET", "servers:secret", "secret", (405, 405, 405, 405)),
    Case("POST", "servers:secret", "secret", (LOGIN, 200, 404, 200)),
    Case("GET", "servers:move_port", "server", (405, 405, 405, 405)),
    Case("POST", "servers:move_port", "server", (LOGIN, 302, 404, 302)),
    Case("GET", "servers:remove", "server", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:remove", "server", (LOGIN, 302, 404, 302)),
    Case("GET", "servers:blueprint_list", "", (LOGIN, 200, 200, 200)),
    Case("GET", "servers:blueprint_create", "", (LOGIN, 200, 200, 200)),
    Case("POST", "servers:blueprint_create", "", (LOGIN, 200, 200, 200)),
    Case("GET", "servers:blueprint_detail", "blueprint", (LOGIN, 200, 404, 200)),
    Case("GET", "servers:blueprint_edit", "blueprint", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:blueprint_edit", "blueprint", (LOGIN, 200, 404, 200)),
    Case("GET", "servers:blueprint_remove", "blueprint", (LOGIN, 200, 404, 200)),
    Case("POST", "servers:blueprint_remove", "blueprint", (LOGIN, 409, 404, 409)),
    Case("GET", "servers:blueprint_detail", "shared", (LOGIN, 200, 200, 200)),
    Case("GET", "servers:blueprint_edit", "shared", (LOGIN, 403, 403, 200)),
    Case("POST", "servers:blueprint_edit", "shared", (LOGIN, 403, 403, 200)),
    Case("POST", "servers:blueprint_remove", "shared", (LOGIN, 403, 403, 302)),
    Case("GET", "jobs:hosts", "", (LOGIN, 403, 403, 200)),
    Case("POST", "jobs:host_drain", "host", (LOGIN, 403, 403, 302)),
    Case("GET", "jobs:host_drain", "host", (405, 405, 405, 405)),
    Case("GET", "jobs:list", "", (LOGIN, 200, 200, 200)),
    Case("GET", "jobs:detail", "job", (LOGIN, 200, 404, 200)),
    Case("GET", "jobs:log", "job", (LOGIN, 200, 404, 200)),
    Case("GET", "jobs:events", "job", (403, 200, 404, 200)),
    Case("GET", "jobs:cancel", "job", (405, 405, 405, 405)),
    Case("POST", "jobs:cancel", "job", (LOGIN, 303, 404, 303)),
    Case("GET", "jobs:retry", "job", (405, 405, 405, 405)),
    Case("POST", "jobs:retry", "job", (LOGIN, 303, 404, 303)),
    Case("GET", "jobs:detail", "install", (LOGIN, 404, 404, 200)),
    Case("GET", "jobs:log", "install", (LOGIN, 404, 404, 200)),
    Case("GET", "jobs:events", "install", (403, 404, 404, 200)),
    Case("POST", "jobs:cancel", "install", (LOGIN, 404, 404, 303)),
    Case("POST", "jobs:retry", "install", (LOGIN, 404, 404, 303)),
    Case("GET", "jobs:create", "server", (405, 405, 405, 405)),
    Case("POST", "jobs:create", "server", (LOGIN, 303, 404, 303), (("operation", "start"),)),
    Case("GET", "jobs:console_events", "server", (403, 200, 404, 200)),
    Case("GET", "jobs:change_events", "", (403, 200, 200, 200)),
    Case("GET", "account_login", "", (200, 302, 302, 302)),
    Case("GET", "logout", "", (405, 405, 405, 405)),
    Case("POST", "logout", "", (302, 302, 302, 302)),
    Case("GET", "password_change", "", (LOGIN, 200, 200, 200)),
    Case("POST", "password_change", "", (LOGIN, 200, 200, 200)),
    Case("GET", "account_reauthenticate", "", (LOGIN, 200, 200, 200)),
    Case("GET", "sessions", "", (LOGIN, 200, 200, 200)),
    Case("GET", "session_revoke_others", "", (405, 405, 405, 405)),
    Case("POST", "session_revoke_others", "", (LOGIN, 302, 302, 302)),
    Case("GET", "session_revoke", "session", (405, 405, 405, 405)),
    Case("POST", "session_revoke", "session", (LOGIN, 302, 404, 404)),
    Case("GET", "people", "", (LOGIN, 403, 403, 200)),
    Case("GET", "reset_link", "person", (405, 405, 405, 405)),
    Case("POST", "reset_link", "person", (LOGIN, 403, 403, 200)),
    Case("GET", "invitation_make", "", (405, 405, 405, 405)),
    Case("POST", "invitation_make", "", (LOGIN, 403, 403, 302)),
    Case("GET", "invitation_revoke", "invitation", (405, 405, 405, 405)),
    Case("POST", "invitation_revoke", "invitation", (LOGIN, 403, 403, 302)),
    Case("GET", "invitation", "token", (200, 200, 200, 200)),
    Case("GET", "invitation", "bad token", (404, 404, 404, 404)),
    Case("GET", "reset_request", "", (404, 404, 404, 404)),
    Case("GET", "reset", "bad reset", (200, 200, 200, 200)),
    Case("GET", "mfa_index", "", (LOGIN, 200, 200, 200)),
    # The door of the second factor: only who has just given a password gets in.
    Case("GET", "mfa_authenticate", "", (302, 302, 302, 302)),
    Case("GET", "mfa_reauthenticate", "", (LOGIN, 302, 302, 302)),
    Case("GET", "mfa_activate_totp", "", (LOGIN, 302, 302, 302)),
    Case("GET", "mfa_deactivate_totp", "", (LOGIN, 404, 404, 404)),
    Case("GET", "mfa_view_recovery_codes", "", (LOGIN, 404, 404, 404)),
    Case("GET", "mfa_generate_recovery_codes", "", (LOGIN, 302, 302, 302)),
    Case("GET", "mfa_download_recovery_codes", "", (LOGIN, 404, 404, 404)),
    Case("GET", "mfa_list_webauthn", "", (LOGIN, 200, 200, 200)),
    Case("GET", "mfa_add_webauthn", "", (LOGIN, 302, 302, 302)),
    Case("GET", "mfa_login_webauthn", "", (302, 302, 302, 302)),
    Case("POST", "mfa_login_webauthn", "", (302, 302, 302, 302)),
    Case("GET", "mfa_reauthenticate_webauthn", "", (LOGIN, 302, 302, 302)),
    Case("GET", "mfa_edit_webauthn", "passkey", (LOGIN, 302, 302, 302)),
    Case("GET", "mfa_remove_webauthn", "passkey", (LOGIN, 302, 302, 302)),
    Case("GET", "healthz", "", (503, 503, 503, 503)),
    Case("POST", "healthz", "", (405, 405, 405, 405)),
    Case("GET", "livez", "", (200, 200, 200, 200)),
    Case("POST", "livez", "", (405, 405, 405, 405)),
    Case("GET", "health", "", (LOGIN, 403, 403, 200)),
    Case("POST", "health", "", (405, 405, 405, 405)),
    Case("GET", "admin:install", "", (405, 405, 405, 405)),
    Case("POST", "admin:install", "", (LOGIN, 403, 403, 303)),
    Case("GET", "admin:rollback", "", (405, 405, 405, 405)),
    Case("POST", "admin:rollback", "", (LOGIN, 403, 403, 303)),
    Case("GET", "admin:check", "", (405, 405, 405, 405)),
    Case("POST", "admin:check", "", (LOGIN, 403, 403, 303)),
]


@pytest.fixture
def subjects(
    server: Server, blueprint: Blueprint, failed_job: Job, alice: User, bob: User, dana: User
) -> dict[str, list[str | int]]:
    """Return what the addresses of the matrix are about, by the matrix's word for it."""
    shared = Blueprint.objects.create(name="versus", owner=dana, is_shared=True)
    install = Job.objects.create(operation="install", requested_by=dana, state="failed")
    sign_in(alice)
    invited = Invitation.objects.create(made_by=dana)
    server.set_secret(ServerSecret.JOIN_PASSWORD, "sesame-to-join")
    server.save()
    return {
        "": [],
        "server": [server.name],
        "secret": [server.name, ServerSecret.JOIN_PASSWORD],
        "blueprint": [blueprint.name],
        "host": [server.host.name],
        "shared": [shared.name],
        "job": [failed_job.pk],
        "install": [install.pk],
        "session": [str(PersonSession.objects.get(user=alice).pk)],
        "person": [bob.pk],
        "invitation": [str(invited.pk)],
        "token": [invited.token],
        "bad token": ["not-a-token"],
        "bad reset": ["MQ", "not-a-token"],
        "passkey": [1],
    }


@pytest.mark.parametrize("case", MATRIX, ids=str)
@pytest.mark.parametrize("person", PEOPLE)
def test_everybody_gets_what_the_matrix_says(
    case: Case, person: str, subjects: dict[str, list[str | int]]
) -> None:
    client = Client()
    if person != "anonymous":
        client.force_login(User.objects.get(username=person))
    url = reverse(case.url_name, args=subjects[case.subject])
    response = client.generic(
        case.method,
        url,
        "&".join(f"{name}={value}" for name, value in case.data),
        content_type="application/x-www-form-urlencoded",
    )
    assert outcome(response) == case.expected[PEOPLE.index(person)]


def outcome(response: HttpResponseBase) -> int | str:
    """Return the status of a response, or LOGIN if it leads to that page."""
    if response.headers.get("Location", "").startswith(reverse("account_login") + "?next="):
        return LOGIN
    return response.status_code


def test_the_matrix_has_every_address() -> None:
    ours = {name for name, _ in walk(get_resolver()) if not name.startswith("admin:")}
    assert ours | ADMIN_ACTIONS == {case.url_name for case in MATRIX}


def walk(resolver: URLResolver, namespace: str = "", route: str = "/") -> Iterator[tuple[str, str]]:
    """Yield the name and the route of every address below `resolver`."""
    for entry in resolver.url_patterns:
        below = route + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield f"{namespace}{entry.name}", below
        else:
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from walk(entry, inner, below)


# What the admin shows to those who are not signed in as admins: its way in and out; and what has no page.
ADMIN_ACTIONS = {"admin:install", "admin:rollback", "admin:check"}
ADMIN_OPEN = {"admin:login", "admin:logout"} | ADMIN_ACTIONS
ADMIN_ROUTES = sorted(
    route
    for name, route in walk(get_resolver())
    if name.startswith("admin:") and name not in ADMIN_OPEN
)


@pytest.mark.parametrize("route", ADMIN_ROUTES)
def test_the_admin_pages_are_for_admins_alone(route: str, as_alice: Client, db: None) -> None:
    url = re.sub(r"<[^>]+>", "1", route.partition("(?P")[0])
    for client in (Client(), as_alice):
        response = client.get(url)
        assert response.status_code in (302, 404)
        if response.status_code == 302:
            assert response.headers["Location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("case", [case for case in MATRIX if case.method == "POST"], ids=str)
def test_no_change_without_a_csrf_token(
    case: Case, dana: User, subjects: dict[str, list[str | int]]
) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(dana)
    jobs_before = Job.objects.count()
    response = client.post(reverse(case.url_name, args=subjects[case.subject]), dict(case.data))
    assert response.status_code in (403, 405)
    assert Job.objects.count() == jobs_before
    if response.status_code == 403:
        assert "The form was not accepted" in response.content.decode()


def test_after_signing_in_one_is_back_on_the_page_of_the_form(server: Server) -> None:
    page = server.get_absolute_url()
    response = Client().post(
        reverse("jobs:create", args=[server.name]),
        {"operation": "start"},
        headers={"Referer": f"http://testserver{page}"},
    )
    assert response.headers["Location"] == f"{reverse('account_login')}?next={page}"


def test_a_referer_from_elsewhere_is_not_followed(server: Server) -> None:
    response = Client().post(
        reverse("jobs:create", args=[server.name]), headers={"Referer": "https://evil.example/x"}
    )
    assert (
        response.headers["Location"] == f"{reverse('account_login')}?next={reverse('servers:list')}"
    )


def test_an_owner_still_reads_the_blueprint_of_their_server_when_it_is_not_shared_any_more(
    as_bob: Client, bob: User, blueprint: Blueprint, server: Server
) -> None:
    server.owner = bob
    server.save()
    url = reverse("servers:blueprint_detail", args=[blueprint.name])
    assert as_bob.get(url).status_code == 200
    assert as_bob.get(reverse("servers:blueprint_edit", args=[blueprint.name])).status_code == 403


def test_a_job_of_a_removed_server_stays_visible_to_the_one_who_asked_for_it(
    as_alice: Client, as_bob: Client, failed_job: Job, server: Server
) -> None:
    server.delete()
    assert as_alice.get(failed_job.get_absolute_url()).status_code == 200
    assert as_bob.get(failed_job.get_absolute_url()).status_code == 404
