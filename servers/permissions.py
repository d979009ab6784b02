"""Who may do what: one table, and `may`, which uses it to answer pages, streams, the admin and forms.

A role on the thing itself allows a verb, and so does one of Django's permissions, for all things of its kind.
`docs/security.md` prints the table. The querysets of `servers.models` and `jobs.models` use the same table to
choose the rows that a person may see.
"""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db.models import TextChoices
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

Person = AbstractBaseUser | AnonymousUser


class Role(TextChoices):
    """What a person is on one thing, the least first. Each role may do all that the roles before it may."""

    VIEWER = "viewer", gettext_lazy("viewer")
    OPERATOR = "operator", gettext_lazy("operator")
    MANAGER = "manager", gettext_lazy("manager")
    OWNER = "owner", gettext_lazy("owner")


GIVEN_ROLES = (Role.VIEWER, Role.OPERATOR, Role.MANAGER)
"""The roles that a `Membership` gives. An owner has the role by the server's own row."""


class Verb(StrEnum):
    """What can be done. `RULES` says what each means, and who may do it."""

    VIEW = "view"
    OPERATE = "operate"
    COMMAND = "command"
    BAN = "ban"
    NAME_ADMINS = "name_admins"
    CONFIGURE = "configure"
    READ_SECRETS = "read_secrets"
    RESET = "reset"
    SHARE = "share"
    APPOINT = "appoint"
    DELETE = "delete"
    REMOVE = "remove"
    VIEW_BLUEPRINT = "view_blueprint"
    CHANGE_BLUEPRINT = "change_blueprint"
    REMOVE_BLUEPRINT = "remove_blueprint"
    USE_OVERLAY = "use_overlay"
    CHANGE_OVERLAY = "change_overlay"
    VIEW_HOSTS = "view_hosts"
    INSTALL = "install"
    ROLLBACK = "rollback"
    CHECK = "check"
    DRAIN = "drain"
    SET_ANY_PORT = "set_any_port"
    BRING_NATIVE_CODE = "bring_native_code"
    VIEW_ANY_JOB = "view_any_job"
    INVITE = "invite"
    MAKE_RESET_LINK = "make_reset_link"
    SET_QUOTAS = "set_quotas"
    READ_RECORD = "read_record"


@dataclass(frozen=True)
class Rule:
    """Who may do something: everybody with at least this role, or one of `permissions` for all such things."""

    words: str | Promise
    least: Role | None
    permissions: tuple[str, ...]


RULES = {
    # Servers, and the jobs about them.
    Verb.VIEW: Rule(
        gettext_lazy("see a server, its console and its jobs"),
        Role.VIEWER,
        (
            *("servers.view_any_server", "servers.operate_any_server"),
            *("servers.view_server", "servers.change_server", "servers.delete_server"),
        ),
    ),
    Verb.OPERATE: Rule(
        gettext_lazy("start, stop, restart, initialize; cancel and retry such jobs"),
        Role.OPERATOR,
        ("servers.operate_any_server",),
    ),
    Verb.COMMAND: Rule(
        gettext_lazy("send it console commands, change its map, kick its players and talk to them"),
        Role.OPERATOR,
        ("servers.operate_any_server",),
    ),
    Verb.BAN: Rule(
        gettext_lazy("ban players from it and lift bans"), Role.MANAGER, ("servers.change_server",)
    ),
    Verb.NAME_ADMINS: Rule(
        gettext_lazy("name its admins in the game"), Role.MANAGER, ("servers.change_server",)
    ),
    Verb.CONFIGURE: Rule(
        gettext_lazy("read and change its config, arguments, port and blueprint"),
        Role.MANAGER,
        ("servers.change_server",),
    ),
    Verb.READ_SECRETS: Rule(
        gettext_lazy("be shown its passwords"), Role.MANAGER, ("servers.change_server",)
    ),
    Verb.RESET: Rule(gettext_lazy("reset its instance"), Role.MANAGER, ("servers.change_server",)),
    Verb.SHARE: Rule(
        gettext_lazy("let in viewers and operators"), Role.MANAGER, ("servers.change_server",)
    ),
    Verb.APPOINT: Rule(gettext_lazy("let in managers"), Role.OWNER, ("servers.change_server",)),
    Verb.DELETE: Rule(gettext_lazy("delete its instance"), Role.OWNER, ("servers.delete_server",)),
    Verb.REMOVE: Rule(
        gettext_lazy("remove it from the panel"), Role.OWNER, ("servers.delete_server",)
    ),
    # Blueprints and overlays. Everybody is a viewer of those that are shared.
    Verb.VIEW_BLUEPRINT: Rule(
        gettext_lazy("read a blueprint, make servers from it"),
        Role.VIEWER,
        ("servers.view_blueprint", "servers.change_blueprint", "servers.delete_blueprint"),
    ),
    Verb.CHANGE_BLUEPRINT: Rule(
        gettext_lazy("change a blueprint"), Role.OWNER, ("servers.change_blueprint",)
    ),
    Verb.REMOVE_BLUEPRINT: Rule(
        gettext_lazy("remove a blueprint"), Role.OWNER, ("servers.delete_blueprint",)
    ),
    Verb.USE_OVERLAY: Rule(
        gettext_lazy("put an overlay into a blueprint"),
        Role.VIEWER,
        ("servers.view_overlay", "servers.change_overlay"),
    ),
    Verb.CHANGE_OVERLAY: Rule(
        gettext_lazy("change the files of an overlay, remove it"),
        Role.OWNER,
        ("servers.change_overlay",),
    ),
    # The whole panel: no role on one thing is enough.
    Verb.VIEW_HOSTS: Rule(
        gettext_lazy("see hosts, releases, and the jobs of hosts"),
        None,
        (
            *("servers.install", "servers.rollback", "servers.check", "servers.drain"),
            *("servers.view_host", "servers.change_host"),
        ),
    ),
    Verb.INSTALL: Rule(gettext_lazy("install and update the game"), None, ("servers.install",)),
    Verb.ROLLBACK: Rule(gettext_lazy("roll the game back"), None, ("servers.rollback",)),
    Verb.CHECK: Rule(gettext_lazy("look for updates"), None, ("servers.check",)),
    Verb.DRAIN: Rule(gettext_lazy("drain a host"), None, ("servers.drain",)),
    Verb.SET_ANY_PORT: Rule(
        gettext_lazy("give a server any port and bind address"), None, ("servers.set_any_port",)
    ),
    Verb.BRING_NATIVE_CODE: Rule(
        gettext_lazy("name a folder of a host as an overlay, native code and all"),
        None,
        ("servers.bring_native_code",),
    ),
    Verb.VIEW_ANY_JOB: Rule(gettext_lazy("see every job"), None, ("jobs.view_job",)),
    Verb.INVITE: Rule(gettext_lazy("invite people to the panel"), None, ("auth.add_user",)),
    Verb.MAKE_RESET_LINK: Rule(
        gettext_lazy("make links for new passwords, deactivate accounts"),
        None,
        ("auth.change_user",),
    ),
    Verb.SET_QUOTAS: Rule(
        gettext_lazy("set what people may have"), None, ("accounts.change_ownquotas",)
    ),
    Verb.READ_RECORD: Rule(
        gettext_lazy("read who did what, and sign-ins"), None, ("accounts.view_accountevent",)
    ),
}

