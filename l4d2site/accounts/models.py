"""What is kept of accounts beside Django's own rows: sessions, invitations, quotas, the record of the door."""

import uuid
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.signing import BadSignature, Signer
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy

from l4d2site.accounts.browsers import describe_browser
from servers.models import Server
from servers.permissions import GIVEN_ROLES, Role, may, verb_to_give

INVITATION_DAYS = 7


class EventKind(models.TextChoices):
    """What the record tells. The values stand in log lines and in `deploy/fail2ban/`, so they stay."""

    SIGN_IN = "sign_in", "Signed in"
    SIGN_IN_FAILED = "sign_in_failed", "Sign-in failed"
    SECOND_FACTOR_FAILED = "second_factor_failed", "Second factor failed"
    THROTTLED = "throttled", "Turned away: too many attempts"
    SIGN_OUT = "sign_out", "Signed out"
    SESSION_REVOKED = "session_revoked", "Session ended"
    PASSWORD_CHANGED = "password_changed", "Password changed"
    RESET_LINK_MADE = "reset_link_made", "Reset link made"
    SECOND_FACTOR_ADDED = "second_factor_added", "Second factor added"
    SECOND_FACTOR_REMOVED = "second_factor_removed", "Second factor removed"
    RECOVERY_CODES_MADE = "recovery_codes_made", "Recovery codes made"
    ACCOUNT_MADE = "account_made", "Account made"
    ACCOUNT_REMOVED = "account_removed", "Account removed"
    ROLE_CHANGED = "role_changed", "Role changed"
    INVITATION_MADE = "invitation_made", "Invitation made"
    INVITATION_REVOKED = "invitation_revoked", "Invitation revoked"
    INVITATION_ACCEPTED = "invitation_accepted", "Invitation accepted"
    QUOTAS_CHANGED = "quotas_changed", "Limits changed"
    SERVER_MADE = "server_made", "Server made"
    SERVER_CHANGED = "server_changed", "Server changed"
    SERVER_REMOVED = "server_removed", "Server removed"
    BLUEPRINT_MADE = "blueprint_made", "Blueprint made"
    BLUEPRINT_CHANGED = "blueprint_changed", "Blueprint changed"
    BLUEPRINT_REMOVED = "blueprint_removed", "Blueprint removed"
    OVERLAY_MADE = "overlay_made", "Overlay made"
    OVERLAY_CHANGED = "overlay_changed", "Overlay changed"
    OVERLAY_REMOVED = "overlay_removed", "Overlay removed"


DOOR_KINDS = (
    EventKind.SIGN_IN,
    EventKind.SIGN_IN_FAILED,
    EventKind.SECOND_FACTOR_FAILED,
    EventKind.THROTTLED,
    EventKind.SIGN_OUT,
    EventKind.SESSION_REVOKED,
)
"""What is about coming in and going out."""

SETTING_KINDS = (
    EventKind.SERVER_MADE,
    EventKind.SERVER_CHANGED,
    EventKind.SERVER_REMOVED,
    EventKind.BLUEPRINT_MADE,
    EventKind.BLUEPRINT_CHANGED,
    EventKind.BLUEPRINT_REMOVED,
    EventKind.OVERLAY_MADE,
    EventKind.OVERLAY_CHANGED,
    EventKind.OVERLAY_REMOVED,
)
"""What is about servers, blueprints and overlays, as pages save them; what is done on hosts are jobs."""

PEOPLE_KINDS = tuple(
    kind for kind in EventKind if kind not in DOOR_KINDS and kind not in SETTING_KINDS
)
"""What is about accounts: passwords, second factors, roles, invitations, limits."""


