"""Permissions: every address of the project, including the streams and the admin, for nine kinds of people."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.http import HttpResponseBase
from django.test import Client
from django.urls import get_resolver, reverse
from pytest_django import DjangoDbBlocker

from jobs.models import Job, Worker
from l4d2site.accounts.models import AccountEvent, Invitation, PersonSession
from servers.models import Blueprint, Host, Overlay, Server
from servers.secrets.encryption import ServerSecret
from tests.pages.addresses import NOT_PAGES, routes, walk
from tests.pages.conftest import sign_in
from tests.pages.kinds import ANONYMOUS, KINDS, give_roles, make_people
from tests.states import record_state

LOGIN = "login"
"""The way to the sign-in page; for the admin's own pages to theirs, which is the same one."""

Outcome = int | str
Row = tuple[Outcome, ...]
"""What each of `KINDS` gets, in order."""


def everybody(outcome: Outcome) -> Row:
    return (outcome,) * 9


def signed_in(outcome: Outcome) -> Row:
    return (LOGIN, *(outcome,) * 8)


# On a server: people who may not know of it, who may see it but not do this, and who may.


def viewers(outcome: Outcome, anonymous: Outcome = LOGIN) -> Row:
    return (anonymous, 404, *(outcome,) * 4, 404, outcome, outcome)


def operators(outcome: Outcome) -> Row:
    return (LOGIN, 404, 403, *(outcome,) * 3, 404, outcome, outcome)


def managers(outcome: Outcome) -> Row:
    return (LOGIN, 404, 403, 403, outcome, outcome, 404, outcome, outcome)


def owners(outcome: Outcome) -> Row:
    return (LOGIN, 404, 403, 403, 403, outcome, 404, outcome, outcome)


# In the whole panel.


def host_admins_alone(outcome: Outcome, others: Outcome = 403, anonymous: Outcome = LOGIN) -> Row:
    return (anonymous, *(others,) * 6, outcome, outcome)


def superusers_alone(outcome: Outcome) -> Row:
    return (LOGIN, *(403,) * 7, outcome)


# On a private overlay of the owner's, which their blueprint has: so a manager of a server knows of it.


def overlay_readers(outcome: Outcome, manager: Outcome = 403) -> Row:
    return (LOGIN, 404, 404, 404, manager, outcome, 404, outcome, outcome)


def overlay_changers(outcome: Outcome) -> Row:
    return (LOGIN, 404, 404, 404, 403, outcome, 404, outcome, outcome)


@dataclass(frozen=True)
class Case:
    """One request, and what each of the `KINDS` gets: a status, or LOGIN."""

    method: str
    url_name: str
    subject: str
    expected: Row
    data: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return "-".join(
            filter(None, [self.method, self.url_name, self.subject, *dict(self.data).values()])
        )


START = (("operation", "start"),)
KICK = (("steam_id", "STEAM_1:0:1"),)
SAY = (("text", "hello"),)
TELL = (("steam_id", "STEAM_1:0:1"), ("text", "hello"))
FORGET = (("forget", "1"),)
STATUS = (("command", "status"),)
RESET = (("operation", "reset"),)
DELETE = (("operation", "delete"),)
INSTALL = (("operation", "install"),)
ROLLBACK = (("operation", "rollback"),)
VIEWER = (("role", "viewer"),)
MANAGER = (("role", "manager"),)