SERVER_OPERATION_VERBS = {
    "start": Verb.OPERATE,
    "stop": Verb.OPERATE,
    "restart": Verb.OPERATE,
    "initialize": Verb.OPERATE,
    "reset": Verb.RESET,
    "delete": Verb.DELETE,
}
"""What a person needs to request, cancel and retry each operation on a server."""

HOST_OPERATION_VERBS = {
    "install": Verb.INSTALL,
    "rollback": Verb.ROLLBACK,
    "check": Verb.CHECK,
}
"""The same for the operations on a whole host."""

UNPACK_VERB = Verb.CHANGE_OVERLAY
"""The same for unpacking what was uploaded to an overlay."""


PEOPLE_VERBS = frozenset({Verb.INVITE, Verb.MAKE_RESET_LINK, Verb.SET_QUOTAS, Verb.READ_RECORD})
"""Any of these lets a person see who has an account."""


class Thing(Protocol):
    """What a person can have a role on."""

    def role_of(self, user: Person) -> Role | None:
        """Return the role that `user` has on the thing itself, whatever the panel permits."""


def may(user: Person, verb: Verb, thing: Thing | None = None) -> bool:
    """Return whether `user` may do `verb` to `thing`, or, without a thing, to all things of its kind.

    Django's permissions count only for staff: without `is_staff` a person has none of them. A superuser among
    staff has every one. For other staff it costs two queries for the permissions, once per user object, and the
    cost of `role_of`.
    """
    rule = RULES[verb]
    if not user.is_active:
        return False
    if (
        isinstance(user, PermissionsMixin)
        and getattr(user, "is_staff", False)
        and any(user.has_perm(permission) for permission in rule.permissions)
    ):
        return True
    if thing is None or rule.least is None:
        return False
    return thing.role_of(user) in roles_from(rule.least)


def roles_from(least: Role) -> list[Role]:
    """Return `least` and the roles above it."""
    roles = list(Role)
    return roles[roles.index(least) :]


def roles_for(verb: Verb) -> Collection[Role]:
    """Return the roles on a thing that allow `verb`."""
    least = RULES[verb].least
    return roles_from(least) if least else ()


def verb_to_give(role: Role) -> Verb:
    """Return the verb that a person needs on a server to give or take `role` there."""
    return Verb.APPOINT if role == Role.MANAGER else Verb.SHARE


def verbs_of(user: Person, thing: Thing | None = None) -> frozenset[str]:
    """Return the names of all verbs that `user` may do to `thing`, for templates."""
    return frozenset(verb.value for verb in Verb if may(user, verb, thing))


def follows_everything(user: Person) -> bool:
    """Return whether the live pages of `user` get every change of the panel, not only their own."""
    return any(may(user, verb) for verb in (Verb.VIEW, Verb.VIEW_HOSTS, Verb.VIEW_ANY_JOB))
