"""The pages of servers and blueprints. What is done to a server on its host is posted to `jobs`."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import IntegrityError, transaction
from django.db.models import Count, ProtectedError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from servers.access import (
    SignedInRequest,
    get_blueprint,
    get_blueprint_or_404,
    get_server,
    get_server_or_404,
    sign_in_required,
)
from servers.console_reader import Console
from servers.forms import BlueprintForm, ServerForm
from servers.live import needs_log
from servers.log_pages import LogPage, read_log_page
from servers.models import Blueprint, Host, NoFreePortError, Server
from servers.overlay_notes import list_campaigns, read_overlay_rows
from servers.permissions import Verb, may, verbs_of
from servers.quotas import find_server_obstacle
from servers.refusals import refuse_program, wants_json
from servers.secret_moves import find_unmoved
from servers.secret_texts import hide_secrets
from servers.start_notes import find_start_notes

JOBS_SHOWN = 10
CRASHES_SHOWN = 5

form_page: Callable[..., Callable[..., HttpResponse]] = require_http_methods(
    ["GET", "HEAD", "POST"]
)

# --- Servers ----------------------------------------------------------------------------------


@require_safe
@sign_in_required
def server_list(request: SignedInRequest) -> HttpResponse:
    """List the servers one may see, or say what to do before there can be one."""
    user = request.user
    servers = Server.objects.visible_to(user).select_related("host", "blueprint", "owner")
    rows = [
        ServerRow(server, server.operations_for(user), describe_share(user, server))
        for server in servers.with_heartbeat().with_latest_job()
    ]
    context = {
        "rows": rows,
        "placement_obstacle": "" if rows else Host.objects.placement_obstacle(),
        "has_game": Host.objects.exclude(build_id="").exists(),
        "has_blueprint": Blueprint.objects.usable_by(user).exists(),
    }
    return render(request, "servers/list.html", context)


@dataclass(frozen=True)
class ServerRow:
    """A server as the list shows it: what one may request, and whose it is if not one's own."""

    server: Server
    operations: list[str]
    share: str


def describe_share(user: User, server: Server) -> str:
    """Return whose server it is and what `user` is there, in words; empty for an own one."""
    if server.owner_id == user.pk:
        return ""
    role = server.role_of(user)
    return f"of {server.owner}" + (f", you are its {role.label}" if role else "")


@require_safe
@sign_in_required
def server_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show one server: what it does, what can be done, its jobs and its console."""
    server = get_server_or_404(request.user, name)
    console = LogPage()
    if needs_log(request):
        console = read_log_page(Console(server.pk), request)
    if console.search and console.must_jump:
        return redirect(f"{server.get_absolute_url()}{console.search.first_url}")
    verbs = verbs_of(request.user, server)
    is_own = Verb.CONFIGURE in verbs
    overlay_rows = read_overlay_rows(server.blueprint.ordered_overlays(), [server.host])
    context = {
        "server": server,
        "verbs": verbs,
        "operations": server.operations_for(request.user),
        "role": server.role_of(request.user),
        "sees_blueprint": may(request.user, Verb.VIEW_BLUEPRINT, server.blueprint),
        "overlay_rows": overlay_rows,
        "campaigns": list_campaigns(overlay_rows),
        "jobs": server.jobs.all()[:JOBS_SHOWN],
        "crashes": server.crashes.all()[:CRASHES_SHOWN],
        "console": console,
        "removal_obstacle": server.removal_obstacle(),
        "start_notes": find_start_notes(server) if is_own else [],
        "secret_notes": [*server.secret_faults, *find_unmoved(server)] if is_own else [],
        "free_port": server.host.next_free_port() if server.is_port_taken else None,
    }
    return render(request, "servers/detail.html", context)


@require_POST
@sign_in_required
def server_move_port(request: SignedInRequest, name: str) -> HttpResponse:
    """Give a server whose port another program holds the next free one; it is started from its page."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    try:
        port = server.move_to_free_port()
    except NoFreePortError as error:
        messages.error(request, error.message)
    except IntegrityError:
        messages.error(request, "Somebody took that port at the same moment. Please try again.")
    else:
        if port is None:
            messages.info(request, f"Server {name} keeps port {server.port}: it is free.")
        else:
            messages.success(request, f"Server {name} has port {port} now. Start it when you like.")
    return redirect(server)


@form_page
@sign_in_required
def server_create(request: SignedInRequest) -> HttpResponse:
    """Make a server that is the user's own."""
    hosts = list(Host.objects.all())
    usable = Blueprint.objects.usable_by(request.user)
    server = Server(owner=request.user)
    wanted = next((one for one in usable if one.name == request.GET.get("blueprint")), None)
    form = ServerForm(
        request.POST or None,
        instance=server,
        initial={"blueprint": wanted},
        user=request.user,
        hosts=hosts,
    )
    if request.method == "POST" and form.is_valid():
        if not hosts:
            server.host = Host.local()
        if form.try_save():
            say_notes(request, form)
            messages.success(request, f"Server {server.name} is made. Start it when you like.")
            return redirect(server)
    context = {"form": form, "has_blueprint": usable.exists()}
    if form.has_error(NON_FIELD_ERRORS, "too_many_servers"):
        return refuse_server(request, context)
    if request.method != "POST":
        context["obstacle"] = (
            find_server_obstacle(request.user) or Host.objects.placement_obstacle()
        )
    return render(request, "servers/form.html", context)