MATRIX = [
    Case("GET", "servers:home", "", everybody(302)),
    Case("POST", "servers:home", "", everybody(302)),
    Case("GET", "servers:list", "", signed_in(200)),
    Case("GET", "servers:create", "", signed_in(200)),
    Case("POST", "servers:create", "", signed_in(200)),
    Case("GET", "servers:detail", "server", viewers(200)),
    Case("POST", "servers:detail", "server", everybody(405)),
    Case("GET", "servers:config", "server", managers(200)),
    Case("POST", "servers:config", "server", everybody(405)),
    Case("GET", "servers:console", "server", viewers(200)),
    Case("POST", "servers:console", "server", everybody(405)),
    Case("GET", "servers:console_text", "server", viewers(200)),
    Case("POST", "servers:console_text", "server", everybody(405)),
    Case("GET", "servers:history", "server", viewers(200)),
    Case("POST", "servers:history", "server", everybody(405)),
    Case("GET", "servers:crashes", "server", viewers(200)),
    Case("POST", "servers:crashes", "server", everybody(405)),
    Case("GET", "servers:starts", "server", viewers(200)),
    Case("POST", "servers:starts", "server", everybody(405)),
    Case("GET", "servers:starts_compare", "server", managers(404)),  # None is named.
    Case("POST", "servers:starts_compare", "server", everybody(405)),
    Case("GET", "servers:edit", "server", managers(200)),
    Case("POST", "servers:edit", "server", managers(200)),
    Case("GET", "servers:secret", "secret", everybody(405)),
    Case("POST", "servers:secret", "secret", managers(200)),
    Case("GET", "servers:move_port", "server", everybody(405)),
    Case("POST", "servers:move_port", "server", managers(302)),
    Case("GET", "servers:remove", "server", owners(200)),
    Case("POST", "servers:remove", "quiet server", owners(302)),
    Case("GET", "server_people", "server", viewers(200)),
    Case("POST", "server_people", "server", everybody(405)),
    Case("GET", "member_add", "server", everybody(405)),
    Case("POST", "member_add", "server", managers(200), VIEWER),
    Case("GET", "member_change", "viewer", everybody(405)),
    Case("POST", "member_change", "viewer", managers(302), VIEWER),
    Case("POST", "member_change", "manager", owners(302), VIEWER),
    # The viewer and the manager may leave.
    Case("GET", "member_remove", "viewer", (LOGIN, 404, 200, 403, 200, 200, 404, 200, 200)),
    Case("POST", "member_remove", "viewer", (LOGIN, 404, 302, 403, 302, 302, 404, 302, 302)),
    Case("POST", "member_remove", "manager", (LOGIN, 404, 403, 403, 302, 302, 404, 302, 302)),
    Case(
        "POST", "member_remove", "another's viewer", (LOGIN, 404, 403, 403, 404, 404, 404, 404, 404)
    ),
    Case("GET", "server_invitation_make", "server", everybody(405)),
    Case("POST", "server_invitation_make", "server", managers(302), VIEWER),
    Case("GET", "server_invitation_revoke", "server invitation", everybody(405)),
    Case("POST", "server_invitation_revoke", "server invitation", managers(302)),
    Case("POST", "server_invitation_revoke", "manager invitation", owners(302)),
    Case("GET", "servers:blueprint_list", "", signed_in(200)),
    Case("GET", "servers:blueprint_create", "", signed_in(200)),
    Case("POST", "servers:blueprint_create", "", signed_in(200)),
    # People who configure a server may read what it is made of.
    Case(
        "GET",
        "servers:blueprint_detail",
        "blueprint",
        (LOGIN, 404, 404, 404, 200, 200, 404, 200, 200),
    ),
    Case(
        "GET",
        "servers:blueprint_edit",
        "blueprint",
        (LOGIN, 404, 404, 404, 403, 200, 404, 200, 200),
    ),
    Case(
        "POST",
        "servers:blueprint_edit",
        "blueprint",
        (LOGIN, 404, 404, 404, 403, 200, 404, 200, 200),
    ),
    Case(
        "GET",
        "servers:blueprint_remove",
        "blueprint",
        (LOGIN, 404, 404, 404, 403, 200, 404, 200, 200),
    ),
    Case(
        "POST",
        "servers:blueprint_remove",
        "blueprint",
        (LOGIN, 404, 404, 404, 403, 409, 404, 409, 409),
    ),
    Case("GET", "servers:blueprint_cure", "blueprint", everybody(405)),
    Case(
        "POST",
        "servers:blueprint_cure",
        "blueprint",
        (LOGIN, 404, 404, 404, 403, 302, 404, 302, 302),
    ),
    Case("GET", "servers:blueprint_detail", "shared", signed_in(200)),
    Case("GET", "servers:blueprint_edit", "shared", host_admins_alone(200)),
    Case("POST", "servers:blueprint_edit", "shared", host_admins_alone(200)),
    Case("POST", "servers:blueprint_remove", "shared", host_admins_alone(302)),
    Case("GET", "servers:overlay_list", "", signed_in(200)),
    Case("POST", "servers:overlay_list", "", everybody(405)),
    Case("GET", "servers:overlay_detail", "overlay", signed_in(200)),
    Case("POST", "servers:overlay_detail", "overlay", everybody(405)),
    Case("GET", "servers:overlay_create", "", signed_in(200)),
    Case("POST", "servers:overlay_create", "", signed_in(200)),
    Case("GET", "servers:overlay_detail", "own overlay", overlay_readers(200, manager=200)),
    Case("GET", "servers:overlay_edit", "own overlay", overlay_changers(200)),
    Case("POST", "servers:overlay_edit", "own overlay", overlay_changers(200)),
    Case("GET", "servers:overlay_remove", "own overlay", overlay_changers(200)),
    Case("POST", "servers:overlay_remove", "own overlay", overlay_changers(409)),
    Case("GET", "servers:overlay_file_new", "own overlay", overlay_changers(200)),
    Case("POST", "servers:overlay_file_new", "own overlay", overlay_changers(200)),
    *(
        Case(method, f"servers:overlay_file_{change}", "own overlay", overlay_changers(404))
        for change in ("edit", "rename", "remove")
        for method in ("GET", "POST")
    ),
    Case("GET", "servers:overlay_file_seed", "own overlay", everybody(405)),
    Case("POST", "servers:overlay_file_seed", "own overlay", overlay_changers(404)),
    Case("GET", "servers:overlay_version", "version", overlay_readers(410)),
    Case("POST", "servers:overlay_version", "version", everybody(405)),
    Case("GET", "servers:overlay_file", "version", overlay_readers(410)),
    Case("POST", "servers:overlay_file", "version", everybody(405)),
    Case("GET", "servers:overlay_file_download", "version", overlay_readers(410)),
    Case("POST", "servers:overlay_file_download", "version", everybody(405)),
    Case("GET", "servers:overlay_changes", "version", overlay_readers(410)),
    Case("POST", "servers:overlay_changes", "version", everybody(405)),
    Case("GET", "servers:overlay_version_restore", "version", everybody(405)),
    Case("POST", "servers:overlay_version_restore", "version", overlay_changers(410)),
    Case("GET", "servers:overlay_version_remove", "version", overlay_changers(200)),
    Case("POST", "servers:overlay_version_remove", "version", overlay_changers(302)),
    Case("GET", "jobs:uploads", "own overlay", overlay_changers(200)),
    Case("POST", "jobs:uploads", "own overlay", overlay_changers(422)),
    Case("GET", "jobs:upload", "upload", overlay_changers(303)),
    Case("POST", "jobs:upload", "upload", everybody(405)),
    Case("GET", "jobs:upload_finish", "upload", everybody(405)),
    Case("POST", "jobs:upload_finish", "upload", overlay_changers(409)),
    Case("GET", "jobs:upload_discard", "upload", everybody(405)),
    Case("POST", "jobs:upload_discard", "upload", overlay_changers(303)),
    Case("GET", "jobs:make_and_start", "", everybody(405)),
    Case("POST", "jobs:make_and_start", "", signed_in(200)),
    Case("GET", "jobs:hosts", "", host_admins_alone(200)),
    Case("GET", "jobs:host", "host", host_admins_alone(200)),
    Case("POST", "jobs:host", "host", everybody(405)),
    Case("GET", "jobs:host_job_create", "host", everybody(405)),
    Case("POST", "jobs:host_job_create", "host", host_admins_alone(303), INSTALL),
    Case("POST", "jobs:host_job_create", "host", host_admins_alone(409), ROLLBACK),
    Case("POST", "jobs:host_drain", "host", host_admins_alone(303)),
    Case("GET", "jobs:host_drain", "host", everybody(405)),
    Case("GET", "jobs:list", "", signed_in(200)),
    Case("GET", "jobs:detail", "job", viewers(200)),
    Case("GET", "jobs:log", "job", viewers(200)),
    Case("GET", "jobs:events", "job", viewers(200, anonymous=403)),
    Case("GET", "jobs:cancel", "job", everybody(405)),
    Case("POST", "jobs:cancel", "job", operators(303)),
    Case("POST", "jobs:cancel", "deletion", owners(303)),
    Case("GET", "jobs:retry", "job", everybody(405)),
    Case("POST", "jobs:retry", "job", operators(303)),
    Case("POST", "jobs:retry", "deletion", owners(303)),
    Case("GET", "jobs:detail", "install", host_admins_alone(200, 404)),
    Case("GET", "jobs:log", "install", host_admins_alone(200, 404)),
    Case("GET", "jobs:events", "install", host_admins_alone(200, 404, anonymous=403)),
    Case("POST", "jobs:cancel", "install", host_admins_alone(303, 404)),
    Case("POST", "jobs:retry", "install", host_admins_alone(303, 404)),
    Case("GET", "jobs:steam_guard_code", "install", everybody(405)),
    Case("POST", "jobs:steam_guard_code", "install", host_admins_alone(409, 404)),
    Case("POST", "jobs:steam_guard_code", "job", operators(409)),
    Case("GET", "jobs:create", "server", everybody(405)),
    Case("POST", "jobs:create", "server", operators(303), START),
    Case("POST", "jobs:create", "server", managers(303), RESET),
    Case("POST", "jobs:create", "server", owners(303), DELETE),
    Case("GET", "jobs:failure_dismiss", "server", everybody(405)),
    Case("POST", "jobs:failure_dismiss", "server", viewers(303)),
    Case("GET", "jobs:deferred_forget", "server", everybody(405)),
    Case("POST", "jobs:deferred_forget", "server", operators(303)),
    Case("GET", "jobs:create_many", "", everybody(405)),
    # What it takes depends on each named server; without one there is nothing to ask about.
    Case("POST", "jobs:create_many", "", signed_in(409)),
    Case("GET", "jobs:tag_many", "", everybody(405)),
    # `test_tags` says who may tag which server: other people's are skipped.
    Case("POST", "jobs:tag_many", "", signed_in(409)),
    Case("GET", "servers:tags", "", signed_in(200)),
    Case("POST", "servers:tags", "", everybody(405)),
    Case("GET", "servers:tag_rename", "", everybody(405)),
    Case("POST", "servers:tag_rename", "", signed_in(302)),
    Case("GET", "servers:tag_remove", "", everybody(405)),
    Case("POST", "servers:tag_remove", "", signed_in(302)),
    Case("GET", "jobs:save_and_restart", "server", everybody(405)),
    Case("POST", "jobs:save_and_restart", "server", managers(200)),
    Case("GET", "jobs:blueprint_save_and_restart", "blueprint", everybody(405)),
    Case(
        "POST",
        "jobs:blueprint_save_and_restart",
        "blueprint",
        (LOGIN, 404, 404, 404, 403, 200, 404, 200, 200),
    ),
    Case("GET", "jobs:map", "server", viewers(200)),
    Case("POST", "jobs:map", "server", everybody(405)),
    Case("GET", "jobs:map_chapters", "server", everybody(405)),
    Case("POST", "jobs:map_chapters", "server", viewers(303)),
    Case("GET", "jobs:map_now", "server", everybody(405)),
    Case("POST", "jobs:map_now", "server", operators(409)),  # Nothing is chosen.
    Case("GET", "jobs:map_next", "server", everybody(405)),
    Case("POST", "jobs:map_next", "server", managers(303), FORGET),
    Case("GET", "jobs:players", "server", viewers(200)),
    Case("POST", "jobs:players", "server", everybody(405)),
    Case("GET", "jobs:player_kick", "server", everybody(405)),
    Case("POST", "jobs:player_kick", "server", operators(409), KICK),
    Case("GET", "jobs:players_say", "server", everybody(405)),
    Case("POST", "jobs:players_say", "server", operators(409), SAY),
    Case("GET", "jobs:game_admins", "server", viewers(200)),
    Case("POST", "jobs:game_admins", "server", managers(200)),  # The form says what is missing.
    Case("GET", "jobs:game_admin_remove", "game admin", everybody(405)),
    Case("POST", "jobs:game_admin_remove", "game admin", managers(303)),
    Case(
        "POST",
        "jobs:game_admin_remove",
        "another's game admin",
        (LOGIN, 404, 403, 403, *(404,) * 5),
    ),
    Case("GET", "jobs:player_tell", "server", everybody(405)),
    Case("POST", "jobs:player_tell", "server", operators(409), TELL),
    Case("GET", "jobs:bans", "server", viewers(200)),
    Case("POST", "jobs:bans", "server", managers(200)),  # The form says what is missing.
    Case("GET", "jobs:ban_export", "server", managers(200)),
    Case("POST", "jobs:ban_export", "server", everybody(405)),
    Case("GET", "jobs:ban_import", "server", everybody(405)),
    Case("POST", "jobs:ban_import", "server", managers(200)),
    Case("GET", "jobs:ban_lift", "ban", everybody(405)),
    Case("POST", "jobs:ban_lift", "ban", managers(303)),
    Case("POST", "jobs:ban_lift", "another's ban", (LOGIN, 404, 403, 403, *(404,) * 5)),
    Case("GET", "jobs:commands", "server", viewers(200)),
    Case("POST", "jobs:commands", "server", operators(409), STATUS),  # It does not run.
    Case("GET", "jobs:command_names", "server", operators(200)),
    Case("POST", "jobs:command_names", "server", everybody(405)),
    Case("GET", "jobs:command_latest", "server", viewers(200)),
    Case("POST", "jobs:command_latest", "server", everybody(405)),
    Case("GET", "jobs:command_answer", "command", viewers(200)),
    Case("POST", "jobs:command_answer", "command", everybody(405)),
    Case("GET", "jobs:command_answer", "another's command", signed_in(404)),
    Case("GET", "jobs:console_events", "server", viewers(200, anonymous=403)),
    Case("GET", "jobs:change_events", "", (403, *(200,) * 8)),
    Case("GET", "account_login", "", (200, *(302,) * 8)),
    Case("GET", "logout", "", everybody(405)),
    Case("POST", "logout", "", everybody(302)),
    Case("GET", "password_change", "", signed_in(200)),
    Case("POST", "password_change", "", signed_in(200)),
    Case("GET", "account_reauthenticate", "", signed_in(200)),
    Case("GET", "sessions", "", signed_in(200)),
    Case("GET", "session_revoke_others", "", everybody(405)),
    Case("POST", "session_revoke_others", "", signed_in(302)),
    Case("GET", "session_revoke", "session", everybody(405)),
    # Only its own.
    Case("POST", "session_revoke", "session", (LOGIN, 404, 404, 404, 404, 302, 404, 404, 404)),
    Case("GET", "people", "", superusers_alone(200)),
    Case("GET", "person", "person", superusers_alone(200)),
    Case("POST", "person", "person", everybody(405)),
    Case("GET", "person_role", "person", everybody(405)),
    Case("POST", "person_role", "person", superusers_alone(302), (("role", "host_admin"),)),
    Case("GET", "person_quotas", "person", everybody(405)),
    Case("POST", "person_quotas", "person", superusers_alone(302)),
    Case("GET", "person_switch", "person", everybody(405)),
    Case("POST", "person_switch", "person", superusers_alone(302)),
    Case("GET", "audit", "", superusers_alone(200)),
    Case("POST", "audit", "", everybody(405)),
    Case("GET", "server_audit", "server", managers(200)),
    Case("POST", "server_audit", "server", everybody(405)),
    Case("GET", "reset_link", "person", everybody(405)),
    Case("POST", "reset_link", "person", superusers_alone(200)),
    Case("GET", "invitation_make", "", everybody(405)),
    Case("POST", "invitation_make", "", superusers_alone(302)),
    Case("GET", "invitation_revoke", "invitation", everybody(405)),
    Case("POST", "invitation_revoke", "invitation", superusers_alone(302)),
    Case("GET", "invitation", "token", everybody(200)),
    Case("GET", "invitation", "server token", everybody(200)),
    Case("GET", "invitation", "bad token", everybody(404)),
    Case("POST", "invitation", "token", everybody(200)),
    # Somebody who has a role there already is told so.
    Case("POST", "invitation", "server token", (200, 302, *(200,) * 4, *(302,) * 3)),
    Case("POST", "invitation", "bad token", everybody(404)),
    Case("GET", "reset_request", "", everybody(404)),
    Case("GET", "reset", "bad reset", everybody(200)),
    Case("GET", "mfa_index", "", signed_in(200)),
    # The page for the second factor: only for somebody who has just given a password.
    Case("GET", "mfa_authenticate", "", everybody(302)),
    Case("GET", "mfa_reauthenticate", "", signed_in(302)),
    Case("GET", "mfa_activate_totp", "", signed_in(302)),
    Case("GET", "mfa_deactivate_totp", "", signed_in(404)),
    Case("GET", "mfa_view_recovery_codes", "", signed_in(404)),
    Case("GET", "mfa_generate_recovery_codes", "", signed_in(302)),
    Case("GET", "mfa_download_recovery_codes", "", signed_in(404)),
    Case("GET", "mfa_list_webauthn", "", signed_in(200)),
    Case("GET", "mfa_add_webauthn", "", signed_in(302)),
    Case("GET", "mfa_login_webauthn", "", everybody(302)),
    Case("POST", "mfa_login_webauthn", "", everybody(302)),
    Case("GET", "mfa_reauthenticate_webauthn", "", signed_in(302)),
    Case("GET", "mfa_edit_webauthn", "passkey", signed_in(302)),
    Case("GET", "mfa_remove_webauthn", "passkey", signed_in(302)),
    Case("GET", "servers:blob", "blob", everybody(404)),
    Case("POST", "servers:blob", "blob", everybody(405)),
    Case("GET", "healthz", "", everybody(503)),
    Case("POST", "healthz", "", everybody(405)),
    Case("GET", "livez", "", everybody(200)),
    Case("POST", "livez", "", everybody(405)),
    Case("GET", "health", "", host_admins_alone(200)),
    Case("POST", "health", "", everybody(405)),
    Case("GET", "admin:install", "", everybody(405)),
    Case("POST", "admin:install", "", host_admins_alone(303)),
]


