"""Account data besides Django's own rows: sessions, invitations, quotas, and the record of events."""

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
from l4d2site.accounts.panel_roles import may_make_links
from servers.models import Server
from servers.permissions import GIVEN_ROLES, Role, Verb, may, verb_to_give

INVITATION_DAYS = 7


class EventKind(models.TextChoices):
    """The kinds of recorded events. Log lines and `deploy/fail2ban/` use the values, so never change them."""

    SIGN_IN = "sign_in", gettext_lazy("Signed in")
    SIGN_IN_FAILED = "sign_in_failed", gettext_lazy("Sign-in failed")
    SECOND_FACTOR_ASKED = "second_factor_asked", gettext_lazy("Second factor asked for")
    SECOND_FACTOR_FAILED = "second_factor_failed", gettext_lazy("Second factor failed")
    THROTTLED = "throttled", gettext_lazy("Turned away: too many attempts")
    SIGN_OUT = "sign_out", gettext_lazy("Signed out")
    SESSION_REVOKED = "session_revoked", gettext_lazy("Session ended")
    PASSWORD_CHANGED = "password_changed", gettext_lazy("Password changed")
    EMAIL_CHANGED = "email_changed", gettext_lazy("Mail address changed")
    USERNAME_CHANGED = "username_changed", gettext_lazy("Username changed")
    RESET_LINK_MADE = "reset_link_made", gettext_lazy("Reset link made")
    SECOND_FACTOR_ADDED = "second_factor_added", gettext_lazy("Second factor added")
    SECOND_FACTOR_REMOVED = "second_factor_removed", gettext_lazy("Second factor removed")
    SECOND_FACTOR_RENAMED = "second_factor_renamed", gettext_lazy("Second factor renamed")
    RECOVERY_CODES_MADE = "recovery_codes_made", gettext_lazy("Recovery codes made")
    RECOVERY_CODES_SHOWN = "recovery_codes_shown", gettext_lazy("Recovery codes shown")
    ACCOUNT_MADE = "account_made", gettext_lazy("Account made")
    ACCOUNT_REMOVED = "account_removed", gettext_lazy("Account removed")
    ROLE_CHANGED = "role_changed", gettext_lazy("Role changed")
    INVITATION_MADE = "invitation_made", gettext_lazy("Invitation made")
    INVITATION_REVOKED = "invitation_revoked", gettext_lazy("Invitation revoked")
    INVITATION_ACCEPTED = "invitation_accepted", gettext_lazy("Invitation accepted")
    QUOTAS_CHANGED = "quotas_changed", gettext_lazy("Limits changed")
    BACKUP_RESTORED = "backup_restored", gettext_lazy("Backup restored")
    SERVER_MADE = "server_made", gettext_lazy("Server made")
    SERVER_CHANGED = "server_changed", gettext_lazy("Server changed")
    SERVER_REMOVED = "server_removed", gettext_lazy("Server removed")
    PLAYER_BANNED = "player_banned", gettext_lazy("Banned")
    BAN_LIFTED = "ban_lifted", gettext_lazy("Ban lifted")
    GAME_ADMIN_CHANGED = "game_admin_changed", gettext_lazy("Admin in the game")
    BLUEPRINT_MADE = "blueprint_made", gettext_lazy("Blueprint made")
    BLUEPRINT_CHANGED = "blueprint_changed", gettext_lazy("Blueprint changed")
    BLUEPRINT_REMOVED = "blueprint_removed", gettext_lazy("Blueprint removed")
    OVERLAY_MADE = "overlay_made", gettext_lazy("Overlay made")
    OVERLAY_CHANGED = "overlay_changed", gettext_lazy("Overlay changed")
    OVERLAY_REMOVED = "overlay_removed", gettext_lazy("Overlay removed")


DOOR_KINDS = (
    EventKind.SIGN_IN,
    EventKind.SIGN_IN_FAILED,
    EventKind.SECOND_FACTOR_ASKED,
    EventKind.SECOND_FACTOR_FAILED,
    EventKind.THROTTLED,
    EventKind.SIGN_OUT,
    EventKind.SESSION_REVOKED,
)
"""Events about signing in and out."""

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
"""Events about servers, blueprints and overlays, as pages save them; actions on hosts are jobs."""

PLAYER_KINDS = (
    EventKind.PLAYER_BANNED,
    EventKind.BAN_LIFTED,
    EventKind.GAME_ADMIN_CHANGED,
)
"""Events about people in the game: bans and admins."""

PEOPLE_KINDS = tuple(
    kind for kind in EventKind if kind not in {*DOOR_KINDS, *SETTING_KINDS, *PLAYER_KINDS}
)
"""Events about accounts: passwords, second factors, roles, invitations, limits."""

