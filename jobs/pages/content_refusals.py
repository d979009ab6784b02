"""Says that a server is not started, as its overlays do not work as they are: with what cures that."""

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
"""What the form said that was refused: the one that accepts the conflicts says it again."""
REPEATED_CHARS = 20


def accepts_conflicts(request: HttpRequest, server: Server) -> bool:
    """Return whether a form wants a server started all the same, of who may decide that."""
    return ACCEPT_FIELD in request.POST and may(request.user, Verb.CONFIGURE, server)


def show_conflicts(
    request: SignedInRequest, refusal: queue.ContentRefused, back_to: str
) -> HttpResponse:
    """Show the conflicts that refused a start, with their cures for who may change the blueprint."""
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
