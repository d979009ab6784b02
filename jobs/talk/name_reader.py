"""Asks each game once what can be typed into its console, and keeps the answer for completion.

A game here is a build with certain overlays. The answer is long, and the same for all servers of a game, so
only the first one that runs is asked. It may be a stranger's server, with files of their own: so what it lists
is added to what other servers of the game have listed, and removes nothing.
"""

import logging
from collections.abc import Callable, Sequence
from time import monotonic

from django.db import transaction

from hostops.query.cvarlist import ListedName, parse_cvarlist
from jobs.database import Channel, announce, write_turn
from jobs.logs import make_line_safe
from jobs.talk.command_desk import masked_for
from jobs.talk.questions import Questioner
from servers.config import newest_runs
from servers.console import find_key
from servers.models import UP_STATES, ActualState, ConsoleName, ConsoleNames, Host, Server

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
RETRY_SECONDS = 300.0
"""How soon to ask again after a server did not answer, or not with a list."""

GAMES_KEPT = 50
"""How many are kept, and all that servers run: so nobody's many games push out those of others."""

NAMES_KEPT = 10_000
"""Per game. A server full of plugins has half of that."""

HELP_CHARS = 200
"""Per name."""

HELP_CHARS_KEPT = 512 * 1024
"""Per game."""
PRIVATE_SAY = "sm_psay"


class NameReader:
    """Keeps the names of the games that run on one host. For use by one thread.

    `refusing` has, by the name of a server, the run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._questioner = Questioner(host, refusing)
        self._known: set[str] = set()
        self._not_before: dict[str, float] = {}
        """By key: when the next server of that game may be asked."""

    def look(self) -> None:
        """Ask one running server of a game whose names are not known."""
        running = self._host.servers.filter(actual_state=ActualState.RUNNING).order_by("pk")
        servers = list(running.only("name", "host", "running_build_id"))
        rows = newest_runs([server.pk for server in servers])
        runs = {
            run.server_id: run for run in rows.only("server", "build_id", "overlays", "digest_key")
        }
        keys = {server.pk: find_key(server, runs.get(server.pk)) for server in servers}
        # The names of a game that no server here runs may be deleted from the database.
        self._known.intersection_update(keys.values())
        now = monotonic()
        self._not_before = {key: then for key, then in self._not_before.items() if then > now}
        unknown = {key for key in keys.values() if key} - self._known
        if unknown:
            stored = ConsoleNames.objects.filter(key__in=unknown)
            self._known.update(stored.values_list("key", flat=True))
        for server in servers:
            key = keys[server.pk]
            is_due = monotonic() >= self._not_before.get(key, 0.0)
            if key and key not in self._known and is_due:
                self._not_before[key] = monotonic() + RETRY_SECONDS
                self._read(server, key)
                return

    def _read(self, server: Server, key: str) -> None:
        unknown = "what can be typed into its console is not known"
        answer = self._questioner.ask(server, "cvarlist", ANSWER_SECONDS, unknown)
        if answer is None:
            return
        listed = parse_cvarlist(answer)
        if not listed:
            logger.warning("server %s: its answer to cvarlist is not a whole list", server.name)
            return
        mask = masked_for(Server.objects.select_related("blueprint", "host").get(pk=server.pk))
        store_names(key, [to_row(one, mask) for one in listed])
        self._known.add(key)
        del self._not_before[key]


def to_row(listed: ListedName, mask: Callable[[str], str]) -> ConsoleName:
    """Return a name made safe to store and show; `mask` takes passwords out of a text."""
    text = make_line_safe(mask(listed.help), HELP_CHARS)
    return {"name": listed.name, "help": text, "is_command": listed.is_command}


def store_names(key: str, names: Sequence[ConsoleName]) -> None:
    """Add to what can be typed into the consoles of a game, and forget games that no server runs."""
    with write_turn(), transaction.atomic():
        row, _is_new = ConsoleNames.objects.select_for_update().get_or_create(key=key)
        row.names = merge_names(row.names, names)
        row.has_private_say = any(one["name"] == PRIVATE_SAY for one in row.names)
        row.save(update_fields=["names", "has_private_say"])
        forget_games()
        announce(Channel.PAGES)


def merge_names(before: Sequence[ConsoleName], added: Sequence[ConsoleName]) -> list[ConsoleName]:
    """Return the names of two lists of one game, within limits. For a name in both, the first list wins."""
    merged: dict[str, ConsoleName] = {}
    help_chars = 0
    for one in (*before, *added):
        if one["name"] in merged or len(merged) >= NAMES_KEPT:
            continue
        help_chars += len(one["help"])
        merged[one["name"]] = one if help_chars <= HELP_CHARS_KEPT else {**one, "help": ""}
    return sorted(merged.values(), key=lambda one: one["name"])


def forget_games() -> None:
    """Forget the oldest games, except those that a server runs on any host."""
    old = dict(ConsoleNames.objects.order_by("-pk").values_list("pk", "key")[GAMES_KEPT:])
    if not old:
        return
    up = Server.objects.filter(actual_state__in=UP_STATES).only("running_build_id").in_bulk()
    runs = newest_runs(up).only("server", "build_id", "overlays", "digest_key")
    in_use = {find_key(up[run.server_id], run) for run in runs}
    ConsoleNames.objects.filter(
        pk__in=[pk for pk, key in old.items() if key not in in_use]
    ).delete()