def admin_page(
    name: str, subject: str, staff: Outcome, host_admin: Outcome, superuser: Outcome = 200
) -> Case:
    """Return the outcomes of an admin page for staff; everybody else is led to the sign-in."""
    return Case("GET", f"admin:{name}", subject, (*(LOGIN,) * 6, staff, host_admin, superuser))


def admin_of(
    model: str,
    subject: str,
    *,
    lists: int,
    adds: int,
    shows: int,
    deletes: int,
    superuser: str = "",
    history: int = 403,
) -> list[Case]:
    """Return the outcomes of a model's pages for a host admin. Other staff get 403.

    A superuser may do everything except what `superuser` names: rows that machines write are read-only. Staff
    are led away from the `history` of rows that they may not see, as from that of rows that do not exist.
    """
    pages = [
        ("changelist", "", 403, lists),
        ("add", "", 403, adds),
        ("change", subject, 403, shows),
        ("history", subject, history, shows),
        ("delete", subject, 403, deletes),
    ]
    return [
        admin_page(
            f"{model}_{page}", row, staff, host_admin, 403 if page in superuser.split() else 200
        )
        for page, row, staff, host_admin in pages
    ]


READ_ONLY = "add delete"
ADMIN_MATRIX = [
    admin_page("index", "", 200, 200),
    admin_page("releases", "", 403, 302, 302),
    admin_page("jsi18n", "", 200, 200),
    admin_page("autocomplete", "", 403, 403, 403),  # It takes parameters.
    admin_page("password_change", "", 302, 302, 302),
    admin_page("password_change_done", "", 200, 200),
    admin_page("view_on_site", "server on site", 404, 302, 302),
    admin_page("app_list", "app", 404, 200),
    *admin_of("servers_host", "host row", lists=200, adds=403, shows=200, deletes=403),
    *admin_of("servers_overlay", "overlay row", lists=200, adds=403, shows=200, deletes=403),
    *admin_of("servers_blueprint", "blueprint row", lists=200, adds=403, shows=200, deletes=200),
    *admin_of("servers_server", "server row", lists=200, adds=403, shows=200, deletes=200),
    *admin_of(
        *("jobs_job", "job"),
        lists=200,
        adds=403,
        shows=200,
        deletes=403,
        superuser=READ_ONLY,
        history=302,
    ),
    *admin_of(
        *("jobs_joblog", "line row"),
        lists=200,
        adds=403,
        shows=200,
        deletes=403,
        superuser=READ_ONLY,
        history=302,
    ),
    *admin_of(
        *("jobs_worker", "worker row"),
        lists=200,
        adds=403,
        shows=200,
        deletes=403,
        superuser=READ_ONLY,
    ),
    *admin_of(
        *("accounts_accountevent", "event row"),
        lists=403,
        adds=403,
        shows=403,
        deletes=403,
        superuser=READ_ONLY,
    ),
    *admin_of("auth_user", "person", lists=403, adds=403, shows=403, deletes=403),
    admin_page("auth_user_password_change", "person", 403, 403),
    *admin_of("auth_group", "group row", lists=403, adds=403, shows=403, deletes=403),
]


