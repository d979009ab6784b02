"""The console commands that are about people, made from what somebody typed."""

import re

from django.utils.translation import gettext as _

from servers.models import MAX_COMMAND_BYTES

STEAM_ID = re.compile(r"STEAM_1:[01]:[0-9]{1,10}")
MAX_WORDS_CHARS = 120


class BadWordsError(ValueError):
    """A text cannot be part of a command; what it says is for people."""


def kick_command(steam_id: str, reason: str) -> str:
    """Return what kicks somebody. Raises `BadWordsError`.

    By Steam id: a user id may be another's by the time at which it arrives, and a name can be anybody's.
    """
    if not STEAM_ID.fullmatch(steam_id):
        raise BadWordsError(_("That is not a Steam ID such as STEAM_1:0:12345."))
    words = to_words(reason)
    return to_command(f"kickid {steam_id} {words}".rstrip())


def say_command(text: str) -> str:
    """Return what says something to all on a server. Raises `BadWordsError`."""
    words = to_words(text)
    if not words:
        raise BadWordsError(_("Type what to say."))
    return to_command(f"say {words}")


def private_say_command(steam_id: str, text: str) -> str:
    """Return what says something to one player, with SourceMod. Raises `BadWordsError`.

    SourceMod shows all behind the target as it stands there, quotes too: so it is quoted only where the console
    would take a part of it for something else.
    """
    if not STEAM_ID.fullmatch(steam_id):
        raise BadWordsError(_("That is not a Steam ID such as STEAM_1:0:12345."))
    words = to_words(text)
    if not words:
        raise BadWordsError(_("Type what to say."))
    plain = words[1:-1]
    is_plain = ";" not in plain and "//" not in plain
    return to_command(f'sm_psay "#{steam_id}" {plain if is_plain else words}')


def to_command(line: str) -> str:
    """Return a command, if the engine takes all of it: a longer one it drops, and says so to nobody."""
    if len(line.encode()) > MAX_COMMAND_BYTES:
        raise BadWordsError(
            _("The game takes commands of at most %(max_command_bytes)s bytes.")
            % {"max_command_bytes": MAX_COMMAND_BYTES}
        )
    return line


def to_words(text: str) -> str:
    """Return a text as a command can carry it: quoted, so that no part of it is a command of its own."""
    text = " ".join(text.split())
    if not text:
        return ""
    if len(text) > MAX_WORDS_CHARS:
        raise BadWordsError(
            _("Use at most %(max_words_chars)s characters: the game cuts off longer texts.")
            % {"max_words_chars": MAX_WORDS_CHARS}
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise BadWordsError(_("The text cannot contain control characters."))
    # There is no way to escape a quote in the engine's console.
    return '"' + text.replace('"', "'") + '"'
