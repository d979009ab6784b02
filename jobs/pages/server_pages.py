"""The pages of one server: its console, its config, its jobs, its crashes. Each has the same head.

They are here and not in `servers`, because each of them shows what the server's job does.
"""

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from jobs.models import Job
from jobs.pages.job_lists import LARGEST_ID, parse_id
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, sign_in_required
from servers.config import find_unmoved
from servers.console import Console, read_prompt
from servers.content import (
    find_loaded_notes,
    find_start_notes,
    list_campaigns,
    read_overlay_rows,
)
from servers.fleet import tags_of
from servers.logs import LogPage, read_log_page
from servers.pages import needs_log, read_console_page
from servers.permissions import Verb, may

JOBS_PER_PAGE = 50


@require_safe
@sign_in_required
def server_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show a server with its console: the page to which its name links."""
    server = get_server_or_404(request.user, name)
    console = LogPage()
    if needs_log(request):
        console = read_log_page(Console(server.pk), request)
    if console.search and console.must_jump:
        return redirect(f"{server.get_absolute_url()}{console.search.first_url}")
    head = describe_head(request, server, "console", has_form=bool(request.GET))
    is_own = Verb.CONFIGURE in head["verbs"]
    strip, prompt = head["strip"], read_prompt(request.user, server)
    blueprint = server.blueprint
    overlay_rows = read_overlay_rows(
        blueprint.ordered_overlays(), [server.host], blueprint.read_pins()
    )
    context = head | {
        "role": server.role_of(request.user),
        "tags": tags_of(server),
        "sees_blueprint": may(request.user, Verb.VIEW_BLUEPRINT, server.blueprint),
        "overlay_rows": overlay_rows,
        "campaigns": list_campaigns(overlay_rows),
        "console": console,
        "last_run": None if server.is_up else server.console_runs.last(),
        "prompt": prompt,
        "loaded": find_loaded_notes(server),
        "start_notes": find_start_notes(server, is_map_told=bool(strip and strip.missing_map))
        if is_own
        else [],
        "secret_notes": [*server.secret_faults, *find_unmoved(server)] if is_own else [],
        "free_port": server.host.next_free_port() if server.is_port_taken else None,
    }
    return render(request, "servers/detail.html", context)


@require_safe
@sign_in_required
def server_console(request: SignedInRequest, name: str) -> HttpResponse:
    """Show the runs of a server, and its lines or those that a search has found."""
    server = get_server_or_404(request.user, name)
    context = describe_head(request, server, "console") | read_console_page(request, server)
    return render(request, "servers/console.html", context)


@require_safe
@sign_in_required
def server_config(request: SignedInRequest, name: str) -> HttpResponse:
    """Show the parts of `cfg/server.cfg` as the server's host last wrote them, without passwords."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    context = describe_head(request, server, "config", has_form=False) | {
        "parts": server.config_chain,
        "overlays": server.blueprint.ordered_overlays(),
    }
    return render(request, "servers/config.html", context)


@require_safe
@sign_in_required
def server_history(request: SignedInRequest, name: str) -> HttpResponse:
    """List the jobs of a server, newest first."""
    server = get_server_or_404(request.user, name)
    before = parse_id(request.GET.get("before", ""))
    jobs = Job.objects.filter(server=server, pk__lt=before or LARGEST_ID).order_by("-id")
    shown = list(jobs[: JOBS_PER_PAGE + 1])
    context = describe_head(request, server, "jobs", has_form=False) | {
        "jobs": shown[:JOBS_PER_PAGE],
        "older_before": shown[JOBS_PER_PAGE - 1].pk if len(shown) > JOBS_PER_PAGE else None,
        "is_newest": before is None,
    }
    return render(request, "servers/history.html", context)


@require_safe
@sign_in_required
def server_crashes(request: SignedInRequest, name: str) -> HttpResponse:
    """List the stored crashes of a server, newest first."""
    server = get_server_or_404(request.user, name)
    context = describe_head(request, server, "crashes", has_form=False) | {
        "crashes": server.crashes.all()
    }
    return render(request, "servers/crashes.html", context)
