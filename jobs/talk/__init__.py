"""Talking to running game servers, beside jobs: commands that people send, who is on, and who may not be."""

from jobs.talk.ban_keeper import BanKeeper
from jobs.talk.command_desk import CommandDesk
from jobs.talk.map_checker import MapChecker
from jobs.talk.name_reader import NameReader
from jobs.talk.player_reader import PlayerReader, forget_old_sessions
from jobs.talk.requests import CommandRefused, TooManyCommands, change_map, send_command

__all__ = [
    "BanKeeper",
    "CommandDesk",
    "CommandRefused",
    "MapChecker",
    "NameReader",
    "PlayerReader",
    "TooManyCommands",
    "change_map",
    "forget_old_sessions",
    "send_command",
]
