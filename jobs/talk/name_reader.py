"""Asks each game once what can be typed into its console, and keeps that for completion.

The answer is long, and the same for every server of one build with the same overlays: only the first that runs
is asked.
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
from servers.models import ActualState, ConsoleName, ConsoleNames, Host, Server

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 5.0
RETRY_SECONDS = 300.0
"""How soon a server is asked again that did not answer, or not with a list."""

GAMES_KEPT = 50
HELP_CHARS = 200
PRIVATE_SAY = "sm_psay"


class NameReader:
    """Keeps the names of the games that run on one host. To be used by one thread.

    `refusing` has by the name of a server its run that has refused the RCON password.
    """

    def __init__(self, host: Host, refusing: dict[str, int]) -> None:
        self._host = host
        self._questioner = Questioner(host, refusing)
        self._known: set[str] = set()
        self._not_before: dict[str, float] = {}
        """By key: when the next server of that game is asked."""

    def look(self) -> None:
        """Ask one running server whose game's names nobody has."""
        running = self._host.servers.filter(actual_state=ActualState.RUNNING).order_by("pk")
        servers = list(running.only("name", "host", "running_build_id"))
        rows = newest_runs([server.pk for server in servers])
        runs = {
            run.server_id: run for run in rows.only("server", "build_id", "overlays", "digest_key")
        }
        keys = {server.pk: find_key(server, runs.get(server.pk)) for server in servers}
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
            logger.warning("server %s: its answer to cvarlist is no whole list", server.name)
            return
        mask = masked_for(Server.objects.select_related("blueprint", "host").get(pk=server.pk))
        store_names(key, [to_row(one, mask) for one in listed])
        self._known.add(key)


def to_row(listed: ListedName, mask: Callable[[str], str]) -> ConsoleName:
    """Return a name as it may be stored and shown; `mask` takes passwords out of a text."""
    text = make_line_safe(mask(listed.help), HELP_CHARS)
    return {"name": listed.name, "help": text, "is_command": listed.is_command}


def store_names(key: str, names: Sequence[ConsoleName]) -> None:
    """Store what can be typed into the consoles of a game, and forget the games that were asked longest ago."""
    has_private_say = any(one["name"] == PRIVATE_SAY for one in names)
    with write_turn(), transaction.atomic():
        ConsoleNames.objects.update_or_create(
            key=key,
            defaults={"names": list(names), "has_private_say": has_private_say},
        )
        kept = ConsoleNames.objects.order_by("-pk").values_list("pk", flat=True)[:GAMES_KEPT]
        ConsoleNames.objects.exclude(pk__in=list(kept)).delete()
        announce(Channel.PAGES)
