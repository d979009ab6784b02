"""The pages of what a server plays: its map and mode, now and from its next start."""

from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from jobs.command_requests import CommandRefused, change_map
from jobs.pages.command_pages import ask, refuse_command
from jobs.pages.server_heads import describe_head
from servers.access import SignedInRequest, get_server, get_server_or_404, sign_in_required
from servers.console import judge
from servers.content import (
    MapChoice,
    MapChoices,
    NextStart,
    find_obstacle_now,
    map_command,
    read_choices,
    read_next_start,
    save_next_start,
    tell_outcome,
)
from servers.models import MapChange, Server
from servers.permissions import Verb
from servers.refusals import refuse

LONGEST_CHOICE = 400
"""How many characters a page repeats of an invalid key of a campaign or a chapter."""

GONE = gettext_lazy("That chapter does not exist, or no longer does. Choose one from the list.")


@require_safe
@sign_in_required
def server_map(request: SignedInRequest, name: str) -> HttpResponse:
    """Show what a server plays, what it will start with, and what it can be told to play."""
    server = get_server_or_404(request.user, name)
    return show_map(request, server, read_choices(server), request.GET.get("campaign", ""))


def show_map(
    request: SignedInRequest,
    server: Server,
    choices: MapChoices,
    campaign: str = "",
    mismatch: str = "",
) -> HttpResponse:
    """Answer with the page; with a `mismatch`, a refusal of a chapter that is not of the chosen campaign."""
    change = MapChange.objects.filter(server=server).select_related("command").first()
    next_start = read_next_start(server)
    head = describe_head(request, server, "map")
    verbs = head["verbs"]
    is_history = bool(change and change.is_history(server, head["shown"].up_since))
    context = head | {
        "here": reverse("jobs:map", args=[server.name]),
        "mismatch": mismatch,
        "may_choose": Verb.CONFIGURE in verbs or (server.is_up and Verb.COMMAND in verbs),
        "choices": choices,
        "change": change,
        "outcome": tell_outcome(change, choices, is_history=is_history) if change else "",
        "outcome_kind": change.notice_kind if change and not is_history else "",
        "playing": choices.describe(server.map, server.mode) if server.map else "",
        "next_start": next_start,
        "next_words": describe_next(next_start, choices),
        **describe_choice(request, server, choices, campaign, next_start),
    }
    status = HTTPStatus.CONFLICT if mismatch else HTTPStatus.OK
    return render(request, "servers/map.html", context, status=status)


@require_POST
@sign_in_required
def map_chapters(request: SignedInRequest, name: str) -> HttpResponse:
    """Show the chapters of the campaign that was chosen without scripts."""
    get_server_or_404(request.user, name)
    sent = urlencode({"campaign": request.POST.get("campaign", "")[:LONGEST_CHOICE]})
    page = f"{reverse('jobs:map', args=[name])}?{sent}#choose-heading"
    return HttpResponseRedirect(page, status=HTTPStatus.SEE_OTHER)


def refuse_mismatch(
    request: SignedInRequest, server: Server, choices: MapChoices, choice: MapChoice
) -> HttpResponse | None:
    """Refuse a chapter that is not of the campaign sent with it, and show that one's; None if it is.

    Without scripts the chapters stay those of the campaign that was chosen before.
    """
    key = request.POST.get("campaign", "")
    campaign = choices.find_campaign(key)
    if not key or (campaign and campaign.has(choice.value)):
        return None
    if campaign is None:
        page = find_chooser(request, server.name)
        return refuse(request, str(GONE), page, HTTPStatus.CONFLICT)
    text = _("These are the chapters of %(campaign)s: choose one.") % {"campaign": campaign.title}
    return show_map(request, server, choices, key, text)


def describe_next(next_start: NextStart | None, choices: MapChoices) -> str:
    """Return in words what a server's next start loads; an empty text if its arguments name no map."""
    return (
        choices.describe(next_start.map, next_start.mode) if next_start and next_start.map else ""
    )


