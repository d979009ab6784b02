"""Talking to running game servers, beside jobs: commands, players, bans, admins and maps."""

from jobs.talk.admin_keeper import AdminKeeper
from jobs.talk.ban_keeper import BanKeeper
from jobs.talk.command_desk import CommandDesk
from jobs.talk.map_checker import MapChecker
from jobs.talk.name_reader import NameReader
from jobs.talk.player_reader import PlayerReader, forget_old_sessions

__all__ = [
    "AdminKeeper",
    "BanKeeper",
    "CommandDesk",
    "MapChecker",
    "NameReader",
    "PlayerReader",
    "forget_old_sessions",
]
