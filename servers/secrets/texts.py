"""Finds passwords that people wrote into launch arguments and configs, and takes them out.

A line with only `rcon_password X` or `sv_password "X"` can be taken out, and so can `+rcon_password X` among
launch arguments. Anything more complicated is only found: after `;`, in an alias, with a value that no field
accepts.
"""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from hostops.specs import SECRETS, names_used, require_secret, split_commands
from servers.secrets.encryption import ServerSecret

CONFIG = gettext_lazy("config")
ARGUMENTS = gettext_lazy("launch arguments")
HIDDEN = "••••"

_SECRETS_BY_CVAR = {secret.cvar: secret for secret in ServerSecret}
_CVARS = "|".join(_SECRETS_BY_CVAR)

# Without quotes the console also ends a value at each of {}()': so a value with one of them is not simple.
_SIMPLE_LINE = re.compile(
    rf"""
    \s* (?P<quote>"?) (?P<cvar>{_CVARS}) (?P=quote) [ \t]+
    (?: "(?P<quoted>[^"]*)" | (?P<plain>(?:(?!//)[^\s";{{}}()':])+) )
    \s*+ (?: ; \s*+ )? (?: //.* )?
    """,
    re.IGNORECASE | re.VERBOSE,
)
_SIMPLE_ARGUMENT = re.compile(
    rf"""
    (?<!\S) \+ (?P<cvar>{_CVARS}) \s+
    (?: "(?P<quoted>[^"\\]*)" | '(?P<single>[^'\\]*)' | (?P<plain>(?![+-])[^\s"'\\]+) )
    (?!\S) [ \t]*
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Blanks, and a backslash that continues a removed line. A run of them inside is checked once, not from each
# blank or line end on. Its groups are not possessive: Python before 3.11.5, such as Debian 12's, gets those
# wrong.
_EDGES = re.compile(r"\A(?:\s|\\\r?\n)+|(?<!\s)(?!(?<=\\)\r?\n)(?:\s|\\\r?\n)+\Z")
# What `shlex.split` takes for one argument, as it is written, and what it takes for blanks.
_PIECE = r""" \\. | "(?: \\. | [^"\\] )*" | '[^']*' | [^\ \t\r\n"'\\] """
_WORD = re.compile(rf"(?: {_PIECE} )+", re.VERBOSE | re.DOTALL)
_BLANKS = " \t\r\n"
_ANY_MENTION = re.compile(rf"(?<![a-z0-9_])({_CVARS})(?![a-z0-9_])", re.IGNORECASE)

# Without the commands `rcon` and `sm_rcon`: a hostname may contain the word, and what they set also has a name.
_ALL_NAMES = "|".join(sorted(SECRETS.keys() - {"rcon", "sm_rcon"}))
# ASCII: a long s (U+017F) would count as an s, and so as part of the name behind it. The game skips it there.
_REST_OF_LINE = re.compile(
    rf"(?<![a-z0-9_])({_ALL_NAMES})(?![a-z0-9_]).*\S.*", re.IGNORECASE | re.ASCII
)
# A name as arguments may have it: with quotation marks, backslashes and line continuations in it and behind it.
_MARKS = r"""["'\\\r\n]*"""
_WRITTEN_NAME = re.compile(
    rf"(?<![a-z0-9_])(?:{'|'.join(_MARKS.join(name) for name in _ALL_NAMES.split('|'))})"
    rf"(?![a-z0-9_])(?:{_MARKS}\Z)?",
    re.IGNORECASE | re.ASCII,
)
# An argument as it is written, even if its last quotation mark is open.
_WRITTEN_WORD = re.compile(rf"""(?: \\\r\n | {_PIECE} | ["'\\].* )+""", re.VERBOSE | re.DOTALL)
_MARKS_AND_BLANKS = "\"'\\ \t\r\n\v\f"


@dataclass(frozen=True)
class Setting:
    """A place that sets a password: `Line 3` of the config, or the launch arguments.

    `obstacle` says why it cannot be taken out; if it is empty, it can, and `value` is the password.
    """

    secret: ServerSecret
    source: str | Promise
    place: str
    obstacle: str = ""
    value: str = field(default="", repr=False)


@dataclass(frozen=True)
class Taken:
    """Launch arguments and config without the passwords that could be taken out, and those passwords."""

    arguments: str
    config: str
    values: dict[ServerSecret, str] = field(repr=False)


def find_settings(arguments: str, config: str) -> list[Setting]:
    """Return every place that sets a password, in the order in which the game reads them.

    Either all settings of a password can be taken out or none: otherwise a different place would set it last.
    """
    if not _ANY_MENTION.search(arguments) and not _ANY_MENTION.search(config):
        return []
    found = [*_find_in_arguments(arguments), *_find_in_config(config)]
    blocked = {setting.secret for setting in found if setting.obstacle}
    return [
        Setting(
            setting.secret,
            setting.source,
            setting.place,
            setting.obstacle or _("beside another that Saferoom cannot move"),
        )
        if setting.secret in blocked
        else setting
        for setting in found
    ]


