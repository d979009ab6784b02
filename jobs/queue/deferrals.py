"""Actions that wait until nobody plays on a server: how they are requested, cancelled, carried out and ended.

`jobs.watch.empty_watch` checks whether the time has come; this module changes the row.
"""

from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.database import Channel, announce
from jobs.models import DEFERRABLE, STARTS, DeferredAction
from jobs.queue.requests import RequestRefused, TooManyWaiting, refuse_conflicts, request
from jobs.queue.scheduler import lock_host
from servers.models import Server
from servers.permissions import SERVER_OPERATION_VERBS, may
from servers.quotas import lock_person


def defer(
    operation: str,
    *,
    server: Server,
    requested_by: User,
    until: datetime,
    accepts_conflicts: bool = False,
) -> DeferredAction:
    """Do `operation` once nobody plays on `server`, if that is before `until`; replaces what already waits.

    Raises `RequestRefused` for an operation that cannot wait, and for a server that does not run. Conflicts of
    its overlays refuse it now, while somebody is there to read why, and not when the time has come.
    """
    if operation not in DEFERRABLE:
        raise RequestRefused(
            _("“%(operation)s” cannot wait until a server is empty.") % {"operation": operation}
        )
    if not server.is_up:
        raise RequestRefused(
            _("%(server)s is not running, so there is nobody to wait for.")
            % {"server": server.name}
        )
    if operation in STARTS:
        refuse_conflicts(operation, server, accepts_conflicts=accepts_conflicts)
    with transaction.atomic():
        tell_pages(server)
        action, _created = DeferredAction.objects.update_or_create(
            server=server,
            defaults={
                "operation": operation,
                "requested_by": requested_by,
                "requested_by_name": requested_by.get_username(),
                "until": until,
                "ended_at": None,
                "outcome": "",
                "created_at": timezone.now(),
            },
        )
    return action


def forget_deferral(server: Server) -> bool:
    """Remove what waits until `server` is empty, or the note of its end; return whether there was any."""
    with transaction.atomic():
        tell_pages(server)
        count, _details = DeferredAction.objects.filter(server=server).delete()
    return bool(count)


def end_deferral(action: DeferredAction, outcome: str) -> None:
    """Note that an action will not be done, and why, in a sentence for the person who requested it."""
    with transaction.atomic():
        tell_pages(action.server)
        as_seen = same(action).filter(ended_at=None)
        as_seen.update(ended_at=timezone.now(), outcome=outcome)


def carry_out_deferral(action: DeferredAction) -> None:
    """Queue the job of an action whose server is empty; if that is refused, end the action and say why.

    While too many jobs of the person wait, the action stays as it is: it is worth trying again. If several
    workers call this at once, only one queues a job.
    """
    user = action.requested_by
    verb = SERVER_OPERATION_VERBS[action.operation]
    if user is None or not may(user, verb, action.server):
        end_deferral(action, _("The person who asked for it may no longer do it."))
        return
    try:
        if action.operation in STARTS:
            # `request` asks the same, but here it is under locks: now the manifests are in memory.
            refuse_conflicts(action.operation, action.server, accepts_conflicts=True)
        with transaction.atomic():
            # The locks of `request` come before the row, as they do for a click on this server.
            if not user.is_superuser:
                lock_person(user)
            lock_host(action.server.host)
            if same(action).filter(ended_at=None).delete()[0]:
                request(
                    action.operation,
                    server=action.server,
                    requested_by=user,
                    accepts_conflicts=True,
                )
    except TooManyWaiting:
        return
    except RequestRefused as refusal:
        end_deferral(action, str(refusal))


def same(action: DeferredAction) -> QuerySet[DeferredAction]:
    """Return the row of `action`, unless another action has replaced it since it was read."""
    return DeferredAction.objects.filter(pk=action.pk, created_at=action.created_at)


def tell_pages(server: Server) -> None:
    """Make open pages that show `server` update, once the transaction is committed.

    Call this before its action is changed. A worker locks the row of a server, then that of its host; a click
    locks the host's, then the action's. So locking the action's before the server's could close a circle.
    """
    Server.objects.filter(pk=server.pk).update(updated_at=timezone.now())
    announce(Channel.PAGES)
