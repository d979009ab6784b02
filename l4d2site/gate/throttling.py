"""Reports attempts that are turned away unchecked, after too many: at most once a minute for each address.

So a flood of them costs neither a write nor a line each.
"""

from django.core.cache import cache
from django.dispatch import Signal
from django.http import HttpRequest

from l4d2site.gate.addresses import address_group, client_address

turned_away = Signal()
"""Sent with `request`, the `account` that was tried or "", and the `count` of attempts that this stands for."""

REPORT_SECONDS = 60
KEPT_SECONDS = 600
"""How long attempts that were not reported are remembered; the next report includes them."""


def count_turned_away(request: HttpRequest) -> int:
    """Count an attempt that is turned away; return how many to report now: 0 if the last time was just now."""
    group = address_group(client_address(request))
    count: int = cache.get(f"turned-away:{group}", 0) + 1
    is_due = cache.add(f"turned-away-reported:{group}", True, REPORT_SECONDS)
    cache.set(f"turned-away:{group}", 0 if is_due else count, KEPT_SECONDS)
    return count if is_due else 0


def note_turned_away(request: HttpRequest, account: str = "") -> None:
    """Count an attempt that a view turns away, and report it if that is due."""
    if count := count_turned_away(request):
        turned_away.send(sender=__name__, request=request, account=account, count=count)
