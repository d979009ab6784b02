"""The pages that show who did what: in the whole panel, and with one server."""

from dataclasses import replace
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs.pages import describe_head
from l4d2site.accounts.audit import AuditQuery, Place, read_page
from l4d2site.accounts.forms import AuditPeriodForm
from servers.access import SignedInRequest, get_server, require, sign_in_required
from servers.models import COMMANDS_KEPT
from servers.permissions import Verb

KINDS = {
    "": _("everything"),
    "jobs": _("jobs"),
    "commands": _("console commands"),
    "settings": _("servers and blueprints"),
    "players": _("bans and admins in the game"),
    "people": _("people"),
    "door": _("sign-ins"),
}
KINDS_OF_SERVER = {name: label for name, label in KINDS.items() if name != "door"}


@require_safe
@never_cache
@sign_in_required
def audit(request: SignedInRequest) -> HttpResponse:
    """Show who did what, newest first, filtered by kind, person and server."""
    require(request.user, Verb.READ_RECORD)
    form = AuditPeriodForm(request.GET)
    query = read_query(request, KINDS, form)
    context = describe(request, query, form, KINDS) | {"shows_addresses": True, "has_servers": True}
    return render(request, "accounts/audit.html", context)


@require_safe
@never_cache
@sign_in_required
def server_audit(request: SignedInRequest, name: str) -> HttpResponse:
    """Show who did what with one server, to the people who manage it."""
    server = get_server(request.user, name, Verb.SHARE)
    form = AuditPeriodForm(request.GET)
    query = replace(read_query(request, KINDS_OF_SERVER, form), server=server.name)
    context = describe_head(request, server, "people") | describe(
        request, query, form, KINDS_OF_SERVER
    )
    return render(request, "servers/audit.html", context)


def read_query(
    request: SignedInRequest, kinds: dict[str, Any], form: AuditPeriodForm
) -> AuditQuery:
    """Return the filters in the address: a kind, a person, a server, a period."""
    kind = request.GET.get("kind", "")
    since, until = form.read_period()
    return AuditQuery(
        kind=kind if kind in kinds else "",
        who=read_text(request, "who"),
        server=read_text(request, "server"),
        since=since,
        until=until,
    )


def read_text(request: SignedInRequest, name: str) -> str:
    """Return the text of a field in the address, without NUL, which databases refuse."""
    return request.GET.get(name, "").replace("\0", "").strip()


def describe(
    request: SignedInRequest, query: AuditQuery, form: AuditPeriodForm, kinds: dict[str, Any]
) -> dict[str, Any]:
    """Return the context that shows the entries and the filters."""
    page = read_page(request.user, query, Place.parse(request.GET.get("before", "")))
    period = {name: read_text(request, name) for name in form.fields}
    address = {"kind": query.kind, "who": query.who, "server": query.server} | period
    return {
        "entries": page.entries,
        "query": query,
        "period": form,
        "commands_kept": COMMANDS_KEPT if query.kind == "commands" else None,
        "is_narrowed": any(address.values()),
        "filters": [
            (label, f"?{urlencode(address | {'kind': kind})}", kind == query.kind)
            for kind, label in kinds.items()
        ],
        "older_url": f"?{urlencode(address | {'before': str(page.older)})}" if page.older else "",
        "newest_url": f"?{urlencode(address)}",
    }
