"""The console commands about people, made from what somebody typed."""

import re

from django.utils.translation import gettext as _

from servers.models import MAX_COMMAND_BYTES

STEAM_ID = re.compile(r"STEAM_1:[01]:[0-9]{1,10}")
MAX_WORDS_CHARS = 120


class BadWordsError(ValueError):
    """A text cannot be part of a command; the message is for people."""


def kick_command(steam_id: str, reason: str) -> str:
    """Return the command that kicks a player. Raises `BadWordsError`.

    It uses the Steam ID: when it arrives, the user id may be another player's, and anybody can have any name.
    """
    if not STEAM_ID.fullmatch(steam_id):
        raise BadWordsError(_("That is not a Steam ID such as STEAM_1:0:12345."))
    words = to_words(reason)
    return to_command(f"kickid {steam_id} {words}".rstrip())


def say_command(text: str) -> str:
    """Return the command that says something to everybody on a server. Raises `BadWordsError`."""
    words = to_words(text)
    if not words:
        raise BadWordsError(_("Type what to say."))
    return to_command(f"say {words}")


def private_say_command(steam_id: str, text: str) -> str:
    """Return the SourceMod command that says something to one player. Raises `BadWordsError`.

    SourceMod shows everything after the target as it is, including quotes. So it is quoted only if the console
    would misread part of it.
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
    """Return a command, if the engine takes all of it: it drops longer ones without a message."""
    if len(line.encode()) > MAX_COMMAND_BYTES:
        raise BadWordsError(
            _("The game takes commands of at most %(max_command_bytes)s bytes.")
            % {"max_command_bytes": MAX_COMMAND_BYTES}
        )
    return line


def to_words(text: str) -> str:
    """Return a text in the form for a command: quoted, so that no part of it is a command of its own."""
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