class AccountEvent(models.Model):
    """Something that happened at the door, or that somebody has changed.

    Only `l4d2site.accounts.events` writes it; nobody changes it.
    What can be repeated by strangers is one row per address, name and minute, with a count.
    """

    kind = models.CharField(max_length=32, choices=EventKind)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="account_events"
    )
    name = models.CharField(
        max_length=64, help_text=gettext_lazy("The account's name then, or the one that was tried.")
    )
    address = models.CharField(max_length=45)
    browser = models.CharField(max_length=80)
    detail = models.CharField(max_length=200)
    server = models.ForeignKey(
        Server,
        models.SET_NULL,
        null=True,
        related_name="account_events",
        help_text=gettext_lazy("The server that it is about, if it is about one."),
    )
    count = models.PositiveIntegerField(default=1)
    minute = models.DateTimeField(
        null=True,
        editable=False,
        help_text=gettext_lazy("The minute that is counted in; null for a single event."),
    )
    at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        ordering = ["-at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "address", "name", "minute"],
                condition=models.Q(minute__isnull=False),
                name="accounts_event_once_a_minute",
            )
        ]
        indexes = [
            models.Index(fields=["at"], name="accounts_event_at"),
            # What strangers make is trimmed apart from the rest.
            models.Index(
                fields=["at"],
                condition=models.Q(minute__isnull=False),
                name="accounts_event_counted_at",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.name or self.address}"


class FirstPassword(models.Model):
    """Marks an account whose password Saferoom made and printed: it has to be changed before anything else.

    Removed by every change of the password (`l4d2site.accounts.password_changes`).
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True)

    def __str__(self) -> str:
        return f"First password of {self.user}"


class PersonSession(models.Model):
    """A session as its owner sees it in their list. It goes with Django's own row of the session."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    session = models.OneToOneField(Session, models.CASCADE, related_name="person_session")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="sessions")
    address = models.CharField(max_length=45)
    user_agent = models.CharField(max_length=300)
    signed_in_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()

    class Meta:
        ordering = ["-last_seen_at"]

    def __str__(self) -> str:
        return f"{self.user}: {self.browser}"

    @property
    def browser(self) -> str:
        """The browser in words."""
        return describe_browser(self.user_agent)


def invitation_end() -> datetime:
    """Return when an invitation that is made now ends."""
    return timezone.now() + timedelta(days=INVITATION_DAYS)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Invitations by what may be done with them."""

    def open(self) -> "InvitationQuerySet":
        """Return those that can still be accepted."""
        return self.filter(accepted_at=None, expires_at__gt=timezone.now())


class Invitation(models.Model):
    """Lets one person make one account. Revoking it deletes the row.

    One that has a `server` gives a role on it besides, to an account that is there as well as to a new one. It
    counts as long as who made it may give that role.

    The link holds the row's id, signed with SECRET_KEY: who reads the database has no link.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    note = models.CharField(max_length=80, blank=True)
    email = models.EmailField(blank=True)
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="invitations"
    )
    made_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(default=invitation_end)
    accepted_at = models.DateTimeField(null=True)
    accepted_by = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="invitation"
    )

    server = models.ForeignKey(
        Server, models.CASCADE, null=True, blank=True, editable=False, related_name="invitations"
    )
    role = models.CharField(
        max_length=16,
        blank=True,
        editable=False,
        choices=[(role.value, role.label) for role in GIVEN_ROLES],
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-made_at"]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(server=None, role="")
                | models.Q(server__isnull=False, role__in=[role.value for role in GIVEN_ROLES]),
                name="accounts_invitation_has_role_with_server",
            )
        ]

    def __str__(self) -> str:
        return f"Invitation {self.note}".strip()

    def get_absolute_url(self) -> str:
        """Return the address with the token, at which it is accepted."""
        return reverse("invitation", args=[self.token])

    @property
    def token(self) -> str:
        """What the link has to show."""
        return _signer.sign(self.pk.hex)

    @classmethod
    def of_token(cls, token: str) -> "Invitation | None":
        """Return the open invitation of a link's token."""
        try:
            key = uuid.UUID(hex=_signer.unsign(token))
        except (BadSignature, ValueError):
            return None
        found = cls.objects.open().select_related("server", "made_by").filter(pk=key).first()
        return found if found and found.is_backed else None

    @property
    def is_backed(self) -> bool:
        """Whether who made it may still give the role that it gives, if it gives one."""
        if self.server is None:
            return True
        verb = verb_to_give(Role(self.role))
        return self.made_by is not None and may(self.made_by, verb, self.server)

    def accept(self, new_account: User | None = None) -> bool:
        """Mark it as used, for `new_account` if it has made one.

        False if it was used, revoked or over before: then nothing is changed.
        """
        now = timezone.now()
        mine = Invitation.objects.open().filter(pk=self.pk)
        return mine.update(accepted_at=now, accepted_by=new_account) == 1


class OwnQuotas(models.Model):
    """What one person may have instead of what the settings say for everybody. `servers.quotas` reads it.

    Nothing in a field: as the settings say. 0: none at all.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="own_quotas"
    )
    servers = models.PositiveIntegerField(null=True, blank=True)
    waiting_jobs = models.PositiveIntegerField(null=True, blank=True)
    streams = models.PositiveIntegerField(null=True, blank=True)
    content_bytes = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        verbose_name = verbose_name_plural = "own quotas"

    def __str__(self) -> str:
        return f"Own quotas of {self.user}"


_signer = Signer(salt="saferoom.invitation")
