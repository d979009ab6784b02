"""Who has a role on somebody else's server."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from servers.permissions import GIVEN_ROLES, Person, Role, Verb, roles_for


class MembershipQuerySet(models.QuerySet["Membership"]):
    """Memberships, by what they permit."""

    def of(self, user: Person) -> "MembershipQuerySet":
        """Return the memberships of `user`."""
        return self.filter(Q(user_id=user.pk))

    def allowing(self, user: Person, verb: Verb) -> "MembershipQuerySet":
        """Return the memberships of `user` that are enough for `verb`."""
        return self.of(user).filter(role__in=roles_for(verb))


class Membership(models.Model):
    """A role that a server's owner, a manager or an admin gave to a person. The owner needs none."""

    server = models.ForeignKey(
        "servers.Server", models.CASCADE, related_name="memberships", db_index=False
    )
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="memberships")
    role = models.CharField(
        max_length=16, choices=[(role.value, role.label) for role in GIVEN_ROLES]
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        ordering = ["user__username"]
        constraints = [
            # Its index also finds the members of a server.
            models.UniqueConstraint(fields=["server", "user"], name="one_role_per_server"),
            models.CheckConstraint(
                condition=Q(role__in=[role.value for role in GIVEN_ROLES]), name="role_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user}, {self.role} of {self.server}"


def has_role(user: Person, verb: Verb, path: str = "") -> Q:
    """Return the condition that a role of `user` on a server permits `verb`; `path` leads to the servers.

    It is the equivalent for rows of `Server.role_of` and `servers.permissions.may`. Memberships are in a
    subquery: a join would return a server once for each of its members.
    """
    shared = Membership.objects.allowing(user, verb).values("server_id")
    condition = Q(**{f"{path}pk__in": shared})
    if Role.OWNER in roles_for(verb):
        condition |= Q(**{f"{path}owner_id": user.pk})
    return condition
