"""The pages of servers and blueprints. Operations on a server's host are posted to `jobs`."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import Count, ProtectedError
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from servers.access import (
    SignedInRequest,
    get_blueprint,
    get_blueprint_or_404,
    get_server,
    sign_in_required,
)
from servers.config import find_unmoved, find_waiting, name_parts, propose_cures
from servers.content import read_overlay_rows
from servers.fleet import BoardQuery, read_board
from servers.forms import BlueprintForm, ServerForm
from servers.models import UP_STATES, Blueprint, Host, NoFreePortError, Server
from servers.pages.live import choose_renewal
from servers.pages.new_server_pages import first_steps, form_page, is_about_new, say_notes
from servers.permissions import SERVER_OPERATION_VERBS, Verb, may, verbs_of
from servers.secrets import hide_secrets
from servers.store import find_conflicts

# --- Servers ----------------------------------------------------------------------------------


@require_safe
@sign_in_required
def server_list(request: SignedInRequest) -> HttpResponse:
    """List the servers that the user may see; if there is none, offer to make the first one."""
    board = read_board(request.user, BoardQuery.read(request.GET))
    if not board.total or is_about_new(request):
        return first_steps(request)
    is_running = any(row.job and row.job.is_active for row in board.rows)
    context = {
        "board": board,
        "here": request.get_full_path(),
        "renewal": choose_renewal(is_running=is_running, has_form=True),
    }
    return render(request, "servers/list.html", context)


@require_POST
@sign_in_required
def server_move_port(request: SignedInRequest, name: str) -> HttpResponse:
    """Give a server the next free port if another program holds its own; it is started from its page."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    try:
        port = server.move_to_free_port()
    except NoFreePortError as error:
        messages.error(request, error.message)
    except IntegrityError:
        messages.error(request, _("Somebody took that port at the same moment. Please try again."))
    else:
        if port is None:
            messages.info(
                request,
                _("Port %(port)s of server %(name)s is free, so it keeps it.")
                % {"name": name, "port": server.port},
            )
        else:
            messages.success(
                request,
                _("Server %(name)s now has port %(port)s. Start it when you like.")
                % {"name": name, "port": port},
            )
    return redirect(server)


@form_page
@sign_in_required
def server_edit(request: SignedInRequest, name: str) -> HttpResponse:
    """Change a server's port, blueprint and own overrides."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    return edit_server(request, server, lead_to_server)


def edit_server(
    request: SignedInRequest,
    server: Server,
    on_saved: Callable[[SignedInRequest, Server], HttpResponse],
) -> HttpResponse:
    """Show the form of a server that the user may change, or store its input and call `on_saved`."""
    form = ServerForm(request.POST or None, instance=server, user=request.user, hosts=[])
    if request.method == "POST" and form.is_valid() and form.try_save():
        say_notes(request, form)
        return on_saved(request, server)
    may_restart = server.is_up and may(request.user, SERVER_OPERATION_VERBS["restart"], server)
    context = {"form": form, "server": server, "may_restart": may_restart}
    return render(request, "servers/form.html", context, status=form.status)


def lead_to_server(request: SignedInRequest, server: Server) -> HttpResponse:
    """Say that a server was changed, and whether that applies at once; redirect to its config."""
    text = _("Server %(server)s was saved.") % {"server": server.name}
    if server.is_up:
        text += _(" It keeps running with what it was started with until you restart it.")
    messages.success(request, text)
    return redirect("servers:config", server.name)


@form_page
@sign_in_required
def server_remove(request: SignedInRequest, name: str) -> HttpResponse:
    """Ask whether to remove a server's row, and remove it if there is no instance and no job."""
    server = get_server(request.user, name, Verb.REMOVE)
    if request.method != "POST":
        context = {
            "server": server,
            "obstacle": server.removal_obstacle(),
            "losses": describe_losses(server),
        }
        return render(request, "servers/remove.html", context)
    with transaction.atomic():
        # Requests for jobs lock the host's row too: none can slip in between the check and the removal.
        Host.objects.select_for_update(no_key=True).get(pk=server.host_id)
        server = get_server(request.user, name, Verb.REMOVE)
        obstacle = server.removal_obstacle()
        if not obstacle:
            server.delete()
    if obstacle:
        context = {"server": server, "obstacle": obstacle}
        return render(request, "servers/remove.html", context, status=409)
    messages.success(
        request,
        _("Server %(name)s was removed. Its jobs stay in the list of jobs.") % {"name": name},
    )
    return redirect("servers:list")


