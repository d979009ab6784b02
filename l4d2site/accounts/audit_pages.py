"""The pages that show who did what: in the whole panel, and with one server."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs.pages import describe_head
from l4d2site.accounts.audit import AuditPage, Place, find_events, find_jobs, read_page
from servers.access import SignedInRequest, get_server, require, sign_in_required
from servers.permissions import Verb

KINDS = {
    "": _("everything"),
    "jobs": _("jobs"),
    "settings": _("servers and blueprints"),
    "people": _("people"),
    "door": _("sign-ins"),
}
KINDS_OF_SERVER = {name: KINDS[name] for name in ("", "jobs", "settings", "people")}


@require_safe
@never_cache
@sign_in_required
def audit(request: SignedInRequest) -> HttpResponse:
    """Show who did what, newest first, filtered by kind, person and server."""
    require(request.user, Verb.READ_RECORD)
    wish = read_wish(request, KINDS)
    jobs = find_jobs(request.user, **wish)
    events = find_events(**wish)
    page = read_page(jobs, events, Place.parse(request.GET.get("before", "")))
    context = describe(page, wish, KINDS) | {"shows_addresses": True, "has_servers": True}
    return render(request, "accounts/audit.html", context)


@require_safe
@never_cache
@sign_in_required
def server_audit(request: SignedInRequest, name: str) -> HttpResponse:
    """Show who did what with one server, to the people who manage it."""
    server = get_server(request.user, name, Verb.SHARE)
    wish = read_wish(request, KINDS_OF_SERVER) | {"server": server.name}
    jobs = find_jobs(request.user, **wish)
    events = find_events(**wish)
    page = read_page(jobs, events, Place.parse(request.GET.get("before", "")))
    context = describe_head(request, server, "people") | describe(page, wish, KINDS_OF_SERVER)
    return render(request, "servers/audit.html", context)


def read_wish(request: SignedInRequest, kinds: dict[str, Any]) -> dict[str, str]:
    """Return the filters in the address: a kind, a person, a server."""
    kind = request.GET.get("kind", "")
    return {
        "kind": kind if kind in kinds else "",
        "who": read_text(request, "who"),
        "server": read_text(request, "server"),
    }


def read_text(request: SignedInRequest, name: str) -> str:
    """Return the text of a field in the address, without NUL, which databases refuse."""
    return request.GET.get(name, "").replace("\0", "").strip()


def describe(page: AuditPage, wish: dict[str, str], kinds: dict[str, Any]) -> dict[str, Any]:
    """Return the context that shows the entries and the filters."""
    return {
        "entries": page.entries,
        "wish": wish,
        "is_narrowed": any(wish.values()),
        "filters": [
            (label, f"?{urlencode(wish | {'kind': kind})}", kind == wish["kind"])
            for kind, label in kinds.items()
        ],
        "older_url": f"?{urlencode(wish | {'before': str(page.older)})}" if page.older else "",
        "newest_url": f"?{urlencode(wish)}",
    }
