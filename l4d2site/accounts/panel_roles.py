"""A person's role in the whole panel: owner, host admin or superuser. Roles on a server are separate."""

from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

HOST_ADMINS = "Host admins"
"""The group that a migration creates; an admin may change its permissions."""


class PanelRole(models.TextChoices):
    """A role in the panel. Only the admin pages can produce `OTHER`."""

    OWNER = "owner", _("owner")
    HOST_ADMIN = "host_admin", _("host admin")
    SUPERUSER = "superuser", _("superuser")
    OTHER = "other", _("staff with permissions of their own")


GIVEN_PANEL_ROLES = (PanelRole.OWNER, PanelRole.HOST_ADMIN, PanelRole.SUPERUSER)


def panel_role_of(person: User) -> PanelRole:
    """Return the role of `person`. One query for staff, none if their groups are prefetched."""
    # A superuser without staff status has none of the permissions: see `servers.permissions.may`.
    if not person.is_staff:
        return PanelRole.OWNER
    if person.is_superuser:
        return PanelRole.SUPERUSER
    groups = {group.name for group in person.groups.all()}
    return PanelRole.HOST_ADMIN if groups == {HOST_ADMINS} else PanelRole.OTHER


@transaction.atomic
def give_panel_role(person: User, role: PanelRole) -> None:
    """Give `person` this role and nothing else. `receivers` records the change."""
    person.is_superuser = role == PanelRole.SUPERUSER
    person.is_staff = role != PanelRole.OWNER
    person.save(update_fields=["is_staff", "is_superuser"])
    person.user_permissions.clear()
    if role == PanelRole.HOST_ADMIN:
        group, _is_new = Group.objects.get_or_create(name=HOST_ADMINS)
        person.groups.set([group])
    else:
        person.groups.clear()