def describe_losses(server: Server) -> list[str]:
    """Return, in words with their numbers, what is removed together with a server's row. Six queries."""
    runs, commands = server.console_runs.count(), server.console_commands.count()
    bans, admins = server.bans.count(), server.game_admins.count()
    visits, crashes = server.player_sessions.count(), server.crashes.count()
    losses = (
        (runs, ngettext("%(count)d run of its console", "%(count)d runs of its console", runs)),
        (
            commands,
            ngettext(
                "%(count)d console command, from the audit too",
                "%(count)d console commands, from the audit too",
                commands,
            ),
        ),
        (bans, ngettext("%(count)d ban of its own", "%(count)d bans of its own", bans)),
        (admins, ngettext("%(count)d admin in the game", "%(count)d admins in the game", admins)),
        (visits, ngettext("%(count)d visit of a player", "%(count)d visits of players", visits)),
        (crashes, ngettext("%(count)d crash", "%(count)d crashes", crashes)),
    )
    return [words % {"count": count} for count, words in losses if count]


# --- Blueprints -------------------------------------------------------------------------------


@require_safe
@sign_in_required
def blueprint_list(request: SignedInRequest) -> HttpResponse:
    """List the blueprints that the user may use or see."""
    blueprints = Blueprint.objects.visible_to(request.user).select_related("owner")
    context = {
        "blueprints": blueprints.without_texts()
        .with_ordered_overlays()
        .annotate(server_count=Count("servers", distinct=True))
    }
    return render(request, "blueprints/list.html", context)


@require_safe
@sign_in_required
def blueprint_detail(request: SignedInRequest, name: str) -> HttpResponse:
    """Show what a blueprint contains, and which servers use it."""
    blueprint = get_blueprint_or_404(request.user, name)
    context = blueprint_context(request.user, blueprint)
    # To other people it would show what is in overlays that they may not read.
    if context["is_editable"]:
        conflicts = find_conflicts(blueprint.overlay_references)
        context["problems"] = propose_cures(request.user, blueprint, conflicts)
        context["unseen"] = conflicts.unseen
    return render(request, "blueprints/detail.html", context)


def blueprint_context(user: User, blueprint: Blueprint) -> dict[str, Any]:
    """Return what the pages about one blueprint show of it and of the servers that use it."""
    visible = blueprint.servers.visible_to(user).select_related("host", "owner", "blueprint")
    servers = list(visible.with_heartbeat())
    waiting = find_waiting(servers)
    verbs = verbs_of(user, blueprint)
    is_editable = Verb.CHANGE_BLUEPRINT in verbs
    arguments, config = hide_secrets(blueprint.arguments, blueprint.config)
    return {
        "blueprint": blueprint,
        "overlay_rows": read_overlay_rows(
            blueprint.ordered_overlays(), Host.objects.all(), blueprint.read_pins()
        ),
        "servers": servers,
        "rows": [(server, name_parts(waiting.get(server.pk, ()))) for server in servers],
        "restartable": find_restartable(user, servers),
        "running_count": blueprint.servers.filter(actual_state__in=UP_STATES).count(),
        "others_count": blueprint.servers.count() - len(servers),
        "is_editable": is_editable,
        "is_removable": Verb.REMOVE_BLUEPRINT in verbs,
        "shown_arguments": arguments,
        "shown_config": config,
        "secret_notes": find_unmoved(blueprint) if is_editable else [],
    }


