"""How many people play where: asks the running servers of a worker's host, and stores what has changed."""

from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from django.db import transaction
from django.utils import timezone

from hostops.query.a2s import ServerInfo
from hostops.query.a2s_sweep import Sweep
from jobs import operations
from jobs.database import Channel, announce, write_turn
from jobs.logs import make_line_safe
from servers.content import find_mode_in
from servers.models import MAP_CHARS, ActualState, Host, Server

SWEEP_EVERY_SECONDS = 10
ANSWER_SECONDS = 1.5

HANGS_AFTER = timedelta(seconds=60)
"""How long a running server may leave queries unanswered: a slow one changes its map for half a minute."""


class PlayerWatch:
    """Watches the servers of one host. For use by one thread, which it never blocks."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._sweep: Sweep | None = None
        self._states: dict[int, datetime | None] = {}
        """Since when each server that was asked has been in its state: its answer is about that run."""
        self._ports: dict[int, int] = {}
        """Where each of them was asked."""
        self._unanswered: dict[int, tuple[datetime | None, datetime]] = {}
        """Of each server that did not answer: since when it runs, and since when it has not answered."""
        self._due_at = 0.0
        self.sweeps = 0
        """How many times all servers have been asked and their answers stored."""

    def store_players(self) -> None:
        """Ask all running servers at once when it is time, else collect their answers. Call this often."""
        if self._sweep is None:
            if monotonic() >= self._due_at:
                self._due_at = monotonic() + SWEEP_EVERY_SECONDS
                self._sweep = Sweep(self._find_addresses(), ANSWER_SECONDS)
        elif self._sweep.collect():
            answers = self._sweep.answers
            self.close()
            self._store(answers)
            self.sweeps += 1

    def close(self) -> None:
        """Drop the queries that have not been answered yet."""
        if self._sweep:
            self._sweep.close()
        self._sweep = None

    def _find_addresses(self) -> dict[int, str]:
        """Return the addresses to query, by port: a server with its own bind address answers there."""
        running = self._host.servers.filter(actual_state=ActualState.RUNNING)
        # The host's row may have changed since this worker read it.
        servers = running.select_related("host").only(
            *("port", "bind_address", "actual_state", "actual_state_at", "host__bind_address"),
            *("running_port", "running_address"),
        )
        self._states = {server.pk: server.actual_state_at for server in servers}
        address = operations.get_host(self._host.name).query_address
        self._ports = {server.pk: server.current_port for server in servers}
        return {server.current_port: server.own_address or address for server in servers}

    def _store(self, answers: dict[int, ServerInfo]) -> None:
        """Store what differs. If a server did not answer or does not run, its players are unknown, not zero."""
        news = []
        fields = ("pk", "actual_state", "actual_state_at", "unanswered_since", *PLAYER_FIELDS)
        for row in self._host.servers.order_by().values(*fields):
            is_running = row["actual_state"] == ActualState.RUNNING
            if is_running and self._states.get(row["pk"]) != row["actual_state_at"]:
                continue  # It may have been restarted since it was asked: the next sweep counts.
            port = self._ports.get(row["pk"]) if is_running else None
            info = answers.get(port) if port else None
            told: dict[str, Any] = describe_players(info)
            told["unanswered_since"] = self._find_silence(
                row, is_silent=bool(port) and info is None
            )
            if told != {name: row[name] for name in told}:
                news.append((row, told))
        if not news:
            return
        with write_turn(), transaction.atomic():
            for row, told in news:
                seen = {name: row[name] for name in ("pk", "actual_state", "actual_state_at")}
                as_seen = Server.objects.filter(**seen)
                as_seen.update(**told, updated_at=timezone.now())
            announce(Channel.PAGES)

    def _find_silence(self, row: dict[str, Any], *, is_silent: bool) -> datetime | None:
        """Return since when a server has left queries unanswered; None if it answers, or has only just not."""
        if not is_silent:
            self._unanswered.pop(row["pk"], None)
            return None
        run_began, stored, now = row["actual_state_at"], row["unanswered_since"], timezone.now()
        # Another worker may have stored it before this one was started.
        is_known = stored is not None and (run_began is None or stored >= run_began)
        seen_run, since = self._unanswered.get(row["pk"]) or (
            run_began,
            stored if is_known else now,
        )
        if seen_run != run_began:
            since = now
        self._unanswered[row["pk"]] = run_began, since
        return since if now - since >= HANGS_AFTER else None


PLAYER_FIELDS = ("players", "max_players", "map", "mode")


def describe_players(info: ServerInfo | None) -> dict[str, int | str | None]:
    """Return the fields of a server's row from an answer; without one, as unknown."""
    if info is None:
        return {"players": None, "max_players": None, "map": "", "mode": ""}
    return {
        "players": max(info.players - info.bots, 0),
        "max_players": info.max_players,
        "map": make_line_safe(info.map, MAP_CHARS)[:MAP_CHARS],
        "mode": find_mode_in(info.keywords),
    }