def take_secrets(arguments: str, config: str) -> Taken:
    """Take the passwords out. If one is set several times, the last value counts, as in the game."""
    settings = [setting for setting in find_settings(arguments, config) if not setting.obstacle]
    if not settings:  # as nearly always
        return Taken(arguments, config, {})
    values = {setting.secret: setting.value for setting in settings}
    doomed = {setting.place for setting in settings if setting.source == CONFIG}
    lines = enumerate(config.split("\n"), start=1)
    kept = [line for number, line in lines if _line(number) not in doomed]
    without = _cut_arguments(arguments, values)
    given = {secret: value for secret, value in values.items() if value}
    return Taken(without, "\n".join(kept), given)


def sets_secret(arguments: str, config: str, secret: ServerSecret) -> bool:
    """Return whether a password is set there, even to nothing."""
    if any(setting.secret is secret for setting in find_settings(arguments, config)):
        return True
    return any(_empty_secret(line) is secret for line in config.split("\n"))


def hide_secrets(arguments: str, config: str) -> tuple[str, str]:
    """Return both texts for people who may use them but not change them."""
    return _hide_values(arguments), _REST_OF_LINE.sub(rf"\1 {HIDDEN}", config)


def _hide_values(arguments: str) -> str:
    """Hide what follows the name of a secret, up to the next word that begins with - or +.

    The game may take all of that for the value. The first word that is not empty is always hidden.
    """
    if not _WRITTEN_NAME.search(arguments):  # as nearly always
        return arguments
    shown: list[str] = []
    position = 0
    is_value = is_first = False
    for word in _WRITTEN_WORD.finditer(arguments):
        begin, end = word.span()
        text = word[0].lstrip(_MARKS_AND_BLANKS)
        name = _WRITTEN_NAME.search(arguments, begin, end)
        if is_first or (is_value and not text.startswith(("+", "-"))):
            position = end
        elif name:
            shown += arguments[position : name.end()], f" {HIDDEN}"
            position = end
        else:
            is_value = False
        if name:
            is_value = is_first = True
        elif text:
            is_first = False
    return "".join(shown) + arguments[position:]


def _line(number: int) -> str:
    return _("Line %(line)s") % {"line": number}


def _find_in_config(config: str) -> Iterator[Setting]:
    for number, line in enumerate(config.split("\n"), start=1):
        if not _ANY_MENTION.search(line) or _empty_secret(line):
            continue
        if match := _SIMPLE_LINE.fullmatch(line.removesuffix("\r")):
            yield _setting(match, CONFIG, _line(number))
            continue
        for command in split_commands(line):
            names = list(names_used(command))
            for cvar, secret in _SECRETS_BY_CVAR.items():
                # Its name alone only shows its value.
                if cvar in names and command.strip().strip('"').lower() != cvar:
                    yield Setting(secret, CONFIG, _line(number), _("together with other things"))


def _find_in_arguments(arguments: str) -> Iterator[Setting]:
    joined = _join_lines(arguments)
    alone = _simple_arguments(joined)
    begins = [match.start() for match in alone]
    for match in alone:
        yield _setting(match, ARGUMENTS, _line(joined.count("\n", 0, match.start()) + 1))
    for mention in _ANY_MENTION.finditer(joined):
        before = bisect_left(begins, mention.start())
        if not before or alone[before - 1].end() <= mention.start():
            place = _line(joined.count("\n", 0, mention.start()) + 1)
            secret = _SECRETS_BY_CVAR[mention[1].lower()]
            yield Setting(secret, ARGUMENTS, place, _("inside of another argument"))


def _simple_arguments(joined: str) -> list[re.Match[str]]:
    """Return the matches that are whole arguments, so that removing them changes nothing else."""
    words = [match.span() for match in _WORD.finditer(joined)]
    if _WORD.sub("", joined).strip(_BLANKS):  # A quotation mark is open.
        return []
    begins = [begin for begin, _end in words]
    found = []
    for match in _SIMPLE_ARGUMENT.finditer(joined):
        own = words[bisect_left(begins, match.start()) : bisect_left(begins, match.end())]
        # What the pattern takes for a blank may be part of a word.
        if own and len(own) <= 2 and own[0][0] == match.start() and own[-1][1] <= match.end():
            found.append(match)
    return found


def _join_lines(arguments: str) -> str:
    """Return launch arguments with blanks for line continuations, so that each character keeps its position."""
    return re.sub(r"\\\r?\n", lambda match: " " * len(match[0]), arguments)


def _setting(match: re.Match[str], source: Promise, place: str) -> Setting:
    groups = match.groupdict()
    value = next(
        text
        for text in (groups["quoted"], groups.get("single"), groups["plain"])
        if text is not None
    )
    secret = _SECRETS_BY_CVAR[match["cvar"].lower()]
    try:
        require_secret(secret.what, value)
    except ValueError:
        return Setting(secret, source, place, _("with a value that the field does not take"))
    return Setting(secret, source, place, value=value)


def _cut_arguments(arguments: str, secrets: Collection[ServerSecret]) -> str:
    without = arguments
    for match in reversed(_simple_arguments(_join_lines(arguments))):
        if _SECRETS_BY_CVAR[match["cvar"].lower()] in secrets:
            without = without[: match.start()] + without[match.end() :]
    return arguments if without == arguments else _EDGES.sub("", without)


def _empty_secret(line: str) -> ServerSecret | None:
    """Return which password a line sets to nothing. That reveals nothing, and stays."""
    match = _SIMPLE_LINE.fullmatch(line.removesuffix("\r"))
    return _SECRETS_BY_CVAR[match["cvar"].lower()] if match and match["quoted"] == "" else None