CASES = MATRIX + ADMIN_MATRIX

PAGES = {name for name in routes() if not name.startswith("admin:") and name not in NOT_PAGES} - {
    case.url_name for case in MATRIX if case.method == "GET" and case.expected == everybody(405)
}
"""What one can open of the project, except the admin site."""


@dataclass(frozen=True)
class World:
    """What the matrix is about: people with their sessions, and the parts of addresses, by their words."""

    people: dict[str, User]
    sessions: dict[str, str]
    subjects: dict[str, list[str | int]]

    def client_of(self, kind: str, *, enforce_csrf_checks: bool = False) -> Client:
        """Return a browser with that kind of person signed in."""
        client = Client(enforce_csrf_checks=enforce_csrf_checks)
        if kind != ANONYMOUS:
            client.cookies[settings.SESSION_COOKIE_NAME] = self.sessions[kind]
        return client

    def ask(self, case: Case, client: Client) -> HttpResponseBase:
        """Send the request of `case`."""
        return client.generic(
            case.method,
            reverse(case.url_name, args=self.subjects[case.subject]),
            "&".join(f"{name}={value}" for name, value in case.data),
            content_type="application/x-www-form-urlencoded",
        )


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """Return the world of all cases. It is made once; each request is rolled back.

    pytest-django makes a database only if some chosen test is marked for it, as others in this file are.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


def make_world() -> World:
    people = make_people()
    owner, superuser = people["owner"], people["superuser"]
    host = Host.local()
    blueprint = Blueprint.objects.create(name="coop", owner=owner)
    server, quiet, other = (
        Server.objects.create(name=name, owner=owner, host=host, blueprint=blueprint)
        for name in ("alpha", "quiet", "other")
    )
    give_roles(people, server)
    give_roles(people, quiet)
    server.set_secret(ServerSecret.JOIN_PASSWORD, "sesame-to-join")
    server.save()
    record_state(server, "stopped")
    members = {one.role: one for one in server.memberships.all()}
    outsider = other.memberships.create(user=people["stranger"], role="viewer")
    shared = Blueprint.objects.create(name="versus", owner=superuser, is_shared=True)
    job, deletion = (
        Job.objects.create(operation=operation, server=server, requested_by=owner, state="failed")
        for operation in ("start", "delete")
    )
    install = Job.objects.create(operation="install", requested_by=superuser, state="failed")
    line = job.logs.create(seq=1, stream="stdout", line="Starting.")
    worker = Worker.objects.create(
        host=host,
        pid=1,
        process_started=1,
        concurrency=1,
        started_at=job.created_at,
        heartbeat_at=job.created_at - timedelta.resolution * 10**12,
    )
    overlay = Overlay.objects.create(name="maps", is_host_folder=True)
    own_overlay = Overlay.objects.create(name="rules", owner=owner, is_shared=False)
    # The store has nothing of it: these requests end where somebody who may see it is told so.
    version = own_overlay.versions.create(
        number=1,
        digest="0" * 64,
        reference=f"rules@1-{'0' * 64}",
        files=1,
        size_bytes=1,
        added_bytes=1,
        looked_at=job.created_at,
    )
    upload = own_overlay.uploads.create(by=owner)
    blueprint.set_overlays([own_overlay])
    ban, others_ban = (
        one.bans.create(owner=owner, steam_id="STEAM_1:0:1") for one in (server, other)
    )
    game_admin, others_game_admin = (
        one.game_admins.create(steam_id="STEAM_1:0:1", preset="full") for one in (server, other)
    )
    command, others_command = (
        one.console_commands.create(text="status", state="answered") for one in (server, other)
    )
    invitation = Invitation.objects.create(made_by=superuser)
    to_server, to_manage = (
        Invitation.objects.create(made_by=owner, server=server, role=role)
        for role in ("viewer", "manager")
    )
    sessions = {kind: sign_in(person).cookies["sessionid"].value for kind, person in people.items()}
    server_type = ContentType.objects.get_for_model(Server)
    subjects: dict[str, list[str | int]] = {
        "": [],
        "server": [server.name],
        "quiet server": [quiet.name],
        "secret": [server.name, ServerSecret.JOIN_PASSWORD],
        "viewer": [server.name, members["viewer"].pk],
        "manager": [server.name, members["manager"].pk],
        "another's viewer": [server.name, outsider.pk],
        "server invitation": [server.name, str(to_server.pk)],
        "manager invitation": [server.name, str(to_manage.pk)],
        "blueprint": [blueprint.name],
        "shared": [shared.name],
        "host": [host.name],
        "job": [job.pk],
        "deletion": [deletion.pk],
        "install": [install.pk],
        "session": [str(PersonSession.objects.get(user=owner).pk)],
        "person": [people["stranger"].pk],
        "invitation": [str(invitation.pk)],
        "token": [invitation.token],
        "server token": [to_server.token],
        "bad token": ["not-a-token"],
        "bad reset": ["MQ", "not-a-token"],
        "ban": [server.name, ban.pk],
        "another's ban": [server.name, others_ban.pk],
        "game admin": [server.name, game_admin.pk],
        "another's game admin": [server.name, others_game_admin.pk],
        "command": [server.name, command.pk],
        "another's command": [server.name, others_command.pk],
        "passkey": [1],
        "blob": ["0" * 64],
        "app": ["servers"],
        "server on site": [server_type.pk, server.pk],
        "host row": [host.pk],
        "overlay": [overlay.name],
        "own overlay": [own_overlay.name],
        "version": [own_overlay.name, version.number],
        "upload": [own_overlay.name, upload.pk],
        "overlay row": [overlay.pk],
        "blueprint row": [shared.pk],
        "server row": [quiet.pk],
        "line row": [line.pk],
        "worker row": [worker.pk],
        "event row": [AccountEvent.objects.latest("pk").pk],
        "group row": [people["host admin"].groups.get().pk],
    }
    return World(people, sessions, subjects)


@pytest.fixture
def _taken_back(world: World, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let a test use the database of the world."""
    with django_db_blocker.unblock():
        yield


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("_taken_back")
def test_everybody_gets_what_the_matrix_says(case: Case, world: World) -> None:
    expected = dict(zip(KINDS, case.expected, strict=True))
    got = {}
    for kind in kinds_to_ask(case):
        with transaction.atomic():
            got[kind] = outcome(world.ask(case, world.client_of(kind)))
            transaction.set_rollback(True)
    assert got == {kind: expected[kind] for kind in got}