def refuse_server(request: SignedInRequest, context: dict[str, Any]) -> HttpResponse:
    """Answer that one has all the servers that one may have; nothing of the form is lost."""
    status = HTTPStatus.TOO_MANY_REQUESTS
    if wants_json(request):
        return refuse_program(context["form"].non_field_errors()[0], status)
    return render(request, "servers/form.html", context, status=status)


@form_page
@sign_in_required
def server_edit(request: SignedInRequest, name: str) -> HttpResponse:
    """Change a server's port, blueprint and own overrides."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    form = ServerForm(request.POST or None, instance=server, user=request.user, hosts=[])
    if request.method == "POST" and form.is_valid() and form.try_save():
        say_notes(request, form)
        messages.success(
            request, f"Server {server.name} is changed. It applies at its next start or restart."
        )
        return redirect(server)
    return render(request, "servers/form.html", {"form": form, "server": server})


def say_notes(request: SignedInRequest, form: ServerForm) -> None:
    """Tell what the form did besides storing what was typed."""
    for note in form.notes:
        messages.info(request, note)


@form_page
@sign_in_required
def server_remove(request: SignedInRequest, name: str) -> HttpResponse:
    """Ask whether to remove a server's row, and remove it once there is no instance and no job."""
    server = get_server(request.user, name, Verb.REMOVE)
    if request.method != "POST":
        context = {"server": server, "obstacle": server.removal_obstacle()}
        return render(request, "servers/remove.html", context)
    with transaction.atomic():
        # Requests for jobs lock the host's row too: none can slip in between look and removal.
        Host.objects.select_for_update(no_key=True).get(pk=server.host_id)
        server = get_server(request.user, name, Verb.REMOVE)
        obstacle = server.removal_obstacle()
        if not obstacle:
            server.delete()
    if obstacle:
        context = {"server": server, "obstacle": obstacle}
        return render(request, "servers/remove.html", context, status=409)
    messages.success(request, f"Server {name} is removed. Its jobs stay in the history.")
    return redirect("servers:list")


# --- Blueprints -------------------------------------------------------------------------------


@require_safe
@sign_in_required
def blueprint_list(request: SignedInRequest) -> HttpResponse:
    """List the blueprints one may use or see."""
    blueprints = Blueprint.objects.visible_to(request.user).select_related("owner")
    context = {
        "blueprints": blueprints.with_ordered_overlays().annotate(
            server_count=Count("servers", distinct=True)
        )
    }
    return render(request, "blueprints/list.html", context)


@require_safe
@sign_in_required
def blueprint_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show what a blueprint contains, and which servers use it."""
    blueprint = get_blueprint_or_404(request.user, name)
    return render(request, "blueprints/detail.html", blueprint_context(request.user, blueprint))


def blueprint_context(user: User, blueprint: Blueprint) -> dict[str, object]:
    """Return what the pages about one blueprint say of it and of the servers that use it."""
    servers = list(blueprint.servers.visible_to(user).select_related("host", "owner"))
    verbs = verbs_of(user, blueprint)
    is_editable = Verb.CHANGE_BLUEPRINT in verbs
    arguments, config = hide_secrets(blueprint.arguments, blueprint.config)
    return {
        "blueprint": blueprint,
        "overlay_rows": read_overlay_rows(blueprint.ordered_overlays(), Host.objects.all()),
        "servers": servers,
        "others_count": blueprint.servers.count() - len(servers),
        "is_editable": is_editable,
        "is_removable": Verb.REMOVE_BLUEPRINT in verbs,
        "shown_arguments": arguments,
        "shown_config": config,
        "secret_notes": find_unmoved(blueprint) if is_editable else [],
    }


@form_page
@sign_in_required
def blueprint_create(request: SignedInRequest) -> HttpResponse:
    """Make a blueprint that is the user's own."""
    blueprint = Blueprint(owner=request.user)
    form = BlueprintForm(request.POST or None, instance=blueprint, user=request.user)
    if request.method == "POST" and form.is_valid() and form.try_save():
        messages.success(request, f"Blueprint {blueprint.name} is made.")
        return redirect(blueprint)
    return render(request, "blueprints/form.html", {"form": form})


@form_page
@sign_in_required
def blueprint_edit(request: SignedInRequest, name: str) -> HttpResponse:
    """Change a blueprint, and with it what its servers start with the next time."""
    blueprint = get_blueprint(request.user, name, Verb.CHANGE_BLUEPRINT)
    context = blueprint_context(request.user, blueprint)
    form = BlueprintForm(request.POST or None, instance=blueprint, user=request.user)
    if request.method == "POST" and form.is_valid() and form.try_save():
        messages.success(
            request,
            f"Blueprint {blueprint.name} is changed. It applies at the next start of each server "
            "that uses it.",
        )
        return redirect(blueprint)
    return render(request, "blueprints/form.html", {**context, "form": form, "name": name})


@form_page
@sign_in_required
def blueprint_remove(request: SignedInRequest, name: str) -> HttpResponse:
    """Ask whether to remove a blueprint, and remove it if no server uses it."""
    blueprint = get_blueprint(request.user, name, Verb.REMOVE_BLUEPRINT)
    status = 200
    if request.method == "POST":
        try:
            blueprint.delete()
        except ProtectedError:
            status = 409
        else:
            messages.success(request, f"Blueprint {name} is removed.")
            return redirect("servers:blueprint_list")
    context = blueprint_context(request.user, blueprint)
    return render(request, "blueprints/remove.html", context, status=status)
