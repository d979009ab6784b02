"""The pages of a server's admins in the game: the list, adding and removing."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from jobs.database import Channel, announce
from jobs.pages.job_lists import parse_id
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, require, sign_in_required
from servers.config import find_sourcemod_note
from servers.models import AdminsNote, AdminsState, Server
from servers.people import GameAdminForm, count_game_people, find_player_name, read_known_players
from servers.permissions import Verb, may


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required
def game_admins(request: SignedInRequest, name: str) -> HttpResponse:
    """List the admins of a server, or add one."""
    server = get_server_or_404(request.user, name)
    if request.method != "POST":
        form = GameAdminForm(server=server)
        steam_id = request.GET.get("steam_id", "")[:64]
        known = find_player_name(server, steam_id)
        form.initial = {"steam_id": steam_id, "name": known if known.isprintable() else ""}
        return show(request, server, form)
    require(request.user, Verb.NAME_ADMINS, server)
    form = GameAdminForm(request.POST, server=server)
    if not form.is_valid():
        return show(request, server, form)
    try:
        with transaction.atomic():
            form.save(request.user.get_username())
            AdminsNote.record(server, AdminsState.PENDING)
            announce(Channel.PAGES)
    except ValidationError as error:
        form.add_error(None, error)
        return show(request, server, form)
    return lead_back(server)


@require_POST
@sign_in_required
def game_admin_remove(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """Remove an admin."""
    server = get_server(request.user, name, Verb.NAME_ADMINS)
    admin = get_object_or_404(server.game_admins, pk=parse_id(str(pk)))
    with transaction.atomic():
        admin.delete()
        AdminsNote.record(server, AdminsState.PENDING)
        announce(Channel.PAGES)
    return lead_back(server)


def show(request: SignedInRequest, server: Server, form: GameAdminForm) -> HttpResponse:
    """Show the page."""
    may_name = may(request.user, Verb.NAME_ADMINS, server)
    note = AdminsNote.objects.filter(server=server).first()
    context = describe_head(request, server, "players") | {
        "may_name_admins": may_name,
        "admins": server.game_admins.all(),
        "note": note,
        "game_people": count_game_people(server),
        "form": form,
        "known_players": read_known_players(server),
        "sourcemod_note": find_sourcemod_note(request.user, server, note) if may_name else None,
    }
    return render(request, "servers/game_admins.html", context)


def lead_back(server: Server) -> HttpResponse:
    """Redirect to the list, where the note says what has come of the change: nothing else does beside it."""
    return HttpResponseRedirect(reverse("jobs:game_admins", args=[server.name]), status=303)
