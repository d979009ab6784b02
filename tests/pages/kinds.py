"""Nine kinds of people, and a world in which each is what their name says, for tests of permissions."""

from importlib import import_module
from types import SimpleNamespace

from django.apps import apps
from django.contrib.auth.models import Group, User
from django.db import connection

from servers.models import Membership, Server
from servers.permissions import Role

ANONYMOUS = "anonymous"
KINDS = (
    *(ANONYMOUS, "stranger", "viewer", "operator", "manager", "owner"),
    *("staff", "host admin", "superuser"),
)


def host_admins() -> Group:
    """Return the group as the migrations make it; a test that empties the database empties this too."""
    made = import_module("servers.migrations.0006_memberships")
    made.make_host_admins(apps, SimpleNamespace(connection=connection))
    added = import_module("servers.migrations.0019_host_admins_change_overlays")
    added.let_host_admins_change_overlays(apps, SimpleNamespace(connection=connection))
    return Group.objects.get(name="Host admins")


def make_people() -> dict[str, User]:
    """Make one of each kind except the anonymous; `give_roles` gives the roles."""
    people = {
        kind: User.objects.create_user(kind.replace(" ", "-"), password="a-password")
        for kind in KINDS[1:-1]
    }
    group = host_admins()
    User.objects.filter(username__in=("staff", "host-admin")).update(is_staff=True)
    group.user_set.set([people["host admin"]])
    people["superuser"] = User.objects.create_superuser("superuser", password="a-password")
    return {kind: User.objects.get(pk=person.pk) for kind, person in people.items()}


def give_roles(people: dict[str, User], server: Server) -> None:
    """Give each the role on `server` that their kind says."""
    for role in (Role.VIEWER, Role.OPERATOR, Role.MANAGER):
        Membership.objects.create(server=server, user=people[role.value], role=role.value)
