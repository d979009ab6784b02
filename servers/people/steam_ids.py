"""Steam IDs in the notations that people use, and the lines of `banned_user.cfg`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

ACCOUNTS = 0x0110000100000000
"""A person's 64-bit ID is this plus their account number (Valve's wiki, SteamID)."""

_CLASSIC = re.compile(r"STEAM_[01]:([01]):(\d{1,10})", re.IGNORECASE | re.ASCII)
_BRACKETED = re.compile(r"\[?U:1:(\d{1,10})\]?", re.IGNORECASE | re.ASCII)
_LONG = re.compile(r"(?:https?://steamcommunity\.com/profiles/)?(7656119\d{10})/?", re.ASCII)
_LINE_END = re.compile(r"\r\n|\r|\n")
_BANID = re.compile(
    r"\s*banid\s+(\d{1,8})(?:\.\d*)?\s+\"?(STEAM_[01]:[01]:\d{1,10})\"?\s*(?:kick\s*)?",
    re.IGNORECASE | re.ASCII,
)


def to_steam_id(text: str) -> str | None:
    """Return a text's Steam ID, such as STEAM_1:0:12345; None if it is not one."""
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


@dataclass(frozen=True)
class BanLine:
    """One line of a `banned_user.cfg`; `number` counts from 1. `steam_id` is empty if it is not a ban."""

    number: int
    text: str
    steam_id: str = ""
    minutes: int = 0


def read_ban_list(text: str) -> Iterator[BanLine]:
    """Yield the lines of a `banned_user.cfg`; 0 minutes means permanently. Skips empty lines and comments.

    Lines are counted as in editors: other characters that Unicode treats as line ends do not end a line.
    """
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    for number, whole in enumerate(lines, start=1):
        line = whole.partition("//")[0].strip()
        if not line:
            continue
        match = _BANID.fullmatch(line)
        steam_id = to_steam_id(match[2]) if match else None
        if match and steam_id:
            yield BanLine(number, whole, steam_id, int(match[1]))
        else:
            yield BanLine(number, whole)
