"""Checks whether servers are empty whose actions wait for that: `DeferredAction`."""

from collections.abc import Callable
from time import monotonic

from django.utils import timezone
from django.utils.translation import gettext as _

from jobs.models import DeferredAction
from jobs.queue import carry_out_deferral, end_deferral
from jobs.watch.player_watch import PlayerWatch
from servers.models import ActualState, DesiredState, Host, Server

EMPTY_SECONDS = 30
"""How long a server has to be empty: between two chapters people leave and come back."""


class EmptyWatch:
    """Watches the deferred actions of one host. For use by the thread that asks for players.

    A server counts as empty once two checks at least `EMPTY_SECONDS` apart, and all checks in between, have
    found nobody on it. Each check needs a new answer: an unknown number is not zero, and what was stored before
    this worker began does not count.
    """

    def __init__(
        self, host: Host, players: PlayerWatch, clock: Callable[[], float] = monotonic
    ) -> None:
        self._host = host
        self._players = players
        self._clock = clock
        self._seen_sweeps = 0
        self._empty_since: dict[int, float] = {}

    def look(self) -> None:
        """Carry out actions whose time has come; end those that are overdue or pointless. Call this often."""
        if self._players.sweeps == self._seen_sweeps:
            return
        self._seen_sweeps = self._players.sweeps
        waiting = DeferredAction.objects.filter(server__host=self._host, ended_at=None)
        actions = list(waiting.select_related("server__host", "requested_by"))
        self._empty_since = {
            action.pk: self._empty_since[action.pk]
            for action in actions
            if action.pk in self._empty_since
        }
        for action in actions:
            self._look_at(action)

    def _look_at(self, action: DeferredAction) -> None:
        if reason := find_end(action):
            end_deferral(action, reason)
        elif not is_empty(action.server):
            self._empty_since.pop(action.pk, None)
        elif self._clock() - self._empty_since.setdefault(action.pk, self._clock()) >= (
            EMPTY_SECONDS
        ):
            carry_out_deferral(action)


def find_end(action: DeferredAction) -> str:
    """Return in a sentence why an action will not be done; an empty text while it waits."""
    server = action.server
    is_down = server.actual_state in (ActualState.STOPPED, ActualState.ABSENT)
    if is_down and server.desired_state == DesiredState.STOPPED:
        return _("It was stopped in the meantime.")
    if timezone.now() >= action.until:
        return _("In that time it was never seen empty for %(seconds)d seconds.") % {
            "seconds": EMPTY_SECONDS
        }
    return ""


def is_empty(server: Server) -> bool:
    """Return whether it is known that nobody plays on a server: it says so, or it is down."""
    if server.actual_state in (ActualState.CRASHED, ActualState.STOPPED, ActualState.ABSENT):
        return True
    return server.actual_state == ActualState.RUNNING and server.players == 0
