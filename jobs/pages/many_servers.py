"""Actions on many servers at once: a question with the effect on each, then a job for each; and tags."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST

from jobs import queue
from jobs.models import Operation
from jobs.pages.job_pages import DEFERRED_HOURS
from jobs.pages.ways_back import read_next_page, see_other
from servers.access import SignedInRequest, sign_in_required
from servers.fleet import (
    BoardQuery,
    TagsError,
    add_tag,
    configurable_by,
    find_matching,
    parse_tag,
    take_tag,
)
from servers.models import Server
from servers.pages import say_taken
from servers.refusals import refuse

MOST_SERVERS = 900
"""Each is a field of the form that asks, and Django reads at most a thousand fields."""

REFUSALS_TOLD = 5


@dataclass(frozen=True)
class Action:
    """An action on many servers: its operation, the servers it makes sense for, and whether it waits."""

    name: str
    label: str | Promise
    operation: Operation
    waits: bool = False
    only_older: bool = False


ACTIONS = {
    action.name: action
    for action in (
        Action("start", gettext_lazy("Start"), Operation.START),
        Action("stop", gettext_lazy("Stop"), Operation.STOP),
        Action("restart", gettext_lazy("Restart"), Operation.RESTART),
        Action("restart-empty", gettext_lazy("Restart when empty"), Operation.RESTART, waits=True),
        Action(
            "restart-build",
            gettext_lazy("Restart onto the current build"),
            Operation.RESTART,
            only_older=True,
        ),
    )
}


@require_POST
@sign_in_required
def jobs_create(request: SignedInRequest) -> HttpResponse:
    """Ask about an `action` on each named `server`, and request it once that is `confirmed`."""
    back_to = read_next_page(request) or reverse("servers:list")
    action = ACTIONS.get(request.POST.get("action", ""))
    names = read_names(request)
    if len(names) > MOST_SERVERS:
        return refuse_so_many(request, back_to)
    if action is None or not names:
        text = _("Choose an action and select the servers it is for.")
        return refuse(request, text, back_to)
    servers, skipped = tell_apart(request.user, action, names)
    if "confirmed" in request.POST:
        taken, refusals = request_all(request.user, action, servers)
        if not servers:
            # What the question was about has changed since.
            refusals = [f"{server.name}: {reason}" for server, reason in skipped]
        say_result(request, action, taken, refusals)
        return see_other(back_to)
    context = {
        "action": action,
        "servers": servers,
        "skipped": skipped,
        "people": sum(server.players or 0 for server in servers if server.has_known_players),
        "here": back_to,
        "section": "servers",
        "throws_off": action.operation != Operation.START and not action.waits,
    }
    return render(request, "servers/many.html", context)


def tell_apart(
    user: User, action: Action, names: Iterable[str]
) -> tuple[list[Server], list[tuple[Server, str]]]:
    """Return the servers that an action applies to, and the other visible ones, each with the reason."""
    visible = Server.objects.visible_to(user).filter(name__in=list(names))
    servers, skipped = [], []
    for server in visible.select_related("host", "deferred_action").with_heartbeat():
        if action.operation not in server.operations:
            skipped.append((server, _("is %(state)s") % {"state": server.state_label}))
        elif action.operation not in server.operations_for(user):
            skipped.append((server, _("your role does not allow it")))
        elif action.only_older and not server.runs_other_build:
            skipped.append((server, _("runs the current build")))
        elif action.waits and not server.is_up:
            skipped.append((server, _("is not running")))
        else:
            servers.append(server)
    return servers, skipped


def request_all(
    user: User, action: Action, servers: Iterable[Server]
) -> tuple[list[Server], list[str]]:
    """Request an action for each server separately; return the servers that accepted it, and the refusals."""
    taken, refusals = [], []
    until = timezone.now() + timedelta(hours=DEFERRED_HOURS)
    for server in servers:
        try:
            if action.waits:
                queue.defer(action.operation, server=server, requested_by=user, until=until)
            else:
                queue.request(action.operation, server=server, requested_by=user)
        except queue.RequestRefused as refusal:
            refusals.append(f"{server.name}: {refusal}")
        else:
            taken.append(server)
    return taken, refusals


def say_result(
    request: SignedInRequest, action: Action, taken: list[Server], refusals: list[str]
) -> None:
    """Say how many servers accepted the action, and why the others did not."""
    words = ngettext("%(action)s: %(count)d server.", "%(action)s: %(count)d servers.", len(taken))
    if taken:
        messages.success(request, words % {"action": action.label, "count": len(taken)})
    else:
        messages.warning(request, _("%(action)s: nothing was done.") % {"action": action.label})
    say_refusals(request, refusals)


@require_POST
@sign_in_required
def tags_change(request: SignedInRequest) -> HttpResponse:
    """Add the `tag` to each named `server`, or remove it: `way` is `add` or `take`."""
    back_to = read_next_page(request) or reverse("servers:list")
    names = read_names(request)
    try:
        tag = parse_tag(request.POST.get("tag", ""))
    except TagsError as error:
        return refuse(request, error.messages[0], back_to)
    if not names:
        return refuse(request, _("Select the servers that the tag is for."), back_to)
    if len(names) > MOST_SERVERS:
        return refuse_so_many(request, back_to)
    servers = configurable_by(request.user).filter(name__in=names)
    others = Server.objects.visible_to(request.user).filter(name__in=names)
    left_out = others.exclude(pk__in=servers.order_by().values("pk")).count()
    if request.POST.get("way") == "take":
        say_taken(request, tag, take_tag(servers, tag))
        say_left_out(request, left_out)
        return see_other(back_to)
    count, refusals = add_tag(servers.select_related("owner").prefetch_related("tags"), tag)
    words = ngettext(
        "Tag %(tag)s was added to %(count)d server.",
        "Tag %(tag)s was added to %(count)d servers.",
        count,
    )
    say = messages.success if count else messages.warning
    say(request, words % {"tag": tag, "count": count})
    say_left_out(request, left_out)
    say_refusals(request, refusals)
    return see_other(back_to)


def say_left_out(request: SignedInRequest, count: int) -> None:
    """Say how many of the selected servers have tags that this person may not change."""
    words = ngettext(
        "%(count)d server was left out: your role on it does not allow you to change its tags.",
        "%(count)d servers were left out: your role on them does not allow you to change their tags.",
        count,
    )
    if count:
        messages.warning(request, words % {"count": count})


def say_refusals(request: SignedInRequest, refusals: list[str]) -> None:
    """Say why something was not done to the first few servers, and to how many more it was not."""
    for refusal in refusals[:REFUSALS_TOLD]:
        messages.warning(request, refusal)
    if (more := len(refusals) - REFUSALS_TOLD) > 0:
        messages.warning(request, _("%(count)d more were refused.") % {"count": more})


def read_names(request: SignedInRequest) -> list[str]:
    """Return the names of the selected servers: the ticked ones, or all that match what the list shows.

    If there are too many, it returns more than `MOST_SERVERS`. PostgreSQL refuses names that contain NUL.
    """
    if "matching" in request.POST:
        query = BoardQuery.read(QueryDict(request.POST["matching"].removeprefix("?")))
        return find_matching(request.user, query, MOST_SERVERS + 1)
    names = request.POST.getlist("server")[: MOST_SERVERS + 1]
    return [name for name in names if "\0" not in name]


def refuse_so_many(request: SignedInRequest, back_to: str) -> HttpResponse:
    """Refuse an action on more servers than one form can name."""
    text = _("Select at most %(most)d servers at a time: narrow the list by a search or a tag.")
    return refuse(request, text % {"most": MOST_SERVERS}, back_to)
