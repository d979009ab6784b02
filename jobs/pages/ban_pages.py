"""The pages of a server's bans: the list, banning, lifting, and import and export as the game's own file."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from jobs.database import Channel, announce
from jobs.pages.job_lists import parse_id
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, require, sign_in_required
from servers.downloads import as_download
from servers.models import Ban, Server, bans_changed
from servers.people import (
    BanForm,
    BanListForm,
    count_game_people,
    find_player_name,
    find_room,
    full_text,
    read_known_players,
    to_steam_id,
)
from servers.permissions import Role, Verb, may
from servers.quotas import lock_person

BANS_PER_PAGE = 100
ENDED_SHOWN = 50
LONGEST_SEARCH = 64


@require_http_methods(["GET", "HEAD", "POST"])
@sign_in_required
def bans(request: SignedInRequest, name: str) -> HttpResponse:
    """List who is banned from a server, or ban somebody."""
    server = get_server_or_404(request.user, name)
    if request.method != "POST":
        form = make_form(request, server)
        form.initial["steam_id"] = request.GET.get("steam_id", "")[:64]
        return show(request, server, form)
    require(request.user, Verb.BAN, server)
    form = make_form(request, server, request.POST)
    with transaction.atomic():
        # Bans of one owner take turns: the form counts them, and looks whether that player is banned already.
        lock_person(server.owner)
        is_valid = form.is_valid()
        if is_valid:
            ban = form.make_ban(request.user.get_username())
            store(server, [ban])
    if not is_valid:
        return show(request, server, form)
    messages.success(request, _("%(player)s is banned.") % {"player": ban.name or ban.steam_id})
    return lead_back(server)


def make_form(request: SignedInRequest, server: Server, *args: Any) -> BanForm:
    """Return the form. A manager can ban on this server only, because they do not manage the others."""
    return BanForm(
        *args, server=server, may_ban_everywhere=may_ban_everywhere(request.user, server)
    )


def show(
    request: SignedInRequest, server: Server, form: BanForm, list_form: BanListForm | None = None
) -> HttpResponse:
    """Show the page: the newest bans in force, those before the ban `before`, or those that `q` finds."""
    concerned = Ban.objects.of_servers([server])
    in_force = concerned.in_force()
    text = request.GET.get("q", "").replace("\0", "")[:LONGEST_SEARCH].strip()
    before = parse_id(request.GET.get("before", ""))
    may_ban = may(request.user, Verb.BAN, server)
    wanted = in_force.filter(pk__lt=before) if before is not None else in_force
    if text:
        is_found = Q(steam_id=to_steam_id(text) or text) | Q(name__icontains=text)
        if may_ban:  # Reasons are for those who manage the server.
            is_found |= Q(reason__icontains=text)
        wanted = wanted.filter(is_found)
    shown = list(wanted[: BANS_PER_PAGE + 1])
    context = describe_head(request, server, "players") | {
        "may_ban": may_ban,
        "may_ban_everywhere": may_ban_everywhere(request.user, server),
        "bans": shown[:BANS_PER_PAGE],
        "older_before": shown[BANS_PER_PAGE - 1].pk if len(shown) > BANS_PER_PAGE else None,
        "is_newest": before is None,
        "text": text,
        "ended": concerned.exclude(pk__in=in_force.values("pk"))[:ENDED_SHOWN],
        "game_people": count_game_people(server),
        "form": form,
        "player_name": find_player_name(server, form["steam_id"].value() or ""),
        "known_players": read_known_players(server),
        "list_form": list_form or BanListForm(server=server),
    }
    return render(request, "servers/bans.html", context)


def store(server: Server, new: list[Ban]) -> None:
    """Store bans; the workers apply them to the servers within a second."""
    with transaction.atomic():
        Ban.objects.bulk_create(new)
        announce(Channel.PAGES)
    bans_changed.send(sender=Ban, server=server, is_lifted=False, bans=new)


def lead_back(server: Server) -> HttpResponse:
    """Redirect to the list."""
    return HttpResponseRedirect(reverse("jobs:bans", args=[server.name]), status=303)


@require_POST
@sign_in_required
def ban_lift(request: SignedInRequest, name: str, pk: int) -> HttpResponse:
    """End a ban before its time."""
    server = get_server(request.user, name, Verb.BAN)
    ban = get_object_or_404(Ban.objects.of_servers([server]), pk=parse_id(str(pk)))
    if ban.server_id is None and not may_ban_everywhere(request.user, server):
        messages.error(
            request,
            _("That ban is for all servers of %(owner)s. Only they can lift it.")
            % {"owner": server.owner},
        )
        return lead_back(server)
    lifting = {"lifted_at": timezone.now(), "lifted_by_name": request.user.get_username()}
    if Ban.objects.in_force().filter(pk=ban.pk).update(**lifting):
        bans_changed.send(sender=Ban, server=server, is_lifted=True, bans=[ban])
        messages.success(
            request, _("%(player)s may play again.") % {"player": ban.name or ban.steam_id}
        )
    else:
        messages.info(request, _("That ban had already ended."))
    return lead_back(server)


def may_ban_everywhere(user: User, server: Server) -> bool:
    """Return whether `user` may make and lift bans for all servers of this one's owner."""
    return server.role_of(user) == Role.OWNER or may(user, Verb.BAN)


@require_POST
@sign_in_required
def ban_import(request: SignedInRequest, name: str) -> HttpResponse:
    """Import the lines of a `banned_user.cfg`."""
    server = get_server(request.user, name, Verb.BAN)
    form = BanListForm(request.POST, server=server)
    if form.is_valid():
        with transaction.atomic():
            # Two imports of one owner take turns, so that together they do not exceed the limit.
            lock_person(server.owner)
            new, already = form.make_bans(request.user.get_username())
            has_room = len(new) <= find_room(server)
            if has_room:
                store(server, new)
        if has_room:
            messages.success(
                request,
                _("%(taken)s imported, %(already)s already there.")
                % {"taken": len(new), "already": already},
            )
            return lead_back(server)
        form.add_error("text", full_text(server))
    return show(request, server, make_form(request, server), form)


@require_safe
@sign_in_required
def ban_export(request: SignedInRequest, name: str) -> HttpResponse:
    """Send the bans in force in the game's own format."""
    server = get_server(request.user, name, Verb.BAN)
    now = timezone.now()
    lines = [
        f"banid {ban.minutes_left(now)} {ban.steam_id}\r\n"
        for ban in Ban.objects.of_servers([server]).in_force().order_by("id")
    ]
    response = HttpResponse("".join(lines), content_type="text/plain; charset=utf-8")
    return as_download(response, "banned_user.cfg")
