"""The players that a form can offer: who is on a server, and who was lately."""

from dataclasses import dataclass

from servers.models import PlayerSession, Server
from servers.people.steam_ids import to_steam_id

SESSIONS_READ = 300


@dataclass(frozen=True)
class KnownPlayer:
    """A person by Steam ID, with the name that they had last."""

    steam_id: str
    name: str
    is_on: bool


def read_known_players(server: Server) -> list[KnownPlayer]:
    """Return who is on, then who was on lately, each person once. One query."""
    sessions = PlayerSession.objects.filter(server=server).order_by("-joined_at", "-id")
    known: dict[str, KnownPlayer] = {}
    for session in sessions[:SESSIONS_READ]:
        player = KnownPlayer(session.steam_id, session.name, is_on=session.left_at is None)
        known.setdefault(session.steam_id, player)
    return sorted(known.values(), key=lambda player: not player.is_on)


def find_player_name(server: Server, text: str) -> str:
    """Return the last name on `server` of the player with a Steam ID; empty if unknown. One query at most."""
    steam_id = to_steam_id(text)
    if steam_id is None:
        return ""
    sessions = PlayerSession.objects.filter(server=server, steam_id=steam_id)
    newest = sessions.order_by("-joined_at", "-id").first()
    return newest.name if newest else ""