def kinds_to_ask(case: Case) -> tuple[str, ...]:
    """Return all kinds of people; on PostgreSQL only the superuser and the first one of each outcome.

    Who may do what does not depend on the database; what a request does there may.
    """
    if settings.IS_SQLITE:
        return KINDS
    first = dict(zip(reversed(case.expected), reversed(KINDS), strict=True))
    return (*(set(first.values()) - {KINDS[-1]}), KINDS[-1])


def outcome(response: HttpResponseBase) -> Outcome:
    """Return the status of a response, or LOGIN if it leads there."""
    place = response.headers.get("Location", "")
    ways_in = (reverse("account_login"), reverse("admin:login"))
    return (
        LOGIN
        if place.startswith(tuple(f"{way}?next=" for way in ways_in))
        else response.status_code
    )


ADMIN_DOORS = {"admin:login", "admin:logout"}
"""The admin's sign-in and sign-out, which are open to everybody."""


def test_the_matrix_has_every_address() -> None:
    assert routes().keys() - ADMIN_DOORS == {case.url_name for case in CASES}


DOOR_FORMS = {
    *("account_login", "account_reauthenticate", "reset", "reset_request"),
    *("mfa_authenticate", "mfa_reauthenticate", "mfa_reauthenticate_webauthn"),
    *("mfa_activate_totp", "mfa_deactivate_totp"),
    *("mfa_generate_recovery_codes", "mfa_download_recovery_codes"),
    *("mfa_add_webauthn", "mfa_edit_webauthn", "mfa_remove_webauthn"),
}
"""Addresses with forms about nobody but the person who sends them: the tests of accounts have them."""


