"""Giving and taking roles on servers: the row, the announcement to open pages, and the record."""

from django.contrib.auth.models import User
from django.http import HttpRequest

from jobs.database import Channel, announce
from l4d2site.accounts.events import record_event
from l4d2site.accounts.models import EventKind
from servers.models import Membership, Server
from servers.permissions import Role


def give_role(server: Server, person: User, role: Role) -> None:
    """Give `person` this role, whatever they had before. Records nothing."""
    Membership.objects.update_or_create(server=server, user=person, defaults={"role": role.value})
    announce(Channel.PAGES)


def take_role(membership: Membership) -> bool:
    """Take a role away; return False if it was gone. Streams that depend on it end within seconds."""
    deleted, _ = Membership.objects.filter(pk=membership.pk).delete()
    announce(Channel.PAGES)
    return bool(deleted)


def record_role(
    request: HttpRequest, person: User, server: Server, role: Role | None, by: User | None
) -> None:
    """Record the new role of `person` on `server`; None means that they have none now."""
    what = f"{role.value} of {server.name}" if role else f"no role on {server.name}"
    is_other = by is not None and by.pk != person.pk
    detail = f"{what}, by {by}" if is_other else what
    record_event(EventKind.ROLE_CHANGED, request, user=person, detail=detail, server=server)
