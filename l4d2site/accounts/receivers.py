"""Puts the signals of Django, allauth and the gate about accounts into the record and the list of sessions."""

import logging
from typing import Any

from allauth.account.internal.flows.login import (
    get_authentication_records,
    record_authentication,
)
from allauth.mfa import signals as mfa_signals
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DatabaseError
from django.db.models import QuerySet
from django.db.models.signals import (
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)
from django.dispatch import receiver
from django.http import HttpRequest

from jobs.database import is_away
from l4d2site.accounts.events import ADDRESS_CHARS, DETAIL_CHARS, make_printable, record_event
from l4d2site.accounts.models import EventKind, FirstPassword
from l4d2site.accounts.password_changes import (
    MUST_CHANGE,
    current_request,
    end_sessions,
    follow_password_change,
    is_silent_change,
    name_actor,
    said_by,
)
from l4d2site.accounts.sessions import (
    begin_session,
    end_sessions_made_with,
    forget_second_factors,
)
from l4d2site.gate.throttling import turned_away

logger = logging.getLogger(__name__)

ROLES = {"is_active": "active", "is_staff": "staff", "is_superuser": "superuser"}
"""A user's permission columns, in words."""

NAMES = {"username": EventKind.USERNAME_CHANGED, "email": EventKind.EMAIL_CHANGED}
"""The columns by which somebody signs in, or gets a link to do so, with the events of their changes."""

COMPARED = (*ROLES, *NAMES, "password")
"""The columns whose changes are recorded."""

MEANS = {
    "password": "password",
    Authenticator.Type.TOTP.value: "code",
    Authenticator.Type.RECOVERY_CODES.value: "recovery code",
    Authenticator.Type.WEBAUTHN.value: "passkey",
}
"""What one signs in by, in words, by allauth's names of the methods."""

# --- Sessions ---------------------------------------------------------------------------------


@receiver(user_logged_in)
def note_sign_in(request: HttpRequest, user: User, **_kwargs: Any) -> None:
    """Record a sign-in, and whether it was with a password that must be changed."""
    begin_session(request, user)
    if FirstPassword.objects.filter(user=user).exists():
        request.session[MUST_CHANGE] = True
    record_event(EventKind.SIGN_IN, request, user=user, detail=describe_sign_in(request, user))


def describe_sign_in(request: HttpRequest, user: User) -> str:
    """Return by what somebody has just signed in, such as `password, code`."""
    records = get_authentication_records(request, user)
    if records and records[-1].get("passwordless"):
        return "passkey alone"
    words = [MEANS.get(str(one.get("type", one.get("method"))), "") for one in records]
    return ", ".join(dict.fromkeys(filter(None, words)))


@receiver(user_login_failed)
def note_failed_sign_in(
    credentials: dict[str, Any], request: HttpRequest | None = None, **_kwargs: Any
) -> None:
    """Record a wrong password or an unknown name: the record does not say which.

    The right password of a deactivated account fails too, and is told apart.
    """
    name = str(credentials.get("username") or "")
    detail = "deactivated" if getattr(request, "is_deactivated", False) else ""
    record_event(EventKind.SIGN_IN_FAILED, request, name=name, detail=detail)


@receiver(turned_away)
def note_turned_away(request: HttpRequest, account: str, count: int, **_kwargs: Any) -> None:
    """Record attempts that were refused unchecked. If the database is away, they are refused all the same."""
    try:
        record_event(EventKind.THROTTLED, request, name=account, count=count)
    except DatabaseError as error:
        if not is_away(error):
            raise
        logger.warning("what was turned away could not be stored: %s", error)


@receiver(user_logged_out)
def note_sign_out(request: HttpRequest, user: User | None, **_kwargs: Any) -> None:
    """Record a sign-out, unless nobody was signed in."""
    if user is not None:
        record_event(EventKind.SIGN_OUT, request, user=user)


# --- Second factors ---------------------------------------------------------------------------


