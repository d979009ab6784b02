"""The record of what happened at the door: a row and a log line for each event, and its retention.

The log line is for programs such as fail2ban, and documented in docs/security.md.
"""

import json
import logging
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from l4d2site.accounts.addresses import client_address
from l4d2site.accounts.browsers import describe_browser
from l4d2site.accounts.models import AccountEvent, EventKind
from servers.models import Server

logger = logging.getLogger("saferoom.accounts")

COUNTED_KINDS = frozenset(
    {EventKind.SIGN_IN_FAILED, EventKind.SECOND_FACTOR_FAILED, EventKind.THROTTLED}
)
"""What strangers can make happen as often as they like: one row per address, name and minute."""

MAX_ROWS = 100_000
MAX_COUNTED_ROWS = 50_000
"""Of `COUNTED_KINDS`: a flood of failures must not push the rest out of the record."""

TRIM_EVERY = 100
"""Rows between two looks at the retention."""

TRIM_AT_ONCE = 1_000
"""Rows that one look deletes at the most, of each kind. More than come in between two looks."""

NAME_CHARS = 64
DETAIL_CHARS = 200


def record_event(
    kind: EventKind,
    request: HttpRequest | None,
    *,
    user: User | None = None,
    name: str = "",
    detail: str = "",
    address: str = "",
    count: int = 1,
    server: Server | None = None,
) -> None:
    """Store that something happened, and log it. Makes two queries, and now and then some more to trim.

    `user` is whose account it is about; `name` what was tried, where there may be none. Without a request,
    `address` says where it came from. `count` is for those who gather what they tell, and `server` for what one
    server is about. Not for an event loop.
    """
    name = make_printable(name or (user.get_username() if user else ""), NAME_CHARS)
    detail = make_printable(detail, DETAIL_CHARS)
    if request is not None:
        address = address or client_address(request)
    user_agent = request.headers.get("User-Agent", "") if request is not None else ""
    level = logging.WARNING if kind in COUNTED_KINDS else logging.INFO
    logger.log(level, "%s", log_line(kind, address, name, detail, count))
    now = timezone.now()
    event = AccountEvent(
        kind=kind,
        user=user,
        name=name,
        address=address,
        browser=describe_browser(user_agent) if user_agent else "",
        detail=detail,
        server=server,
        count=count,
        minute=now.replace(second=0, microsecond=0) if kind in COUNTED_KINDS else None,
        at=now,
        last_at=now,
    )
    if not add_to_minute(event):
        store(event)


def log_line(kind: EventKind, address: str, name: str, detail: str, count: int) -> str:
    """Return the line for the log.

    What others chose comes last, between quotes, and in ASCII: it cannot look like another line or address.
    """
    line = f"{kind.value} address={address or '-'} count={count} account={json.dumps(name)}"
    return f"{line} detail={json.dumps(detail)}" if detail else line


def make_printable(text: str, max_chars: int) -> str:
    """Return `text` cut, and with a replacement character for each that cannot be printed."""
    cut = text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)


def add_to_minute(event: AccountEvent) -> bool:
    """Count `event` in the row of its minute, if it is one that is counted and there is such a row."""
    if event.minute is None:
        return False
    rows = AccountEvent.objects.filter(
        kind=event.kind, address=event.address, name=event.name, minute=event.minute
    )
    return bool(rows.update(count=F("count") + event.count, last_at=event.last_at))


def store(event: AccountEvent) -> None:
    """Insert the row of `event`; if another one has just made that of its minute, count it there."""
    try:
        with transaction.atomic():
            event.save(force_insert=True)
    except IntegrityError:
        if not add_to_minute(event):
            raise
        return
    if event.pk % TRIM_EVERY == 0:
        trim_events()


def trim_events() -> None:
    """Delete what is older than ACCOUNT_EVENTS_KEEP_DAYS, and the oldest beyond the numbers of rows.

    Leaves room for what comes in until the next look, so that there are never more than `MAX_ROWS`.
    """
    oldest_kept = timezone.now() - timedelta(days=settings.ACCOUNT_EVENTS_KEEP_DAYS)
    delete_oldest(AccountEvent.objects.filter(at__lt=oldest_kept), TRIM_AT_ONCE)
    for rows, most in (
        (AccountEvent.objects.filter(minute__isnull=False), MAX_COUNTED_ROWS),
        (AccountEvent.objects.all(), MAX_ROWS),
    ):
        if (surplus := rows.count() - (most - TRIM_EVERY)) > 0:
            delete_oldest(rows, min(surplus, TRIM_AT_ONCE))


def delete_oldest(rows: QuerySet[AccountEvent], count: int) -> None:
    """Delete the oldest `count` of `rows`."""
    oldest = list(rows.order_by("at", "pk").values_list("pk", flat=True)[:count])
    AccountEvent.objects.filter(pk__in=oldest).delete()
