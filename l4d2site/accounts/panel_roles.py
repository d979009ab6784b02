"""What somebody is in the whole panel: an owner, a host admin, a superuser. On a server it is a role."""

from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

HOST_ADMINS = "Host admins"
"""The group that a migration makes; an admin may change what it permits."""


class PanelRole(models.TextChoices):
    """What somebody is in the panel. `OTHER` is what only the admin pages can give."""

    OWNER = "owner", _("owner")
    HOST_ADMIN = "host_admin", _("host admin")
    SUPERUSER = "superuser", _("superuser")
    OTHER = "other", _("staff with permissions of their own")


GIVEN_PANEL_ROLES = (PanelRole.OWNER, PanelRole.HOST_ADMIN, PanelRole.SUPERUSER)


def panel_role_of(person: User) -> PanelRole:
    """Return what `person` is. One query for staff, none where their groups were fetched along."""
    # A superuser who is no staff has none of the permissions: see `servers.permissions.may`.
    if not person.is_staff:
        return PanelRole.OWNER
    if person.is_superuser:
        return PanelRole.SUPERUSER
    groups = {group.name for group in person.groups.all()}
    return PanelRole.HOST_ADMIN if groups == {HOST_ADMINS} else PanelRole.OTHER


@transaction.atomic
def give_panel_role(person: User, role: PanelRole) -> None:
    """Make `person` what `role` says, and nothing else. What changes is recorded by `receivers`."""
    person.is_superuser = role == PanelRole.SUPERUSER
    person.is_staff = role != PanelRole.OWNER
    person.save(update_fields=["is_staff", "is_superuser"])
    person.user_permissions.clear()
    if role == PanelRole.HOST_ADMIN:
        group, _is_new = Group.objects.get_or_create(name=HOST_ADMINS)
        person.groups.set([group])
    else:
        person.groups.clear()
