"""The one rule: it says the same about single things and about rows, and the documents print it as it is."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from jobs.models import HOST_OPERATIONS, Job, Operation
from servers import permissions
from servers.models import Blueprint, Host, Server
from servers.permissions import RULES, Role, Verb, may, roles_for, verbs_of
from tests.pages.kinds import KINDS, give_roles, make_people

pytestmark = pytest.mark.django_db

SERVER_VERBS = [
    verb
    for verb in Verb
    if RULES[verb].least and not verb.name.endswith(("_BLUEPRINT", "_OVERLAY"))
]


@pytest.fixture
def people() -> dict[str, User]:
    """Return one of each kind, with roles on the owner's server `alpha`; `other` is somebody else's."""
    people = make_people()
    host = Host.local()
    blueprint = Blueprint.objects.create(name="coop", owner=people["owner"])
    server = Server.objects.create(
        name="alpha", owner=people["owner"], host=host, blueprint=blueprint
    )
    give_roles(people, server)
    theirs = Blueprint.objects.create(name="theirs", owner=people["superuser"])
    Blueprint.objects.create(name="versus", owner=people["superuser"], is_shared=True)
    other = Server.objects.create(
        name="other", owner=people["superuser"], host=host, blueprint=theirs
    )
    for one in (server, other):
        Job.objects.create(operation="start", server=one, requested_by=people["operator"])
    Job.objects.create(operation="install", requested_by=people["superuser"])
    for requested_by in ("stranger", "superuser"):
        Job.objects.create(
            operation="stop", server_name="gone", requested_by=people[requested_by], state="failed"
        )
    return people


def allowed(user: User, verb: Verb, rows: Iterable[Any]) -> set[Any]:
    return {row for row in rows if may(user, verb, row)}


@pytest.mark.parametrize("kind", KINDS[1:])
def test_rows_and_things_are_judged_alike(kind: str, people: dict[str, User]) -> None:
    user = people[kind]
    for verb in SERVER_VERBS:
        assert set(Server.objects.allowed(user, verb)) == allowed(user, verb, Server.objects.all())
    blueprints = Blueprint.objects.all()
    assert set(blueprints.visible_to(user)) == allowed(user, Verb.VIEW_BLUEPRINT, blueprints)
    assert set(blueprints.editable_by(user)) == allowed(user, Verb.CHANGE_BLUEPRINT, blueprints)
    seen = {
        job
        for job in Job.objects.all()
        if may(user, Verb.VIEW if job.server_name else Verb.VIEW_HOSTS, job)
    }
    assert set(Job.objects.visible_to(user)) == seen


@pytest.mark.parametrize(
    ("kind", "verbs"),
    [
        ("stranger", ""),
        ("viewer", "view"),
        ("operator", "view operate command"),
        ("manager", "view operate command ban name_admins configure read_secrets reset share"),
        (
            "owner",
            "view operate command ban name_admins configure read_secrets reset share appoint delete remove",
        ),
        ("staff", ""),
        (
            "host admin",
            "view operate command ban name_admins configure read_secrets reset share appoint delete remove",
        ),
        (
            "superuser",
            "view operate command ban name_admins configure read_secrets reset share appoint delete remove",
        ),
    ],
)
def test_each_role_may_do_what_the_one_below_may_and_more(
    kind: str, verbs: str, people: dict[str, User]
) -> None:
    server = Server.objects.get(name="alpha")
    on_servers = {verb.value for verb in SERVER_VERBS}
    assert verbs_of(people[kind], server) & on_servers == set(verbs.split())
    other = Server.objects.get(name="other")
    is_of_all = kind in ("host admin", "superuser")
    assert bool(verbs_of(people[kind], other) & on_servers) == is_of_all


@pytest.mark.parametrize("verb", list(Verb))
def test_each_permission_is_enough_for_staff_and_for_nobody_else(
    verb: Verb, alice: User, server: Server, bob: User
) -> None:
    for permission in RULES[verb].permissions:
        app, _, codename = permission.partition(".")
        given = Permission.objects.get(content_type__app_label=app, codename=codename)
        bob.user_permissions.set([given])
        User.objects.filter(pk=bob.pk).update(is_staff=True)
        assert may(User.objects.get(pk=bob.pk), verb)
        User.objects.filter(pk=bob.pk).update(is_staff=False)
        assert not may(User.objects.get(pk=bob.pk), verb)


def test_nobody_who_is_switched_off_may_do_anything(
    alice: User, dana: User, server: Server
) -> None:
    for person in (alice, dana):
        person.is_active = False
        assert not verbs_of(person, server)
    assert not verbs_of(AnonymousUser(), server)


def test_a_superuser_who_is_no_longer_staff_has_lost_the_panel(dana: User, server: Server) -> None:
    dana.is_staff = False
    assert not verbs_of(dana, server)


def test_every_operation_has_its_verb() -> None:
    # An upload is unpacked for an overlay: `UNPACK_VERB` is about that.
    assert set(permissions.HOST_OPERATION_VERBS) == set(HOST_OPERATIONS) - {Operation.UNPACK}
    assert set(permissions.SERVER_OPERATION_VERBS) == set(Operation) - set(HOST_OPERATIONS)


def test_a_role_is_fetched_along_with_the_servers(people: dict[str, User]) -> None:
    (server,) = Server.objects.visible_to(people["manager"])
    with CaptureQueriesContext(connection) as captured:
        assert server.role_of(people["manager"]) == Role.MANAGER
    assert len(captured) == 0
    # It is nobody else's.
    assert server.role_of(people["stranger"]) is None
    assert server.role_of(people["viewer"]) == Role.VIEWER


def test_only_owners_have_what_no_membership_gives() -> None:
    assert roles_for(Verb.REMOVE) == [Role.OWNER]
    assert roles_for(Verb.INSTALL) == ()


def table_rows() -> list[str]:
    """Return the rule as the rows of a Markdown table."""
    return [
        f"| {rule.words} | {rule.least.label if rule.least else '–'} | "
        + ", ".join(f"`{permission}`" for permission in rule.permissions)
        + " |"
        for rule in RULES.values()
    ]


def test_the_table_is_printed_in_the_documents() -> None:
    page = (Path(settings.BASE_DIR) / "docs/security.md").read_text()
    rows = table_rows()
    assert "\n".join(rows) in page
