"""The list of one's own sessions, updated while they are used, with at most one write a minute."""

import logging
from datetime import UTC, datetime, timedelta
from typing import cast

from allauth.account.app_settings import LOGIN_TIMEOUT
from allauth.account.internal.flows.login import AUTHENTICATION_METHODS_SESSION_KEY
from allauth.mfa.models import Authenticator
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import DatabaseError, IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from jobs.database import is_away, write_watch
from l4d2site.accounts.addresses import client_address
from l4d2site.accounts.models import AccountEvent, EventKind, PendingSignIn, PersonSession

logger = logging.getLogger(__name__)

SIGNED_IN_AT = "saferoom_signed_in_at"
"""In the session, as seconds since the epoch. It survives a new session key, as after a password change."""

SEEN_SECONDS = 60

REMOVED_AT_ONCE = 1_000
"""The most expired sessions that one sign-in deletes."""

SHOWN_SECOND_STEPS = 10


def begin_session(request: HttpRequest, user: User) -> None:
    """Record that `user` has just signed in, with the session of `request`."""
    now = timezone.now()
    request.session[SIGNED_IN_AT] = now.timestamp()
    if request.session.session_key is None:
        # A previous session belonged to somebody else, or to another password, and was discarded.
        request.session.create()
    store_session(request, user, now)
    remove_expired()


def remove_expired() -> None:
    """Delete sessions that are over, and sign-ins that were given up while they waited for a second factor.

    Only signing in makes such rows, so it is also what removes them: there are never more than of two weeks.
    """
    now = timezone.now()
    too_old = now - timedelta(seconds=LOGIN_TIMEOUT)
    PendingSignIn.objects.filter(begun_at__lt=too_old).delete()
    expired = Session.objects.filter(expire_date__lt=now).order_by("pk")
    keys = list(expired.values_list("pk", flat=True)[:REMOVED_AT_ONCE])
    Session.objects.filter(pk__in=keys).delete()


def note_seen(request: HttpRequest) -> None:
    """Record that the signed-in session of `request` is in use.

    Writes at most once a minute. If the database is away this is only logged: the page matters more.
    """
    key = request.session.session_key
    if not key or not cache.add(f"seen:{key}", True, SEEN_SECONDS):
        return
    now = timezone.now()
    try:
        rows = PersonSession.objects.filter(session_id=key)
        is_noted = rows.filter(last_seen_at__lt=now - timedelta(seconds=SEEN_SECONDS)).update(
            last_seen_at=now, **describe(request)
        )
        if not is_noted and not rows.exists():
            store_session(request, cast("User", request.user), now)
    except DatabaseError as error:
        if not is_away(error):
            raise
        write_watch.note(error)
        logger.warning("the time a session was last seen could not be stored: %s", error)


def store_session(request: HttpRequest, user: User, now: datetime) -> None:
    """Insert the row of the session of `request`, unless it has one, or was ended in the meantime."""
    signed_in_at = datetime.fromtimestamp(request.session.get(SIGNED_IN_AT, now.timestamp()), UTC)
    try:
        with transaction.atomic():
            PersonSession.objects.create(
                session_id=request.session.session_key or "",
                user=user,
                signed_in_at=signed_in_at,
                last_seen_at=now,
                **describe(request),
            )
    except IntegrityError as error:
        logger.info("a session was ended, or stored by another request, just now: %s", error)
    cache.add(f"seen:{request.session.session_key}", True, SEEN_SECONDS)


def describe(request: HttpRequest) -> dict[str, str]:
    """Return the columns that say where a session is used."""
    return {
        "address": client_address(request),
        "user_agent": request.headers.get("User-Agent", "")[:300],
    }


def find_sessions(user: User) -> list[PersonSession]:
    """Return the sessions in which `user` is signed in now, last seen first.

    A session that began with an older password does not count, whatever its row says.
    """
    rows = PersonSession.objects.filter(user=user, session__expire_date__gt=timezone.now())
    current_hash = user.get_session_auth_hash()
    return [
        row
        for row in rows.select_related("session")
        if constant_time_compare(
            str(row.session.get_decoded().get(HASH_SESSION_KEY, "")), current_hash
        )
    ]


def end_sessions_made_with(factor: Authenticator, *, except_key: str | None) -> int:
    """End the sessions in which a second factor was used, except one; return how many."""
    rows = PersonSession.objects.filter(user=factor.user).exclude(session_id=except_key or "")
    keys = [
        row.session_id
        for row in rows.select_related("session")
        if any(
            record["method"] == "mfa" and record["id"] == factor.pk
            for record in row.session.get_decoded().get(AUTHENTICATION_METHODS_SESSION_KEY, ())
        )
    ]
    _, counts = Session.objects.filter(pk__in=keys).delete()
    return counts.get("sessions.Session", 0)


def forget_second_factors(request: HttpRequest) -> None:
    """Let no second factor count as used in this session."""
    records = request.session.get(AUTHENTICATION_METHODS_SESSION_KEY, [])
    left = [record for record in records if record["method"] != "mfa"]
    request.session[AUTHENTICATION_METHODS_SESSION_KEY] = left


def find_second_steps(user: User) -> list[AccountEvent]:
    """Return when the password of `user` was right lately, and a second factor asked for. Newest first."""
    asked = AccountEvent.objects.filter(user=user, kind=EventKind.SECOND_FACTOR_ASKED)
    return list(asked.order_by("-last_at", "-pk")[:SHOWN_SECOND_STEPS])
