"""Parses the output of the console command `status`: who is on a server, with the Steam IDs that A2S lacks.

A person's row has two numbers before the name, user id and slot (steam-condenser#94):

    # 444 1 "Anders" STEAM_1:0:257588 35:42 95 0 active 25000 192.0.2.1:27005
    # 3 "Rochelle" BOT active
"""

import re
from dataclasses import dataclass

_HEADER = re.compile(r"#\s*userid\s+name\s+uniqueid\b")
_END = "#end"
_MOST_CHARS = 512
"""The longest accepted row: a name has at most 31 bytes."""

MOST_PEOPLE = 255
"""The most people on one server: the engine has no more slots, and A2S counts them in a byte."""

_MAP = re.compile(r"map\s*: (\S+)")
_HIBERNATING = re.compile(r"players\s*: .*\(hibernating\)")

# The whole line has to match: a name may contain quotes and text that looks like the rest of a row, but the
# engine's own rest comes after that.
_PERSON = re.compile(
    r'#\s*(?P<user_id>\d{1,9})(?:\s+\d{1,9})?\s+"(?P<name>.*)"\s+'
    r"(?P<steam_id>STEAM_[0-5]:[01]:\d{1,10})\s+"
    r"(?P<connected>(?:\d{1,6}:)?\d{1,6}:\d\d)\s+(?P<ping>\d{1,6})\s+(?P<loss>\d{1,6})\s+(?P<state>\w+)"
    r"(?:\s+\d+)?(?:\s+\S+)?\s*",
    re.ASCII,
)


@dataclass(frozen=True)
class StatusPlayer:
    """A person on a server. `ping` is in milliseconds, `loss` in percent."""

    user_id: int
    name: str
    steam_id: str
    connected_seconds: int
    ping: int
    loss: int


@dataclass(frozen=True)
class ServerStatus:
    """The people on a server, without bots; and its map, empty if it has none."""

    people: tuple[StatusPlayer, ...]
    is_hibernating: bool
    map: str = ""


def parse_status(text: str) -> ServerStatus | None:
    """Parse an answer to `status`; None if it is no such answer.

    Rows that do not look like a person's are left out, as are bots', and people beyond `MOST_PEOPLE`. Steam IDs
    are returned with universe 1, whatever the engine prints.
    """
    lines = iter(text.split("\n"))
    is_hibernating = has_header = False
    map_name = ""
    for line in lines:
        if not map_name and (match := _MAP.match(line)):
            map_name = match[1]
        is_hibernating = is_hibernating or bool(_HIBERNATING.match(line))
        if _HEADER.match(line):
            has_header = True
            break
    if not has_header:
        return None
    people: dict[int, StatusPlayer] = {}
    for line in lines:
        if line.startswith(_END) or len(people) >= MOST_PEOPLE:
            break
        if len(line) <= _MOST_CHARS and (match := _PERSON.fullmatch(line.rstrip("\r"))):
            person = _to_person(match)
            people[person.user_id] = person
    return ServerStatus(tuple(people.values()), is_hibernating, map_name)


def _to_person(match: "re.Match[str]") -> StatusPlayer:
    seconds = 0
    for part in match["connected"].split(":"):
        seconds = seconds * 60 + int(part)
    return StatusPlayer(
        int(match["user_id"]),
        match["name"],
        f"STEAM_1:{match['steam_id'].split(':', 1)[1]}",
        seconds,
        int(match["ping"]),
        int(match["loss"]),
    )
