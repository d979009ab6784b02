"""A person's role in the whole panel: owner, host admin or superuser. Roles on a server are separate.

Also says whose accounts a person may change: setting somebody's password gives one their rights. And who may
make links, which is asked again when a link is used.
"""

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from servers.permissions import Verb, may

HOST_ADMINS = "Host admins"
"""The group that a migration creates; a superuser may change its permissions, or remove it."""


class PanelRole(models.TextChoices):
    """A role in the panel. Only the admin pages can produce `OTHER`."""

    OWNER = "owner", _("owner")
    HOST_ADMIN = "host_admin", _("host admin")
    SUPERUSER = "superuser", _("superuser")
    OTHER = "other", _("staff with permissions of their own")


def find_given_roles() -> list[PanelRole]:
    """Return the roles that the panel can give: host admin only while its group exists."""
    has_group = Group.objects.filter(name=HOST_ADMINS).exists()
    return [
        PanelRole.OWNER,
        *([PanelRole.HOST_ADMIN] if has_group else []),
        PanelRole.SUPERUSER,
    ]


def panel_role_of(person: User) -> PanelRole:
    """Return the role of `person`. One query for staff, none if their groups are prefetched."""
    # A superuser without staff status has none of the permissions: see `servers.permissions.may`.
    if not person.is_staff:
        return PanelRole.OWNER
    if person.is_superuser:
        return PanelRole.SUPERUSER
    groups = {group.name for group in person.groups.all()}
    return PanelRole.HOST_ADMIN if groups == {HOST_ADMINS} else PanelRole.OTHER


def has_rights_of(user: User, person: User) -> bool:
    """Return whether `user` has every right in the panel that `person` has.

    Only then may they change that account, or make a link for its password: it would give them no more. A
    deactivated account counts as if it were active, since it can be reactivated. Costs queries only for staff,
    and none for a `person` whose permissions are prefetched.
    """
    if user.is_superuser:
        return user.is_staff
    if person.is_superuser:
        return False
    return not person.is_staff or permissions_of(person) <= user.get_all_permissions()


def may_reset(user: User, person: User | None = None) -> bool:
    """Return whether `user` may make reset links at all, or one for `person`.

    With the link one can become that person, so it takes every right that they have.
    """
    is_allowed = may(user, Verb.MAKE_RESET_LINK)
    return is_allowed and (person is None or has_rights_of(user, person))


def may_make_links(user: User) -> bool:
    """Return whether `user`, who may share a server, may make links with which new people get accounts."""
    return settings.OWNERS_INVITE or may(user, Verb.INVITE)


PERMISSION_LOOKUPS = (
    "groups__permissions__content_type",
    "user_permissions__content_type",
)
"""What `has_rights_of` reads of each person, for `prefetch_related`."""


def permissions_of(person: User) -> set[str]:
    """Return the permissions that the rows of `person` and of their groups give, active or not."""
    given = [*person.user_permissions.all()]
    for group in person.groups.all():
        given += group.permissions.all()
    return {f"{one.content_type.app_label}.{one.codename}" for one in given}


@transaction.atomic
def give_panel_role(person: User, role: PanelRole) -> None:
    """Give `person` this role and nothing else. `receivers` records the change.

    Raises `Group.DoesNotExist` for a host admin if their group was removed: a new one gives nothing.
    """
    groups = [Group.objects.get(name=HOST_ADMINS)] if role == PanelRole.HOST_ADMIN else []
    person.is_superuser = role == PanelRole.SUPERUSER
    person.is_staff = role != PanelRole.OWNER
    person.save(update_fields=["is_staff", "is_superuser"])
    person.user_permissions.clear()
    person.groups.set(groups)