def describe_choice(
    request: SignedInRequest,
    server: Server,
    choices: MapChoices,
    key: str,
    next_start: NextStart | None,
) -> dict[str, Any]:
    """Return the campaign whose chapters the page lists, and the chapter that is selected at first.

    They are those of `key` and of the address, else what the server plays, else what it will start with.
    """
    chosen = choices.find(request.GET.get("choice", ""))
    if chosen is None and server.map:
        chosen = choices.find_map(server.map, server.mode)
    if chosen is None and next_start and next_start.map:
        chosen = choices.find_map(next_start.map, next_start.mode)
    campaign = choices.find_campaign(key)
    if campaign is None and chosen is not None:
        campaign = choices.campaign_of(chosen)
    if campaign is None and choices.campaigns:
        campaign = choices.campaigns[0]
    return {"campaign": campaign, "chosen": chosen.value if chosen else ""}


def find_chooser(request: SignedInRequest, name: str) -> str:
    """Return the address of the map's page as it was when its form was sent: with that campaign and chapter."""
    typed = {key: request.POST.get(key, "") for key in ("campaign", "choice")}
    sent = {key: text[:LONGEST_CHOICE] for key, text in typed.items() if text}
    page = reverse("jobs:map", args=[name])
    return f"{page}?{urlencode(sent)}" if sent else page


@require_POST
@sign_in_required
def map_now(request: SignedInRequest, name: str) -> HttpResponse:
    """Tell a running server to play a chapter; ask first if people are on."""
    server = get_server(request.user, name, Verb.COMMAND)
    page = find_chooser(request, name)
    choices = read_choices(server)
    choice = choices.find(request.POST.get("choice", ""))
    if choice is None:
        return refuse(request, str(GONE), page, HTTPStatus.CONFLICT)
    if refusal := refuse_mismatch(request, server, choices, choice):
        return refusal
    if server.is_up and (obstacle := find_obstacle_now(server, choice)):
        return refuse(request, obstacle, page, HTTPStatus.CONFLICT)
    line = map_command(server, choice)
    question = judge(line, server.players).question if server.is_up else ""
    if question and request.POST.get("confirmed") != line:
        fields = {
            "choice": choice.value,
            "campaign": request.POST.get("campaign", "")[:LONGEST_CHOICE],
        }
        action = reverse("jobs:map_now", args=[name])
        return ask(request, server, line, question, action, fields, back_to=page, what=choice.title)
    try:
        change_map(server, line, choice.map, choice.mode, requested_by=request.user)
    except CommandRefused as reason:
        return refuse_command(request, reason, page)
    messages.success(request, _("Told to play %(what)s.") % {"what": choice.title})
    return HttpResponseRedirect(page, status=HTTPStatus.SEE_OTHER)


@require_POST
@sign_in_required
def map_next(request: SignedInRequest, name: str) -> HttpResponse:
    """Store what a server starts with next time; with `forget`, leave that to its blueprint."""
    server = get_server(request.user, name, Verb.CONFIGURE)
    page = find_chooser(request, name)
    choice = None
    if "forget" not in request.POST:
        choices = read_choices(server)
        choice = choices.find(request.POST.get("choice", ""))
        if choice is None:
            return refuse(request, str(GONE), page, HTTPStatus.CONFLICT)
        if refusal := refuse_mismatch(request, server, choices, choice):
            return refusal
    try:
        with transaction.atomic():
            # Locked, so that this and the server's form, saved at the same moment, do not overwrite each other.
            locked = Server.objects.select_for_update(no_key=True, of=("self",))
            rows = locked.select_related("blueprint", "host")
            server = get_object_or_404(rows, pk=server.pk)
            save_next_start(server, choice)
    except ValidationError as error:
        text = _("The map does not fit the launch arguments: %(why)s") % {
            "why": " ".join(error.messages)
        }
        return refuse(request, text, page, HTTPStatus.CONFLICT)
    messages.success(request, tell_stored(server, choice))
    return HttpResponseRedirect(page, status=HTTPStatus.SEE_OTHER)


def tell_stored(server: Server, choice: MapChoice | None) -> str:
    """Return in words what a server starts with from now on."""
    if choice is None:
        if server.is_up:
            return _("From its next start, its blueprint decides what it starts with.")
        return _("Its blueprint decides what it starts with.")
    what = {"what": choice.title}
    if server.is_up:
        return _("From its next start, it starts with %(what)s.") % what
    return _("It starts with %(what)s.") % what