def find_restartable(user: User, servers: Iterable[Server]) -> list[Server]:
    """Return those of `servers` that run and that `user` may restart."""
    verb = SERVER_OPERATION_VERBS["restart"]
    return [server for server in servers if server.is_up and may(user, verb, server)]


@form_page
@sign_in_required
def blueprint_create(request: SignedInRequest) -> HttpResponse:
    """Make a blueprint that the user owns."""
    blueprint = Blueprint(owner=request.user)
    form = make_blueprint_form(request, blueprint)
    if is_move(request):
        form.move(request.POST["move"])
    elif request.method == "POST" and form.is_valid() and form.try_save():
        messages.success(
            request, _("Blueprint %(blueprint)s was made.") % {"blueprint": blueprint.name}
        )
        warn_of_conflicts(request, blueprint)
        return redirect(blueprint)
    return render(request, "blueprints/form.html", {"form": form})


@form_page
@sign_in_required
def blueprint_edit(request: SignedInRequest, name: str) -> HttpResponse:
    """Change a blueprint, and so what its servers use from their next start."""
    blueprint = get_blueprint(request.user, name, Verb.CHANGE_BLUEPRINT)
    return edit_blueprint(request, blueprint, lead_to_blueprint)


def edit_blueprint(
    request: SignedInRequest,
    blueprint: Blueprint,
    on_saved: Callable[[SignedInRequest, Blueprint, list[Server]], HttpResponse],
) -> HttpResponse:
    """Show the form of a blueprint that the user may change, or store its input and call `on_saved`.

    `on_saved` gets the running servers made from it that the user may restart.
    """
    name = blueprint.name
    context = blueprint_context(request.user, blueprint)
    form = make_blueprint_form(request, blueprint)
    if is_move(request):
        form.move(request.POST["move"])
    elif request.method == "POST" and form.is_valid() and form.try_save():
        warn_of_conflicts(request, blueprint)
        return on_saved(request, blueprint, context["restartable"])
    players = [server.players or 0 for server in context["restartable"]]
    context |= {"form": form, "name": name, "players_count": sum(players)}
    return render(request, "blueprints/form.html", context, status=form.status)


def make_blueprint_form(request: SignedInRequest, blueprint: Blueprint) -> BlueprintForm:
    """Return the form with the user's input, or as it is stored, with the overlay that the address names."""
    form = BlueprintForm(request.POST or None, instance=blueprint, user=request.user)
    if request.method != "POST":
        form.offer(request.GET.get("overlay", ""))
    return form


def is_move(request: SignedInRequest) -> bool:
    """Return whether a form was sent only to move an overlay in it, without saving."""
    return request.method == "POST" and "move" in request.POST


def warn_of_conflicts(request: SignedInRequest, blueprint: Blueprint) -> None:
    """Say at saving in how many things its overlays do not fit; its page says which, and what cures that."""
    count = find_conflicts(blueprint.overlay_references).count
    if count:
        messages.warning(
            request,
            ngettext(
                "Look at its overlays: %(count)d thing does not fit. The page of %(name)s says what to do.",
                "Look at its overlays: %(count)d things do not fit. The page of %(name)s says what to do.",
                count,
            )
            % {"count": count, "name": blueprint.name},
        )


def lead_to_blueprint(
    request: SignedInRequest, blueprint: Blueprint, _restartable: list[Server]
) -> HttpResponse:
    """Say that a blueprint was changed, and whether servers wait for a restart; redirect to its page."""
    text = _("Blueprint %(blueprint)s was saved.") % {"blueprint": blueprint.name}
    if blueprint.servers.filter(actual_state__in=UP_STATES).exists():
        text += _(" Running servers keep what they were started with until they are restarted.")
    messages.success(request, text)
    return redirect(blueprint)


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
            messages.success(request, _("Blueprint %(name)s was removed.") % {"name": name})
            return redirect("servers:blueprint_list")
    context = blueprint_context(request.user, blueprint)
    return render(request, "blueprints/remove.html", context, status=status)
