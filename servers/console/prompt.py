"""The parts below a server's console: the prompt, the latest commands, and one's own history."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from django.contrib.auth.models import User
from django.utils.translation import gettext as _

from servers.models import ConsoleCommand, Server
from servers.permissions import Verb, may

COMMANDS_SHOWN = 8
HISTORY_SHOWN = 50
HISTORY_READ = 200


@dataclass(frozen=True)
class Prompt:
    """The prompt of one server for one person.

    `commands` are everybody's latest, newest first. `own_history` is JSON: this person's commands, latest
    first, each once.
    """

    may_send: bool
    obstacle: str
    commands: list[ConsoleCommand]
    own_history: str


def read_prompt(user: User, server: Server) -> Prompt:
    """Return the prompt of a server that `user` may see. Costs two queries."""
    may_send = may(user, Verb.COMMAND, server)
    sent: list[str] = []
    if may_send:
        own = server.console_commands.filter(requested_by=user).order_by("-id")
        sent = list(own.values_list("text", flat=True)[:HISTORY_READ])
    return Prompt(
        may_send,
        "" if server.is_up else _("It accepts commands while it is running."),
        read_latest(server),
        json.dumps(list(islice(each_once(sent), HISTORY_SHOWN))),
    )


def read_latest(server: Server) -> list[ConsoleCommand]:
    """Return everybody's latest commands to a server, newest first."""
    return list(server.console_commands.shown()[:COMMANDS_SHOWN])


def each_once(texts: Iterable[str]) -> Iterable[str]:
    """Return `texts` without repetitions."""
    return dict.fromkeys(texts)
