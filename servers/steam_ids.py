"""Steam ids in the ways in which people have them, and the lines of `banned_user.cfg`."""

import re
from collections.abc import Iterator

ACCOUNTS = 0x0110000100000000
"""The 64-bit id of a person is this and the number of their account (Valve's wiki, SteamID)."""

_CLASSIC = re.compile(r"STEAM_[01]:([01]):(\d{1,10})", re.IGNORECASE | re.ASCII)
_BRACKETED = re.compile(r"\[?U:1:(\d{1,10})\]?", re.IGNORECASE | re.ASCII)
_LONG = re.compile(r"(?:https?://steamcommunity\.com/profiles/)?(7656119\d{10})/?", re.ASCII)
_BANID = re.compile(
    r"\s*banid\s+(\d{1,8})(?:\.\d*)?\s+\"?(STEAM_[01]:[01]:\d{1,10})\"?\s*",
    re.IGNORECASE | re.ASCII,
)


def to_steam_id(text: str) -> str | None:
    """Return the Steam id that a text is, like STEAM_1:0:12345; None if it is none."""
    text = text.strip()
    if match := _CLASSIC.fullmatch(text):
        account = int(match[2]) * 2 + int(match[1])
    elif match := _BRACKETED.fullmatch(text):
        account = int(match[1])
    elif match := _LONG.fullmatch(text):
        account = int(match[1]) - ACCOUNTS
    else:
        return None
    return f"STEAM_1:{account % 2}:{account // 2}" if 0 < account < 2**32 else None


def read_ban_list(text: str) -> Iterator[tuple[str, int] | None]:
    """Yield Steam id and minutes (0 is for good) of each line of a `banned_user.cfg`; None for what is no ban.

    Empty lines and comments are passed over.
    """
    for whole in text.splitlines():
        line = whole.partition("//")[0].strip()
        if not line:
            continue
        match = _BANID.fullmatch(line)
        steam_id = to_steam_id(match[2]) if match else None
        yield (steam_id, int(match[1])) if match and steam_id else None
