"""When a search in a log must end: after two seconds, or when its client leaves or the person starts another.

A search occupies a thread and much of the interpreter, however few lines it finds. So it goes through a log in
small parts, and asks its `SearchTurn` after each.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from django.core.handlers.asgi import ASGIRequest
from django.db import connection
from django.http import HttpRequest

SEARCH_SECONDS = 2.0

CLIENT_HAS_LEFT = "saferoom.client_has_left"
"""The key in a request's scope for the event that is set when its client leaves. See `l4d2site.asgi`."""


class ClientHasLeftError(Exception):
    """Nobody is waiting for the answer, so none is made."""


class SearchTurn:
    """One search's permission to continue."""

    def __init__(self, has_client_left: Callable[[], bool]) -> None:
        self.has_client_left = has_client_left
        self._until = monotonic() + SEARCH_SECONDS
        self.is_replaced = False
        """Whether the same person has started another search."""

    def begin(self) -> None:
        """Start the clock."""
        self._until = monotonic() + SEARCH_SECONDS

    def may_go_on(self) -> bool:
        """Return whether there is time left, and somebody is waiting for the answer."""
        return not self.is_replaced and monotonic() < self._until and not self.has_client_left()


class SearchTurns:
    """Gives each person one turn at a time. A new one ends the previous one, which nobody waits for now."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._newest: dict[int, SearchTurn] = {}
        self._searching: dict[int, SearchTurn] = {}

    @contextmanager
    def taken(self, request: HttpRequest) -> Iterator[SearchTurn]:
        """Search in the block on behalf of the request's person, once their previous search has ended.

        A search that is replaced while it waits enters at once, but may not continue. Raises
        `ClientHasLeftError` after the block if the client has left.
        """
        person = request.user.pk or 0
        turn = SearchTurn(find_departure(request))
        with self._changed:
            if person in self._newest:
                self._newest[person].is_replaced = True
                self._changed.notify_all()
            self._newest[person] = turn
            self._changed.wait_for(lambda: turn.is_replaced or person not in self._searching)
            if not turn.is_replaced:
                self._searching[person] = turn
        try:
            turn.begin()
            yield turn
        finally:
            with self._changed:
                for turns in (self._newest, self._searching):
                    if turns.get(person) is turn:
                        del turns[person]
                self._changed.notify_all()
        if turn.has_client_left():
            # Django has abandoned this thread together with the request, and releases nothing for it.
            connection.close()
            raise ClientHasLeftError


turns = SearchTurns()
"""The turns of this process: there is only one web process."""


def find_departure(request: HttpRequest) -> Callable[[], bool]:
    """Return a function that says whether the client of `request` has left. Under WSGI that is unknown."""
    has_left = request.scope.get(CLIENT_HAS_LEFT) if isinstance(request, ASGIRequest) else None
    return has_left.is_set if isinstance(has_left, threading.Event) else lambda: False
