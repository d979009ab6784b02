"""Makes lines of output safe to store and to show: well-formed, not too long, and without passwords."""

import re
from collections.abc import Iterable

from django.conf import settings

from hostops.specs import SECRETS as SECRET_NAMES
from hostops.specs import InstanceSpec
from jobs.claimed_jobs import ClaimedJob, ClaimedServer
from servers.models import LaunchTexts, Server

MAX_LINE_CHARS = 4096
CUT_MARK = " … [cut]"
MASK = "********"

_CVARS = sorted(SECRET_NAMES.keys() - {"rcon", "sm_rcon"})
"""The console variables whose value is a secret. The two commands are followed by another command instead."""
_HINTS = ("password", "+login", *(name for name in _CVARS if "password" not in name))
"""One of these is in each text in which `SECRETS` finds something."""

# What follows one of these words is a password: as a cvar, as a launch argument, in a printed list of
# arguments, or in SteamCMD's login, where it comes after the account's name. No two adjacent repeats can match
# the same blanks: otherwise a line of a million blanks would be tried in every combination.
SECRETS = re.compile(
    rf"""
    (?P<name>
      \b (?: {"|".join(_CVARS)} )
      (?= [\s"'=:,] ) ["']? \s*+ (?: [=:,] \s*+ )?
      | \+login \s+ (?! anonymous\b ) \S+ \s+ (?! \+ )
    )
    (?P<value> "[^"]+"? | '[^']+'? | [^\s;"']+ )
    """,
    re.IGNORECASE | re.VERBOSE,
)
MIN_SECRET_CHARS = 4


def find_secrets(*texts: str) -> frozenset[str]:
    """Return the passwords in launch arguments or config texts, to be masked wherever they appear."""
    values = (
        match["value"].strip("\"'")
        for text in texts
        if may_have_secret(text)
        for match in SECRETS.finditer(text)
    )
    return to_be_masked(values)


def to_be_masked(secrets: Iterable[str]) -> frozenset[str]:
    """Return those of `secrets` that are to be masked wherever they appear.

    A very short one is masked only behind its name: elsewhere it would mask half of every line.
    """
    return frozenset(secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS)


def secrets_of(job: ClaimedJob, spec: InstanceSpec | None = None) -> frozenset[str]:
    """Return the passwords that a job passes to its host, from the settings and its server's rows.

    `spec`, if given, is made from those rows: it already has the passwords decrypted, which takes longer than
    everything else here.
    """
    server = job.server
    if server is None:
        known: frozenset[str] = frozenset()
    elif spec:
        passwords = (spec.rcon_password, spec.join_password)
        known = find_typed_secrets(server.launch_texts) | to_be_masked(passwords)
    else:
        known = secrets_of_server(server)
    return known | secrets_of_settings()


def secrets_of_settings() -> frozenset[str]:
    """Return the passwords that are settings of the worker."""
    return frozenset({settings.STEAM_PASSWORD}) if settings.STEAM_PASSWORD else frozenset()


def secrets_of_server(server: Server | ClaimedServer) -> frozenset[str]:
    """Return the passwords of a server's next start: of its fields, and in texts that people wrote."""
    texts = server.launch_texts
    return find_typed_secrets(texts) | to_be_masked(texts.readable_passwords())


def find_typed_secrets(texts: LaunchTexts) -> frozenset[str]:
    """Return the passwords that people typed into the arguments and configs of a server and its blueprint."""
    return find_secrets(
        texts.blueprint_arguments, texts.blueprint_config, texts.arguments, texts.config
    )


def may_have_secret(text: str) -> bool:
    """Return whether searching `text` with `SECRETS` is worth it."""
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def mask_known(text: str, secrets: Iterable[str]) -> str:
    """Return `text` with each of `secrets` masked wherever it appears, and without NUL."""
    # First, because stored text has no NUL: a password with a NUL inside would become readable when it is
    # removed.
    text = text.replace("\0", "")
    # Longer ones first: they may contain shorter ones.
    for secret in sorted(secrets, key=len, reverse=True):
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def make_line_safe(line: str | bytes, max_chars: int = MAX_LINE_CHARS) -> str:
    """Return `line` made safe to store and show.

    No NUL, no line break, no lone surrogate; invalid UTF-8 replaced; passwords masked that are recognizable as
    such (for others there is `mask_known`); at most `max_chars` characters, ending in a mark if it was cut.
    """
    if isinstance(line, bytes):
        line = line.decode(errors="replace")
    line = line.rstrip("\r\n")
    if not line.isprintable():
        line = line.replace("\0", "").replace("\r", " ").replace("\n", " ")
        line = line.encode("utf-8", "replace").decode()
    if may_have_secret(line):
        line = SECRETS.sub(rf"\g<name>{MASK}", line)
    if len(line) > max_chars:
        line = line[: max(max_chars - len(CUT_MARK), 0)] + CUT_MARK[:max_chars]
    return line
