"""Keeps the servers of a host as they should be, for all keepers: which is due, and when one is tried again."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Generic, TypeVar

from servers.models import Server

RETRY_SECONDS = 10.0
TURN_SECONDS = 5.0
"""How long one turn spends on servers that do not answer. The next turn begins with those left out."""

Wanted = TypeVar("Wanted")


class Keeping(Generic[Wanted]):
    """What each server was last given, and when one that could not be given it is tried again.

    `given` is by the server's key. For use by one thread.
    """

    def __init__(self) -> None:
        self.given: dict[int, Wanted] = {}
        self._due_at: dict[int, float] = {}

    def take_turn(
        self,
        servers: Iterable[Server],
        find_wanted: Callable[[Server], Wanted | None],
        give: Callable[[Server, Wanted, float], bool],
    ) -> bool:
        """Give the servers that are due what they lack; return whether some still lack something.

        `find_wanted` returns None for a server that lacks nothing. `give` gets the end of the turn, on the
        monotonic clock, and returns whether it succeeded. What is known of all other servers is forgotten.
        """
        until = monotonic() + TURN_SECONDS
        rows = {server.pk: server for server in servers}
        self.given = {pk: given for pk, given in self.given.items() if pk in rows}
        self._due_at = {pk: due_at for pk, due_at in self._due_at.items() if pk in rows}
        for server in sorted(rows.values(), key=self._find_due):
            wanted = find_wanted(server)
            if wanted is None or monotonic() < self._find_due(server):
                continue
            if monotonic() > until:
                return True
            self._due_at[server.pk] = monotonic() + RETRY_SECONDS
            if give(server, wanted, until):
                self.given[server.pk] = wanted
                del self._due_at[server.pk]
        return bool(self._due_at)

    def _find_due(self, server: Server) -> float:
        return self._due_at.get(server.pk, 0.0)
