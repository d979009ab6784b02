"""Saves a form of `servers` and restarts the servers it affects: one click instead of two."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from jobs import queue
from jobs.models import JobState, Operation
from jobs.pages.job_pages import ask, refuse_request
from jobs.pages.ways_back import read_next_page, see_other
from servers.access import SignedInRequest, get_blueprint, get_server, require, sign_in_required
from servers.models import Blueprint, Server
from servers.pages import edit_blueprint, edit_server, lead_to_server
from servers.permissions import SERVER_OPERATION_VERBS, Verb


@require_POST
@sign_in_required
def server_save_and_restart(request: SignedInRequest, name: str) -> HttpResponse:
    """Save a server's form, and redirect to the job that restarts the server."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    require(request.user, SERVER_OPERATION_VERBS[Operation.RESTART], server)
    return edit_server(request, server, restart)


def restart(request: SignedInRequest, server: Server) -> HttpResponse:
    """Request the restart of a server that has just been saved, unless it does not run.

    One message says what happened to both. Only overlays that do not work have a page of their own, and so has
    the question whether people who are on are to be disconnected.
    """
    if not server.is_up:
        return lead_to_server(request, server)
    names = {"server": server.name}
    is_under_way = server.jobs.active().filter(operation=Operation.RESTART).exists()
    if server.count_people() and not is_under_way:
        messages.success(request, _("Server %(server)s was saved.") % names)
        config = reverse("servers:config", args=[server.name])
        return ask(request, server, Operation.RESTART, config, is_saved=True)
    try:
        requested = queue.request(Operation.RESTART, server=server, requested_by=request.user)
    except queue.ContentRefused as refusal:
        messages.info(request, _("Server %(server)s was saved. It was not restarted.") % names)
        return refuse_request(
            request, refusal, read_next_page(request) or server.get_absolute_url()
        )
    except queue.RequestRefused as refusal:
        text = _("Server %(server)s was saved. It was not restarted: %(why)s")
        messages.warning(request, text % {**names, "why": refusal})
        return see_other(read_next_page(request) or server.get_absolute_url())
    job = requested.job
    if requested.is_new:
        text = _("Server %(server)s was saved, and its restart was requested.")
        messages.success(request, text % names)
    elif job.state == JobState.QUEUED:
        text = _("Server %(server)s was saved. A restart of it was already waiting.")
        messages.success(request, text % names)
    else:
        text = _(
            "Server %(server)s was saved. It was already being restarted: if that applies other "
            "settings, restart it again afterwards."
        )
        messages.warning(request, text % names)
    return see_other(read_next_page(request) or job.get_absolute_url())


@require_POST
@sign_in_required
def blueprint_save_and_restart(request: SignedInRequest, name: str) -> HttpResponse:
    """Save a blueprint's form, and restart those of its running servers that the user may restart."""
    blueprint = get_blueprint(request.user, name, Verb.CHANGE_BLUEPRINT)
    return edit_blueprint(request, blueprint, restart_all)


def restart_all(
    request: SignedInRequest, blueprint: Blueprint, servers: list[Server]
) -> HttpResponse:
    """Request the restart of each server separately: a refusal for one does not affect the others."""
    restarted, refusals = [], []
    for server in servers:
        try:
            requested = queue.request(Operation.RESTART, server=server, requested_by=request.user)
        except queue.ContentRefused as refusal:
            refusals.append(str(refusal))
        except queue.RequestRefused as refusal:
            text = _("Server %(server)s was not restarted: %(refusal)s")
            refusals.append(text % {"server": server.name, "refusal": refusal})
        else:
            if requested.is_new or requested.job.state == JobState.QUEUED:
                restarted.append(server.name)
                continue
            text = _(
                "Server %(server)s was already being restarted: if that applies the blueprint as it was "
                "before, restart it again afterwards."
            )
            refusals.append(text % {"server": server.name})
    text = _("Blueprint %(blueprint)s was saved.") % {"blueprint": blueprint.name}
    if restarted:
        words = _("These restarts were requested: %(restarted)s.")
        text += " " + words % {"restarted": ", ".join(restarted)}
    messages.success(request, text)
    for refusal_text in refusals:
        messages.warning(request, refusal_text)
    return redirect(blueprint)