@receiver(mfa_signals.authentication_failed)
def note_failed_second_factor(
    request: HttpRequest, user: User, authenticator: Authenticator, **_kwargs: Any
) -> None:
    """Record a wrong code or key."""
    record_event(
        EventKind.SECOND_FACTOR_FAILED,
        request,
        user=user,
        detail=str(authenticator.get_type_display()),
    )


@receiver(mfa_signals.authenticator_added)
def note_added_second_factor(
    request: HttpRequest, user: User, authenticator: Authenticator, **_kwargs: Any
) -> None:
    """Record a new second factor. Setting it up has proved it, so this session counts as having used one."""
    if authenticator.type == Authenticator.Type.RECOVERY_CODES:
        record_event(EventKind.RECOVERY_CODES_MADE, request, user=user)
        return
    record_authentication(request, user, method="mfa", id=authenticator.pk, type=authenticator.type)
    record_event(EventKind.SECOND_FACTOR_ADDED, request, user=user, detail=str(authenticator))


@receiver(mfa_signals.authenticator_removed)
def note_removed_second_factor(
    request: HttpRequest, user: User, authenticator: Authenticator, **_kwargs: Any
) -> None:
    """Record that a second factor was removed."""
    record_event(EventKind.SECOND_FACTOR_REMOVED, request, user=user, detail=str(authenticator))


@receiver(post_delete, sender=Authenticator)
def end_sessions_of_removed_factor(instance: Authenticator, **_kwargs: Any) -> None:
    """End the other sessions in which a factor was used that is removed: it may be in somebody else's hands.

    In this one, no second factor counts as used any more once the account has none.
    """
    request, user = current_request(), instance.user
    is_own = request is not None and request.user.pk == user.pk
    own_key = request.session.session_key if request is not None and is_own else None
    if count := end_sessions_made_with(instance, except_key=own_key):
        detail = ", ".join(filter(None, [f"{count} with {instance}", said_by(request, user)]))
        record_event(EventKind.SESSION_REVOKED, request, user=user, detail=detail)
    if request is not None and is_own and not is_mfa_enabled(user):
        forget_second_factors(request)


@receiver(mfa_signals.authenticator_reset)
def note_new_recovery_codes(request: HttpRequest, user: User, **_kwargs: Any) -> None:
    """Record that recovery codes were regenerated."""
    record_event(EventKind.RECOVERY_CODES_MADE, request, user=user)


@receiver(post_save, sender=User)
def end_sessions_of_inactive(instance: User, **_kwargs: Any) -> None:
    """End the sessions of an account that is deactivated, in whichever way that was done.

    Django only ignores them: if the account is reactivated, an old cookie would be signed in again.
    """
    if not instance.is_active:
        end_sessions(instance)


@receiver(pre_delete, sender=User)
def end_sessions_of_removed(instance: User, **_kwargs: Any) -> None:
    """End the sessions of an account that is removed. After that nobody knows whose they were."""
    end_sessions(instance)


# --- Accounts ---------------------------------------------------------------------------------


@receiver(pre_save, sender=User)
def compare_account(
    instance: User, update_fields: frozenset[str] | None, raw: bool, **_kwargs: Any
) -> None:
    """Store on `instance` what its row has, for `note_saved_account`."""
    is_compared = update_fields is None or not update_fields.isdisjoint(COMPARED)
    if instance.pk and is_compared and not raw:
        stored = User.objects.filter(pk=instance.pk).values(*COMPARED).first()
        instance._stored_account = stored  # type: ignore[attr-defined]  # noqa: SLF001