@pytest.mark.usefixtures("_taken_back")
def test_the_matrix_has_every_form(world: World) -> None:
    posted = {case.url_name for case in MATRIX if case.method == "POST"}
    client = world.client_of("superuser")
    taken = set()
    for case in MATRIX:
        if case.url_name in posted:
            continue
        with transaction.atomic():
            response = world.ask(replace(case, method="POST"), client)
            transaction.set_rollback(True)
        if response.status_code != 405:
            taken.add(case.url_name)
    assert taken == DOOR_FORMS


ADMIN_ROUTES = sorted(
    route
    for name, route in walk(get_resolver())
    if name.startswith("admin:") and name not in ADMIN_DOORS | {"admin:install"}
)


@pytest.mark.parametrize("route", ADMIN_ROUTES)
@pytest.mark.usefixtures("_taken_back")
def test_the_admin_pages_are_for_staff_alone(route: str, world: World) -> None:
    url = re.sub(r"<[^>]+>", "1", route.partition("(?P")[0])
    for kind in KINDS[:6]:
        response = world.client_of(kind).get(url)
        assert response.status_code in (302, 404)
        if response.status_code == 302:
            assert response.headers["Location"].startswith(reverse("admin:login"))


@pytest.mark.usefixtures("_taken_back")
def test_staff_without_permissions_find_nothing_on_the_admin_pages(world: World) -> None:
    page = world.client_of("staff").get(reverse("admin:index")).content.decode()
    assert "You don’t have permission to view or edit anything." in page
    assert reverse("admin:install") not in page
    on_site = reverse("admin:view_on_site", args=world.subjects["server on site"])
    assert world.client_of("staff").get(on_site).status_code == 404


@pytest.mark.parametrize("case", [case for case in MATRIX if case.method == "POST"], ids=str)
@pytest.mark.usefixtures("_taken_back")
def test_no_change_without_a_csrf_token(case: Case, world: World) -> None:
    jobs_before = Job.objects.count()
    response = world.ask(case, world.client_of("superuser", enforce_csrf_checks=True))
    assert response.status_code in (403, 405)
    assert Job.objects.count() == jobs_before
    if response.status_code == 403:
        assert "The form was not accepted" in response.getvalue().decode()


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
