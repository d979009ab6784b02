"""The outcome of somebody's latest kick or message, in words: the page of players shows it above the list."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db.models import Q
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from servers.models import CommandState, ConsoleCommand, PlayerSession, Server

RECENT = timedelta(minutes=10)
_TARGET = re.compile(r"STEAM_1:[01]:[0-9]{1,10}")
_NOT_ON = re.compile(r"not found|No matching client", re.IGNORECASE)
"""The answers of `kickid` and of SourceMod's `sm_psay` if the player has left."""

_UNKNOWN_COMMAND = "Unknown command"


@dataclass(frozen=True)
class Deed:
    """The sentences about a kick or a message: each gets the `name` of the player, if there is one."""

    beginning: str
    pending: str | Promise
    done: str | Promise
    not_on: str | Promise
    unsure: str | Promise


KICK = Deed(
    "kickid STEAM_",
    gettext_lazy("Kicking %(name)s…"),
    gettext_lazy("%(name)s was kicked."),
    gettext_lazy("Nobody was kicked: %(name)s is no longer on."),
    gettext_lazy("Whether %(name)s was kicked is not known: the server did not answer."),
)
TELL = Deed(
    'sm_psay "#STEAM_',
    gettext_lazy("Telling %(name)s…"),
    gettext_lazy("%(name)s was told."),
    gettext_lazy("Nobody was told: %(name)s is no longer on."),
    gettext_lazy("Whether %(name)s was told is not known: the server did not answer."),
)
SAY = Deed(
    'say "',
    gettext_lazy("Saying it to everybody…"),
    gettext_lazy("Said to everybody who is on."),
    gettext_lazy("Said, but nobody was on."),
    gettext_lazy("Whether it was said is not known: the server did not answer."),
)
DEEDS = (KICK, TELL, SAY)


@dataclass(frozen=True)
class PlayerNews:
    """A sentence about a `command`; `is_bad` if it did not do what it was for."""

    command: ConsoleCommand
    sentence: str
    is_bad: bool = False

    @property
    def at(self) -> datetime:
        """When it was sent off."""
        return self.command.created_at


def find_player_news(user: User, server: Server) -> PlayerNews | None:
    """Return the outcome of the latest kick or message that `user` sent; None if that was long ago.

    Costs two queries at the most.
    """
    is_deed = Q()
    for deed in DEEDS:
        is_deed |= Q(text__startswith=deed.beginning)
    since = timezone.now() - RECENT
    sent = server.console_commands.shown().filter(requested_by=user, created_at__gte=since)
    command = sent.filter(is_deed).first()
    if command is None:
        return None
    command.server = server
    return describe_deed(command)


def describe_deed(command: ConsoleCommand) -> PlayerNews:
    """Return the outcome of a command of this page, judging by its state and the server's answer."""
    deed = next(one for one in DEEDS if command.text.startswith(one.beginning))
    target = _TARGET.search(command.text) if deed is not SAY else None
    names = {"name": name_player(command, target[0])} if target else {}
    if not command.is_finished:
        return PlayerNews(command, str(deed.pending) % names)
    if command.state == CommandState.FAILED:
        return PlayerNews(command, _("That was not sent: %(why)s") % {"why": command.remark}, True)
    if command.state != CommandState.ANSWERED:
        return PlayerNews(command, str(deed.unsure) % names, True)
    answer = vars(command)["answer_head"]
    if _UNKNOWN_COMMAND in answer:
        return PlayerNews(command, _("Nothing was done: the server lacks that command."), True)
    if deed is SAY:
        return PlayerNews(command, describe_audience(command))
    is_off = bool(_NOT_ON.search(answer))
    return PlayerNews(command, str(deed.not_on if is_off else deed.done) % names, is_off)


def find_kicked(command: str, answer: str) -> str:
    """Return the Steam ID of the player whom an answered command has kicked; empty if it has kicked nobody."""
    target = _TARGET.search(command) if command.startswith(KICK.beginning) else None
    is_done = not _NOT_ON.search(answer) and _UNKNOWN_COMMAND not in answer
    return target[0] if target and is_done else ""


def name_targets(commands: list[ConsoleCommand]) -> dict[int, str]:
    """Return, by the command's id, whom each kick and message to one player meant. One query at most.

    By their last name on that server, or the Steam ID.
    """
    targets = {
        command.pk: (command.server_id, target[0])
        for command in commands
        if command.text.startswith((KICK.beginning, TELL.beginning))
        and (target := _TARGET.search(command.text))
    }
    if not targets:
        return {}
    sessions = PlayerSession.objects.filter(
        server__in={server for server, _steam_id in targets.values()},
        steam_id__in={steam_id for _server, steam_id in targets.values()},
    )
    oldest_first = sessions.order_by("joined_at", "id")
    names = {
        (server, steam_id): name
        for server, steam_id, name in oldest_first.values_list("server_id", "steam_id", "name")
    }
    return {pk: names.get(target) or target[1] for pk, target in targets.items()}


def describe_audience(command: ConsoleCommand) -> str:
    """Return to how many players something was said: those known to be on when it was sent."""
    at = command.sent_at or command.created_at
    sessions = PlayerSession.objects.filter(server=command.server_id, joined_at__lte=at)
    count = sessions.filter(Q(left_at=None) | Q(left_at__gte=at)).count()
    if count:
        words = ngettext("Said to %(count)d player.", "Said to %(count)d players.", count)
        return words % {"count": count}
    return str(SAY.not_on if command.server.players == 0 else SAY.done)


def name_player(command: ConsoleCommand, steam_id: str) -> str:
    """Return what the player with a Steam ID was called last; the Steam ID if they had no name."""
    sessions = PlayerSession.objects.filter(server=command.server_id, steam_id=steam_id)
    return sessions.values_list("name", flat=True).first() or steam_id
