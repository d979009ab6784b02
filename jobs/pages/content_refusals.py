"""Says that a server is not started because its overlays do not work together, and offers cures."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from jobs import queue
from servers.access import SignedInRequest
from servers.config import Problem, propose_cures
from servers.models import Server
from servers.permissions import Verb, may
from servers.store import Conflicts, Fault, Lack

ACCEPT_FIELD = "despite_conflicts"
REPEATED_FIELDS = ("when", "hours", "people")
"""Fields of the refused form, repeated by the form that accepts the conflicts."""
REPEATED_CHARS = 20


def accepts_conflicts(request: HttpRequest, server: Server) -> bool:
    """Return whether a form asks for the start in spite of conflicts, and the user may decide that."""
    return ACCEPT_FIELD in request.POST and may(request.user, Verb.CONFIGURE, server)


def show_conflicts(
    request: SignedInRequest, refusal: queue.ContentRefused, back_to: str
) -> HttpResponse:
    """Show the conflicts that refused a start, with their cures for people who may change the blueprint."""
    server = refusal.server
    may_cure = may(request.user, Verb.CHANGE_BLUEPRINT, server.blueprint)
    faults = [one for one in refusal.problems if isinstance(one, Fault)]
    lacks = [one for one in refusal.problems if isinstance(one, Lack)]
    problems = (
        propose_cures(request.user, server.blueprint, Conflicts(faults, lacks))
        if may_cure
        else [Problem(one.sentence) for one in refusal.problems]
    )
    context = {
        "server": server,
        "blueprint": server.blueprint,
        "problems": problems,
        "may_cure": may_cure,
        "may_accept": not refusal.is_final and may(request.user, Verb.CONFIGURE, server),
        "operation": refusal.operation,
        "repeated": [
            (name, request.POST[name][:REPEATED_CHARS])
            for name in REPEATED_FIELDS
            if name in request.POST
        ],
        "here": back_to,
    }
    return render(request, "servers/start_refused.html", context, status=HTTPStatus.CONFLICT)