DONE_TO_PEOPLE_KINDS = (
    EventKind.PASSWORD_CHANGED,
    EventKind.EMAIL_CHANGED,
    EventKind.USERNAME_CHANGED,
    EventKind.RESET_LINK_MADE,
    EventKind.SECOND_FACTOR_REMOVED,
    EventKind.ACCOUNT_MADE,
    EventKind.ACCOUNT_REMOVED,
    EventKind.ROLE_CHANGED,
    EventKind.QUOTAS_CHANGED,
    EventKind.BACKUP_RESTORED,
)
"""Events whose account is the one they concern, if it is one; somebody else may have caused them."""

BY_COMMAND = "a command"
"""Who caused an event that no request did. No account can have this name, since names have no blanks."""


class AccountEvent(models.Model):
    """A sign-in event, or something that somebody changed.

    Only `l4d2site.accounts.events` writes it, and nothing changes it.
    Events that strangers can repeat have one row per address, name and minute, with a count.
    """

    kind = models.CharField(max_length=32, choices=EventKind)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="account_events"
    )
    name = models.CharField(
        max_length=64, help_text=gettext_lazy("The account's name then, or the one that was tried.")
    )
    actor_name = models.CharField(
        max_length=150,
        blank=True,
        default="",
        db_default="",
        help_text=gettext_lazy("Who caused it; empty for events from before this was recorded."),
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
            models.Index(fields=["server", "at", "id"], name="accounts_event_of_server"),
            # Events that strangers cause are trimmed separately.
            models.Index(
                fields=["at"],
                condition=models.Q(minute__isnull=False),
                name="accounts_event_counted_at",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.name or self.address}"


class FirstPassword(models.Model):
    """Marks an account whose password Saferoom generated and printed: it must be changed before anything else.

    Every password change removes it (`l4d2site.accounts.password_changes`).
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True)

    def __str__(self) -> str:
        return f"First password of {self.user}"


class PersonSession(models.Model):
    """A session as its owner sees it in their list. It is deleted with Django's own row of the session."""

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


class PendingSignIn(models.Model):
    """A sign-in that waits for its second factor. It ends with the account's sessions, by deleting this row."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="pending_sign_ins"
    )
    begun_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"Sign-in of {self.user}"


def invitation_end() -> datetime:
    """Return when an invitation created now expires."""
    return timezone.now() + timedelta(days=INVITATION_DAYS)


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Queries for invitations."""

    def open(self) -> "InvitationQuerySet":
        """Return those that can still be accepted."""
        return self.filter(accepted_at=None, expires_at__gt=timezone.now())


class Invitation(models.Model):
    """Lets one person create one account. Revoking it deletes the row.

    An invitation with a `server` also gives a role on it, to an existing account as well as to a new one. Each
    is valid only while its maker may make it.

    The link contains the row's id, signed with SECRET_KEY, so that reading the database yields no link. The one
    that is mailed is signed apart: no page shows it.
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

    came_by_mail = False
    """Whether it was opened with the link that was mailed to `email`, as `of_token` found."""

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
        """Return the address, with the token, where it can be accepted."""
        return reverse("invitation", args=[self.token])

    @property
    def token(self) -> str:
        """The signed id that the link contains."""
        return _signer.sign(self.pk.hex)

    @property
    def mailed_url(self) -> str:
        """The address that only the mail contains."""
        return reverse("invitation", args=[_mail_signer.sign(self.pk.hex)])

    @classmethod
    def of_token(cls, token: str) -> "Invitation | None":
        """Return the open invitation for a link's token."""
        for signer in (_signer, _mail_signer):
            try:
                key = uuid.UUID(hex=signer.unsign(token))
            except (BadSignature, ValueError):
                continue
            found = cls.objects.open().select_related("server", "made_by").filter(pk=key).first()
            if found and found.is_backed:
                found.came_by_mail = signer is _mail_signer
                return found
        return None

    @property
    def is_backed(self) -> bool:
        """Whether its maker may still make it."""
        maker = self.made_by
        if maker is None:
            return False
        if self.server is None:
            return may(maker, Verb.INVITE)
        verb = verb_to_give(Role(self.role))
        return may(maker, verb, self.server) and may_make_links(maker)

    def accept(self, new_account: User | None = None) -> bool:
        """Mark it as used, by `new_account` if one was created with it.

        Return False, changing nothing, if it was already used, revoked or expired.
        """
        now = timezone.now()
        mine = Invitation.objects.open().filter(pk=self.pk)
        return mine.update(accepted_at=now, accepted_by=new_account) == 1


class OwnQuotas(models.Model):
    """One person's limits, which override the settings. `servers.quotas` reads it.

    An empty field means the setting applies; 0 means none at all.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="own_quotas"
    )
    servers = models.PositiveIntegerField(null=True, blank=True)
    waiting_jobs = models.PositiveIntegerField(null=True, blank=True)
    streams = models.PositiveIntegerField(null=True, blank=True)
    content_bytes = models.PositiveBigIntegerField(null=True, blank=True)

    class Meta:
        verbose_name = verbose_name_plural = gettext_lazy("own quotas")

    def __str__(self) -> str:
        return f"Own quotas of {self.user}"


_signer = Signer(salt="saferoom.invitation")
_mail_signer = Signer(salt="saferoom.invitation.mail")
