"""Checks what is typed into a server's console: what is refused, what needs confirmation, and why."""

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext

from hostops.specs import MOVING, NO_COMMANDS, SECRETS, names_used, split_commands, split_words
from servers.models import MAX_COMMAND_BYTES

ENDING = gettext_noop(
    "“{name}” ends the server, and Saferoom would take that for a crash. Use Stop or Restart "
    "instead, which also tell you how many people are on."
)
SECRET = gettext_noop(
    "“{name}” sets a secret, which would show up in the command history: {where}."
)
PASSED_ON = gettext_noop("“{name}” only passes a command on. Type that command itself.")
MOVE = gettext_noop("“{name}” would move the server to another port or address: {where}.")
PASSING = ("rcon", "sm_rcon")
LEAVING_PLAYERS = {
    "map": gettext_noop("This ends the current game and disconnects everybody."),
    "changelevel": gettext_noop("This takes everybody to another map immediately."),
}
"""Commands that need confirmation if people are on the server, and what they do."""


@dataclass(frozen=True)
class Judgement:
    """Objections to sending a line: `refusal` is final, `question` can be confirmed."""

    refusal: str = ""
    question: str = ""


def judge(line: str, players: int | None) -> Judgement:
    """Return the objections to sending `line` to a server with this many people; None means unknown.

    Checks each command in it, and commands that others execute, such as `alias x quit`. It cannot know what a
    cfg file or a plugin does with a command.
    """
    if not line.strip():
        return Judgement(_("Type a command."))
    if any(ord(character) < 32 or ord(character) == 127 for character in line):
        return Judgement(_("A command is one line, without control characters."))
    if len(line.encode("utf-8", "replace")) > MAX_COMMAND_BYTES:
        return Judgement(
            _("The game takes commands of at most %(max_command_bytes)s bytes.")
            % {"max_command_bytes": MAX_COMMAND_BYTES}
        )
    if line.encode("utf-8", "replace").decode() != line:
        return Judgement(_("That is not text."))
    question = ""
    for command in split_commands(line):
        names = list(names_used(command))
        if refusal := find_refusal(command, names):
            return Judgement(refusal)
        # An unknown number of people is not zero.
        if players != 0 and names and len(split_words(command)) > 1:
            question = question or _(LEAVING_PLAYERS.get(names[0], ""))
    if question:
        on = (
            _("The panel does not know how many people are on.")
            if players is None
            else count_people(players)
        )
        question = f"{question} {on}"
    return Judgement(question=question)


def find_refusal(command: str, names: list[str]) -> str:
    """Return why a command is never sent, given the names used in it; empty if it may be."""
    for position, name in enumerate(names):
        if name in NO_COMMANDS:
            return _(ENDING).format(name=name)
        # A name by itself asks for its value, which is shown without a password.
        is_asked = position == 0 and len(split_words(command)) == 1
        if name in PASSING:
            return _(PASSED_ON).format(name=name)
        if name in SECRETS and not is_asked:
            return _(SECRET).format(name=name, where=SECRETS[name])
        if name in MOVING and not is_asked:
            return _(MOVE).format(name=name, where=MOVING[name])
    return ""


def count_people(players: int) -> str:
    """Return how many people are on, as a sentence."""
    words = ngettext("%(count)d person is on.", "%(count)d people are on.", players)
    return words % {"count": players}