@receiver(post_save, sender=User)
def note_saved_account(
    instance: User, created: bool, raw: bool, update_fields: frozenset[str] | None, **_kwargs: Any
) -> None:
    """Record a new account, or what was changed of one."""
    before: dict[str, Any] | None = instance.__dict__.pop("_stored_account", None)
    if raw:
        return
    request = current_request()
    by = name_actor(request)
    if created:
        roles = [
            word for name, word in ROLES.items() if name != "is_active" and getattr(instance, name)
        ]
        address = [make_printable(instance.email, ADDRESS_CHARS)] if instance.email else []
        detail = ", ".join([*roles, *address, by])
        record_event(EventKind.ACCOUNT_MADE, request, user=instance, detail=detail)
    elif before:
        changed = {
            name
            for name in (COMPARED if update_fields is None else update_fields & before.keys())
            if before[name] != getattr(instance, name)
        }
        if not before["is_active"]:
            end_sessions(instance)  # Deactivated without a signal, as by a query.
        if roles := [
            f"{'' if getattr(instance, name) else 'not '}{word}"
            for name, word in ROLES.items()
            if name in changed
        ]:
            record_event(
                EventKind.ROLE_CHANGED, request, user=instance, detail=", ".join([*roles, by])
            )
        for name, kind in NAMES.items():
            if name in changed:
                detail = describe_change(before[name], getattr(instance, name), by)
                # Under the old name: who looks for the new one finds it by the account.
                record_event(kind, request, user=instance, name=before["username"], detail=detail)
        if "password" in changed and is_silent_change(instance, update_fields):
            follow_password_change(instance)


def describe_change(before: str, after: str, by: str) -> str:
    """Return from what to what something was changed. Long values must not push out who did it."""
    room = (DETAIL_CHARS - len(by) - len("from  to , ")) // 2
    old, new = (make_printable(value or "none", room) for value in (before, after))
    return f"from {old} to {new}, {by}"


@receiver(post_delete, sender=User)
def note_removed_account(instance: User, **_kwargs: Any) -> None:
    """Record that an account was deleted."""
    request = current_request()
    record_event(
        EventKind.ACCOUNT_REMOVED,
        request,
        name=instance.get_username(),
        detail=said_by(request, instance),
    )


@receiver(m2m_changed, sender=User.groups.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
@receiver(m2m_changed, sender=Group.permissions.through)
def note_changed_permissions(
    sender: Any,
    instance: User | Group,
    action: str,
    model: Any,
    pk_set: set[int] | None,
    **_kwargs: Any,
) -> None:
    """Record groups and permissions that were given to, or taken from, a person or a group.

    From the other side (`group.user_set`), the instance is the group and `pk_set` has people.
    """
    verbs = {"post_add": "given", "post_remove": "taken", "pre_clear": "taken"}
    if action not in verbs:
        return
    if action == "pre_clear":
        rows = sender.objects.filter(**{str(instance._meta.model_name): instance})
        pk_set = set(rows.values_list(str(model._meta.model_name), flat=True))
    if not pk_set:
        return
    lead = f"{model._meta.verbose_name_plural} {verbs[action]}"
    record_rights(instance, lead, model.objects.filter(pk__in=pk_set))


@receiver(pre_delete, sender=Group)
def note_removed_group(instance: Group, **_kwargs: Any) -> None:
    """Record that a group was removed, and who has lost its permissions."""
    members = instance.user_set.all()
    record_rights(instance, "removed from" if members.exists() else "removed", members)


@receiver(pre_save, sender=Group)
def note_renamed_group(instance: Group, raw: bool, **_kwargs: Any) -> None:
    """Record another name of a group: *Host admins* is a role by its name."""
    before = None if raw else Group.objects.filter(pk=instance.pk).first()
    if before and before.name != instance.name:
        request = current_request()
        detail = describe_change(before.name, instance.name, name_actor(request))
        record_event(EventKind.ROLE_CHANGED, request, name=f"group {before}", detail=detail)


def record_rights(holder: User | Group, lead: str, things: QuerySet[Any]) -> None:
    """Record what has become of the rights of a person or a group. A long list must not push out who did it."""
    request = current_request()
    by = name_actor(request)
    listed = make_printable(
        ", ".join(str(thing) for thing in things.order_by("pk")[:10]),
        DETAIL_CHARS - len(lead) - len(by) - 2,
    )
    record_event(
        EventKind.ROLE_CHANGED,
        request,
        user=holder if isinstance(holder, User) else None,
        name="" if isinstance(holder, User) else f"group {holder}",
        detail=" ".join(filter(None, [lead, listed, by])),
    )
