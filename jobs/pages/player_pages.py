"""The pages of players: who is on a server, who was, kicking, and messages to them."""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from jobs.command_requests import CommandRefused, send_command
from jobs.pages.command_pages import refuse_command
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, sign_in_required
from servers.console import may_say_to_one
from servers.models import PlayerSession
from servers.people import (
    BadWordsError,
    count_game_people,
    find_player_news,
    kick_command,
    private_say_command,
    say_command,
)
from servers.permissions import Verb
from servers.refusals import refuse

SESSIONS_SHOWN = 100
NO_PRIVATE_SAY = gettext_lazy(
    "This server has no command for messages to one player: the game has none, and SourceMod’s "
    "(sm_psay, from its plugin basechat) was not loaded when the server listed its commands."
)


@require_safe
@sign_in_required
def players(request: SignedInRequest, name: str) -> HttpResponse:
    """Show who is on a server, and who was on recently."""
    server = get_server_or_404(request.user, name)
    sessions = PlayerSession.objects.filter(server=server)
    head = describe_head(request, server, "players")
    context = head | {
        "game_people": count_game_people(server),
        "people": sessions.open(),
        "news": find_player_news(request.user, server),
        "may_tell_one": may_say_to_one(server) if Verb.COMMAND in head["verbs"] else None,
        "past": sessions.exclude(left_at=None)[:SESSIONS_SHOWN],
    }
    return render(request, "servers/players.html", context)


@require_POST
@sign_in_required
def player_kick(request: SignedInRequest, name: str) -> HttpResponse:
    """Kick somebody from a server, with a reason."""
    posted = request.POST
    make = partial(kick_command, posted.get("steam_id", ""), posted.get("reason", ""))
    return tell(request, name, make)


@require_POST
@sign_in_required
def player_tell(request: SignedInRequest, name: str) -> HttpResponse:
    """Send a message to one player, on a server whose SourceMod can do that."""
    posted = request.POST
    server = get_server(request.user, name, Verb.COMMAND)
    if server.is_up and not may_say_to_one(server):
        page = reverse("jobs:players", args=[name])
        return refuse(request, str(NO_PRIVATE_SAY), page, HTTPStatus.CONFLICT)
    make = partial(private_say_command, posted.get("steam_id", ""), posted.get("text", ""))
    return tell(request, name, make)


@require_POST
@sign_in_required
def players_say(request: SignedInRequest, name: str) -> HttpResponse:
    """Send a message to everybody on a server."""
    return tell(request, name, partial(say_command, request.POST.get("text", "")))


def tell(request: SignedInRequest, name: str, make_command: Callable[[], str]) -> HttpResponse:
    """Send the command that `make_command` returns to a server, and redirect to its players.

    Their page shows the outcome.
    """
    server = get_server(request.user, name, Verb.COMMAND)
    page = reverse("jobs:players", args=[name])
    try:
        send_command(server, make_command(), requested_by=request.user)
    except BadWordsError as error:
        return refuse(request, str(error), page, HTTPStatus.BAD_REQUEST)
    except CommandRefused as refusal:
        return refuse_command(request, refusal, page)
    return HttpResponseRedirect(page, status=HTTPStatus.SEE_OTHER)
