"""The record of account events: one row and one log line for each, and how long they are kept.

The log line is for programs such as fail2ban, and documented in docs/security.md.
"""

import json
import logging
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, F, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from l4d2site.accounts.addresses import client_address
from l4d2site.accounts.browsers import describe_browser
from l4d2site.accounts.models import BY_COMMAND, AccountEvent, EventKind
from servers.models import Server

logger = logging.getLogger("saferoom.accounts")

FAILED_KINDS = frozenset(
    {EventKind.SIGN_IN_FAILED, EventKind.SECOND_FACTOR_FAILED, EventKind.THROTTLED}
)
"""Events that are logged as warnings."""

COUNTED_KINDS = FAILED_KINDS | {EventKind.SECOND_FACTOR_ASKED, EventKind.RECOVERY_CODES_SHOWN}
"""Events that can be caused as often as one likes, without an account, with only its password, or by reloading
a page: one row per address, name and minute."""

KEPT_KIND = EventKind.BACKUP_RESTORED
"""Never trimmed: links for new passwords are compared with it (`l4d2site.accounts.restored_backups`)."""

MAX_ROWS = 100_000
MAX_COUNTED_ROWS = 50_000
"""The limit on rows of `COUNTED_KINDS`: a flood of failures must not push the rest out of the record."""

TRIM_EVERY = 100
"""How many new rows between two trims."""

TRIM_AT_ONCE = 1_000
"""The most rows of each kind that one trim deletes. More than are added between two trims."""

NAME_CHARS = 64
DETAIL_CHARS = 200
ADDRESS_CHARS = 80
"""How much of a mail address is in a detail, so that it does not push out the rest."""


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
    is_logged: bool = True,
) -> None:
    """Store an event, and log it. Makes two queries, and occasionally a few more to trim.

    `user` is the account it is about; `name` is the name that was tried, if there may be no such account. The
    sender of the request is recorded as the cause. Without a request, `address` says where it came from.
    `count` is for callers that report several events at once, and `server` for events about one server.
    Without `is_logged` the caller logs it. Must not be called in an event loop.
    """
    name = make_printable(name or (user.get_username() if user else ""), NAME_CHARS)
    detail = make_printable(detail, DETAIL_CHARS)
    if request is not None:
        address = address or client_address(request)
    user_agent = request.headers.get("User-Agent", "") if request is not None else ""
    level = logging.WARNING if kind in FAILED_KINDS else logging.INFO
    if is_logged:
        tell(level, log_line(kind, address, name, detail, count))
    now = timezone.now()
    event = AccountEvent(
        kind=kind,
        user=user,
        name=name,
        actor_name=find_actor(request, name),
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


def tell(level: int, line: str) -> None:
    """Log a line: of a change once it is committed, as it may still be undone; of an attempt at once."""
    if level < logging.WARNING and connection.in_atomic_block:
        transaction.on_commit(partial(logger.log, level, "%s", line))
    else:
        logger.log(level, "%s", line)


def find_actor(request: HttpRequest | None, name: str) -> str:
    """Return who caused an event: the person signed in, or else `name`, as after a link sent by mail."""
    if request is None:
        return BY_COMMAND
    person = getattr(request, "user", None)
    return person.get_username() if person is not None and person.is_authenticated else name


def log_line(kind: EventKind, address: str, name: str, detail: str, count: int) -> str:
    """Return the line for the log.

    Text chosen by others comes last, in quotes and in ASCII: it cannot look like another line or address.
    """
    line = f"{kind.value} address={address or '-'} count={count} account={json.dumps(name)}"
    return f"{line} detail={json.dumps(detail)}" if detail else line


def make_printable(text: str, max_chars: int) -> str:
    """Return `text` shortened, with a replacement character for each unprintable one."""
    cut = text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)


def add_to_minute(event: AccountEvent) -> bool:
    """Count `event` in the row of its minute, if its kind is counted and that row exists."""
    if event.minute is None:
        return False
    rows = AccountEvent.objects.filter(
        kind=event.kind, address=event.address, name=event.name, minute=event.minute
    )
    return bool(rows.update(count=F("count") + event.count, last_at=event.last_at))


def store(event: AccountEvent) -> None:
    """Insert the row of `event`. If another process has just inserted that of its minute, count it there."""
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
    """Delete events older than ACCOUNT_EVENTS_KEEP_DAYS, and the oldest beyond the row limits.

    Leaves room for the rows until the next trim, so that there are never more than `MAX_ROWS`, besides those
    that are kept for good.
    """
    oldest_kept = timezone.now() - timedelta(days=settings.ACCOUNT_EVENTS_KEEP_DAYS)
    delete_oldest(AccountEvent.objects.filter(at__lt=oldest_kept), TRIM_AT_ONCE)
    counted = AccountEvent.objects.filter(minute__isnull=False)
    delete_oldest(counted, find_surplus(counted, MAX_COUNTED_ROWS))
    rows = AccountEvent.objects.all()
    if surplus := find_surplus(rows, MAX_ROWS):
        surplus -= delete_oldest(find_most_frequent(rows), surplus)
        delete_oldest(rows, surplus)


def find_surplus(rows: QuerySet[AccountEvent], most: int) -> int:
    """Return how many of `rows` one trim has to delete, for there to be no more than `most`."""
    return max(0, min(rows.count() - (most - TRIM_EVERY), TRIM_AT_ONCE))


def find_most_frequent(rows: QuerySet[AccountEvent]) -> QuerySet[AccountEvent]:
    """Return the events of the kind that one person has caused more often than anybody any other.

    These go first. Otherwise anybody with an account could push the events of others out of the record by
    causing new ones. Reads all rows, but only while there are too many.
    """
    groups = rows.values("kind", "actor_name").annotate(count=Count("pk")).order_by("-count")
    most = groups.values("kind", "actor_name").first()
    return rows.filter(**most) if most else rows.none()


def delete_oldest(rows: QuerySet[AccountEvent], count: int) -> int:
    """Delete the oldest `count` of `rows`, except those that are kept for good; return how many there were."""
    trimmed = rows.exclude(kind=KEPT_KIND)
    oldest = list(trimmed.order_by("at", "pk").values_list("pk", flat=True)[:count])
    AccountEvent.objects.filter(pk__in=oldest).delete()
    return len(oldest)
