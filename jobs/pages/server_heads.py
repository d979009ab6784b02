"""The head of every page of a server: its state in words, its buttons, and what its job does."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _

from jobs.models import DeferredAction, JobState
from jobs.pages.server_strips import Strip, is_news, is_told, read_dismissed, read_strip
from servers.config import describe_waiting
from servers.models import ActualState, Crash, Server
from servers.pages import Renewal, choose_renewal
from servers.permissions import Verb, verbs_of

FIRST_TAB = "console"
"""The tab that shows in full what the server's job does; the others are about something else."""


@dataclass(frozen=True)
class ShownState:
    """What the head says that a server is doing. `state` chooses the symbol: see `Server.shown_state`."""

    state: str
    label: str
    should_be_words: str = ""
    up_since: datetime | None = None
    is_joinable: bool = False


@dataclass(frozen=True)
class Tab:
    """One of the pages of a server."""

    name: str
    label: str
    url: str
    count: int = 0


def describe_head(
    request: HttpRequest, server: Server, tab: str, *, has_form: bool = True
) -> dict[str, Any]:
    """Return what `servers/_page.html` shows around a server's tab `tab`. About a dozen queries.

    `has_form` is whether the tab has something to fill in, which a page that renews itself would take away.
    """
    verbs = verbs_of(request.user, server)
    strip = read_strip(request.user, server)
    has_ended_run = strip is not None and strip.has_ended_run
    if has_ended_run:
        # On the page only. The row says what the server last answered, which was in the run that has ended.
        server.players, server.map, server.mode = None, "", ""
    shown = describe_state(server, strip)
    is_shown = strip is not None and is_news(strip, read_dismissed(request), shown.up_since)
    crashes = server.crashes.count()
    crash = find_crash(server) if crashes else None
    return {
        "server": server,
        "verbs": verbs,
        "operations": server.operations_for(request.user),
        "tab": tab,
        "tabs": list_tabs(server, verbs, crashes),
        "may_have_people": not has_ended_run and server.count_people() > 0,
        "here": request.path,
        "strip": strip if is_shown else None,
        "is_strip_folded": tab != FIRST_TAB,
        "renewal": find_renewal(server, strip, has_form=has_form),
        "is_last_error_told": is_told(server, strip) or is_crash_told(server, crash),
        "deferred": DeferredAction.objects.filter(server=server).first(),
        "waiting": describe_waiting(server, request.user if Verb.CONFIGURE in verbs else None),
        "shown": shown,
        "crash": crash,
        "removal_obstacle": server.removal_obstacle() if Verb.REMOVE in verbs else "",
    }


def describe_state(server: Server, strip: Strip | None) -> ShownState:
    """Return what a server is doing. While a job starts, restarts or stops it, the job knows more than the row.

    The row is written only once the job is over.
    """
    if strip is not None and not server.not_heard_of_since:
        if strip.has_ended_run and server.is_up:
            label = _("restarting") if strip.is_starting else _("stopping")
            return ShownState(ActualState.STARTING, label)
        if strip.is_starting and not server.is_up:
            return ShownState(ActualState.STARTING, str(ActualState.STARTING.label))
    return ShownState(
        server.shown_state,
        server.state_label,
        server.should_be_words,
        find_start(server),
        server.is_up,
    )


def find_renewal(server: Server, strip: Strip | None, *, has_form: bool) -> Renewal:
    """Return how a page of a server is renewed without scripts."""
    job = strip.job if strip else None
    # What waits while the server runs can take long: people go on using the page.
    is_used = has_form or (server.is_up and job is not None and job.state == JobState.QUEUED)
    return choose_renewal(is_running=job is not None and job.is_active, has_form=is_used)


def list_tabs(server: Server, verbs: frozenset[str], crashes: int) -> list[Tab]:
    """Return the pages of a server that a user with these `verbs` may see."""
    tabs = [Tab(FIRST_TAB, _("Console"), server.get_absolute_url())]
    if Verb.CONFIGURE in verbs:
        tabs.append(Tab("config", _("Config"), reverse("servers:config", args=[server.name])))
    return [
        *tabs,
        Tab("map", _("Map"), reverse("jobs:map", args=[server.name])),
        Tab("players", _("Players"), reverse("jobs:players", args=[server.name])),
        Tab("starts", _("Starts"), reverse("servers:starts", args=[server.name])),
        Tab("jobs", _("Jobs"), reverse("servers:history", args=[server.name])),
        Tab("crashes", _("Crashes"), reverse("servers:crashes", args=[server.name]), crashes),
        Tab("people", _("People"), reverse("server_people", args=[server.name])),
    ]


def find_start(server: Server) -> datetime | None:
    """Return since when a server has been running; None if it does not run, or that is unknown.

    A start by a job is recorded with the job's end, a restart after a crash by the console that it began.
    """
    if server.actual_state != ActualState.RUNNING or server.not_heard_of_since:
        return None
    starts = list(server.runs.values_list("started_at", flat=True)[:1])
    if server.console_run_started_at:
        starts.append(datetime.fromtimestamp(server.console_run_started_at, UTC))
    return max(starts, default=None)


def find_crash(server: Server) -> Crash | None:
    """Return the crash because of which a server is down; None if it is not down after a crash."""
    is_crashed = server.actual_state == ActualState.CRASHED and not server.not_heard_of_since
    return server.crashes.first() if is_crashed else None


def is_crash_told(server: Server, crash: Crash | None) -> bool:
    """Return whether the server's last error is its crash, of which the remark beside its state says more."""
    return crash is not None and crash.detail == server.last_error and bool(server.state_remark)
