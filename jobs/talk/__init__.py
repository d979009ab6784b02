"""Talking to running game servers, beside jobs: commands, who is on, who may not be, and who are admins."""

from jobs.talk.admin_keeper import AdminKeeper
from jobs.talk.ban_keeper import BanKeeper
from jobs.talk.command_desk import CommandDesk
from jobs.talk.player_reader import PlayerReader, forget_old_sessions
from jobs.talk.requests import CommandRefused, TooManyCommands, send_command

__all__ = [
    "AdminKeeper",
    "BanKeeper",
    "CommandDesk",
    "CommandRefused",
    "PlayerReader",
    "TooManyCommands",
    "forget_old_sessions",
    "send_command",
]
