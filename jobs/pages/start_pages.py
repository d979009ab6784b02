"""The pages of a server's starts: a list, and comparisons of two of them, or of two servers.

Everybody who may see a server sees when it was started and which parts had changed. What is in those parts is
for people who may configure the server, as its config is; for two servers, who may configure both.
"""

import re

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from hostops.specs import NAME_PATTERN
from jobs.pages.job_lists import parse_id
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, sign_in_required
from servers.config import compare_runs, list_starts
from servers.models import RUNS_KEPT, Run, Server
from servers.permissions import Verb

OTHERS_SHOWN = 500


@require_safe
@sign_in_required
def server_starts(request: SignedInRequest, name: str) -> HttpResponse:
    """List the recorded starts of a server, with what changed from one to the next."""
    server = get_server_or_404(request.user, name)
    head = describe_head(request, server, "starts")
    starts = list_starts(server)
    others = Server.objects.none()
    if Verb.CONFIGURE in head["verbs"]:
        others = Server.objects.allowed(request.user, Verb.CONFIGURE).exclude(pk=server.pk)
    known = [start.run for start in starts if start.run.is_known]
    context = head | {
        "starts": starts,
        "known": known,
        "may_compare": Verb.CONFIGURE in head["verbs"]
        and (len(known) > 1 or (known and others.exists())),
        "most": RUNS_KEPT,
        "others": others.order_by("name").values_list("name", flat=True)[:OTHERS_SHOWN],
    }
    return render(request, "servers/starts.html", context)


@require_safe
@sign_in_required
def server_starts_compare(request: SignedInRequest, name: str) -> HttpResponse:
    """Show how two starts of a server differ, `from` and `to`, or its last one and that of `with`."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    other = server
    if "with" in request.GET:
        other_name = request.GET["with"]
        if not re.fullmatch(NAME_PATTERN, other_name, re.ASCII):
            raise Http404
        other = get_server(request.user, other_name, Verb.CONFIGURE)
        before, after = find_last(server), find_last(other)
    else:
        before, after = (get_run(server, request.GET.get(key, "")) for key in ("from", "to"))
    is_known = all(run and run.is_known for run in (before, after))
    context = describe_head(request, server, "starts") | {
        "other": other,
        "before": before,
        "after": after,
        "is_known": is_known,
        "changes": compare_runs(before, after, request.user) if before and after else [],
    }
    return render(request, "servers/starts_compare.html", context)


def find_last(server: Server) -> Run | None:
    """Return the last start of a server for which it is known what it was started with."""
    return server.runs.exclude(digest_key="").first()


def get_run(server: Server, text: str) -> Run:
    """Return the start of a server with this id, or answer 404."""
    run: Run = get_object_or_404(server.runs, pk=parse_id(text) or 0)
    return run
