"""The screen that makes servers: the game, what is played, and the progress of the new server.

People without any server get it in place of the list. The code that starts a server made here is in
`jobs.pages.make_and_start`.
"""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from servers.access import SignedInRequest, sign_in_required
from servers.config import GameOnHost, read_games
from servers.forms import NewServerForm, ServerForm
from servers.models import ActualState, Blueprint, Host, Server
from servers.pages.live import choose_renewal
from servers.permissions import Verb, may
from servers.quotas import find_server_obstacle
from servers.refusals import refuse_program, wants_json

MADE_PARAMETER = "made"
"""Names the server that was just made; the screen shows its progress."""

form_page: Callable[..., Callable[..., HttpResponse]] = require_http_methods(
    ["GET", "HEAD", "POST"]
)


def is_about_new(request: HttpRequest) -> bool:
    """Return whether the address is that of the screen with a server that was just made."""
    return MADE_PARAMETER in request.GET


def first_steps(request: SignedInRequest) -> HttpResponse:
    """Show the screen in place of the list of servers."""
    return show_screen(request, make_form(request), reverse("servers:list"))


@form_page
@sign_in_required
def server_create(request: SignedInRequest) -> HttpResponse:
    """Show the screen, or make a server that the user owns and redirect to its page."""
    return create_server(request, lead_to_new_server)


def create_server(
    request: SignedInRequest, on_made: Callable[[SignedInRequest, Server], HttpResponse]
) -> HttpResponse:
    """Make the server that the form describes and call `on_made`; if it cannot be made, show the form again."""
    form = make_form(request)
    if request.method == "POST" and form.is_valid():
        if not form.instance.host_id:
            form.instance.host = Host.local()
        if form.try_save():
            say_notes(request, form)
            return on_made(request, form.instance)
    if form.has_error(NON_FIELD_ERRORS, "too_many_servers"):
        status = HTTPStatus.TOO_MANY_REQUESTS
        if wants_json(request):
            return refuse_program(str(form.non_field_errors()[0]), status)
        return show_screen(request, form, reverse("servers:create"), status)
    return show_screen(request, form, reverse("servers:create"))


def lead_to_new_server(request: SignedInRequest, server: Server) -> HttpResponse:
    """Say that a server was made, and redirect to its page."""
    messages.success(
        request, _("Server %(name)s was made. Start it when you like.") % {"name": server.name}
    )
    return redirect(server)


def make_form(request: SignedInRequest) -> NewServerForm:
    """Return the form, with the user's input, or with the blueprint that the address names."""
    usable = Blueprint.objects.usable_by(request.user)
    wanted = request.GET.get("blueprint")
    return NewServerForm(
        request.POST or None,
        instance=Server(owner=request.user),
        initial={"blueprint": usable.filter(name=wanted).first() if wanted else None},
        user=request.user,
        hosts=list(Host.objects.all()),
    )


def show_screen(
    request: SignedInRequest,
    form: NewServerForm,
    page: str,
    status: HTTPStatus = HTTPStatus.OK,
) -> HttpResponse:
    """Render the screen at the address `page`, to which its forms return."""
    user = request.user
    games = read_games(Host.objects.all())
    may_install = may(user, Verb.INSTALL)
    context: dict[str, Any] = {
        "form": form,
        "games": games,
        "is_game_ready": any(game.host.build_id for game in games),
        "may_install": may_install,
        "start_note": describe_start(games, may_install=may_install),
        "is_first": page == reverse("servers:list"),
        "page": page,
        "here": page,
    }
    made = find_made(request)
    is_running = any(game.is_coming for game in games)
    if made:
        context |= describe_made(user, made, games)
        context["here"] = f"{page}?{MADE_PARAMETER}={made.name}"
        is_running = is_running or bool(context["made_job"] and context["made_job"].is_active)
    elif request.method != "POST":
        context["obstacle"] = find_server_obstacle(user) or Host.objects.placement_obstacle()
    context["renewal"] = choose_renewal(is_running=is_running, has_form=made is None)
    return render(request, "servers/new.html", context, status=status)


def describe_start(games: Sequence[GameOnHost], *, may_install: bool) -> str:
    """Return in a sentence what a new server waits for before it starts; empty if nothing is known."""
    if any(game.host.build_id for game in games):
        return ""
    if any(game.is_coming for game in games):
        return _("The game is being installed. The server starts as soon as it is there.")
    if may_install:
        return _("The game is not installed yet. This installs it first.")
    return _(
        "The game is not installed yet. You can make the server now and start it once the game is"
        " there."
    )


def describe_made(user: User, made: Server, games: Sequence[GameOnHost]) -> dict[str, Any]:
    """Return what the screen says about the server that was just made."""
    # `jobs` imports this package, not the other way round.
    job: Any = made.jobs.first()
    waiting = ""
    if job is not None and job.state == "queued":
        is_coming = any(game.is_coming for game in games if game.host == made.host)
        host = made.host.name
        waiting = (
            _("It starts once the game is installed on host %(host)s.") % {"host": host}
            if is_coming
            else _("It is waiting for its turn on host %(host)s.") % {"host": host}
        )
    return {
        "made": made,
        "made_job": job,
        "made_waiting": waiting,
        "is_made_in_hand": may(user, Verb.OPERATE, made),
        "is_playable": made.shown_state == ActualState.RUNNING,
    }


def find_made(request: SignedInRequest) -> Server | None:
    """Return the server that the address names as just made, if the user may see it."""
    name = request.GET.get(MADE_PARAMETER)
    if request.method == "POST" or not name:
        return None
    visible = Server.objects.visible_to(request.user).select_related("host", "blueprint", "owner")
    return visible.with_heartbeat().filter(name=name).first()


def say_notes(request: SignedInRequest, form: ServerForm) -> None:
    """Report what the form did besides storing the input."""
    for note in form.notes:
        messages.info(request, note)
